"""The index of a segment of keys on disk: from a hash to the offsets that may have it.

A segment is a fixed number of chunks of keys that follow each other, all of them stored. Its index has their
hashes in their order, in pages with a checksum each; the first hash of each page is kept in memory, so a
look-up reads one page. Beside them are the checksums and digests of the chunks themselves: a start that has
the index need not read the keys. The file is this machine's own, in its byte order, and can be made again
from the keys. Called by the key table, and by the recovery.
"""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Protocol

import google_crc32c
import numpy as np

from esnode.dedup.fingerprints import POSITION_BITS, POSITION_MASK, Entries, unsorted_entries
from esnode.dedup.keychunk import DIGEST_BYTES, PAGE_BYTES, ChunkSource, StoredChunk
from esnode.dedup.keyhash import KeyHash
from esnode.dedup.keywindow import CHUNK_KEYS, SourceOf
from esnode.errors import DamagedIndex, DamagedRecord
from esnode.limits import KEY_BYTES

SEGMENT_CHUNKS: Final = 128
"""Half a million keys: these are the youngest, and take four times as much memory as the others."""
INDEX_PAGE_BYTES: Final = 4096
_PAGE_ENTRIES: Final = INDEX_PAGE_BYTES // 8
_MAGIC: Final = int.from_bytes(b"ESKI", "big")
_VERSION: Final = 1
# magic u32 | version u32 | crc u32 of the rest of the front | length of the front u32
_FRONT: Final = struct.Struct("=IIII")
# seed | first_chunk u64 | chunks u32 | pages of a chunk u32 | entries u64
_HEAD: Final = struct.Struct("=16sQIIQ")
_LEAST_FRONT: Final = _FRONT.size + _HEAD.size
_LARGEST_FRONT: Final = 2**20
_LAST: Final = 2**64 - 1


class IndexSource(ChunkSource, Protocol):
    """Where storage keeps one index. It can be read for as long as the source is held."""

    def discard(self) -> None:
        """Remove it: it, or what it tells of, is not what was written, and the next start must not use it."""
        ...


class KeySegment:
    """Keys on disk, found by their hashes. Never changes, so any thread may read it."""

    __slots__ = ("_checksums", "_firsts", "_pages_start", "_source", "chunks", "first_chunk", "size")

    def __init__(
        self,
        source: IndexSource,
        first_chunk: int,
        chunks: Sequence[StoredChunk],
        size: int,
        firsts: "array[int]",
        checksums: "array[int]",
        pages_start: int,
    ) -> None:
        self.first_chunk = first_chunk
        self.chunks = chunks
        self.size = size
        """Its keys."""
        self._source = source
        self._firsts = firsts
        self._checksums = checksums
        self._pages_start = pages_start
        self.watch(chunks)

    def watch(self, chunks: Sequence[StoredChunk]) -> None:
        """Make these, the same chunks, its own: once one is found damaged, the next start reads all keys."""
        self.chunks = chunks
        for chunk in chunks:
            chunk.on_damage = self._source.discard

    def discard(self) -> None:
        """Have no later start use it."""
        self._source.discard()

    @property
    def first_offset(self) -> int:
        """The offset of its first key."""
        return self.first_chunk * CHUNK_KEYS

    @property
    def end_offset(self) -> int:
        """The offset after its last key."""
        return self.end_chunk * CHUNK_KEYS

    @property
    def size_bytes(self) -> int:
        """What it takes of the memory, without its chunks."""
        return len(self._firsts) * (self._firsts.itemsize + self._checksums.itemsize)

    @property
    def end_chunk(self) -> int:
        """The number of the chunk after it."""
        return self.first_chunk + len(self.chunks)

    def positions(self, one: int) -> list[int]:
        """The places in the segment of keys with this hash. Raises `StorageFailed` and `DamagedIndex`."""
        found: list[int] = []
        for number in self._pages_with(one):
            found += _positions(self._page(number), one)
        return found

    def cached_positions(self, one: int) -> list[int] | None:
        """The same; None where that would wait for the disk."""
        found: list[int] = []
        for number in self._pages_with(one):
            page = self._source.read_cached(self._pages_start + number * INDEX_PAGE_BYTES, INDEX_PAGE_BYTES)
            if page is None:
                return None
            found += _positions(self._checked(number, page), one)
        return found

    def warm(self, one: int) -> None:
        """Read what tells whether a key has this hash, and if one has, the key. Raises the same."""
        for position in self.positions(one):
            chunk, place = divmod(position, CHUNK_KEYS)
            self.chunks[chunk].page(place // (PAGE_BYTES // KEY_BYTES))

    def part(self, low: int, high: int) -> Entries:
        """The entries from hash `low` to `high`, and some before and after them. Raises the same."""
        first = max(0, bisect_right(self._firsts, low) - 1)
        after = max(first + 1, bisect_right(self._firsts, high))
        after = min(after, len(self._firsts))
        data = self._source.read(
            self._pages_start + first * INDEX_PAGE_BYTES, (after - first) * INDEX_PAGE_BYTES
        )
        pages = memoryview(data)
        for number in range(after - first):
            self._checked(first + number, bytes(_page_of(pages, number)))
        entries: Entries = np.frombuffer(data, np.uint64)
        return entries[: self.size - first * _PAGE_ENTRIES]

    def entries(self) -> Entries:
        """All of them. Raises `StorageFailed` and `DamagedIndex`."""
        return self.part(0, _LAST)

    def _pages_with(self, one: int) -> range:
        low = one >> POSITION_BITS << POSITION_BITS
        first = max(0, bisect_right(self._firsts, low) - 1)
        return range(first, bisect_right(self._firsts, low | POSITION_MASK, first))

    def _page(self, number: int) -> bytes:
        data = self._source.read(self._pages_start + number * INDEX_PAGE_BYTES, INDEX_PAGE_BYTES)
        return self._checked(number, data)

    def _checked(self, number: int, page: bytes) -> bytes:
        if google_crc32c.value(page) != self._checksums[number]:
            self._source.discard()
            raise DamagedIndex(f"page {number} of an index of keys is not what was written")
        return page


def youngest_first(segments: Sequence[KeySegment], start: int, end: int) -> Iterator[KeySegment]:
    """Those of `segments`, which are in order, that have offsets from `start` to `end`."""
    for at in range(bisect_left(segments, end, key=attrgetter("first_offset")) - 1, -1, -1):
        if segments[at].end_offset <= start:
            return
        yield segments[at]


@dataclass(frozen=True, slots=True)
class NewSegment:
    """Chunks that are all stored, and whose index is to be written."""

    seed: int
    first_chunk: int
    chunks: Sequence[StoredChunk]

    @property
    def end_chunk(self) -> int:
        """The number of the chunk after them."""
        return self.first_chunk + len(self.chunks)


def pack_segment(new: NewSegment) -> list[bytes | memoryview]:
    """The file, in parts. Reads all keys, takes long, and may run in any thread."""
    seed, first_chunk, chunks = new.seed, new.first_chunk, new.chunks
    hash_of, size = KeyHash(seed), len(chunks) * CHUNK_KEYS
    count = -(-size // _PAGE_ENTRIES)
    # One array, in which all is done: what is allocated here stays with the process.
    entries = np.full(count * _PAGE_ENTRIES, _LAST, np.uint64)
    for start, chunk in zip(range(0, size, CHUNK_KEYS), chunks, strict=True):
        entries[start : start + CHUNK_KEYS] = unsorted_entries(hash_of(chunk.whole()), start)
    entries[:size].sort()
    pages = entries.data.cast("B")
    checksums = (google_crc32c.value(bytes(_page_of(pages, number))) for number in range(count))
    body = b"".join(
        (
            _HEAD.pack(seed.to_bytes(16, "big"), first_chunk, len(chunks), count, size),
            entries[::_PAGE_ENTRIES].tobytes(),
            array("I", checksums).tobytes(),
            *(chunk.digest for chunk in chunks),
            *(chunk.checksums.tobytes() for chunk in chunks),
        )
    )
    length = -(-(_FRONT.size + len(body)) // INDEX_PAGE_BYTES) * INDEX_PAGE_BYTES
    front = _FRONT.pack(_MAGIC, _VERSION, google_crc32c.value(body), _FRONT.size + len(body))
    return [(front + body).ljust(length, b"\0"), pages]


def open_segment(source: IndexSource, source_of: SourceOf) -> tuple[int, KeySegment]:
    """The seed and the segment of what was packed; raises `DamagedRecord` and `StorageFailed`.

    Only the front is looked at, whose checksums tell what is damaged in the rest when it is read.
    """
    magic, version, crc, length = _FRONT.unpack(source.read(0, _FRONT.size))
    if (magic, version) != (_MAGIC, _VERSION) or not _LEAST_FRONT <= length <= _LARGEST_FRONT:
        raise DamagedRecord("an index of keys is of another kind")
    body = source.read(_FRONT.size, length - _FRONT.size)
    if google_crc32c.value(body) != crc:
        raise DamagedRecord("the front of an index of keys is not what was written")
    seed, first_chunk, chunks, pages, size = _HEAD.unpack_from(body)
    parts, at = [], _HEAD.size
    pages_of_chunk = (len(body) - at - pages * 12 - chunks * DIGEST_BYTES) // chunks // 4
    for part in (pages * 8, pages * 4, chunks * DIGEST_BYTES, chunks * pages_of_chunk * 4):
        parts.append(body[at : at + part])
        at += part
    firsts, checksums, digests, of_chunks = array("Q", parts[0]), array("I", parts[1]), parts[2], parts[3]
    stored = [
        StoredChunk(
            source_of(first_chunk + number),
            array("I", of_chunks[number * pages_of_chunk * 4 : (number + 1) * pages_of_chunk * 4]),
            digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES],
        )
        for number in range(chunks)
    ]
    pages_start = -(-length // INDEX_PAGE_BYTES) * INDEX_PAGE_BYTES
    segment = KeySegment(source, first_chunk, stored, size, firsts, checksums, pages_start)
    return int.from_bytes(seed, "big"), segment


def _page_of(pages: memoryview, number: int) -> memoryview:
    return pages[number * INDEX_PAGE_BYTES : (number + 1) * INDEX_PAGE_BYTES]


def _positions(page: bytes, one: int) -> list[int]:
    entries = memoryview(page).cast("Q")
    low = one >> POSITION_BITS << POSITION_BITS
    start = bisect_right(entries, low - 1) if low else 0
    end = bisect_right(entries, low | POSITION_MASK, start)
    return [entry & POSITION_MASK for entry in entries[start:end]]
