"""The keys that another partition is to own, found among those of a window.

Decides nothing: the ring says which. Reads in a thread what the event loop has picked. Called by what serves
the partitions that adopt them.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from esnode import limits
from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keywindow import CHUNK_KEYS, KeyWindow
from esnode.ring import TOKEN_BYTES, Ring

_WORD: Final = np.dtype(">u4")
_WORDS: Final = limits.KEY_BYTES // TOKEN_BYTES


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Packed keys, the first at `offset`: sealed chunks, which never change, then a copy of the open one.

    Whoever reads them sees to it that the chunks stay on disk meanwhile.
    """

    offset: int
    end_offset: int
    chunks: Sequence[mmap.mmap | StoredChunk]
    rest: bytes

    @classmethod
    def of(cls, window: KeyWindow, offset: int) -> Self:
        """The live keys from `offset` on, those of `limits.SCANNED_CHUNKS` chunks at most."""
        offset = min(max(offset, window.floor), window.next_offset)
        first = offset // CHUNK_KEYS
        end_chunk = min(first + limits.SCANNED_CHUNKS, window.open_chunk)
        chunks = window.sealed(first, end_chunk)
        if end_chunk < window.open_chunk:
            return cls(offset, end_chunk * CHUNK_KEYS, chunks, b"")
        start = max(offset, window.sealed_to)
        rest = bytes(window.packed(start, window.next_offset)) if start < window.next_offset else b""
        return cls(offset, window.next_offset, chunks, rest)

    def moving(self, ring: Ring, partition: int) -> tuple[bytes, int]:
        """Those that `partition` owns under `ring`, as many as one entry holds; and up to where that is all.

        Raises what reading a chunk does.
        """
        found = bytearray()
        for start, packed in self._pieces():
            keys = np.frombuffer(packed, _WORD).reshape(-1, _WORDS)
            places = np.flatnonzero(_owners(ring, keys[:, 0]) == partition)
            room = limits.MAX_ADOPTED_KEYS - len(found) // limits.KEY_BYTES
            found += keys[places[:room]].tobytes()
            if len(places) > room:
                return bytes(found), start + int(places[room])
        return bytes(found), self.end_offset

    def _pieces(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """The keys chunk by chunk, each with the offset of its first."""
        start = self.offset
        for chunk in self.chunks:
            whole = chunk.whole() if isinstance(chunk, StoredChunk) else chunk
            yield start, memoryview(whole)[start % CHUNK_KEYS * limits.KEY_BYTES :]
            start += CHUNK_KEYS - start % CHUNK_KEYS
        if self.rest:
            yield start, self.rest


def _owners(ring: Ring, tokens: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """The partition that owns each of these tokens."""
    points, owners = np.array(ring.points, np.uint32), np.array(ring.point_owners, np.uint16)
    return owners[np.searchsorted(points, tokens) % len(owners)]
