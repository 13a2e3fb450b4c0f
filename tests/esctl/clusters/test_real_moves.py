"""A source of a real cluster moves from partition to partition: who reads it gets all of it, in order."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.clusters import state
from esctl.query.logreading import ReadRequest
from esctl.query.partitionreading import reading_all
from esctl.query.tenures import owner_under
from esnode.client import StoredEvent, connect
from tests.esctl.clusters.test_real_cluster import esctl, nodes_below

pytestmark = pytest.mark.slow

PAUSE_S = 0.01
SOURCE = next(
    source
    for source in (f"/airport/{n}" for n in range(1000))
    if [owner_under(2, 2, source), owner_under(3, 3, source), owner_under(4, 2, source)] == [1, 2, 1]
)
"""Of partition 0, then of 1, of 2, and of 1 again."""


@pytest.fixture
def moves(tmp_path: Path) -> Iterator[str]:
    """A running cluster of one partition; gone after the test, with all its processes."""
    home = tmp_path / "data"
    esctl("cluster", "up", "moves", "--data-dir", str(home))
    yield "moves"
    esctl("cluster", "destroy", "moves", "--confirm", "moves")
    assert nodes_below(home) == set()


async def read(name: str, found: list[StoredEvent], until: list[int] | None = None) -> None:
    """All there is or, followed, up to the event with the number that `until` has one day."""
    wanted = ReadRequest(None, None, follow=until is not None, node=None)
    async with reading_all(state.load(name), wanted, lambda _: None, SOURCE) as (source, _):
        while (batch := await source.next_batch()) is not None:
            found += [one for one in batch.events() if one.event["source"] == SOURCE]
            if until and found and int(found[-1].event["id"]) >= until[0]:
                return


async def move(name: str, changes: list[str], followed: list[StoredEvent]) -> int:
    """Send and follow while the ring changes so; how many events were acked."""
    sent, until, over = 0, list[int](), trio.Event()

    async def send() -> None:
        nonlocal sent
        async with connect(state.load(name).addresses, timeout_s=60) as log:
            while not until:
                if over.is_set():
                    until.append(sent)  # before it is sent, so that whoever follows it knows
                await log.append({"id": str(sent), "source": SOURCE, "type": "t"})
                sent += 1
                await trio.sleep(PAUSE_S)  # a rate that a busy machine can hold

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, name, followed, until)
            nursery.start_soon(send)
            for change in changes:
                how, size = change.split()
                await trio.to_thread.run_sync(partial(esctl, "ring", how, "--to", size))
            over.set()
    return sent


def test_a_source_that_moves_is_read_in_its_order_and_found_where_it_was(moves: str) -> None:
    followed: list[StoredEvent] = []
    sent = trio.run(move, moves, ["grow 2", "grow 3", "shrink 2"], followed)
    now: list[StoredEvent] = []
    trio.run(read, moves, now)
    for seen in (followed, now):
        assert [int(one.event["id"]) for one in seen] == list(range(sent))
        assert [number for number, _ in groupby(seen, lambda one: one.partition)] == [0, 1, 2, 1]
    assert len(now) == sent
    found: dict[str, Any] = esctl("event", "--source", SOURCE, "--id", "0")["data"]
    assert (found["partition"], found["event"]["id"]) == (0, "0")
    happened = esctl("timeline")["data"]["happenings"]
    assert [one["details"]["partitions"] for one in happened if one["kind"] == "move"] == [2, 3, 2]
    exported = esctl("backup", "drill")["data"]
    assert exported["verdict"] == "passed"
