"""What one client is answered and has not taken yet: sent in one write, bounded, counted for the node.

Decides when a session may be given more. Never knows what a reply means. Made by `session.py`.
"""

from collections.abc import Callable

import trio

from esnode import limits
from esnode.messages import LeaderIs
from esnode.transport.clientmemory import AnswerMemory, ReaderTooSlow
from esnode.transport.connection import Connection
from esnode.wire import Message, encode


class Replies:
    """The way out of one session."""

    def __init__(self, connection: Connection, memory: AnswerMemory, end: Callable[[], object]) -> None:
        """`end` is called when the node needs the memory: the session shall end, `run` raises why."""
        self.waiting_bytes = 0
        """Those that are being sent included."""
        self.stalled_since = 0.0
        self.ended: ReaderTooSlow | None = None
        self._connection = connection
        self._memory = memory
        self._end = end
        self._frames: list[bytes] = []
        self._news: LeaderIs | None = None
        self._over = False
        self._writer = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        memory.holders.add(self)

    def push(self, reply: Message) -> None:
        """Send it with the next write."""
        if self._over:
            return  # the core decides what a client that has gone had asked for
        frame = encode(reply)
        self._frames.append(frame)
        self.waiting_bytes += len(frame)
        self._memory.held_bytes += len(frame)
        self._writer.unpark()

    def push_news(self, news: LeaderIs) -> None:
        """Send it, too; older news that have not left yet are forgotten."""
        self._news = news
        self._writer.unpark()

    async def write(self) -> None:
        """Send what is pushed, for ever; raises `ConnectionLost`."""
        while True:
            while not self._frames and self._news is None:
                await self._writer.park()
            replies = b"".join(self._frames)
            self._frames.clear()
            news, self._news = b"" if self._news is None else encode(self._news), None
            self.stalled_since = trio.current_time()
            await self._connection.send_bytes(replies + news if news else replies)
            self.waiting_bytes -= len(replies)
            self._memory.free(len(replies))
            self._drained.unpark_all()

    async def wait_drained(self) -> None:
        """Return once the client has taken so much that the session may be given more."""
        while self.waiting_bytes > (share_bytes := self._memory.share_bytes()):
            if share_bytes == limits.MAX_SESSION_OUTGOING_BYTES:
                await self._drained.park()
            else:
                await self._memory.wait_freed()

    def end(self, error: ReaderTooSlow) -> None:
        """What its client does not take, others need the memory of."""
        self.ended = error
        self._end()

    def close(self) -> None:
        """The session is over: nothing is held for it any more."""
        self._over = True
        self._frames.clear()
        self._memory.holders.discard(self)
        self._memory.free(self.waiting_bytes)
