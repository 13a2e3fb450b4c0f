"""Byte streams between simulated machines: ordered within one connection, as TCP, and as unkind.

A connection is a pair of `Way`s, one a direction; each cuts what is sent into segments, which arrive in
order after their latency, and blocks the sender when it is full. Decides what an end sees when the other
one closes, vanishes or is cut off; when that happens is `network.py`'s.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio
from trio._util import ConflictDetector

FOREVER: Final = float("inf")
SEGMENT_BYTES: Final = 4096
"""What arrives at once where the rate is bound."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How a network behaves while nothing is wrong with it."""

    latency_s: tuple[float, float] = (0.0002, 0.002)
    """Of a segment, between these."""
    straggler: float = 0.0
    """How likely it is that a segment takes ten times as long."""
    split: float = 0.1
    """How likely it is that what is sent at once arrives in parts."""
    buffer_bytes: int = 65536
    """What one direction of a connection holds before its sender must wait."""
    bytes_per_s: float = FOREVER
    """What one direction of a connection carries."""


class Way:
    """One direction of a connection: bytes on their way, and bytes that wait to be read."""

    def __init__(self, weather: Weather, source: random.Random, blocked: Callable[[], bool]) -> None:
        self.stalled = False
        self.reader_gone = False
        """Nobody will ever read this: what arrives is answered by a reset."""
        self.acks_blocked = False
        """The sender does not hear what has been read, so it may not send more for it."""
        self.readers = trio.lowlevel.ParkingLot()
        self.alarm: trio.CancelScope | None = None
        """Wakes the reader that waits, when the next segment arrives."""
        self.writers = trio.lowlevel.ParkingLot()
        self.unconfirmed = 0
        """Bytes that the sender must still hold."""
        self._weather = weather
        self._source = source
        self._blocked = blocked
        self._flying: deque[tuple[float, bytes]] = deque()
        """When each segment arrives; an empty one is the end."""
        self._arrived = bytearray()
        self._ended = False
        self._unheard = 0
        self._last_due = 0.0
        self._free_at = 0.0
        """When a link of that rate has carried all that it was given."""

    @property
    def blocked(self) -> bool:
        """Nothing arrives."""
        return self.stalled or self._blocked()

    @property
    def room(self) -> int:
        """How many bytes the sender may send now."""
        return self._weather.buffer_bytes - self.unconfirmed

    @property
    def unread(self) -> bool:
        """Whether bytes are on their way or wait."""
        return bool(self._flying or self._arrived)

    def push(self, data: bytes) -> None:
        """Send at most `room` bytes; none at all is the end."""
        self.unconfirmed += len(data)
        parts = [data]
        if len(data) > 1 and self._source.random() < self._weather.split:
            cut = self._source.randrange(1, len(data))
            parts = [data[:cut], data[cut:]]
        if self._weather.bytes_per_s < FOREVER:
            parts = [data[at : at + SEGMENT_BYTES] for at in range(0, len(data), SEGMENT_BYTES)] or parts
        for part in parts:
            self._free_at = max(self._free_at, trio.current_time()) + len(part) / self._weather.bytes_per_s
            self._last_due = max(self._last_due, self._free_at + self.latency_s())
            self._flying.append((self._last_due, part))
        if self.alarm is not None:
            self.alarm.deadline = min(self.alarm.deadline, self.next_due())

    def latency_s(self) -> float:
        """How long a segment takes."""
        latency_s = self._source.uniform(*self._weather.latency_s)
        return latency_s * 10 if self._source.random() < self._weather.straggler else latency_s

    def next_due(self) -> float:
        """When there is something to read, or the next segment arrives."""
        if self._arrived or self._ended:
            return 0.0
        return self._flying[0][0] if self._flying and not self.blocked else FOREVER

    def settle(self) -> None:
        """Let arrive what has arrived by now."""
        now = trio.current_time()
        while self._flying and self._flying[0][0] <= now:
            _, part = self._flying.popleft()
            if part:
                self._arrived += part
            else:
                self._ended = True

    def take(self, max_bytes: int) -> bytes | None:
        """What has arrived; empty at the end, None while there is nothing."""
        if not self.blocked:
            self.settle()
        if not self._arrived:
            return b"" if self._ended else None
        data = bytes(self._arrived[:max_bytes])
        del self._arrived[:max_bytes]
        if self.acks_blocked:
            self._unheard += len(data)
        else:
            self._confirm(len(data))
        return data

    def reopen(self, delay_s: float) -> None:
        """Nothing blocks it any more: what was held up is sent once more, and arrives after `delay_s`."""
        first = trio.current_time() + delay_s
        self._flying = deque((max(first, due), part) for due, part in self._flying)
        self._last_due = max(first, self._last_due)
        self.readers.unpark_all()

    def hear(self) -> None:
        """The sender learns what was read meanwhile."""
        unheard, self._unheard = self._unheard, 0
        self._confirm(unheard)

    def lose(self) -> None:
        """What is on its way never arrives."""
        self._flying.clear()

    def wake(self) -> None:
        """Let both ends look again."""
        self.readers.unpark_all()
        self.writers.unpark_all()

    def _confirm(self, size: int) -> None:
        self.unconfirmed -= size
        self.writers.unpark_all()


class End(trio.abc.HalfCloseableStream):
    """One end of a connection: the stream that a node or a client holds."""

    def __init__(self, host: str, out: Way, in_: Way, confirm_within_s: float) -> None:
        self.host = host
        self.out = out
        self.in_ = in_
        self.other: End
        self.breaks_at = FOREVER
        """When it is found to be broken."""
        self.gives_up_at = FOREVER
        """When it breaks unless the other side is heard from (TCP_USER_TIMEOUT)."""
        self.closed = False
        self._confirm_within_s = confirm_within_s
        self._eof_sent = False
        self._sending = ConflictDetector("another task is sending on this stream")
        self._receiving = ConflictDetector("another task is receiving on this stream")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio says."""
        with self._sending:
            self._check()
            if self._eof_sent:
                raise trio.ClosedResourceError("nothing can be sent after the end")
            await trio.lowlevel.checkpoint()
            self._check()
            rest = memoryview(data)
            while rest:
                await self._wait_room()
                size = min(len(rest), self.out.room)
                self.out.push(bytes(rest[:size]))
                rest = rest[size:]
                self.arm()

    async def wait_send_all_might_not_block(self) -> None:
        """As trio says."""
        with self._sending:
            self._check()
            await trio.lowlevel.checkpoint()
            await self._wait_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As trio says."""
        if max_bytes is not None and type(max_bytes) is not int:
            raise TypeError("max_bytes must be an integer")
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        with self._receiving:
            self._check_closed()
            await trio.lowlevel.checkpoint_if_cancelled()
            while True:
                data = self.in_.take(max_bytes or 65536)
                if data is not None:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return data
                self._check()
                await self._wait_segment()
                self._check_closed()

    async def send_eof(self) -> None:
        """As trio says."""
        with self._sending:
            self._check()
            await trio.lowlevel.checkpoint()
            self._end()

    async def aclose(self) -> None:
        """As trio says."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """As the kernel closes what a process leaves open; a reset where it leaves something unread."""
        if self.closed:
            return
        self.closed = True
        self.in_.reader_gone = True
        if self.in_.unread:
            self.out.lose()
            self.other.reset_after(self.out.latency_s())
        elif trio.current_time() < self._end_of_patience():
            self._end()
        self._wake()

    def vanish(self) -> None:
        """The machine is gone, or has forgotten the connection: nobody is told."""
        self.closed = True
        self.in_.reader_gone = True
        self._wake()

    def break_now(self) -> None:
        """Find it broken at once."""
        self.breaks_at = trio.current_time()
        self._wake()

    def reset_after(self, delay_s: float) -> None:
        """A reset is on its way to this end; one that is cut off never arrives."""
        if not self.in_.blocked:
            self.breaks_at = min(self.breaks_at, trio.current_time() + delay_s)
            self._wake()

    def arm(self) -> None:
        """Something was sent, or the way was cut: what will come of it?"""
        out = self.out
        if trio.current_time() >= self._end_of_patience():
            return
        if not out.unconfirmed:
            self.gives_up_at = FOREVER
        elif out.blocked or self.in_.blocked:
            if self.gives_up_at == FOREVER:
                self.gives_up_at = trio.current_time() + self._confirm_within_s
                out.wake()
                self.in_.wake()
        else:
            self.gives_up_at = FOREVER
            if out.reader_gone:
                self.reset_after(2 * out.latency_s())

    def _end_of_patience(self) -> float:
        return min(self.breaks_at, self.gives_up_at)

    async def _wait_segment(self) -> None:
        until = min(self.in_.next_due(), self._end_of_patience())
        with trio.CancelScope(deadline=until) as self.in_.alarm:
            await self.in_.readers.park()
        self.in_.alarm = None

    async def _wait_room(self) -> None:
        full_until = FOREVER
        while True:
            self._check()
            if self.out.room > 0:
                return
            if full_until == FOREVER:
                full_until = trio.current_time() + self._confirm_within_s
            with trio.move_on_at(min(self._end_of_patience(), full_until)):
                await self.out.writers.park()
                continue
            if trio.current_time() >= full_until:
                self.breaks_at = min(self.breaks_at, full_until)

    def _end(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self.out.push(b"")

    def _check_closed(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError("this end was closed")

    def _check(self) -> None:
        self._check_closed()
        if trio.current_time() >= self._end_of_patience():
            raise trio.BrokenResourceError("connection reset" if self.breaks_at < FOREVER else "timed out")

    def _wake(self) -> None:
        self.out.wake()
        self.in_.wake()
