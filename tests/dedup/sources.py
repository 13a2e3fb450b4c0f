"""Chunks of keys as a disk would keep them, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keysegment import open_segment, pack_segment
from esnode.dedup.keytable import KeyTable
from esnode.errors import DamagedRecord


@dataclass
class ListedChunk:
    """A source that says how it was read, and may be damaged or uncached."""

    data: bytes
    cached: bool = True
    reads: int = 0

    def read(self, start: int, length: int) -> bytes:
        self.reads += 1
        data = self.data[start : start + length]
        if len(data) != length:
            raise DamagedRecord("cut short")
        return data

    def read_cached(self, start: int, length: int) -> bytes | None:
        return self.read(start, length) if self.cached else None


@dataclass
class ListedIndex(ListedChunk):
    """The same for an index."""

    discarded: bool = False

    def discard(self) -> None:
        self.discarded = True


def sources(chunks: Sequence[bytes], first_chunk: int = 0) -> Callable[[int], ListedChunk]:
    """Where the chunk of each number is, the first of `chunks` being number `first_chunk`."""
    return lambda number: ListedChunk(chunks[number - first_chunk])


def store(one: KeyTable) -> list[ListedChunk]:
    """Let all sealed chunks of the table leave the memory; where they are now."""
    chunks = one.sealed_chunks(one.first_chunk)
    kept = [ListedChunk(bytes(chunk)) for chunk in chunks]
    stored = [StoredChunk.of(source, source.data) for source in kept]
    one.store(one.first_chunk, chunks, stored)
    return kept


def index(one: KeyTable) -> list[ListedIndex]:
    """Write the indexes of all segments of stored keys; where they are."""
    kept = []
    while (new := one.next_segment()) is not None:
        source = ListedIndex(b"".join(pack_segment(new)))
        chunks = new.chunks
        first_chunk = new.first_chunk
        _, segment = open_segment(source, lambda number: chunks[number - first_chunk]._source)  # noqa: B023
        one.publish(new, segment)
        kept.append(source)
    return kept
