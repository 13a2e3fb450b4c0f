"""All keys of a window once more, in the order of the log: from the indexes of segments, and from chunks.

What a shard of the fingerprints is written anew from, in another thread: so it holds what it reads, none of
which changes. Called by the key table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap

import numpy as np

from esnode.dedup.fingerprints import (
    POSITION_MASK,
    SHARD_BITS,
    Entries,
    FingerprintTable,
    Resize,
    Run,
    entries_of,
    part_of_shard,
)
from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keyhash import KeyHash
from esnode.dedup.keysegment import KeySegment
from esnode.dedup.keywindow import CHUNK_KEYS


class KeyRuns:
    """The keys in `segments` and, from number `first_chunk` on, in `chunks`."""

    def __init__(
        self,
        segments: Sequence[KeySegment],
        first_chunk: int,
        chunks: Sequence[mmap | StoredChunk],
        hash_of: KeyHash,
    ) -> None:
        self._segments = segments
        self._first_offset = first_chunk * CHUNK_KEYS
        self._chunks = chunks
        self._hash = hash_of

    def of_shard(self, shard: int, start: int, end: int) -> Iterator[Run]:
        """See `Runs`. Raises `StorageFailed`, and `DamagedRecord` where the disk has not what it had."""
        low = shard << 64 - SHARD_BITS
        high = low + (1 << 64 - SHARD_BITS) - 1
        for segment in self._segments:
            if segment.first_offset < end and start < segment.end_offset:
                entries = part_of_shard(segment.part(low, high), shard)
                yield Run(_between(entries, segment.first_offset, start, end), segment.first_offset)
        for place, chunk in enumerate(self._chunks):
            first_offset = self._first_offset + place * CHUNK_KEYS
            if first_offset < end and start < first_offset + CHUNK_KEYS:
                keys = chunk.whole() if isinstance(chunk, StoredChunk) else memoryview(chunk)
                entries = part_of_shard(entries_of(self._hash(keys)), shard)
                yield Run(_between(entries, first_offset, start, end), first_offset)


def _between(entries: Entries, first_offset: int, start: int, end: int) -> Entries:
    """Those of the offsets from `start` to `end`."""
    places = entries & np.uint64(POSITION_MASK)
    return entries[(places >= max(0, start - first_offset)) & (places < max(0, end - first_offset))]


@dataclass(frozen=True, slots=True)
class Growth:
    """Fingerprints that are to have another size. `run` takes long, and may run in any thread."""

    table: FingerprintTable
    resize: Resize
    runs: KeyRuns

    def run(self) -> None:
        """Raises `StorageFailed`, and `DamagedRecord` where the disk has not what it had."""
        self.resize.advance(self.resize.epochs, self.resize.end, self.runs.of_shard)
