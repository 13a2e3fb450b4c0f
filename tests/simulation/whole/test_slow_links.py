"""Whole nodes behind slow links: what is large takes its time, and takes the leadership from nobody."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from esnode import limits
from esnode.apply import Machine as StateMachine
from esnode.client import Log, connect, connect_node
from esnode.config import Address, Config, Dedup, Member
from esnode.raft.entry import EntryKind, seal
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.interface import Identity
from esnode.storage.place import MemoryPlace

from .audit import Audit
from .clock import Freezer, run_deterministically
from .disk import DiskSpeed
from .machines import Ground, Machine
from .network import Network
from .streams import Weather

MEMBERS = tuple(Member(n, Address(f"10.0.0.{n}", 7200), Address(f"10.0.0.{n}", 7100)) for n in (1, 2, 3))
ADDRESSES = [str(member.client) for member in MEMBERS]
WINDOW = Dedup(max_bytes=limits.MAX_DEDUP_BYTES)
SLOWEST = float(limits.SLOWEST_LINK_BYTES_PER_S)


class Unaudited(Audit):
    """Logs that begin with a snapshot have no history that it could know."""

    def observe(self, host: str, machine: StateMachine) -> None:
        return


class Cluster:
    """Three machines."""

    def __init__(self, bytes_per_s: float, nursery: trio.Nursery) -> None:
        weather = Weather((0.0002, 0.002), split=0.0, bytes_per_s=bytes_per_s)
        self.network = Network(random.Random(1), weather)
        self.notes: list[tuple[str, str]] = []
        ground = Ground(
            1,
            nursery,
            self.network,
            Freezer(),
            Unaudited(),
            DiskSpeed((0.0002, 0.003), 0.0),
            Counter(),
            lambda who, what: self.notes.append((who, what)),
        )
        self.machines = []
        for member in MEMBERS:
            config = Config("slow", member.id, Path("nowhere"), MEMBERS, storage="memory", dedup=WINDOW)
            self.machines.append(Machine(config, ground))
            for address in (member.peer, member.client):
                self.network.place(self.machines[-1].host, address)

    def begin_with(self, snapshot: Snapshot) -> None:
        """Nodes 1 and 2 have cut their logs to `snapshot`; node 3 is new."""
        for machine in self.machines[:2]:
            place = MemoryPlace(machine.disk, Identity("slow", machine.config.node_id))
            with closing(place.open()) as storage:
                storage.write([Write(1, snapshot, HardState(1, None), (), snapshot.index)])

    async def start(self) -> None:
        for machine in self.machines:
            await machine.start()

    def terms(self) -> list[int]:
        return [machine.node.view.soft_state.term for machine in self.machines if machine.node is not None]

    async def replicates(self) -> None:
        """Wait until a leader has entries that are on their way to the others."""
        while True:
            for machine in self.machines:
                if machine.node is not None and machine.node.view.leads:
                    log = machine.node._status.core.log
                    if log.durable > log.committed:
                        return
            await trio.sleep(0.05)


def snapshot_of(size_bytes: int) -> Snapshot:
    """What a cut prefix of about so many bytes of keys meant."""
    machine, source = StateMachine(WINDOW, searchable=False), random.Random(5)
    count = limits.MAX_BATCH_EVENTS
    for number in range(size_bytes // (count * limits.KEY_BYTES)):
        keys = source.randbytes(count * limits.KEY_BYTES)
        entry = seal(
            index=number + 1,
            term=1,
            kind=EntryKind.BATCH,
            base_offset=number * count,
            log_time_ms=0,
            count=count,
            keys=keys,
            payload=b"",
        )
        machine.apply(entry)
    return machine.snapshot()


def play(
    bytes_per_s: float,
    story: Callable[[Cluster, Log], Awaitable[None]],
    snapshot: Snapshot | None = None,
) -> None:
    """A cluster whose every connection carries so much each way, and a client of it."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            cluster = Cluster(bytes_per_s, nursery)
            if snapshot is not None:
                cluster.begin_with(snapshot)
            await cluster.start()
            async with connect(
                ADDRESSES, timeout_s=600, dial=cluster.network.dialer("client"), rng=random.Random(3)
            ) as log:
                await log.append({"id": "first", "source": "/s", "type": "t"})
                await story(cluster, log)
            nursery.cancel_scope.cancel()

    run_deterministically(main, random.Random(7))


def large(number: int, size_bytes: int) -> dict[str, object]:
    return {"id": f"large-{number}", "source": "/s", "type": "t", "data": "x" * size_bytes}


def test_batches_of_4_mib_at_1_mb_a_second_are_acked_in_one_term() -> None:
    async def story(cluster: Cluster, log: Log) -> None:
        before = cluster.terms()
        acks = await log.append_many(large(n, 980_000) for n in range(24))
        assert [ack.offset for ack in acks] == list(range(1, 25))
        assert cluster.terms() == before

    play(1e6, story)


def test_the_largest_event_passes_the_slowest_link_in_one_term() -> None:
    async def story(cluster: Cluster, log: Log) -> None:
        before = cluster.terms()
        await log.append(large(1, limits.MAX_EVENT_BYTES - 200))
        assert cluster.terms() == before

    play(SLOWEST, story)


@pytest.mark.parametrize("bytes_per_s", [1e6, SLOWEST])
def test_reads_and_the_commit_pass_what_is_large_on_its_way(bytes_per_s: float) -> None:
    """Heartbeats carry both: they do not wait for the batch that is before them."""

    async def story(cluster: Cluster, log: Log) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.append_many, [large(n, 980_000) for n in range(4)])
            await cluster.replicates()
            for _ in range(5):
                begun = trio.current_time()
                await log.read(0, 1)
                assert trio.current_time() - begun < 2.5
            nursery.cancel_scope.cancel()

    play(bytes_per_s, story)


def test_a_snapshot_arrives_over_the_slowest_link_in_one_term() -> None:
    """A megabyte of it takes 17 s there."""
    snapshot = snapshot_of(3_000_000)

    async def story(cluster: Cluster, log: Log) -> None:
        before = cluster.terms()
        with trio.fail_after(1.2 * len(snapshot.data) / SLOWEST + 10):
            await cluster.machines[2].applied(lambda: snapshot.index)
        await log.append({"id": "last", "source": "/s", "type": "t"})
        assert cluster.terms() == before

    play(SLOWEST, story, snapshot)


def test_readers_are_patient_with_a_slow_link() -> None:
    """A page of a megabyte takes 17 s: a subscription gave up after 3 s without a whole message,
    an operator's question after 5 s."""

    async def story(cluster: Cluster, log: Log) -> None:
        sent = [large(n, 300_000) for n in range(4)]
        await log.append_many(sent)
        async with log.subscribe(1) as events:
            assert [(await anext(events)).event["id"] for _ in sent] == [event["id"] for event in sent]
        async with log.subscribe_batches(1) as batches:
            batch = await batches.next_within(limits.OPERATION_TIMEOUT_S)
            assert batch is not None
        async with connect_node(ADDRESSES[0], dial=cluster.network.dialer("operator")) as link:
            entries = await link.read_entries(3)
            assert sum(map(len, entries.records)) > 600_000

    play(SLOWEST, story)
