"""Who is told what, and when not yet: the disk's callbacks, those who wait for a leader, refused reads."""

from collections.abc import Sequence
from pathlib import Path

import trio
import trio.testing

from esnode.config import Address, Config, Dedup, Member
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.loop.waiting import WaitingRequests
from esnode.messages import LeaderIs, Read, Refused
from esnode.raft.messages import Decision, ReadGrant, ReadIndex, Role, SoftState, Write
from esnode.refusal import Refusal
from esnode.server.ingest import Ingest
from esnode.server.reading import Reader
from esnode.server.services import Services
from esnode.server.session import Session
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.transport.connection import Connection
from esnode.wire import encode
from tests.storage.logs import entries, write


class OneCommitAtATime:
    """A disk that commits when it is told to."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._told = trio.Semaphore(0)

    def go_on(self) -> None:
        self._told.release()

    async def commit(self, writes: Sequence[Write]) -> None:
        await self._told.acquire()
        self._storage.write(writes)

    async def call(self) -> None:
        await trio.lowlevel.checkpoint()


def reader_of(view: View, worker: StorageWorker) -> Reader:
    return Reader(view, worker, lambda offset, max_bytes: ())


def status() -> dict[str, int]:
    return {}


def unknown(key: bytes) -> tuple[int, int]:
    return -1, 0


async def test_a_commit_calls_back_for_its_own_writes_and_not_for_those_that_came_meanwhile() -> None:
    storage = MemoryStorage(MemoryDisk(), Identity("c", 1))
    pace = OneCommitAtATime(storage)
    worker = StorageWorker(storage, pace=pace)
    told: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        worker.submit(write(entries(1, [0])), lambda: told.append("first"))
        await trio.testing.wait_all_tasks_blocked()
        worker.submit(write(entries(2, [0])), lambda: told.append("second"))
        pace.go_on()
        await trio.testing.wait_all_tasks_blocked()
        assert told == ["first"]
        pace.go_on()
        await trio.testing.wait_all_tasks_blocked()
        assert told == ["first", "second"]
        nursery.cancel_scope.cancel()


def test_those_who_wait_hear_at_once_that_their_leader_leads_no_longer() -> None:
    address = Address("127.0.0.1", 1)
    config = Config("c", 1, Path(), (Member(1, address, address),))
    view = View(1, term=3, applied_index=0, first_offset=0, next_offset=0)
    view.show_state(SoftState(Role.LEADER, 3, 1))
    worker = StorageWorker(MemoryStorage(MemoryDisk(), Identity("c", 1)), inline=True)
    ingest = Ingest(config, 1, Inbox(), view, reader_of(view, worker), status, unknown)
    told: list[Refusal | None] = []
    token = ingest._waiting.expect_decision(lambda decision: told.append(decision.refusal))
    ingest.on_decisions([Decision(token, 3, 5, (), 0, None)])
    assert not told
    view.show_state(SoftState(Role.FOLLOWER, 4, None))
    ingest.on_soft_state(view.soft_state)
    assert told == [Refusal.LEADERSHIP_LOST]
    ingest.on_applied(5)  # an entry of the next leader
    assert len(told) == 1


class Listener:
    """A session, as far as the news goes."""

    def __init__(self) -> None:
        self.told = 0

    def tell_leader(self) -> None:
        self.told += 1


async def test_the_log_s_end_is_told_when_it_has_moved_and_never_without_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """With a window of a millisecond, an eighth of it would keep the node busy with nothing else."""
    address = Address("127.0.0.1", 1)
    config = Config("c", 1, Path(), (Member(1, address, address),), dedup=Dedup(ttl_ms=1))
    view = View(1, term=3, applied_index=0, first_offset=0, next_offset=0)
    worker = StorageWorker(MemoryStorage(MemoryDisk(), Identity("c", 1)), inline=True)
    ingest = Ingest(config, 1, Inbox(), view, reader_of(view, worker), status, unknown)
    listener = Listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ingest._tell_log_end)
        ingest._sessions.add(listener)  # type: ignore[arg-type]
        await trio.sleep(5)
        assert listener.told == 0
        for offset in range(1, 1_001):
            view.show_applied(offset, offset)
            await trio.sleep(0.001)
        await trio.sleep(0.2)
        assert 5 <= listener.told <= 11
        nursery.cancel_scope.cancel()


async def test_a_read_that_the_core_refuses_is_refused_to_the_client() -> None:
    view = View(1, term=3, applied_index=7, first_offset=0, next_offset=0)
    worker = StorageWorker(MemoryStorage(MemoryDisk(), Identity("c", 1)), inline=True)
    waiting, inbox = WaitingRequests(), Inbox()
    news = LeaderIs(3, 0, "")
    services = Services(inbox, view, waiting, reader_of(view, worker), (1,), lambda: news, status, unknown)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        await theirs.send_all(encode(Read(9, 0, 10, 1000, linearizable=True)))
        [asked] = await inbox.take(10)
        assert isinstance(asked, ReadIndex)
        waiting.granted([ReadGrant(asked.token, 0, Refusal.NOT_LEADER)])
        client = Connection(theirs)
        answers = [message for message in await client.receive() if message != news]
        while not answers:
            answers = list(await client.receive())
        assert [(type(one), one.code) for one in answers if isinstance(one, Refused)] == [
            (Refused, Refusal.NOT_LEADER.value)
        ]
        nursery.cancel_scope.cancel()
