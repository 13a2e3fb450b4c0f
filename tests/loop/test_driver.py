"""A snapshot that comes is read beside the event loop: what goes on meanwhile, and what is let fall."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.errors import DamagedSnapshot
from esnode.loop.clocks import Elapsed
from esnode.loop.driver import Driver
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.messages import (
    AppendEntries,
    Heartbeat,
    Input,
    InstallSnapshot,
    PeerMessage,
    Ready,
    Received,
    Snapshot,
    Tick,
    Write,
)
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from tests.test_apply import applied, log_of

T = TypeVar("T")
LEADER, OTHER = 2, 3


@dataclass
class Follower:
    """A core that installs each snapshot of its term, and notes what it is stepped with."""

    term: int = 2
    committed: int = 0
    doubts_its_leader: bool = False
    yielded: None = None
    stepped: list[PeerMessage] = field(default_factory=list)
    _snapshot: Snapshot | None = None

    @property
    def log(self) -> "Follower":
        return self

    def step(self, item: Input) -> None:
        if isinstance(item, Received):
            self.stepped.append(item.message)
            if isinstance(item.message, InstallSnapshot) and item.message.term == self.term:
                self._snapshot = item.message.snapshot

    def ready(self) -> Ready:
        snapshot, self._snapshot = self._snapshot, None
        write = None if snapshot is None else Write(1, snapshot, None, (), snapshot.index)
        return Ready(write, (), (), (), (), (), (), (), None)


class GatedWorker(StorageWorker):
    """A worker that does nothing aside before its gate is open."""

    def __init__(self, storage: MemoryStorage) -> None:
        super().__init__(storage)
        self.gate = trio.Event()
        self.aside_in: list[str] = []

    async def aside(self, fn: Callable[[], T]) -> T:
        await self.gate.wait()

        def noted() -> T:
            self.aside_in.append(threading.current_thread().name)
            return fn()

        return await super().aside(noted)


class Bench:
    """A driver with a core that is told what to do, and a disk that waits."""

    def __init__(self) -> None:
        self.core = Follower()
        self.machine = Machine(Dedup.of_keys(5_000, ttl_ms=640))
        self.inbox = Inbox()
        self.worker = GatedWorker(MemoryStorage(MemoryDisk(), Identity("test", 1)))
        self.view = View(1, term=2, applied_index=0, first_offset=0, next_offset=0)
        core: Any = self.core
        self.silent = Silent()
        clients: Any = self.silent
        self.driver = Driver(
            core, self.machine, self.inbox, self.view, self.worker, clients, clients, Elapsed()
        )

    async def hear(self, *messages: PeerMessage, sender: int = LEADER) -> None:
        """Let these arrive, and whatever can follow from them happen."""
        for message in messages:
            self.inbox.put(Received(sender, message))
        await trio.testing.wait_all_tasks_blocked()

    async def installed(self, snapshot: Snapshot) -> None:
        """Wait until the machine is the one of `snapshot`."""
        while self.machine.applied_index != snapshot.index:
            await self.view.wait_applied(self.view.applied_index + 1)


class Silent:
    """Clients that want nothing."""

    whole = True
    """Whether all chunks of a snapshot can be had."""

    def on_ring(self) -> None:
        """No client asks."""

    def on_applied(self, index: int) -> None:
        """Nobody waits."""

    async def fetch_keys(self, peer: int, snapshot: Snapshot) -> bool:
        await trio.lowlevel.checkpoint()
        return self.whole


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(bench.worker.run)
            nursery.start_soon(bench.driver.run)
            yield bench
            nursery.cancel_scope.cancel()


def snapshot() -> Snapshot:
    return applied(log_of([3, 0, 4, 0, 2])).snapshot()


def appended(index: int, term: int = 2) -> AppendEntries:
    return AppendEntries(term, index, 2, 0, ())


def beat() -> Heartbeat:
    return Heartbeat(2, 0, 0)


async def test_a_snapshot_is_read_aside_and_installed_once_it_is_read() -> None:
    whole = snapshot()
    message = InstallSnapshot(2, whole)
    async with running() as bench:
        await bench.hear(message, beat())
        assert bench.core.stepped == [beat()]
        assert bench.machine.applied_index == 0
        bench.worker.gate.set()
        await bench.installed(whole)
        assert bench.core.stepped == [beat(), message]
        assert bench.machine.digest() == applied(log_of([3, 0, 4, 0, 2])).digest()
        assert len(bench.worker.aside_in) == 2
        assert threading.main_thread().name not in bench.worker.aside_in
        assert await bench.worker.call(bench.worker.storage.load_snapshot) == whole


async def test_what_the_sender_says_of_its_log_meanwhile_is_let_fall() -> None:
    message = InstallSnapshot(2, snapshot())
    async with running() as bench:
        await bench.hear(message, appended(5), InstallSnapshot(2, snapshot()), beat())
        await bench.hear(appended(9, term=1), sender=OTHER)
        assert bench.core.stepped == [beat(), appended(9, term=1)]
        bench.worker.gate.set()
        await bench.installed(message.snapshot)
        await bench.hear(appended(5))
        assert bench.core.stepped == [beat(), appended(9, term=1), message, appended(5)]


async def test_a_snapshot_whose_chunks_cannot_be_had_is_dropped_and_the_next_one_is_taken() -> None:
    message = InstallSnapshot(2, snapshot())
    async with running() as bench:
        bench.worker.gate.set()
        bench.silent.whole = False
        await bench.hear(message)
        await bench.hear(entries := AppendEntries(2, 9, 2, 9, ()))
        assert bench.core.stepped == [entries]  # it is refused, as before the snapshot came
        assert (bench.worker.aside_in, bench.machine.applied_index) == ([], 0)
        bench.silent.whole = True
        await bench.hear(message)
        await bench.installed(message.snapshot)


async def test_a_snapshot_that_the_core_only_answers_is_not_read() -> None:
    async with running() as bench:
        old_term, known = InstallSnapshot(1, snapshot()), InstallSnapshot(2, snapshot())
        await bench.hear(old_term)
        bench.core.committed = 5
        bench.core.term = 9
        await bench.hear(known)
        assert bench.core.stepped == [old_term, known]
        bench.worker.gate.set()
        await bench.hear(beat())
        assert bench.worker.aside_in == []


async def test_a_snapshot_that_came_too_late_changes_nothing() -> None:
    message = InstallSnapshot(2, snapshot())
    async with running() as bench:
        await bench.hear(message)
        bench.core.term = 3
        bench.worker.gate.set()
        while message not in bench.core.stepped:
            await bench.hear(beat())
        assert bench.machine.digest() == Machine(Dedup.of_keys(5_000, ttl_ms=640)).digest()
        bench.inbox.put(Tick(1))
        await trio.testing.wait_all_tasks_blocked()
        assert bench.driver._read is None


async def test_a_damaged_snapshot_ends_the_driver_only_when_the_core_takes_it() -> None:
    damaged = replace(snapshot(), data=snapshot().data[:-1] + b"?")
    async with running() as bench:
        await bench.hear(InstallSnapshot(2, damaged))
        bench.core.term = 3
        bench.worker.gate.set()
        while not any(isinstance(each, InstallSnapshot) for each in bench.core.stepped):
            await bench.hear(beat())

    async def taken() -> None:
        async with running() as bench:
            bench.worker.gate.set()
            await bench.hear(InstallSnapshot(2, damaged))
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await taken()
    assert caught.group_contains(DamagedSnapshot)
