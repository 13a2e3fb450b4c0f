"""The producer session of one client: it numbers its batches, so that the log always recognises them.

Decides which number a batch has. When one is given up or refused, it sends nothing until the session was
opened again, under an epoch that excludes late copies. The log then says up to which number it has
everything; the missing events keep their order and get new numbers. If the session cannot continue, all
waiting calls get the error. Used by `log.py` when the application asks for a session.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import trio

from esnode.client.batcher import LeftPlace, Place
from esnode.client.dispatcher import Dispatcher
from esnode.client.request import Request
from esnode.dedup.batch import Batch, ProducerStamp, select, split_keys
from esnode.errors import (
    CallerError,
    ClusterRestored,
    ConnectionLost,
    EventStreamError,
    OperatorError,
    OutOfSequence,
    ProducerFenced,
    ProducersFull,
    UnknownProducer,
)
from esnode.messages import OpenProducerSession, ProducerOpened
from esnode.wire import encode

T = TypeVar("T")

OPEN_AGAIN_S: Final = 0.1
"""After a refusal, before the session is opened again."""
MAX_GIVEN_UP: Final = 65_536
"""Events that were given up and are in the log after all, whose numbers are remembered."""


@dataclass(frozen=True, slots=True)
class ProducerState:
    """What the log said when the session was opened: its last event, and where that is.

    `last_sequence` is None where it has none; `last_offset` also where no node remembers it.
    """

    name: str
    producer_id: int
    epoch: int
    last_sequence: int | None
    last_offset: int | None

    @property
    def next_sequence(self) -> int:
        """The number of the first event that the log does not have."""
        return 0 if self.last_sequence is None else self.last_sequence + 1


class Turn:
    """A call that waits until it is its turn: for what is in doubt, or behind one that does."""

    def __init__(self, keys: bytes, go: Callable[[], None]) -> None:
        self.keys = keys
        self.go = go
        self.over = trio.Event()
        self.awaited = False
        """Whether somebody waits, or has waited: a turn may be asked for some time before."""
        self.error: EventStreamError | None = None


class ProducerSession:
    """Numbers batches in the order in which they are submitted. `holder` is a random number."""

    def __init__(self, dispatcher: Dispatcher, name: str, holder: int) -> None:
        self.error: EventStreamError | None = None
        """Why the session is over, for good."""
        self._dispatcher = dispatcher
        self._name = name
        self._holder = holder
        self._opened: ProducerOpened | None = None
        """None while it is being opened."""
        self._producer_id = 0
        self._next = 0
        self._given_up: list[tuple[int, bytes]] = []
        """Numbers and keys of batches, until the log says whether it has them."""
        self._in_doubt: set[bytes] = set()
        """These keys, one by one."""
        self._in_log: dict[bytes, int] = {}
        """The numbers of events that were given up and that the log has."""
        self._left: dict[bytes, Place] = {}
        """Events that nobody waits for, in batches that others wait for."""
        self._lost = trio.Event()
        self._was_refused = False
        self._changed = trio.lowlevel.ParkingLot()
        self._turns: deque[Turn] = deque()
        """The calls that wait, in their order."""
        dispatcher.producer = self

    # --- what the dispatcher tells -------------------------------------------------------------

    def number(self, request: Request) -> Batch | None:
        """The batch of `request` with its number; None while the session is being opened."""
        batch = request.batch
        assert batch is not None
        if self.error is not None:
            self._dispatcher.settle(request, None, _as_of(self.error, request))
        if self.error is not None or self._opened is None:
            return None
        if request.sequence is None:
            wanted = request.wanted_sequence
            if wanted is None or request.wanted_in not in (0, self._producer_id):
                wanted = self._next
            if wanted > self._next:
                error = OutOfSequence(f"number {wanted} cannot be sent before number {self._next}")
                self._dispatcher.settle(request, None, error)
                return None
            request.sequence, request.session = wanted, self._producer_id
        self._next = max(self._next, request.sequence + batch.count)
        stamp = ProducerStamp(self._producer_id, self._opened.epoch, request.sequence, batch.count)
        return replace(batch, producer=stamp)

    def gave_up(self, request: Request) -> None:
        """Nobody waits for `request` any more: it may be in the log, or leave a gap."""
        if request.sequence is not None and request.batch is not None:
            self._given_up.append((request.sequence, request.batch.keys))
            self._in_doubt.update(split_keys(request.batch.keys))
            self._open_again()

    def refused(self) -> None:
        """A node does not know the session, or misses a number."""
        self._was_refused = True
        self._open_again()

    # --- what the log asks ---------------------------------------------------------------------

    async def state(self) -> ProducerState:
        """Wait until it is open. Raises what ended it."""
        while self._opened is None:
            self._check()
            await self._changed.park()
        told = self._opened
        return ProducerState(
            self._name,
            told.producer_id,
            told.epoch,
            None if told.last_sequence < 0 else told.last_sequence,
            None if told.last_offset < 0 else told.last_offset,
        )

    @property
    def id(self) -> int:
        """Of the session in the log; 0 before it was opened, and when the log has forgotten it."""
        return self._producer_id

    @property
    def has_memory(self) -> bool:
        """Whether anything is known of events that were given up, or waits until it is."""
        return bool(self._turns or self._in_doubt or self._in_log or self._left)

    async def in_turn(self, keys: bytes, go: Callable[[], T]) -> T:
        """What `go()` returns, called once nothing is in doubt of the events with these packed `keys`.

        It is called in the order of the calls: whoever comes after one that waits is called after it. Raises
        what ended the session, and what `go` raises.
        """
        results: list[T] = []
        turn = self.ask_turn(keys, lambda: results.append(go()))
        if turn is not None:
            await self.wait_turn(turn)
        return results[0]

    def ask_turn(self, keys: bytes, go: Callable[[], None]) -> Turn | None:
        """Call `go` now, or get its turn, which is then to be waited for. Raises as `in_turn` does."""
        self._check()
        if self._left:
            self._settle_left()
        if not self._turns and not self._doubts(keys):
            go()
            return None
        turn = Turn(keys, go)
        self._turns.append(turn)
        return turn

    async def wait_turn(self, turn: Turn) -> None:
        """Return once `turn.go` was called; raises as `in_turn` does."""
        turn.awaited = True
        try:
            await turn.over.wait()
        except trio.Cancelled:
            if turn in self._turns:
                self._turns.remove(turn)
            self._give_turns()  # it may have been the first
            raise
        if turn.error is not None:
            raise turn.error

    def _give_turns(self) -> None:
        """All at once, up to the first that has to wait: nobody who comes meanwhile gets between."""
        self._settle_left()
        while self._turns and not self._doubts(self._turns[0].keys):
            turn = self._turns.popleft()
            cancelled = turn.awaited and not turn.over.statistics().tasks_waiting  # just now
            if not cancelled:
                try:
                    self._check()
                    turn.go()
                except EventStreamError as error:
                    turn.error = error
                turn.over.set()

    def _doubts(self, keys: bytes) -> bool:
        return bool(self._in_doubt) and not self._in_doubt.isdisjoint(split_keys(keys))

    def number_of(self, key: bytes) -> int | None:
        """The number of an event that was given up and is in the log after all, where that is known."""
        return self._in_log.get(key)

    def parts_of(self, batch: Batch) -> list[tuple[Batch, int | None]]:
        """The batch, in parts where events of it were given up and are in the log: with their numbers."""
        if not self._in_log:
            return [(batch, None)]
        return _parts(batch, [self._in_log.get(key) for key in split_keys(batch.keys)])

    def leave(self, key: bytes, request: Request, place: int) -> None:
        """Nobody waits any more for this event of a batch, which may be on its way for others."""
        self._left[key] = request, place
        self._settle_left()

    def unheard(self, request: Request) -> None:
        """A batch was acked, and whoever sent it does not know: it was one of several, say."""
        if request.batch is None or request.sequence is None or request.answer is None:
            return
        if request.session == self._producer_id:
            for number, key in enumerate(split_keys(request.batch.keys), request.sequence):
                self._remember(key, number)

    def left(self, key: bytes) -> LeftPlace | None:
        """The batch that is on its way with this event, which was left alone there: to be waited for.

        Whoever comes back is not one for whom it is sent: where there are only these, it is given up, or one
        that is never answered would be waited for again and again.
        """
        request, place = self._left.get(key, (None, 0))
        return None if request is None or request.done.is_set() else LeftPlace(request, place)

    def _settle_left(self) -> None:
        for key, (request, place) in list(self._left.items()):
            if request.done.is_set():
                del self._left[key]
                known = request.answer is not None and request.session == self._producer_id
                if known and request.sequence is not None:
                    self._remember(key, request.sequence + place)

    def _remember(self, key: bytes, number: int) -> None:
        self._in_log[key] = number
        if len(self._in_log) > MAX_GIVEN_UP:
            del self._in_log[next(iter(self._in_log))]

    def _check(self) -> None:
        if self._dispatcher.closed:
            raise ConnectionLost("the log was closed")
        if self.error is not None:
            raise type(self.error)(str(self.error))

    # --- open, and again -----------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the session open, until it cannot go on."""
        try:
            while True:
                self._lost = trio.Event()
                opened = await self._open()
                if opened is None:
                    return
                self._resume(opened)
                await self._lost.wait()
                if self._was_refused:
                    self._was_refused = False
                    await trio.sleep(OPEN_AGAIN_S)
        finally:
            self._tell()

    def _open_again(self) -> None:
        """What is numbered now is not sent any more: it may be wrong."""
        if self._opened is not None:
            self._opened = None
            for request in self._dispatcher.appends():
                request.stamped = None
            self._lost.set()

    async def _open(self) -> ProducerOpened | None:
        """None: the log is closed, or the session is over."""
        while True:
            request_id = self._dispatcher.next_id()
            wanted = OpenProducerSession(request_id, self._name, self._producer_id, self._holder)
            request = Request(request_id, ProducerOpened, parts=(encode(wanted),))
            self._dispatcher.submit(request)
            try:
                answer = await request.wait()
            except ConnectionLost:
                return None
            except (ProducerFenced, ProducersFull) as error:
                self._fail(error)
                return None
            except UnknownProducer as error:
                if self._name:
                    self._fail(error)
                    return None
                self._begin_anew(error)
            except (CallerError, OperatorError, ClusterRestored):
                pass  # nobody leads, say
            else:
                assert isinstance(answer, ProducerOpened)
                return answer
            await trio.sleep(OPEN_AGAIN_S)

    def _resume(self, opened: ProducerOpened) -> None:
        """What the log has gets its ack when it is sent again; the rest is not there, and never will be."""
        self._opened, self._producer_id = opened, opened.producer_id
        self._next = opened.last_sequence + 1
        for sequence, keys in self._given_up:
            for number, key in enumerate(split_keys(keys), sequence):
                if number < self._next:
                    self._remember(key, number)
        for request in self._dispatcher.appends():
            if request.sequence is not None and request.sequence >= self._next:
                request.sequence = request.sent_on = None
                request.unsure = False
        self._dispatcher.restamp()
        self._tell()

    def _begin_anew(self, error: UnknownProducer) -> None:
        """The log has forgotten a session that only this client knew: what it may have is not sent again."""
        for request in self._dispatcher.appends():
            if request.sequence is not None and (request.unsure or request.sent_on is not None):
                self._dispatcher.settle(request, None, _as_of(error, request))
            request.sequence = None
        self._producer_id = 0
        self._left.clear()
        self._in_log.clear()
        self._tell()

    def _fail(self, error: EventStreamError) -> None:
        self.error = error
        for request in self._dispatcher.appends():
            self._dispatcher.settle(request, None, _as_of(error, request))
        self._tell()

    def _tell(self) -> None:
        """Nothing is in doubt any more: let those go on who wait for that, or for the session."""
        self._given_up.clear()
        self._in_doubt.clear()
        self._give_turns()
        self._changed.unpark_all()


def _as_of(error: EventStreamError, request: Request) -> EventStreamError:
    """The error that ended the session, for one request: it may be in the log if it was sent."""
    sent = request.unsure or request.sent_on is not None
    return type(error)(str(error), definite=not sent)


def _parts(batch: Batch, numbers: Sequence[int | None]) -> list[tuple[Batch, int | None]]:
    """Cut `batch` where its events' `numbers` (None: a new one) do not follow each other."""
    cuts = [
        place
        for place in range(1, batch.count)
        if (before := numbers[place - 1]) is not None or numbers[place] is not None
        if numbers[place] != (None if before is None else before + 1)
    ]
    if not cuts:
        return [(batch, numbers[0])]
    spans = zip([0, *cuts], [*cuts, batch.count], strict=True)
    return [(select(batch, range(start, end)), numbers[start]) for start, end in spans]
