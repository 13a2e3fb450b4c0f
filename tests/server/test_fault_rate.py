"""A bound rate strikes the bytes of what is large, not the whole of it: what is small passes between."""

import trio

from esnode.raft.entry import EntryKind, seal
from esnode.raft.messages import AppendEntries, Heartbeat
from tests.server.test_faultinjector import bench, jumping


def append(size_bytes: int) -> AppendEntries:
    entry = seal(
        index=1,
        term=1,
        kind=EntryKind.BATCH,
        base_offset=0,
        log_time_ms=0,
        count=1,
        keys=bytes(16),
        payload=bytes(size_bytes),
    )
    return AppendEntries(1, 0, 0, 0, (entry,))


@jumping
async def test_under_a_rate_heartbeats_pass_what_is_large() -> None:
    """It leaves in pieces of a quarter of a second: it took 16 s whole, and they waited behind it."""
    async with bench() as node:
        node.set("rate", 2, bytes_per_s=62_500)
        large = append(1_000_000)
        node.replication.send(2, large)
        for number in range(14):
            sent = trio.current_time()
            node.beat(number)
            await trio.sleep(0.7)
            ((arrived, _),) = [one for one in node.far.heard if one[1] == Heartbeat(1, 0, number)]
            assert arrived - sent < 0.7
        await trio.sleep(5.8)
        assert node.far.whole == []
        await trio.sleep(0.6)
        assert node.far.whole == [large]


@jumping
async def test_what_is_large_is_lost_in_the_middle_when_the_link_is_cut() -> None:
    async with bench() as node:
        node.set("rate", 2, bytes_per_s=62_500)
        node.replication.send(2, append(100_000))
        await trio.sleep(1)
        node.set("block", 2)
        await trio.sleep(5)
        assert node.replication.links[2].outbox_bytes == 0
        node.heal()
        node.beat(1)
        assert await node.heard() == [1]
        assert node.far.whole == []
        assert node.far.connections == 1
