"""The example programs, run as a reader of examples/README.md would run them."""

import gzip
import json
import signal
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import trio

from esnode.config import Dedup
from tests.cluster import LocalCluster, local_cluster

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
COUNT = 100


def some_flights() -> list[str]:
    with gzip.open(EXAMPLES / "flights-2013-01.ndjson.gz", "rt", encoding="utf-8") as lines:
        return list(islice(lines, COUNT))


async def produce(cluster: LocalCluster, lines: list[str]) -> list[str]:
    done = await trio.run_process(
        [sys.executable, str(EXAMPLES / "producer.py"), *cluster.addresses],
        stdin="".join(lines).encode(),
        capture_stdout=True,
        cwd=EXAMPLES.parent,
        env={"PYTHONPATH": str(EXAMPLES.parent)},
    )
    return done.stdout.decode().splitlines()


async def consume(cluster: LocalCluster, count: int) -> list[str]:
    """What the consumer prints first; then it gets Ctrl-C.

    A shell that starts the tests in the background lets them ignore it, and their children with them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    async with trio.open_nursery() as nursery:
        consumer: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-u", str(EXAMPLES / "consumer.py"), *cluster.addresses],
                stdout=subprocess.PIPE,
                cwd=EXAMPLES.parent,
                env={"PYTHONPATH": str(EXAMPLES.parent)},
            )
        )
        assert consumer.stdout is not None
        printed = b""
        while printed.count(b"\n") < count:
            printed += await consumer.stdout.receive_some()
        consumer.send_signal(signal.SIGINT)
        assert await consumer.wait() == 0
    return printed.decode().splitlines()


@pytest.mark.slow
async def test_the_consumer_prints_once_what_the_producer_sent_twice(tmp_path: Path) -> None:
    lines = some_flights()
    events = [json.loads(line) for line in lines]
    async with local_cluster(tmp_path) as cluster:
        first = await produce(cluster, lines)
        assert first == [f"{e['source']} {e['id']} is at offset {n}" for n, e in enumerate(events)]
        assert await produce(cluster, lines) == [f"{line} (it was there before)" for line in first]
        printed = await consume(cluster, COUNT)
        assert [json.loads(line.split(" ", 1)[1]) for line in printed] == events


@pytest.mark.slow
async def test_a_program_that_was_restarted_goes_on_in_its_file_where_the_log_is(tmp_path: Path) -> None:
    lines = some_flights()
    async with local_cluster(tmp_path, dedup=Dedup(ttl_ms=1)) as cluster:

        async def resume(lines: list[str]) -> list[str]:
            done = await trio.run_process(
                [sys.executable, str(EXAMPLES / "resume.py"), "flights", *cluster.addresses],
                stdin="".join(lines).encode(),
                capture_stdout=True,
                cwd=EXAMPLES.parent,
                env={"PYTHONPATH": str(EXAMPLES.parent)},
            )
            return done.stdout.decode().splitlines()

        assert await resume(lines[:60]) == [
            "0 lines are in the log",
            "60 lines are in the log, the last at offset 59",
        ]
        await cluster.kill(await cluster.leader())
        assert await resume(lines) == [
            "60 lines are in the log",
            f"{COUNT} lines are in the log, the last at offset {COUNT - 1}",
        ]
        assert await resume(lines) == [f"{COUNT} lines are in the log"]
