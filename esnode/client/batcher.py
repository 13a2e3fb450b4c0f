"""Gathers single appends into batches.

Decides when a batch leaves: when it is full, or `batch_ms` after its first event, and only while the
window has a place; until then its events wait, and beyond a full batch the callers do. Never
looks at what becomes of it. Used by `log.py`.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from esnode import limits
from esnode.client.request import Request
from esnode.errors import ConnectionLost
from esnode.events import pack

_HEAD_BYTES: Final = 5
"""The most that the head of an array or of a byte string takes."""


class Gathering:
    """A batch that is still being filled."""

    def __init__(self, request: Request, max_events: int) -> None:
        self.request = request
        self.begun = 0.0
        self.full = trio.Event()
        self.keys: list[bytes] = []
        self.encoded: list[bytes] = []
        self._max_events = max_events
        self._size_bytes = _HEAD_BYTES

    def add(self, key: bytes, encoded: bytes) -> bool:
        """Take one more event, unless it does not fit."""
        size = self._size_bytes + len(encoded) + _HEAD_BYTES
        if self.full.is_set():
            return False
        if size > limits.MAX_BATCH_BYTES:
            self.full.set()
            return False
        self._size_bytes = size
        self.keys.append(key)
        self.encoded.append(encoded)
        if len(self.encoded) >= self._max_events:
            self.full.set()
        return True


class Waiting:
    """An event that found no room: it gets its place in the order in which it came."""

    def __init__(self, key: bytes, encoded: bytes) -> None:
        self.key = key
        self.encoded = encoded
        self.placed = trio.Event()
        self.place: Place | None = None
        """None when the log was closed first."""


Place = tuple[Request, int]
"""The request that an event leaves with, and its position there."""


class Batcher:
    """The one batch that is being filled, and what happens when it is full."""

    def __init__(
        self,
        max_events: int,
        max_wait_s: float,
        window: trio.Semaphore,
        new_request: Callable[[], Request],
        submit: Callable[[Request], None],
    ) -> None:
        self._max_events = max_events
        self._max_wait_s = max_wait_s
        self._window = window
        self._new_request = new_request
        self._submit = submit
        self._begun = trio.lowlevel.ParkingLot()
        self._waiting: deque[Waiting] = deque()
        self._placing = False
        self._closed = False
        self._gathering = self._fresh()

    async def add(self, key: bytes, encoded: bytes) -> Place:
        """Wait for room for one event, and take its place; raises `ConnectionLost` after `close`."""
        if self._closed:
            raise ConnectionLost("the log was closed")
        if not self._waiting:
            place = self._add_nowait(key, encoded)
            if place is not None:
                return place
        waiting = Waiting(key, encoded)
        self._waiting.append(waiting)
        try:
            await waiting.placed.wait()
        except trio.Cancelled:
            if waiting.place is None:
                self._waiting.remove(waiting)
            else:
                waiting.place[0].waiters -= 1
            raise
        if waiting.place is None:
            raise ConnectionLost("the log was closed")
        return waiting.place

    async def run(self) -> None:
        """Send each batch when its time has come."""
        while True:
            while not self._gathering.encoded:
                await self._begun.park()
            gathering = self._gathering
            with trio.move_on_at(gathering.begun + self._max_wait_s):
                await gathering.full.wait()
            if gathering is not self._gathering:
                continue  # it was full, and has left
            await self._window.acquire()
            if gathering is self._gathering:
                self._leave(gathering)
            else:
                self._window.release()

    def close(self) -> None:
        """Hand over what is gathered, whether the window has a place or not, and take no more."""
        self._closed = True
        for waiting in self._waiting:
            waiting.placed.set()
        self._waiting.clear()
        self._gathering.request.on_settled = None
        self._leave(self._gathering)

    def _add_nowait(self, key: bytes, encoded: bytes) -> Place | None:
        """A place in the current batch, or in the next one if the current one can leave."""
        while not self._gathering.add(key, encoded):
            if not self._leave_nowait(self._gathering):
                return None
        gathering = self._gathering
        gathering.request.waiters += 1
        place = len(gathering.encoded) - 1
        if place == 0:
            gathering.begun = trio.current_time()
            self._begun.unpark()
        if gathering.full.is_set():
            self._leave_nowait(gathering)
        return gathering.request, place

    def _leave_nowait(self, gathering: Gathering) -> bool:
        try:
            self._window.acquire_nowait()
        except trio.WouldBlock:
            return False  # `run` waits for a place
        self._leave(gathering)
        return True

    def _leave(self, gathering: Gathering) -> None:
        self._gathering = self._fresh()
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
            waiting = self._waiting[0]
            waiting.place = self._add_nowait(waiting.key, waiting.encoded)
            if waiting.place is None:
                break
            waiting.placed.set()
            self._waiting.popleft()
        self._placing = False

    def _fresh(self) -> Gathering:
        request = self._new_request()
        request.waiters = 0
        return Gathering(request, self._max_events)
