"""A sealed chunk of keys that is on disk and no longer in memory: it is read again a page at a time.

Every page that is read is checked against the checksum that it had in memory: a flipped bit on the disk must
not make a known event a new one. Decides nothing. Called by the key window; storage gives the sources.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from mmap import mmap
from typing import Final, Protocol

import google_crc32c

from esnode.errors import DamagedRecord

PAGE_BYTES: Final = 4096
"""A multiple of the length of a key, and a divisor of the length of a chunk."""
DIGEST_BYTES: Final = 16


class ChunkSource(Protocol):
    """Where storage keeps one chunk. It can be read for as long as the source is held."""

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the chunk. Raises `StorageFailed`, and `DamagedRecord` where the chunk is cut short."""
        ...

    def read_cached(self, start: int, length: int) -> bytes | None:
        """The same if that does not wait for the disk, as far as the system tells; else None."""
        ...


class StoredKeys(Protocol):
    """Sealed chunks of keys on disk, by number; a `Storage` is that."""

    def kept_keys(self, first_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """The chunks of these numbers, unchecked. Raises `DamagedRecord` when one is missing."""
        ...

    def chunk_source(self, number: int) -> ChunkSource:
        """Where one chunk is, for reading parts of it. Raises `DamagedRecord` where it is not there."""
        ...


class StoredChunk:
    """The keys of one chunk, on disk: what its checksums, one a page, and its digest say."""

    __slots__ = ("_source", "checksums", "digest", "on_damage")

    def __init__(self, source: ChunkSource, checksums: "array[int]", digest: bytes) -> None:
        self._source = source
        self.checksums = checksums
        self.digest = digest
        self.on_damage: Callable[[], None] | None = None
        """Called before it is told that a page is damaged."""

    @classmethod
    def of(cls, source: ChunkSource, keys: bytes | memoryview) -> "StoredChunk":
        """`keys` are what was written there."""
        # google_crc32c takes bytes only.
        pages = (bytes(keys[start : start + PAGE_BYTES]) for start in range(0, len(keys), PAGE_BYTES))
        return cls(source, array("I", map(google_crc32c.value, pages)), chunk_digest(keys))

    def page(self, number: int) -> bytes:
        """One page. Raises `StorageFailed`, and `DamagedRecord` where it is not what was written."""
        return self._checked(number, self._source.read(number * PAGE_BYTES, PAGE_BYTES))

    def cached_page(self, number: int) -> bytes | None:
        """The same; None where that would wait for the disk."""
        page = self._source.read_cached(number * PAGE_BYTES, PAGE_BYTES)
        return None if page is None else self._checked(number, page)

    def whole(self) -> bytes:
        """All pages. Raises the same."""
        return b"".join(map(self.page, range(len(self.checksums))))

    def _checked(self, number: int, page: bytes) -> bytes:
        if google_crc32c.value(page) != self.checksums[number]:
            if self.on_damage is not None:
                self.on_damage()
            raise DamagedRecord(f"page {number} of a chunk of keys is not what was written")
        return page


def chunk_digest(keys: bytes | memoryview | mmap) -> bytes:
    """16 bytes, equal for equal keys."""
    return hashlib.blake2b(keys, digest_size=DIGEST_BYTES).digest()


def in_runs(numbers: Sequence[int], most: int) -> Iterator[range]:
    """The same ascending numbers as runs without a gap, of `most` numbers at most."""
    place = 0
    while place < len(numbers):
        first, end = numbers[place], place + 1
        while end < len(numbers) and end - place < most and numbers[end] == first + end - place:
            end += 1
        yield range(first, first + end - place)
        place = end
