"""The order of one client on whole nodes: what it sends is in the log as it was sent, whatever is refused."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.events.producer import Producer, produce
from esnode import limits
from esnode.client import Log, connect, connect_node
from esnode.config import Faults
from esnode.dedup.batch import Batch
from esnode.errors import OperationTimeout
from esnode.events import make_batch
from esnode.limits import KIB
from tests.cluster import LocalCluster, local_cluster

EVENTS = 512
EVENT_BYTES = 4 * KIB
BATCH = 8

Bounds = dict[str, int]

SMALL: Sequence[Bounds] = (
    {"MAX_SESSION_INFLIGHT_BYTES": 160 * KIB},
    {"MAX_SESSION_INFLIGHT": 20},
    {"MAX_UNAPPLIED_BYTES": 96 * KIB, "MAX_APPEND_BYTES": 64 * KIB},
    {"MAX_UNAPPLIED_BYTES": 96 * KIB, "MAX_SESSION_INFLIGHT": 40, "MAX_APPEND_BYTES": 64 * KIB},
)
"""Bounds of a node that a client with 64 batches of 32 KiB under way runs into."""


def events(count: int = EVENTS, size_bytes: int = EVENT_BYTES) -> list[dict[str, Any]]:
    return [{"id": str(n), "source": "/order", "type": "t", "data": "x" * size_bytes} for n in range(count)]


def batches() -> list[Batch]:
    found = events()
    return [make_batch(found[at : at + BATCH]) for at in range(0, EVENTS, BATCH)]


async def stored(log: Log) -> list[int]:
    """The numbers of all events, in the order of the log."""
    found: list[int] = []
    while page := await log.read(len(found), 100):
        found += [int(one.event["id"]) for one in page]
    return found


@pytest.mark.parametrize("bounds", SMALL, ids="+".join)
async def test_what_a_node_has_no_room_for_changes_no_order(
    bounds: Bounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        local_cluster(tmp_path, storage="memory") as cluster,
        connect(cluster.addresses, batch_events=BATCH, timeout_s=60) as log,
    ):
        for name, most in bounds.items():
            monkeypatch.setattr(limits, name, most)
        acks = await log.append_many(events())
        assert [ack.offset for ack in acks] == list(range(EVENTS))
        assert await stored(log) == list(range(EVENTS))


async def test_no_batch_is_sent_twice_for_want_of_room_in_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SESSION_INFLIGHT_BYTES", 160 * KIB)
    resent: list[bool] = []
    async with (
        local_cluster(tmp_path, storage="memory") as cluster,
        connect(cluster.addresses, timeout_s=60) as log,
    ):
        await cluster.leader()

        async def one(batch: Batch) -> None:
            resent.append((await log.append_batch(batch)).resent)

        async with trio.open_nursery() as nursery:
            for batch in batches():
                nursery.start_soon(one, batch)
                await trio.lowlevel.checkpoint()
        assert resent == [False] * (EVENTS // BATCH)
        assert await stored(log) == list(range(EVENTS))


async def disturb(cluster: LocalCluster, log: Log, how: str) -> None:
    """Once every 100 events, until it is cancelled."""
    at = 0
    while True:
        at += 100
        leader = await cluster.leader()
        await cluster.running[leader].node.view.wait_offset(at)
        match how:
            case "kill":
                await cluster.kill(leader)
                await cluster.start(leader)
            case "hand over":
                with suppress(OperationTimeout):  # nobody may have caught up in time
                    await log.transfer_leadership()
            case "slow disk":
                async with connect_node(str(cluster.configs[leader].me.client)) as link:
                    await link.set_fault(f"slow-{at}", "disk-slow", 2_000, parameters={"delay_ms": 50})


@pytest.mark.parametrize("how", ["kill", "hand over", "slow disk"])
@pytest.mark.parametrize("session", [False, True])
async def test_no_change_of_the_leader_and_no_slow_disk_changes_the_order(
    how: str, session: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UNAPPLIED_BYTES", 256 * KIB)
    monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 64 * KIB)
    async with (
        local_cluster(tmp_path, storage="memory", faults=Faults(allowed=True)) as cluster,
        connect(cluster.addresses, batch_events=BATCH, timeout_s=60, producer_session=session) as log,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(disturb, cluster, log, how)
        acks = await log.append_many(events())
        nursery.cancel_scope.cancel()
        assert [ack.offset for ack in acks] == list(range(EVENTS))


class Lines:
    """The events as `esctl produce` reads them, a few lines at a time."""

    def __init__(self) -> None:
        self._lines = [json.dumps(event).encode() + b"\n" for event in events()]

    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        taken, self._lines = self._lines[:5], self._lines[5:]
        return b"".join(taken)


async def test_what_produce_reads_is_in_the_log_in_the_order_of_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UNAPPLIED_BYTES", 96 * KIB)
    monkeypatch.setattr(limits, "MAX_APPEND_BYTES", 64 * KIB)
    async with (
        local_cluster(tmp_path, storage="memory") as cluster,
        connect(cluster.addresses, timeout_s=60) as log,
    ):
        await produce(Producer(log, window=64), Lines(), BATCH)
        assert await stored(log) == list(range(EVENTS))
