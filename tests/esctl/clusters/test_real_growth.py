"""A real cluster that is given partitions while it takes events: nothing is lost, nothing is stored twice."""

import json
from collections.abc import Callable, Iterator
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


async def send_while_growing(
    name: str, sizes: list[int], sent: list[dict[str, Any]], followed: list[StoredEvent]
) -> list[dict[str, Any]]:
    """Every event twice, without a pause, until the ring has had all these sizes; what `ring grow` said.

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
        for size in sizes:
            grown = await trio.to_thread.run_sync(lambda n=size: esctl("ring", "grow", "--to", str(n)))  # type: ignore[misc]
            said.append(grown["data"])
        goal.append(len(sent))
        with trio.fail_after(60):
            await arrived.wait()
        nursery.cancel_scope.cancel()
    return said


def test_a_cluster_that_takes_events_grows_twice_and_has_each_of_them_once(
    grows: str, tmp_path: Path
) -> None:
    planned = esctl("ring", "grow", "--to", "2", "--dry-run")["data"]
    assert (planned["restarts"], planned["partitions"]) == ([1, 2, 3], 2)
    assert 0.4 < planned["moving_share"] < 0.6
    assert esctl("status")["data"]["ring"] == {"version": 1, "partitions": 1, "moving": False}
    sent: list[dict[str, Any]] = []
    followed: list[StoredEvent] = []
    first, second = trio.run(send_while_growing, grows, [2, 3], sent, followed)
    assert [(one["version"], one["partitions"]) for one in (first, second)] == [(2, 2), (3, 3)]
    assert first["moved_keys"] > 0
    assert esctl("status")["data"]["ring"] == {"version": 3, "partitions": 3, "moving": False}
    wanted = [one["id"] for one in sent if one["source"] == OFTEN_MOVED]
    assert [one.event["id"] for one in followed][: len(wanted)] == wanted
    assert [number for number, _ in groupby(followed, lambda one: one.partition)] == [0, 1, 2]
    read: list[StoredEvent] = []
    trio.run(read_one_source, grows, False, read)
    assert [one.event["id"] for one in read][: len(wanted)] == wanted
    found = esctl("event", "--source", OFTEN_MOVED, "--id", wanted[0])["data"]
    assert (found["partition"], found["event"]["id"]) == (0, wanted[0])
    known = esctl("event", "dedup", "--source", OFTEN_MOVED, "--id", wanted[0])["data"]
    assert (known["known"], known["would_store"], known["offset"]) == (True, False, None)
    moves = [one for one in esctl("timeline")["data"]["happenings"] if one["kind"] == "move"]
    assert [one["details"]["moved_keys"] for one in moves] == [first["moved_keys"], second["moved_keys"]]
    file = tmp_path / "sent.ndjson"
    file.write_text("".join(json.dumps(one) + "\n" for one in sent), encoding="utf-8")
    proof = esctl("verify", "--input", str(file))["data"]
    assert (proof["ok"], proof["acked_lost"], proof["duplicates"]) == (True, 0, 0)
    assert len(sent) <= proof["events"] <= len(sent) + AT_ONCE
    again = esctl("ring", "grow", "--to", "3")["data"]
    assert (again["version"], again["partitions"]) == (3, 3), "there is nothing left to do"
    assert esctl("ring", "show")["data"]["ring"]["version"] == 3
    assert esctl("ring", "grow", "--to", "2", code=2)["errors"][0]["code"]
