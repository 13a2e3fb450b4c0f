"""All keys of a window once more, in the order of the log: from the indexes of segments, and from chunks.

What a shard of the fingerprints is written anew from, in another thread: so it holds what it reads, none of
which changes. Called by the key table.
"""

from collections.abc import Iterator, Mapping, Sequence
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


class YoungEntries:
    """The entries of the youngest chunks, at most `limit` of them: growth would hash them for each shard."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_offset: dict[int, Entries] = {}

    @property
    def size_bytes(self) -> int:
        """Their memory."""
        return sum(entries.nbytes for entries in self._by_offset.values())

    def add(self, first_offset: int, entries: Entries) -> None:
        """Those of the chunk that came last."""
        if len(self._by_offset) >= self._limit:
            del self._by_offset[next(iter(self._by_offset))]
        self._by_offset[first_offset] = entries

    def forget_before(self, offset: int) -> None:
        """Let go of chunks that begin before `offset`."""
        while self._by_offset and (first := next(iter(self._by_offset))) < offset:
            del self._by_offset[first]

    def copy(self) -> dict[int, Entries]:
        """By the first offsets of their chunks, for another thread."""
        return dict(self._by_offset)


class KeyRuns:
    """The keys in `segments` and, from number `first_chunk` on, in `chunks`."""

    def __init__(
        self,
        segments: Sequence[KeySegment],
        first_chunk: int,
        chunks: Sequence[mmap | StoredChunk],
        hash_of: KeyHash,
        entries: Mapping[int, Entries],
    ) -> None:
        """`entries` has those of some chunks, by their first offset: they need not be made again."""
        self._segments = segments
        self._first_offset = first_chunk * CHUNK_KEYS
        self._chunks = chunks
        self._hash = hash_of
        self._entries = entries

    def of_shard(self, shard: int, start: int, end: int) -> Iterator[Run]:
        """See `Runs`. Raises `StorageFailed`, and `DamagedRecord` where the disk has not what it had."""
        low = shard << 64 - SHARD_BITS
        high = low + (1 << 64 - SHARD_BITS) - 1
        for segment in self._segments:
            if segment.first_offset < end and start < segment.end_offset:
                entries = part_of_shard(segment.part(low, high), shard)
                yield Run(
                    _between(entries, segment.first_offset, segment.end_offset - 1, start, end),
                    segment.first_offset,
                )
        for place, chunk in enumerate(self._chunks):
            first_offset = self._first_offset + place * CHUNK_KEYS
            if first_offset < end and start < first_offset + CHUNK_KEYS:
                entries = part_of_shard(self._entries_of(first_offset, chunk), shard)
                yield Run(
                    _between(entries, first_offset, first_offset + CHUNK_KEYS - 1, start, end), first_offset
                )

    def _entries_of(self, first_offset: int, chunk: mmap | StoredChunk) -> Entries:
        known = self._entries.get(first_offset)
        if known is not None:
            return known
        keys = chunk.whole() if isinstance(chunk, StoredChunk) else memoryview(chunk)
        return entries_of(self._hash(keys))


def _between(entries: Entries, first_offset: int, last_offset: int, start: int, end: int) -> Entries:
    """Those of the offsets from `start` to `end`; all, if the whole run is there."""
    if start <= first_offset and last_offset < end:
        return entries
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
