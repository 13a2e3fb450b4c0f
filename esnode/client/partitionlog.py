"""The log of one partition: append, read, subscribe, over any number of failovers.

Decides how long an operation is tried and how many batches are under way. An operation that raises
nothing is done; one that raises says whether it was certainly not done (`error.definite`).
Never looks at which partition an event belongs to: `log.py` does, which has one of these per partition.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from esnode import limits
from esnode.client.acks import Ack, BatchAck, acks_of
from esnode.client.batcher import Asked, Batcher, LeftPlace, Whole
from esnode.client.checks import check_batch, check_range
from esnode.client.clusterpin import ClusterPin
from esnode.client.dispatcher import Dispatcher
from esnode.client.ordered import OrderedAppend, batch_ack
from esnode.client.producer import ProducerSession, ProducerState
from esnode.client.request import Request
from esnode.client.stored import StoredEvent, batches_of
from esnode.client.subscription import BatchSubscription
from esnode.client.window import Window
from esnode.dedup.batch import Batch, event_key
from esnode.errors import InvalidRequest
from esnode.events import encode_event, key_of, make_batches
from esnode.messages import (
    Appended,
    ExplainKey,
    KeyExplained,
    Read,
    Records,
    StatusReply,
    StatusRequest,
    TransferLeadership,
    Transferred,
)
from esnode.transport.connection import Dialer
from esnode.wire import encode

Question = Read | StatusRequest | ExplainKey | TransferLeadership
_Answer = TypeVar("_Answer", Records, StatusReply, KeyExplained, Transferred)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a client behaves; see `connect`."""

    cluster: str = ""
    batch_events: int = 64
    batch_ms: float = 1.0
    window: int = 64
    timeout_s: float | None = limits.CLIENT_TIMEOUT_S
    producer_session: bool = False
    producer: str = ""
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class KeyState:
    """What the deduplication table knows of an event: its offset in the log of the partition.

    The offset is None when nothing is known, or when the event was stored before its source moved here.
    `expires_in_ms` is the log time that is left to it; 0: it is not known; -1: no time ends it
    (`dedup.ttl_ms = 0`).
    """

    key: bytes
    offset: int | None
    expires_in_ms: int

    @property
    def known(self) -> bool:
        """Whether it would be a duplicate if it were sent now."""
        return self.expires_in_ms != 0


class PartitionLog:
    """The log of one partition. Made by `Log`; its methods may be called from many tasks."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        pin: ClusterPin,
        settings: Settings,
        dial: Dialer,
        rng: random.Random,
    ) -> None:
        self._dispatcher = dispatcher
        self._pin = pin
        self._settings = settings
        self._dial = dial
        self._rng = rng
        self._timeout_s = float("inf") if settings.timeout_s is None else settings.timeout_s
        window = Window(settings.window)
        self._batcher = Batcher(
            settings.batch_events,
            settings.batch_ms / 1000,
            window,
            self._new_append,
            dispatcher.submit,
        )
        self._producer: ProducerSession | None = None
        if settings.producer_session:
            self._producer = ProducerSession(dispatcher, settings.producer, rng.getrandbits(64))
        self._subscriptions: list[BatchSubscription] = []

    @property
    def dispatcher(self) -> Dispatcher:
        """Of its requests."""
        return self._dispatcher

    def route_again(self, done: Callable[[], None]) -> None:
        """A newer ring is known: `done` is called once all calls so far are past this partition.

        They are acked or refused, or their events are on their way to their owners.
        """

        def all_left(mark: Request) -> None:
            mark.settle(None, None)
            self._dispatcher.route_again(done)

        self._dispatcher.route_again(lambda: None)
        self._batcher.submit(Whole(Request(self._dispatcher.next_id(), Appended), 0, all_left))

    def tasks(self) -> list[Callable[[], Awaitable[None]]]:
        """What must run while the log is open."""
        tasks: list[Callable[[], Awaitable[None]]] = [self._dispatcher.run_retries, self._batcher.run]
        return tasks if self._producer is None else [*tasks, self._producer.run]

    async def aclose(self) -> None:
        """Give up what still waits, and close every subscription that was opened here."""
        self._dispatcher.close()
        self._batcher.close()
        while self._subscriptions:
            await self._subscriptions.pop().aclose()

    @property
    def leader_id(self) -> int | None:
        """The id of the node that leads, None while nobody is known to."""
        return None if self._dispatcher.leader is None else self._dispatcher.leader.node_id

    @property
    def connections(self) -> dict[str, bool]:
        """Each node's address, in the order in which they are dialled, and whether it is connected now.

        All are dialled at once, and each is kept.
        """
        return {str(link.address): link.connected for link in self._dispatcher.links.values()}

    async def wait_greeted(self) -> None:
        """Return once a node has answered. Raises as an operation that was never sent."""
        request = Request(self._dispatcher.next_id(), StatusReply)
        with trio.move_on_after(self._timeout_s):
            try:
                self._dispatcher.submit(request)
                await request.wait_done()
                return
            finally:
                self._dispatcher.abandon(request)
        raise self._dispatcher.why_late(None)

    # --- append --------------------------------------------------------------------------------

    async def append(self, event: Mapping[str, Any], *, sequence: int | None = None) -> Ack:
        """Put one event in the log; returns once a majority has it on disk.

        In a producer session, `sequence` may be its number: the next one, or one that is in the log
        already; then the event is a duplicate. Without it, it gets the next number.

        Raises `InvalidEvent`, `EventTooLarge`; `OperationTimeout` (unknown whether it is stored), or
        `NoQuorum`, `Unreachable` (certainly not); or what the leader refused it with. In a session also
        `OutOfSequence` (a number too high), and `ProducerFenced` or `UnknownProducer` when that is over.
        """
        encoded, key = encode_event(event), key_of(event)
        if sequence is not None:
            self.check_sequence(sequence, 1)
        request: Request | None = None
        with trio.move_on_after(self._timeout_s):
            while True:
                asked = await self._ask_place(key, encoded, sequence)
                comes_back = isinstance(asked, LeftPlace)
                request, place = await self._batcher.wait_place(asked)
                try:
                    await request.done.wait()
                    if comes_back and request.is_given_up:
                        continue
                    if request.acks is None:
                        request.acks = acks_of(batch_ack(request, await request.wait()))
                    return request.acks[place]
                except trio.Cancelled:
                    if self._producer is not None:
                        self._producer.leave(key, request, place)
                    raise
                finally:
                    request.waiters -= not comes_back
                    if not request.waiters and request.batch is not None:
                        self._dispatcher.abandon(request)
        raise self._dispatcher.why_late(request)

    async def _ask_place(self, key: bytes, encoded: bytes, sequence: int | None) -> Asked:
        if self._producer is None:
            return self._batcher.ask(key, encoded)
        ask = partial(self._ask_in_session, self._producer, key, encoded, sequence)
        return await self._producer.in_turn(key if sequence is None else b"", ask)

    def _ask_in_session(
        self, producer: ProducerSession, key: bytes, encoded: bytes, sequence: int | None
    ) -> Asked:
        if sequence is not None:
            return self._batcher.ask(key, encoded, sequence)
        return producer.left(key) or self._batcher.ask(key, encoded, producer.number_of(key), producer.id)

    async def append_many(
        self, events: Iterable[Mapping[str, Any]], *, first_sequence: int | None = None
    ) -> list[Ack]:
        """Put all `events` in the log, in order, in as many batches as it takes.

        All are checked before the first is sent. Raises what `append` raises; then the first of them may
        be stored, none without those before it: send all of them again. The timeout is for each batch.
        """
        batches = make_batches(events, self._settings.batch_events)
        self.check_sequence(first_sequence, sum(batch.count for batch in batches))
        acks = await self._ordered(first_sequence).append(batches)
        return [ack for part in acks for ack in acks_of(part)]

    async def append_batch(
        self,
        batch: Batch,
        *,
        first_sequence: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> BatchAck:
        """Put a batch made by `events.make_batch` or `events.pack` in the log, as it is.

        Waits for a place in the window first. `first_sequence` is the number of its first event, as in
        `append`. Raises `InvalidRequest`, and what `append` raises.
        `on_sent` is called when the batch leaves for a node for the first time: one that is given up,
        or cancelled, without that is certainly not stored.
        """
        check_batch(batch)
        self.check_sequence(first_sequence, batch.count)
        return await self._ordered(first_sequence, on_sent).append_one(batch)

    async def append_checked(
        self, batch: Batch, first_sequence: int | None, on_sent: Callable[[], None] | None
    ) -> BatchAck:
        """The same for a batch that was checked."""
        self.check_sequence(first_sequence, batch.count)
        return await self._ordered(first_sequence, on_sent).append_one(batch)

    def begin(
        self,
        batches: Sequence[Batch],
        first_sequence: int | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> Callable[[], Awaitable[list[BatchAck]]]:
        """Queue the first of `batches` now, and return what appends them all: it must be awaited."""
        call = self._ordered(first_sequence, on_sent)
        call.begin(batches[0])
        return partial(call.append, batches)

    def _ordered(
        self, first_sequence: int | None, on_sent: Callable[[], None] | None = None
    ) -> OrderedAppend:
        return OrderedAppend(
            self._dispatcher, self._batcher, self._producer, self._timeout_s, first_sequence, on_sent
        )

    async def producer_state(self) -> ProducerState:
        """Where the producer session is: the number of its last event in the log, and that event's offset.

        Waits until it is open. An application that was restarted goes on after that event. Raises
        `InvalidRequest` where there is no session; `ProducerFenced`, `ProducersFull`, `UnknownProducer`
        when it is over; `OperationTimeout`, `NoQuorum`, `Unreachable`.
        """
        if self._producer is None:
            raise InvalidRequest("there is no producer session: connect with producer=NAME")
        with trio.move_on_after(self._timeout_s):
            return await self._producer.state()
        raise self._dispatcher.why_late(None)

    def check_sequence(self, first: int | None, count: int) -> None:
        """That an event may have the number `first`, and those behind it the next ones."""
        if first is None:
            return
        if self._producer is None:
            raise InvalidRequest("numbers are of a producer session: connect with producer=NAME")
        if not 0 <= first <= limits.MAX_INDEX - count:
            raise InvalidRequest(f"{first} is no number of an event: 0 to {limits.MAX_INDEX} (MAX_INDEX)")

    def _new_append(self) -> Request:
        return Request(self._dispatcher.next_id(), Appended)

    # --- read ----------------------------------------------------------------------------------

    async def read(
        self, from_offset: int, max_events: int = 1000, *, linearizable: bool = True
    ) -> list[StoredEvent]:
        """Up to `max_events` events from `from_offset`; fewer at the end of the log.

        `linearizable`: through the leader, and every event acked before the call is seen. Otherwise
        from what a node has applied. Raises `OffsetOutOfRange`, `OperationTimeout`, `NoQuorum`,
        `Unreachable`.
        """
        check_range(from_offset, max_events)
        events: list[StoredEvent] = []
        while len(events) < max_events:
            request_id = self._dispatcher.next_id()
            offset = from_offset + len(events)
            wanted = Read(request_id, offset, max_events - len(events), limits.MAX_READ_BYTES, linearizable)
            answer = await self._ask(wanted, Records, anywhere=not linearizable)
            page = list(batches_of(answer.records, offset, from_offset + max_events))
            if not page:
                break
            events += [event for batch in page for event in batch.events()]
        return events

    def subscribe_batches(self, from_offset: int, pin: ClusterPin | None = None) -> BatchSubscription:
        """Follow the log from `from_offset`, in whole `StoredBatch`es; `pin`: another than the log's."""
        check_range(from_offset, 1)
        subscription = BatchSubscription(
            lambda: list(self._dispatcher.links), pin or self._pin, from_offset, self._dial, self._rng
        )
        self._subscriptions.append(subscription)
        return subscription

    # --- ask -----------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """The status of the leader, or of any node while nobody leads; see docs/protocol.md."""
        request = StatusRequest(self._dispatcher.next_id())
        return (await self._ask(request, StatusReply, anywhere=True)).status

    async def explain(self, source: str, event_id: str) -> KeyState:
        """What the leader's deduplication table knows of the event."""
        key = event_key(source, event_id)
        answer = await self._ask(ExplainKey(self._dispatcher.next_id(), key), KeyExplained)
        return KeyState(key, answer.offset if answer.offset >= 0 else None, answer.expires_in_ms)

    async def transfer_leadership(self, to: int | None = None) -> tuple[int, int]:
        """Hand the leadership to node `to`, or to the best follower; returns (from, to)."""
        request = TransferLeadership(self._dispatcher.next_id(), to or 0)
        answer = await self._ask(request, Transferred, once=True)
        return answer.old_leader, answer.new_leader

    async def _ask(
        self, message: Question, expects: type[_Answer], *, anywhere: bool = False, once: bool = False
    ) -> _Answer:
        request = Request(message.request_id, expects, parts=(encode(message),), anywhere=anywhere, once=once)
        with trio.move_on_after(self._timeout_s):
            try:
                self._dispatcher.submit(request)
                answer = await request.wait()
                assert isinstance(answer, expects)
                return answer
            finally:
                self._dispatcher.abandon(request)
        raise self._dispatcher.why_late(request)
