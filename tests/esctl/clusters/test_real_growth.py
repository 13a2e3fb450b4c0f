"""A real cluster whose ring grows and shrinks while it takes events: nothing is lost or stored twice."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
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

SOURCES = 40
AT_ONCE = 40
OFTEN_MOVED = next(
    source
    for source in (f"/airport/{n}" for n in range(SOURCES))
    if len({owner_under(2, 2, source), owner_under(3, 3, source), 0}) == 3
)
"""Of partition 0, then of 1, then of 2."""


@pytest.fixture
def grows(tmp_path: Path) -> Iterator[str]:
    """A running cluster of one partition; gone after the test, with all its processes."""
    home = tmp_path / "data"
    esctl("cluster", "up", "grows", "--data-dir", str(home))
    yield "grows"
    esctl("cluster", "destroy", "grows", "--confirm", "grows")
    assert nodes_below(home) == set()


async def read_one_source(
    name: str, follow: bool, found: list[StoredEvent], note: Callable[[StoredEvent], None] = lambda _: None
) -> None:
    wanted = ReadRequest(None, None, follow, node=None)
    async with reading_all(state.load(name), wanted, lambda _: None, OFTEN_MOVED) as (source, _):
        while (batch := await source.next_batch()) is not None:
            found += [one for one in batch.events() if one.event["source"] == OFTEN_MOVED]
            if found:
                note(found[-1])


async def send_meanwhile(
    name: str, changes: list[str], sent: list[dict[str, Any]], followed: list[StoredEvent]
) -> list[dict[str, Any]]:
    """Every event twice, without a pause, until the ring was changed so; what `esctl ring` said each time.

    One source is followed meanwhile.
    """
    said: list[dict[str, Any]] = []
    async with connect(state.load(name).addresses, timeout_s=60) as log, trio.open_nursery() as nursery:

        async def send() -> None:
            while True:
                events = [
                    {"id": str(len(sent) + n), "source": f"/airport/{n % SOURCES}", "type": "t"}
                    for n in range(AT_ONCE)
                ]
                await log.append_many(events)  # some are duplicates where a leader went before it could ack
                sent.extend(events)
                assert all(ack.duplicate for ack in await log.append_many(events))

        arrived, goal = trio.Event(), list[int]()

        def note(last: StoredEvent) -> None:
            if goal and int(last.event["id"]) >= goal[0]:
                arrived.set()

        nursery.start_soon(send)
        nursery.start_soon(read_one_source, name, True, followed, note)
        for change in changes:
            how, size = change.split()
            changed = await trio.to_thread.run_sync(partial(esctl, "ring", how, "--to", size))
            said.append(changed["data"])
        goal.append(len(sent))
        with trio.fail_after(60):
            await arrived.wait()
        nursery.cancel_scope.cancel()
    return said


def assert_in_order(sent: list[dict[str, Any]], read: list[StoredEvent], partitions: list[int]) -> None:
    """Of the source that moves, all was read in its order, out of these partitions one after the other."""
    wanted = [one["id"] for one in sent if one["source"] == OFTEN_MOVED]
    assert [one.event["id"] for one in read][: len(wanted)] == wanted
    assert [number for number, _ in groupby(read, lambda one: one.partition)] == partitions


def prove(sent: list[dict[str, Any]], file: Path) -> None:
    """Each event that was sent is in one log, once."""
    file.write_text("".join(json.dumps(one) + "\n" for one in sent), encoding="utf-8")
    proof = esctl("verify", "--input", str(file))["data"]
    assert (proof["ok"], proof["acked_lost"], proof["duplicates"]) == (True, 0, 0)
    assert len(sent) <= proof["events"] <= len(sent) + AT_ONCE


def test_a_cluster_that_takes_events_grows_and_shrinks_and_has_each_of_them_once(
    grows: str, tmp_path: Path
) -> None:
    planned = esctl("ring", "grow", "--to", "2", "--dry-run")["data"]
    assert (planned["restarts"], planned["partitions"]) == ([1, 2, 3], 2)
    assert 0.4 < planned["moving_share"] < 0.6
    assert esctl("status")["data"]["ring"] == {"version": 1, "partitions": 1, "moving": False}
    sent: list[dict[str, Any]] = []
    followed: list[StoredEvent] = []
    first, second = trio.run(send_meanwhile, grows, ["grow 2", "grow 3"], sent, followed)
    assert [(one["version"], one["partitions"]) for one in (first, second)] == [(2, 2), (3, 3)]
    assert first["moved_keys"] > 0
    assert esctl("status")["data"]["ring"] == {"version": 3, "partitions": 3, "moving": False}
    assert_in_order(sent, followed, [0, 1, 2])
    moves = [one for one in esctl("timeline")["data"]["happenings"] if one["kind"] == "move"]
    assert [one["details"]["moved_keys"] for one in moves] == [first["moved_keys"], second["moved_keys"]]
    prove(sent, tmp_path / "sent.ndjson")
    again = esctl("ring", "grow", "--to", "3")["data"]
    assert (again["version"], again["partitions"]) == (3, 3), "there is nothing left to do"
    assert esctl("ring", "show")["data"]["ring"]["version"] == 3
    refused = esctl("ring", "grow", "--to", "2", code=2)["errors"][0]
    assert refused["next"] == "esctl ring shrink --to 2 --cluster grows"
    before = len(sent)
    (third,) = trio.run(send_meanwhile, grows, ["shrink 2"], sent, [])
    assert (third["version"], third["partitions"], third["moved_keys"] > 0) == (4, 2, True)
    assert [row["share"] > 0 for row in esctl("ring", "show")["data"]["partitions"]] == [True, True, False]
    prove(sent, tmp_path / "sent.ndjson")
    consumed = subprocess.run(
        [sys.executable, "-m", "esctl.main", "consume"], capture_output=True, timeout=100
    )
    assert consumed.returncode == 0, consumed.stderr
    assert consumed.stdout.count(b"\n") >= len(sent), "the partition that owns nothing is read, too"
    # An event of before the shrink, by its id: its log is another one than that of its source now.
    for one in sent[before - 3 : before]:
        found = esctl("event", "--source", one["source"], "--id", one["id"])["data"]
        assert found["event"] == one
        known = esctl("event", "dedup", "--source", one["source"], "--id", one["id"])["data"]
        assert (known["known"], known["would_store"]) == (True, False)
    trio.run(send_meanwhile, grows, ["grow 3"], sent, [])
    read: list[StoredEvent] = []
    trio.run(read_one_source, grows, False, read)
    assert_in_order(sent, read, [0, 1, 2, 1, 2])
    prove(sent, tmp_path / "sent.ndjson")
    assert esctl("ring", "shrink", "--to", "4", code=2)["errors"][0]["next"].startswith("esctl ring grow")
