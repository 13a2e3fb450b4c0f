"""How many bytes the clients of a node may make it hold, all of them together.

Decides who waits and who is refused or closed when that memory runs out. A new large frame waits, small ones
never do. Of the clients that do not read their answers, the one that holds most is closed when others need
the room. The limits of one connection are those of its session. Called by the connections, the
sessions and the ingest.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import trio

from esnode import limits
from esnode.errors import ConnectionLost, FramesFull


class ReaderTooSlow(ConnectionLost):
    """A client did not take its answers while others needed their memory: its connection ends in a frame."""


class FrameMemory:
    """Memory for large frames that are not whole. A place is for all of a frame: what has begun can end."""

    def __init__(
        self,
        most_bytes: int,
        most_of_a_source_bytes: int,
        most_waiting: int,
    ) -> None:
        self._most_bytes = most_bytes
        self._most_of_a_source_bytes = most_of_a_source_bytes
        self._most_waiting = most_waiting
        self._waiting = 0
        self._held: Counter[str] = Counter()
        self._freed = trio.lowlevel.ParkingLot()

    @property
    def held_bytes(self) -> int:
        """What is promised at the moment."""
        return self._held.total()

    async def wait_place(
        self, source: str, size_bytes: int, tell: Callable[[], object] | None = None
    ) -> None:
        """Return with a place for a frame of this size, to be given back; raises `FramesFull`.

        `tell` is called every second meanwhile: the client's own questions wait behind its frame.
        """
        if not self._fits(source, size_bytes):
            await self._wait(source, size_bytes, tell)
        self._held[source] += size_bytes

    async def _wait(self, source: str, size_bytes: int, tell: Callable[[], object] | None) -> None:
        if self._waiting < self._most_waiting:
            self._waiting += 1
            try:
                with trio.move_on_after(limits.FRAME_TIMEOUT_S):
                    while not self._fits(source, size_bytes):
                        with trio.move_on_after(limits.SUBSCRIPTION_SIGN_OF_LIFE_S):
                            await self._freed.park()
                        if tell is not None:
                            tell()
            finally:
                self._waiting -= 1
            if self._fits(source, size_bytes):
                return
        raise FramesFull(f"the node has no room for another frame of {size_bytes} bytes")

    def give_back(self, source: str, size_bytes: int) -> None:
        """The frame is whole, or will never be."""
        self._held[source] -= size_bytes
        if not self._held[source]:
            del self._held[source]
        self._freed.unpark_all()

    def _fits(self, source: str, size_bytes: int) -> bool:
        return (
            self._held[source] + size_bytes <= self._most_of_a_source_bytes
            and self._held.total() + size_bytes <= self._most_bytes
        )


class Holder(Protocol):
    """The replies of one session."""

    @property
    def waiting_bytes(self) -> int:
        """What waits to be read by its client."""

    @property
    def stalled_since(self) -> float:
        """When its client last took all that was being sent."""

    def end(self, error: ReaderTooSlow) -> None:
        """End it, with this as the reason."""


class AnswerMemory:
    """Memory for answers that clients have not taken. The fuller it is, the less one session may hold."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0
        """Kept by the sessions: this is counted with every answer."""
        self.holders: set[Holder] = set()
        self._freed = trio.lowlevel.ParkingLot()

    def share_bytes(self) -> int:
        """What a session may hold and still be given more; below 0 nobody is."""
        return min(limits.MAX_SESSION_OUTGOING_BYTES, self._most_bytes - self.held_bytes - 1)

    def free(self, size_bytes: int) -> None:
        """So much has left."""
        self.held_bytes -= size_bytes
        self._freed.unpark_all()

    async def wait_freed(self) -> None:
        """Wait until some has left, for a moment at most; who takes nothing meanwhile is ended."""
        self._end_a_stalled_one()
        with trio.move_on_after(limits.STALLED_READER_S / 4):
            await self._freed.park()

    def _end_a_stalled_one(self) -> None:
        late = trio.current_time() - limits.STALLED_READER_S
        stalled = [one for one in self.holders if one.waiting_bytes and one.stalled_since <= late]
        if stalled:
            greediest = max(stalled, key=lambda one: one.waiting_bytes)
            greediest.end(
                ReaderTooSlow(
                    f"{greediest.waiting_bytes} bytes of answers were not taken for"
                    f" {limits.STALLED_READER_S:g} s, and others needed the room"
                )
            )


class ClientMemory:
    """All that the clients of a node make it hold."""

    def __init__(self) -> None:
        self.frames = FrameMemory(
            limits.MAX_UNFINISHED_BYTES, limits.MAX_UNFINISHED_BYTES_OF_A_SOURCE, limits.MAX_WAITING_FRAMES
        )
        self.answers = AnswerMemory(limits.MAX_ANSWER_BYTES)
        self.request_bytes = 0
        """Appends that the core has and that are not decided, of all sessions."""
