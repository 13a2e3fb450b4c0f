"""A large frame that came in fragments, put together again.

Decides which fragment may follow which. Holds at most one frame, within `limits.MAX_FRAME_BYTES`, and
allocates only what has arrived. What else comes between two fragments is no concern of it. The other
side is `outbox.py`. Called by the replication.
"""

from esnode.errors import ProtocolError
from esnode.wire.chunks import Fragment
from esnode.wire.frames import Message, decode


class FragmentAssembler:
    """Puts the fragments of one connection together. One frame at a time; a new one starts at 0."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._total_bytes = 0

    def add(self, fragment: Fragment) -> Message | None:
        """The message with its last fragment, None before; raises what `FrameReader.feed` does.

        A fragment at position 0 drops whatever was begun; any other must continue it exactly.
        """
        if fragment.position == 0:
            self._pieces, self._held_bytes = [], 0
            self._total_bytes = fragment.total_bytes
        elif fragment.position != self._held_bytes or fragment.total_bytes != self._total_bytes:
            raise ProtocolError(f"the fragment at byte {fragment.position} continues nothing")
        self._pieces.append(fragment.data)
        self._held_bytes += len(fragment.data)
        if self._held_bytes < self._total_bytes:
            return None
        frame = b"".join(self._pieces)
        self._pieces, self._held_bytes = [], 0
        message = decode(frame)
        if isinstance(message, Fragment):
            raise ProtocolError("a fragment came in fragments")
        return message
