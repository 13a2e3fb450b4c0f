"""The batches of one call on their way: none is stored without those before it.

Decides in which parts they are queued, and what happens to the rest if one is refused, late or given up.
Used by `log.py`, once for each call.
"""

from collections.abc import Callable, Sequence
from functools import partial

import trio

from esnode.client.acks import BatchAck, joined, put_together
from esnode.client.batcher import Batcher, Whole
from esnode.client.dispatcher import Dispatcher
from esnode.client.producer import ProducerSession, Turn
from esnode.client.request import Request
from esnode.dedup.batch import Batch
from esnode.errors import EventStreamError
from esnode.messages import Appended, NodeReply


def batch_ack(request: Request, answer: NodeReply) -> BatchAck:
    """The answer to an append, for its caller."""
    assert isinstance(answer, Appended)
    assert request.batch is not None
    if request.parts_elsewhere:
        return put_together([(places, _answer_to(part)) for places, part in request.parts_elsewhere])
    partition = request.batch.partition
    partitions = (partition,) * len(answer.ranges) if partition else ()
    return BatchAck(answer.ranges, answer.duplicates, request.sends > 1, partitions)


def _answer_to(part: Request) -> BatchAck:
    assert part.answer is not None
    return batch_ack(part, part.answer)


class OrderedAppend:
    """One call. `first_sequence`: the number of its first event in the producer session, where it is given.

    `on_sent` is called once, when the first part of it leaves for a node.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        batcher: Batcher,
        producer: ProducerSession | None,
        timeout_s: float,
        first_sequence: int | None,
        on_sent: Callable[[], None] | None,
    ) -> None:
        self._dispatcher = dispatcher
        self._batcher = batcher
        self._producer = producer
        self._timeout_s = timeout_s
        self._next_sequence = first_sequence
        self._on_sent = on_sent
        self._requests: list[Request] = []
        self._queued: list[Whole] = []
        """Those of the last batch."""
        self._submitting = trio.CancelScope()
        self._begun: Turn | EventStreamError | None = None
        self._has_begun = False

    def begin(self, batch: Batch) -> None:
        """Queue the first batch of `append`, ahead of it: no later call gets before it."""
        self._has_begun = True
        try:
            self._begun = self._queue_in_turn(batch)
        except EventStreamError as error:
            self._begun = error

    async def append_one(self, batch: Batch) -> BatchAck:
        """One batch: one request, with nothing behind it, where the session has nothing to remember."""
        if self._producer is not None and self._producer.has_memory:
            return joined(await self.append([batch]))
        heard = False
        whole = self._new_whole(batch, self._next_sequence)
        try:
            self._batcher.submit(whole)
            await self._wait_left(whole)
            ack = await self._settled(whole.request)
            heard = True
            return ack
        finally:
            self._end(heard=heard)

    async def append(self, batches: Sequence[Batch]) -> list[BatchAck]:
        """All of them. Raises the error of the first that is refused or late; those behind it are given up.

        The error is definite only if nothing of the call can be in the log.
        """
        heard = False
        try:
            with self._submitting:
                for batch in batches:
                    await self._submit(batch)
                    if self._submitting.cancel_called:
                        break
            acks = [await self._settled(request) for request in self._requests]
            heard = True
            return acks
        except EventStreamError as error:
            error.definite = error.definite and not any(request.may_be_done for request in self._requests)
            raise
        finally:
            self._end(heard=heard)

    def _end(self, *, heard: bool) -> None:
        """Nobody waits for any of it any more."""
        self._withdraw()
        self._dispatcher.abandon(*self._requests)
        if self._producer is not None and not heard:
            for request in self._requests:
                self._producer.unheard(request)

    async def _submit(self, batch: Batch) -> None:
        """Return once it has left; in a session it is queued behind all calls that wait there."""
        turn = self._begun if self._has_begun else self._queue_in_turn(batch)
        self._begun, self._has_begun = None, False
        if isinstance(turn, EventStreamError):
            raise turn
        if turn is not None and self._producer is not None:
            with trio.move_on_after(self._timeout_s) as waiting:
                await self._producer.wait_turn(turn)
            if waiting.cancelled_caught:
                raise self._dispatcher.why_late(None)
        for whole in tuple(self._queued):
            await self._wait_left(whole)
        self._queued.clear()

    def _queue_in_turn(self, batch: Batch) -> Turn | None:
        """The turn to wait for, where the session has it wait; raises what ended the session."""
        if self._producer is None:
            self._queue([(batch, None)])
            return None
        keys = batch.keys if self._next_sequence is None else b""
        return self._producer.ask_turn(keys, partial(self._queue_parts, self._producer, batch))

    def _queue_parts(self, producer: ProducerSession, batch: Batch) -> None:
        """In parts where it has events that the log knows under other numbers."""
        if self._next_sequence is None:
            self._queue(producer.parts_of(batch), producer.id)
        else:
            self._queue([(batch, self._next_sequence)])
            self._next_sequence += batch.count

    def _queue(self, parts: Sequence[tuple[Batch, int | None]], wanted_in: int = 0) -> None:
        """All at once: no later call gets between."""
        for part, sequence in parts:
            whole = self._new_whole(part, sequence)
            whole.request.wanted_in = wanted_in
            whole.request.on_refused = self._stop
            self._batcher.submit(whole)
            if self._submitting.cancel_called:
                break

    def _new_whole(self, batch: Batch, sequence: int | None) -> Whole:
        request = Request(self._dispatcher.next_id(), Appended, batch=batch)
        request.wanted_sequence = sequence
        request.on_sent, self._on_sent = self._on_sent, None
        whole = Whole(request, len(batch.payload), self._dispatcher.submit)
        self._requests.append(request)
        self._queued.append(whole)
        return whole

    def _withdraw(self) -> None:
        """What has not left stays here: the last first, so that none gets the place of another."""
        for whole in reversed(self._queued):
            if not whole.left:
                self._batcher.withdraw(whole)
        self._queued.clear()

    def _stop(self, refused: Request) -> None:
        """Nothing behind a refused one leaves, or is sent again."""
        self._withdraw()
        self._dispatcher.abandon(*self._requests[self._requests.index(refused) + 1 :])
        self._submitting.cancel()

    async def _wait_left(self, whole: Whole) -> None:
        """Wait until the window has a place for it. One that has not left is still in the queue then."""
        if not whole.left:
            with trio.move_on_after(self._timeout_s):
                await whole.wait_left()
        if not whole.left:
            raise self._dispatcher.why_late(None)

    async def _settled(self, request: Request) -> BatchAck:
        """What became of `request`; without an answer in time, the whole call is given up."""
        answered = False
        with trio.move_on_after(self._timeout_s):
            try:
                answer = await request.wait()
                answered = True
                return batch_ack(request, answer)
            finally:
                if not answered:
                    self._dispatcher.abandon(*self._requests)
        raise self._dispatcher.why_late(request)
