"""A large frame that came in fragments, put together again.

Decides which fragment may follow which. Holds at most one frame, within `limits.MAX_FRAME_BYTES`, and
allocates only what has arrived. What else comes between two fragments is no concern of it. The other
side is `outbox.py`. Called by the replication.
"""

from esnode.errors import ProtocolError
from esnode.wire.chunks import Fragment
from esnode.wire.frames import decode
from esnode.wire.table import Message


class FragmentAssembler:
    """Puts the fragments of one connection together. One frame at a time; a new one starts at 0."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._total_bytes = 0

    def add(self, fragment: Fragment) -> Message | None:
        """The message with its last fragment, None before; raises what `FrameReader.feed` does.

        A fragment at position 0 drops whatever was begun; any other must continue it exactly.
        """
        if fragment.position == 0:
            self._held = bytearray()
            self._total_bytes = fragment.total_bytes
        elif fragment.position != len(self._held) or fragment.total_bytes != self._total_bytes:
            raise ProtocolError(f"the fragment at byte {fragment.position} continues nothing")
        self._held += fragment.data
        if len(self._held) < self._total_bytes:
            return None
        frame, self._held = bytes(self._held), bytearray()
        message = decode(frame)
        if isinstance(message, Fragment):
            raise ProtocolError("a fragment came in fragments")
        return message
