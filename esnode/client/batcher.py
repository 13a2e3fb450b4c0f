"""Gathers single appends into batches, and lets all batches leave in the order of the calls.

Decides when a batch asks the window for a place: when it is full, `batch_ms` after its first event, or when a
whole batch comes behind it. Until it has one its events wait, and beyond a full batch the callers do. Never
looks at what becomes of it. Used by `log.py`.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from esnode import limits
from esnode.client.request import Request
from esnode.client.window import Window
from esnode.errors import ConnectionLost
from esnode.events import HEAD_BYTES, pack


class Gathering:
    """A batch that is still being filled."""

    def __init__(self, request: Request, max_events: int, leave: Callable[["Gathering"], None]) -> None:
        self.request = request
        self.begun = 0.0
        self.full = trio.Event()
        self.left = trio.Event()
        self.keys: list[bytes] = []
        self.encoded: list[bytes] = []
        self.size_bytes = HEAD_BYTES
        self._max_events = max_events
        self._leave = leave
        self._asks = False
        self._next_sequence: int | None = None
        """The number of the next event, where their numbers are given."""

    def add(self, key: bytes, encoded: bytes, sequence: int | None, wanted_in: int) -> bool:
        """Take one more event, unless it does not fit, or its number does not follow."""
        size = self.size_bytes + len(encoded) + HEAD_BYTES
        if self.full.is_set():
            return False
        if size > limits.MAX_BATCH_BYTES or (self.encoded and sequence != self._next_sequence):
            self.full.set()
            return False
        if sequence is not None:
            if not self.encoded:
                self.request.wanted_sequence, self.request.wanted_in = sequence, wanted_in
            self._next_sequence = sequence + 1
        self.size_bytes = size
        self.keys.append(key)
        self.encoded.append(encoded)
        if len(self.encoded) >= self._max_events:
            self.full.set()
        return True

    def ask(self, window: Window) -> None:
        """Get into the queue for the window, once."""
        if not self._asks:
            self._asks = True
            window.ask(self)

    def go(self) -> None:
        """The window has a place."""
        self._leave(self)


class Waiting:
    """An event that found no room: it gets its place in the order in which it came."""

    def __init__(self, key: bytes, encoded: bytes, sequence: int | None, wanted_in: int) -> None:
        self.key = key
        self.encoded = encoded
        self.sequence = sequence
        self.wanted_in = wanted_in
        self.placed = trio.Event()
        self.place: Place | None = None
        """None when the log was closed first."""


class Whole:
    """A batch that has come as one: it asks for its place at once, if no event waits before it."""

    def __init__(self, request: Request, size_bytes: int, submit: Callable[[Request], None]) -> None:
        self.request = request
        self.size_bytes = size_bytes
        self.left = False
        self._submit = submit
        self._waiter: trio.Event | None = None

    def go(self) -> None:
        """The window has a place."""
        self.left = True
        if self._waiter is not None:
            self._waiter.set()
        self._submit(self.request)

    async def wait_left(self) -> None:
        """Return once it has its place."""
        self._waiter = trio.Event()
        await self._waiter.wait()


Place = tuple[Request, int]
"""The request that an event leaves with, and its position there."""


class LeftPlace(NamedTuple):
    """The place of an event that was left alone there, for one who comes back to it."""

    request: Request
    place: int


Asked = Place | LeftPlace | Waiting


class Batcher:
    """The one batch that is being filled, and what happens when it is full."""

    def __init__(
        self,
        max_events: int,
        max_wait_s: float,
        window: Window,
        new_request: Callable[[], Request],
        submit: Callable[[Request], None],
    ) -> None:
        self._max_events = max_events
        self._max_wait_s = max_wait_s
        self._window = window
        self._new_request = new_request
        self._submit = submit
        self._begun = trio.lowlevel.ParkingLot()
        self._waiting: deque[Waiting | Whole] = deque()
        """What came while the current batch could take no more, in the order in which it came."""
        self._placing = False
        self._closed = False
        self._gathering = self._fresh()

    def ask(self, key: bytes, encoded: bytes, sequence: int | None = None, wanted_in: int = 0) -> Asked:
        """A place for one event, or a place in the queue; raises `ConnectionLost` after `close`.

        `sequence` is its number in the producer session, where it must have one: see `Request`.
        """
        if self._closed:
            raise ConnectionLost("the log was closed")
        if not self._waiting:
            place = self._add_nowait(key, encoded, sequence, wanted_in)
            if place is not None:
                return place
        waiting = Waiting(key, encoded, sequence, wanted_in)
        self._waiting.append(waiting)
        return waiting

    async def wait_place(self, asked: Asked) -> Place:
        """Wait for room; raises `ConnectionLost` after `close`."""
        if not isinstance(asked, Waiting):
            return asked
        try:
            await asked.placed.wait()
        except trio.Cancelled:
            if asked.place is None:
                self._waiting.remove(asked)
            else:
                asked.place[0].waiters -= 1
            raise
        if asked.place is None:
            raise ConnectionLost("the log was closed")
        return asked.place

    async def run(self) -> None:
        """Send each batch when its time has come."""
        while True:
            while not self._gathering.encoded:
                await self._begun.park()
            gathering = self._gathering
            with trio.move_on_at(gathering.begun + self._max_wait_s):
                await gathering.full.wait()
            gathering.ask(self._window)
            await gathering.left.wait()

    def submit(self, whole: Whole) -> None:
        """Let a batch leave behind all that came before it, and before all that will come."""
        if self._waiting:
            self._waiting.append(whole)
        else:
            self._pass_on(whole)

    def withdraw(self, whole: Whole) -> None:
        """It has not left, and is not to."""
        if whole in self._waiting:
            self._waiting.remove(whole)
        else:
            self._window.withdraw(whole)

    def close(self) -> None:
        """Hand over what is gathered, whether the window has a place or not, and take no more."""
        self._closed = True
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if isinstance(one, Whole):
                self._window.ask(one)
            else:
                one.placed.set()
        self._leave(self._gathering)

    def _add_nowait(self, key: bytes, encoded: bytes, sequence: int | None, wanted_in: int) -> Place | None:
        """A place in the current batch, or in the next one if the current one can leave."""
        while not (gathering := self._gathering).add(key, encoded, sequence, wanted_in):
            gathering.ask(self._window)
            if gathering is self._gathering:
                return None
        gathering.request.waiters += 1
        place = len(gathering.encoded) - 1
        if place == 0:
            gathering.begun = trio.current_time()
            self._begun.unpark()
        if gathering.full.is_set():
            gathering.ask(self._window)
        return gathering.request, place

    def _leave(self, gathering: Gathering) -> None:
        self._gathering = self._fresh()
        gathering.left.set()
        if gathering.encoded:
            gathering.request.batch = pack(gathering.keys, gathering.encoded)
            if gathering.request.waiters:
                self._submit(gathering.request)
            else:
                gathering.request.settle(None, None)
        self._place_waiting()

    def _place_waiting(self) -> None:
        if self._placing:
            return  # a batch that this filled has left: the loop below goes on
        self._placing = True
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, Whole):
                self._pass_on(first)
            else:
                first.place = self._add_nowait(first.key, first.encoded, first.sequence, first.wanted_in)
                if first.place is None:
                    break
                first.placed.set()
            self._waiting.popleft()
        self._placing = False

    def _pass_on(self, whole: Whole) -> None:
        gathering = self._gathering
        if gathering.encoded:
            gathering.full.set()  # what comes now is behind `whole`
            gathering.ask(self._window)
        self._window.ask(whole)

    def _fresh(self) -> Gathering:
        request = self._new_request()
        request.waiters = 0
        return Gathering(request, self._max_events, self._leave)
