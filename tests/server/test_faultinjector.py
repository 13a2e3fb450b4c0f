"""The seams: what faults do to a real link, to the peers' door and to the disk, on memory streams."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from esnode.client import connect_node
from esnode.config import Address, Config, Faults, Member
from esnode.errors import ConnectionLost, FaultsNotAllowed, InvalidRequest, StorageFailed
from esnode.faults import FaultTable
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.messages import PROTOCOL_VERSION, HealFault, Hello, ListFaults, SetFault, Side, Welcome
from esnode.raft.messages import (
    Heartbeat,
    HeartbeatReply,
    Received,
    SendSnapshot,
    Snapshot,
    SnapshotSent,
    Write,
)
from esnode.replication.keychunks import KeyChunks
from esnode.replication.peeridentity import PeerIdentities
from esnode.replication.replication import Replication
from esnode.server.faultinjector import FaultInjector
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.transport.connection import Connection, greet
from esnode.transport.sharedsettings import SharedSettings
from esnode.wallclock import WallClock
from esnode.wire import Fragment, FragmentAssembler, FrameReader, Message, encode
from tests.cluster import local_cluster

MEMBERS = tuple(Member(n, Address("127.0.0.1", 7200 + n), Address("127.0.0.1", 7100 + n)) for n in (1, 2))
CONFIG = Config("c", 1, Path("unused"), MEMBERS)
OURS = SharedSettings(CONFIG)
HELLO = Hello(
    *(Side.PEER, PROTOCOL_VERSION, PROTOCOL_VERSION, "c", 2, 1, 7, b"t" * 16, False),
    *(OURS.members.digest, OURS.members.text, OURS.dedup.digest, OURS.dedup.text),
)
SNAPSHOT = Snapshot(4, 1, 4, 40, b"s" * 3_000_000)


def write(number: int) -> Write:
    return Write(number, None, None, (), 0)


class Far:
    """Node 2, as far as node 1's link goes: it welcomes and keeps what it hears, with the time."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.heard: list[tuple[float, Message]] = []
        self.connections = 0
        self.whole: list[Message] = []
        """What came in fragments."""
        self._nursery = nursery

    async def dial(self, address: Address) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections += 1
        await theirs.send_all(encode(Welcome(PROTOCOL_VERSION, "c", 2, 8)))
        self._nursery.start_soon(self._listen, theirs)
        return ours

    async def _listen(self, stream: trio.abc.Stream) -> None:
        reader, assembler = FrameReader(), FragmentAssembler()
        while data := await stream.receive_some(100_000):
            messages = [m for m in reader.feed(bytes(data)) if not isinstance(m, Hello)]
            self.heard += [(trio.current_time(), message) for message in messages]
            wholes = [assembler.add(one) for one in messages if isinstance(one, Fragment)]
            self.whole += [one for one in wholes if one is not None]

    def beats(self) -> list[int]:
        """The probes of the heartbeats that have arrived."""
        return [message.probe for _, message in self.heard if isinstance(message, Heartbeat)]


@dataclass
class Bench:
    """Node 1's links, door and disk, and the injector in front of them."""

    injector: FaultInjector
    replication: Replication
    worker: StorageWorker
    clock: WallClock
    inbox: Inbox
    view: View
    far: Far
    nursery: trio.Nursery

    def set(
        self, kind: str, *peers: int, direction: str = "out", lease_ms: int = 60_000, **more: int
    ) -> None:
        self.injector.answer(SetFault(1, kind, kind, list(peers), direction, more, lease_ms))

    def heal(self) -> list[int]:
        return [one["hits"] for one in self.injector.answer(HealFault(1, "")).faults]

    def beat(self, *probes: int) -> None:
        for probe in probes:
            self.replication.send(2, Heartbeat(1, 0, probe))

    async def heard(self) -> list[int]:
        await trio.testing.wait_all_tasks_blocked()
        return self.far.beats()

    async def call(self) -> Connection:
        """Connect as node 2."""
        theirs, ours = trio.testing.memory_stream_pair()

        async def serve() -> None:
            connection = Connection(ours)
            try:
                await self.replication.serve_peer(connection)
            except ConnectionLost:
                pass
            finally:
                await connection.aclose()

        self.nursery.start_soon(serve)
        connection = Connection(theirs)
        await greet(connection, HELLO)
        return connection

    def received(self) -> list[Message]:
        return [item.message for item in self.inbox.drain(99) if isinstance(item, Received)]  # type: ignore[misc]


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    worker = StorageWorker(MemoryStorage(MemoryDisk(), Identity("c", 1)), inline=True)
    inbox, view = Inbox(), View(1, term=0, applied_index=0, first_offset=0, next_offset=0)

    async def load() -> Snapshot:
        return SNAPSHOT

    async with trio.open_nursery() as nursery:
        far = Far(nursery)
        identities = PeerIdentities(CONFIG, view, worker, far.dial, dict)
        ways = (far.dial, load, random.Random(1), KeyChunks(worker))
        replication = Replication(CONFIG, 99, inbox, view, identities, *ways)
        clock = WallClock(lambda: 1_000.0)
        injector = FaultInjector(FaultTable(1, (2,), random.Random(1)), replication, worker, clock)
        await nursery.start(worker.run)
        nursery.start_soon(injector.run)
        nursery.start_soon(replication.links[2].run)
        await trio.testing.wait_all_tasks_blocked()
        yield Bench(injector, replication, worker, clock, inbox, view, far, nursery)
        nursery.cancel_scope.cancel()


jumping = pytest.mark.usefixtures("autojump_clock")


# --- the way out ------------------------------------------------------------------------------------


@jumping
async def test_a_block_lets_nothing_out_and_keeps_the_connection() -> None:
    async with bench() as node:
        node.beat(1)
        assert await node.heard() == [1]
        node.set("block", 2)
        node.beat(2, 3)
        assert await node.heard() == [1]
        assert node.heal() == [3], "with what the node sends to show that the cut is there"
        node.beat(4)
        assert await node.heard() == [1, 4]
        assert node.far.connections == 1


@jumping
async def test_a_blocked_link_dials_nobody_and_comes_back_when_healed() -> None:
    async with bench() as node:
        node.set("reset", 2, permille=1000)
        node.beat(1)
        await trio.testing.wait_all_tasks_blocked()
        node.set("block", 2)
        await trio.sleep(10)
        before = node.far.connections
        await trio.sleep(10)
        assert node.far.connections == before
        assert not node.replication.links[2].connected
        node.heal()
        await trio.sleep(0.1)
        node.beat(2)
        assert await node.heard() == [2]


@jumping
async def test_a_lease_ends_by_itself_at_its_time() -> None:
    async with bench() as node:
        node.set("block", 2, lease_ms=1000)
        await trio.sleep(0.99)
        node.beat(1)
        assert await node.heard() == []
        await trio.sleep(0.02)
        node.beat(2)
        assert await node.heard() == [2]
        assert node.injector.answer(ListFaults(1)).faults == []


@jumping
async def test_a_delayed_message_arrives_later_and_in_order() -> None:
    async with bench() as node:
        node.set("delay", 2, delay_ms=100, jitter_ms=50)
        begun = trio.current_time()
        node.beat(*range(20))
        assert await node.heard() == []
        await trio.sleep(0.2)
        assert node.far.beats() == list(range(20))
        assert all(0.1 <= at - begun <= 0.151 for at, _ in node.far.heard)


@jumping
async def test_what_was_held_leaves_in_order_when_the_fault_is_healed() -> None:
    async with bench() as node:
        node.set("stall", 2)
        node.beat(1, 2)
        await trio.sleep(5)
        assert node.far.beats() == []
        assert node.heal() == [2]
        node.beat(3)
        assert await node.heard() == [1, 2, 3]


@jumping
async def test_a_renewed_lease_lets_nothing_go_early() -> None:
    async with bench() as node:
        node.set("stall", 2, lease_ms=1000)
        node.beat(1)
        await trio.sleep(0.8)
        node.set("stall", 2, lease_ms=1000)
        await trio.sleep(0.8)
        assert node.far.beats() == []
        await trio.sleep(0.3)
        assert node.far.beats() == [1]


@jumping
async def test_a_second_fault_releases_nothing_that_the_first_holds_back() -> None:
    async with bench() as node:
        node.set("stall", 2)
        node.beat(1, 2)
        node.set("delay", 2, delay_ms=100)
        await trio.sleep(5)
        assert node.far.beats() == []
        node.injector.answer(HealFault(1, "delay"))
        assert await node.heard() == []
        node.injector.answer(HealFault(1, "stall"))
        assert await node.heard() == [1, 2]


@jumping
async def test_a_reordered_message_arrives_whole_and_after_later_ones() -> None:
    async with bench() as node:
        node.set("reorder", 2, permille=300, hold_ms=50)
        for probe in range(40):
            node.beat(probe)
            await trio.sleep(0.01)
        await trio.sleep(0.1)
        arrived = node.far.beats()
        assert sorted(arrived) == list(range(40))
        assert arrived != sorted(arrived)
        assert max(at - arrived.index(at) for at in range(40)) <= 6, "none is passed for longer than 50 ms"
        (passed,) = node.heal()
        assert passed == sum(any(later > one for later in arrived[:at]) for at, one in enumerate(arrived))


@jumping
async def test_a_doubled_message_arrives_twice() -> None:
    async with bench() as node:
        node.set("duplicate", 2, permille=1000)
        node.beat(1, 2)
        assert await node.heard() == [1, 1, 2, 2]


@jumping
async def test_a_rate_bounds_the_bytes_that_leave() -> None:
    async with bench() as node:
        size = len(encode(Heartbeat(1, 0, 1)))
        node.set("rate", 2, bytes_per_s=10 * size)
        node.beat(*range(10))
        await trio.sleep(0.55)
        assert node.far.beats() == [0, 1, 2, 3, 4]
        await trio.sleep(0.5)
        assert node.far.beats() == list(range(10))


@jumping
async def test_a_reset_breaks_the_connection_and_another_is_made() -> None:
    async with bench() as node:
        node.set("reset", 2, permille=1000)
        node.beat(1)
        await trio.sleep(0.5)
        assert node.far.connections == 2
        assert node.heal() == [1]
        node.beat(2)
        assert await node.heard() == [2]


@jumping
async def test_a_blocked_snapshot_is_reported_as_not_sent() -> None:
    async with bench() as node:
        node.set("rate", 2, bytes_per_s=1_000_000)
        node.replication.send_snapshot(SendSnapshot(2, 1))
        await trio.sleep(1.5)
        node.set("block", 2)
        await trio.sleep(0.1)
        assert SnapshotSent(2, ok=False) in node.inbox.drain(99)
        node.replication.send_snapshot(SendSnapshot(2, 1))
        assert SnapshotSent(2, ok=False) in node.inbox.drain(99)


@jumping
async def test_a_snapshot_takes_its_time_on_a_slow_link() -> None:
    async with bench() as node:
        node.set("rate", 2, bytes_per_s=1_000_000)
        node.replication.send_snapshot(SendSnapshot(2, 1))
        await trio.sleep(2.9)
        assert SnapshotSent(2, ok=True) not in node.inbox.drain(99)
        await trio.sleep(0.3)
        assert SnapshotSent(2, ok=True) in node.inbox.drain(99)


# --- the way in -------------------------------------------------------------------------------------


@jumping
async def test_a_block_of_what_comes_in_keeps_the_leader_silent() -> None:
    async with bench() as node:
        peer = await node.call()
        node.view.soft_state = type(node.view.soft_state)(node.view.soft_state.role, 1, 2)
        await peer.send(Heartbeat(1, 0, 1))
        await trio.testing.wait_all_tasks_blocked()
        assert node.received() == [Heartbeat(1, 0, 1)]
        node.set("block", 2, direction="in")
        await trio.sleep(2)
        await peer.send(Heartbeat(1, 0, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert node.received() == []
        assert node.view.silence_ms() == 2000
        node.beat(7)
        assert await node.heard() == [7]


@jumping
async def test_a_blocked_peer_that_connects_is_turned_away() -> None:
    async with bench() as node:
        node.set("block", 2, direction="in")
        with pytest.raises(ConnectionLost):
            await node.call()
        node.heal()
        await node.call()


@jumping
async def test_what_comes_in_twice_is_heard_twice() -> None:
    async with bench() as node:
        peer = await node.call()
        node.set("duplicate", 2, direction="in", permille=1000)
        await peer.send(HeartbeatReply(1, 5))
        await trio.testing.wait_all_tasks_blocked()
        assert node.received() == [HeartbeatReply(1, 5)] * 2


# --- the disk ---------------------------------------------------------------------------------------


@jumping
async def test_a_slow_disk_delays_a_commit_and_a_heal_ends_the_wait() -> None:
    async with bench() as node:
        node.set("disk-slow", delay_ms=500)
        done: list[float] = []
        for number in (1, 2):
            node.worker.submit(write(number), lambda: done.append(trio.current_time()))
            begun = trio.current_time()
            await trio.sleep(0.1)
            assert len(done) == number - 1
            if number == 2:
                node.heal()
            await trio.sleep(0.5)
            assert len(done) == number
        assert done[1] - begun == pytest.approx(0.1)


@jumping
@pytest.mark.parametrize("kind", ["disk-fail", "disk-full"])
async def test_a_disk_that_refuses_a_write_ends_the_node(kind: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match=f"the fault {kind}")):
        async with bench() as node:
            node.set(kind)
            node.worker.submit(write(1), lambda: None)
            await trio.sleep(1)


@jumping
async def test_a_disk_that_hesitates_too_long_has_failed() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match="nothing became durable")):
        async with bench() as node:
            node.set("disk-slow", delay_ms=8_000)
            node.nursery.start_soon(node.worker.watch)
            node.worker.submit(write(1), lambda: None)
            await trio.sleep(60)


async def test_a_disk_with_a_thread_of_its_own_hesitates_too() -> None:
    """In real time: a clock that jumps does not see threads."""
    table = FaultTable(1, (), random.Random(1))
    worker = StorageWorker(MemoryStorage(MemoryDisk(), Identity("c", 1)))
    replication_without_links = type("Links", (), {"links": {}})()
    injector = FaultInjector(table, replication_without_links, worker, WallClock())
    durable = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        injector.answer(SetFault(1, "f", "disk-slow", [], "", {"delay_ms": 10_000}, 60_000))
        worker.submit(write(1), durable.set)
        await trio.to_thread.run_sync(wait_for_the_hit, table)
        assert not durable.is_set()
        injector.answer(HealFault(1, "f"))
        await durable.wait()
        nursery.cancel_scope.cancel()


def wait_for_the_hit(table: FaultTable) -> None:
    disk = table.of_disk()
    assert disk is not None
    while not disk.active[0].hits:
        pass


# --- the clock --------------------------------------------------------------------------------------


@jumping
async def test_a_clock_that_was_set_shows_it_until_its_lease_is_over() -> None:
    async with bench() as node:
        node.set("clock-jump", by_ms=7_200_000, lease_ms=1000)
        assert node.clock.now_ms() == 1_000_000 + 7_200_000
        await trio.sleep(1.1)
        assert node.clock.now_ms() == 1_000_000


# --- what is refused, and what is told --------------------------------------------------------------


@jumping
async def test_a_fault_that_makes_no_sense_changes_nothing() -> None:
    async with bench() as node:
        with pytest.raises(InvalidRequest):
            node.set("block", 3)
        node.beat(1)
        assert await node.heard() == [1]


@jumping
async def test_each_change_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as node:
        node.set("block", 2, lease_ms=1000)
        node.set("stall", 2)
        node.injector.answer(HealFault(1, "stall"))
        await trio.sleep(2)
    told = [(r.message, r.__dict__["fault"]) for r in caplog.records if r.message.startswith("fault_")]
    assert told == [
        ("fault_set", "block"),
        ("fault_set", "stall"),
        ("fault_healed", "stall"),
        ("fault_expired", "block"),
    ]


@pytest.mark.parametrize("faults", [Faults(allowed=True), Faults()], ids=["allowed", "not allowed"])
async def test_a_node_that_allows_faults_takes_them_from_clients_and_shows_them(
    tmp_path: Path, faults: Faults
) -> None:
    async with local_cluster(tmp_path, 1, faults=faults) as cluster:
        await cluster.leader()
        async with connect_node(cluster.addresses[0]) as link:
            if not faults.allowed:
                for refused in (link.faults, link.heal_fault, lambda: link.set_fault("f", "stall", 1000)):
                    with pytest.raises(FaultsNotAllowed, match="allowed = true"):
                        await refused()
            else:
                with pytest.raises(InvalidRequest, match="'burn'"):
                    await link.set_fault("f", "burn", 60_000)
                shown = await link.set_fault("f", "disk-slow", 60_000, parameters={"delay_ms": 1})
                assert (shown["id"], shown["left_ms"], shown["hits"]) == ("f", 60_000, 0)
                assert [one["id"] for one in await link.faults()] == ["f"]
                assert [one["id"] for one in (await link.status())["faults"]] == ["f"]
                assert [one["id"] for one in await link.heal_fault("f")] == ["f"]
            status = await link.status()
            assert (status["faults_allowed"], status["faults"]) == (faults.allowed, [])
