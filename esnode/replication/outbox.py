"""What waits to be sent to one peer, and what of it leaves next.

Decides the order: small frames first (heartbeats, votes, answers), then entries and snapshots in theirs;
and that a frame larger than what may leave at once leaves in fragments, with the small ones that have come
meanwhile between them. So no heartbeat waits for a batch. Raft bears that they overtake. Never sends,
never drops. Filled and emptied by `peerlink.py`.
"""

from collections import deque
from collections.abc import Sequence

from esnode.wire import Fragment, encode_parts
from esnode.wire.layout import LENGTH_BYTES


class Outbox:
    """Frames, each in one part or several."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._small: list[bytes] = []
        self._bulk: deque[tuple[Sequence[bytes], int]] = deque()
        self._large = b""
        """The frame that is being cut, without its length."""
        self._position = 0
        """So much of it has left."""
        self.cut_bytes = 0
        """How much of what was taken last were fragments."""

    def put_small(self, frame: bytes) -> None:
        """A frame that may overtake."""
        self._small.append(frame)
        self.size_bytes += len(frame)

    def put_bulk(self, parts: Sequence[bytes], size_bytes: int) -> None:
        """A frame that keeps its order among its kind."""
        self._bulk.append((parts, size_bytes))
        self.size_bytes += size_bytes

    def drop_large(self) -> None:
        """The rest of the frame that is being cut is lost."""
        self.size_bytes -= len(self._large) - self._position
        self._large, self._position = b"", 0

    def clear(self) -> None:
        """Nothing waits any more."""
        self._small, self._large, self._position = [], b"", 0
        self._bulk.clear()
        self.size_bytes = 0

    def take(self, most_bytes: int) -> list[bytes]:
        """The parts that leave next: all small frames, and of the others about `most_bytes`."""
        parts, self._small, self.cut_bytes = self._small, [], 0
        if self.size_bytes <= most_bytes and not self._large:
            for frame, _ in self._bulk:
                parts += frame
            self._bulk.clear()
            self.size_bytes = 0
            return parts
        self.size_bytes -= sum(map(len, parts))
        room = most_bytes
        while room > 0 and (self._large or self._bulk):
            if not self._large:
                frame, size_bytes = self._bulk[0]
                if size_bytes > most_bytes:
                    self._large, self._position = b"".join(frame)[LENGTH_BYTES:], 0
                    self.size_bytes -= LENGTH_BYTES
                elif size_bytes <= room:
                    parts += frame
                    self.size_bytes -= size_bytes
                    room -= size_bytes
                else:
                    break
                self._bulk.popleft()
                continue
            data = self._large[self._position : self._position + room]
            parts += encode_parts(Fragment(len(self._large), self._position, data))
            self._position += len(data)
            self.cut_bytes += len(data)
            self.size_bytes -= len(data)
            room -= len(data)
            if self._position == len(self._large):
                self._large = b""
        return parts
