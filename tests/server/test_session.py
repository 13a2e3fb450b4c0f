"""One client's session: what it may make the node hold."""

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.dedup.producers import Opened, Opening
from esnode.errors import (
    Busy,
    DamagedRecord,
    EarlierRefused,
    InvalidRequest,
    NotLeader,
    ProducerFenced,
)
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.loop.waiting import WaitingRequests
from esnode.messages import (
    Append,
    Appended,
    CheckpointTaken,
    CutPrefix,
    Entries,
    FetchSnapshot,
    LeaderIs,
    MovingKeys,
    OpenProducerSession,
    PrefixCutTo,
    ProducerOpened,
    ReadEntries,
    ReadMovingKeys,
    Refused,
    SnapshotPiece,
    StatusReply,
    StatusRequest,
    TakeCheckpoint,
)
from esnode.raft.entry import Entry
from esnode.raft.messages import Decision, OpenProducer, Propose, ReadGrant, ReadIndex, Role, SoftState
from esnode.refusal import Refusal
from esnode.server.batchcheck import BatchCheck
from esnode.server.reading import Reader
from esnode.server.services import AdminHandler, Services
from esnode.server.session import Session
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.transport.connection import Connection
from esnode.wire import encode
from tests.appending import batch

REPLY_BYTES = 64 * limits.KIB


class CountedStatus:
    """A status of a known size, and how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def gather(self) -> Mapping[str, Any]:
        self.asked += 1
        return {"padding": "x" * REPLY_BYTES}


def nothing_cached(offset: int, max_bytes: int) -> tuple[Entry, ...]:
    return ()


def unknown(key: bytes) -> tuple[int, int]:
    return -1, 0


class OneRecord:
    """An admin handler whose log is one record of the largest size that is read at once."""

    def __init__(self) -> None:
        self.asked = 0

    async def entries(self, request: ReadEntries) -> Entries:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return Entries(request.request_id, 0, 1, [bytes(limits.MAX_READ_BYTES)])

    async def snapshot(
        self, request: FetchSnapshot, send: Callable[[SnapshotPiece], Awaitable[None]]
    ) -> None:
        raise NotImplementedError

    async def cut(self, request: CutPrefix) -> PrefixCutTo:
        raise NotImplementedError

    async def checkpoint(self, request: TakeCheckpoint) -> CheckpointTaken:
        raise NotImplementedError

    async def moving_keys(self, request: ReadMovingKeys) -> MovingKeys:
        raise NotImplementedError


def services_of(status: CountedStatus, admin: AdminHandler | None = None) -> Services:
    view = View(1, term=0, applied_index=0, first_offset=0, next_offset=0)
    worker = StorageWorker(MemoryStorage(MemoryDisk(), Identity("c", 1)), inline=True)
    reader = Reader(view, worker, nothing_cached)
    return Services(
        Inbox(), view, WaitingRequests(), reader, (1,), lambda: LeaderIs(0, 0, ""), status.gather, unknown,
        admin=admin,
    )  # fmt: skip


async def test_a_client_that_reads_no_answer_is_not_served_without_end() -> None:
    """However small the questions are and however many of them arrive at once."""
    status = CountedStatus()
    questions = 1000
    ours, theirs = trio.testing.lockstep_stream_pair()
    session = Session(Connection(ours), services_of(status))
    answers = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        nursery.start_soon(theirs.send_all, encode(StatusRequest(1)) * questions)
        await trio.testing.wait_all_tasks_blocked()
        held = status.asked * REPLY_BYTES
        assert held <= 2 * (limits.MAX_SESSION_OUTGOING_BYTES + REPLY_BYTES)
        client = Connection(theirs)
        while answers < questions:  # and once it reads, every question has its answer
            answers += sum(isinstance(message, StatusReply) for message in await client.receive())
        nursery.cancel_scope.cancel()
    assert status.asked == questions


async def test_a_client_that_reads_no_entries_has_few_of_them_held_for_it() -> None:
    admin, questions = OneRecord(), 200
    ours, theirs = trio.testing.lockstep_stream_pair()
    session = Session(Connection(ours), services_of(CountedStatus(), admin))
    answers = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        nursery.start_soon(
            theirs.send_all, encode(ReadEntries(1, 1, limits.MAX_READ_BYTES, False)) * questions
        )
        await trio.testing.wait_all_tasks_blocked()
        bound = 2 * limits.MAX_SESSION_OUTGOING_BYTES + limits.MAX_SESSION_READS * limits.MAX_READ_BYTES
        assert admin.asked * limits.MAX_READ_BYTES <= bound
        client = Connection(theirs)
        while answers < questions:
            answers += sum(isinstance(message, Entries) for message in await client.receive())
        nursery.cancel_scope.cancel()
    assert admin.asked == questions


async def test_a_batch_waits_for_the_disk_in_a_thread_and_what_follows_it_waits_behind_it() -> None:
    ready, asked = threading.Event(), list[bytes]()

    def cold(keys: bytes) -> list[Callable[[], object]]:
        asked.append(keys)
        return [damaged, partial(ready.wait, 30.0)] if len(asked) == 1 else []

    def damaged() -> None:
        raise DamagedRecord("the decision says so again")

    services = replace(services_of(CountedStatus()), cold=cold)
    services.view.show_state(LEADS)
    ours, theirs = trio.testing.memory_stream_pair()
    first, second = batch(1), batch(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        await theirs.send_all(encode(Append(1, first, 0)) + encode(Append(2, second, 0)))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert services.inbox.drain(10) == []
        ready.set()
        while len(asked) < 2:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        offered = [item for item in services.inbox.drain(10) if isinstance(item, Propose)]
        assert [item.batch for item in offered] == [first, second]
        nursery.cancel_scope.cancel()
    assert asked == [first.keys, second.keys]


# --- the order of its appends ---------------------------------------------------------------------------

LEADS = SoftState(Role.LEADER, 1, 1)


async def offer(services: Services, *appends: Append) -> tuple[list[int], list[tuple[int, str]]]:
    """What the core gets of these, and what is refused at once."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        await theirs.send_all(b"".join(encode(append) for append in appends))
        await trio.testing.wait_all_tasks_blocked()
        offered = [item for item in services.inbox.drain(1000) if isinstance(item, Propose)]
        answers = await Connection(theirs).receive()
        nursery.cancel_scope.cancel()
    assert len({item.order for item in offered}) <= 1
    refused = [(answer.request_id, answer.code) for answer in answers if isinstance(answer, Refused)]
    return [item.run for item in offered], refused


async def test_what_follows_a_batch_that_has_no_room_is_refused_and_the_next_run_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = batch(1), batch(*range(100))
    monkeypatch.setattr(limits, "MAX_SESSION_INFLIGHT_BYTES", 3 * len(small.payload))
    services = services_of(CountedStatus())
    services.view.show_state(LEADS)
    taken, refused = await offer(
        services, Append(1, small, 4), Append(2, large, 4), Append(3, small, 4), Append(4, small, 5)
    )
    assert taken == [4, 5]
    assert refused == [(2, Busy.code), (3, EarlierRefused.code)]


async def test_a_batch_for_a_partition_that_is_not_there_is_refused_and_what_follows_it() -> None:
    services = services_of(CountedStatus())
    services.view.show_state(LEADS)
    astray = replace(batch(1), partition=7)
    appends = (Append(1, astray, 4), Append(2, batch(2), 4), Append(3, batch(1), 5))
    taken, refused = await offer(services, *appends)
    assert taken == [5]
    assert refused == [(1, InvalidRequest.code), (2, EarlierRefused.code)]


async def test_a_batch_whose_key_is_another_event_s_is_refused_where_keys_are_verified() -> None:
    forged = replace(batch(1), keys=batch(2).keys)
    appends = (Append(1, batch(1), 4), Append(2, forged, 5), Append(3, batch(3), 5))
    for verify_keys, passing, refusals in (
        (False, [4, 5, 5], []),
        (True, [4], [(2, InvalidRequest.code), (3, EarlierRefused.code)]),
    ):
        services = replace(services_of(CountedStatus()), check=BatchCheck(verify_keys=verify_keys))
        services.view.show_state(LEADS)
        assert await offer(services, *appends) == (passing, refusals)


async def test_what_follows_a_batch_that_the_inbox_had_no_room_for_is_refused() -> None:
    services = replace(services_of(CountedStatus()), inbox=Inbox(max_offered=2))
    services.view.show_state(LEADS)
    taken, refused = await offer(services, *(Append(number, batch(number), 0) for number in range(4)))
    assert taken == [0, 0]
    assert refused == [(2, Busy.code), (3, EarlierRefused.code)]


async def test_what_follows_a_batch_that_came_before_the_election_was_won_is_refused() -> None:
    services = services_of(CountedStatus())
    ours, theirs = trio.testing.memory_stream_pair()
    client = Connection(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        assert isinstance(await client.receive_one(), LeaderIs)
        await client.send(Append(1, batch(1), 1))
        first = await client.receive_one()
        services.view.show_state(LEADS)
        await client.send(Append(2, batch(2), 1))
        second = await client.receive_one()
        await client.send(Append(3, batch(1), 2))
        await trio.testing.wait_all_tasks_blocked()
        (proposal,) = services.inbox.drain(10)
        services.waiting.decided([Decision(1, 0, 0, (), 0, Refusal.BUSY)], 0, 1)
        third = await client.receive_one()
        nursery.cancel_scope.cancel()
    answers = [answer for answer in (first, second, third) if isinstance(answer, Refused)]
    assert [answer.code for answer in answers] == [NotLeader.code, EarlierRefused.code, Busy.code]
    assert isinstance(proposal, Propose)
    assert proposal.batch == batch(1)


async def test_how_long_an_append_took_is_noted_when_it_is_acked_and_only_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    services = services_of(CountedStatus())
    services.view.show_state(LEADS)
    ours, theirs = trio.testing.memory_stream_pair()
    client = Connection(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        assert isinstance(await client.receive_one(), LeaderIs)
        for number in (1, 2):
            await client.send(Append(number, batch(number), number))
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.25)
        acked, refused = Decision(1, 1, 1, (), 0, None), Decision(2, 0, 0, (), 0, Refusal.BUSY)
        services.waiting.decided([acked, refused], 1, 1)
        assert isinstance(await client.receive_one(), Appended)
        nursery.cancel_scope.cancel()
    ((bound_us, count),) = services.latency.picture()
    assert (count, 250_000 < bound_us < 282_000) == (1, True)


@pytest.mark.parametrize(
    ("grant", "role", "code"),
    [
        (ReadGrant(2, 5, None), Role.LEADER, ProducerFenced.code),
        (ReadGrant(2, 0, Refusal.NOT_LEADER), Role.FOLLOWER, NotLeader.code),
        (ReadGrant(2, 5, None), Role.FOLLOWER, NotLeader.code),
    ],
    ids=["it leads", "it does not", "it has just lost it"],
)
async def test_only_a_leader_that_a_majority_has_just_confirmed_ends_a_producer_session(
    grant: ReadGrant, role: Role, code: str
) -> None:
    """A leader that was deposed may know an older holder of the name than there is."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    services = services_of(CountedStatus())
    services.view.show_state(SoftState(Role.LEADER, 3, 1))
    client = Connection(theirs)
    answers: list[object] = []

    async def receive() -> None:
        answers.extend(await client.receive())  # the news of who leads
        answers.extend(await client.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        nursery.start_soon(receive)
        await client.send(OpenProducerSession(9, "billing-1", 4, 77))
        await trio.testing.wait_all_tasks_blocked()
        assert services.inbox.drain(9) == [OpenProducer(1, "billing-1", 4, 77)]
        services.waiting.decided([Decision(1, 3, 0, (), 0, Refusal.PRODUCER_FENCED)], 5, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert services.inbox.drain(9) == [ReadIndex(2)]
        assert len(answers) == 1
        services.view.show_state(SoftState(role, 3, 1))
        services.view.show_applied(5, 0)
        services.waiting.granted([grant])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (refused,) = answers[1:]
    assert isinstance(refused, Refused)
    assert (refused.request_id, refused.code) == (9, code)


async def test_what_a_producer_session_is_told_is_its_last_number_and_offset() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    services = services_of(CountedStatus())
    services.view.show_state(SoftState(Role.LEADER, 3, 1))
    client = Connection(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        await client.receive()
        await client.send(OpenProducerSession(9, "billing-1"))
        await trio.testing.wait_all_tasks_blocked()
        opened = Opened(Opening(4, 2, 42, "billing-1", 77), 99)
        services.waiting.decided([Decision(1, 3, 6, (), 0, None, opened)], 6, 3)
        assert await client.receive() == [ProducerOpened(9, 4, 2, 41, 99)]
        nursery.cancel_scope.cancel()
