"""Chunks of keys as a disk would keep them, in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keytable import KeyTable


@dataclass
class ListedChunk:
    """A source that says how it was read, and may be damaged or uncached."""

    data: bytes
    cached: bool = True
    reads: int = 0

    def read(self, start: int, length: int) -> bytes:
        self.reads += 1
        return self.data[start : start + length]

    def read_cached(self, start: int, length: int) -> bytes | None:
        return self.read(start, length) if self.cached else None


def sources(chunks: Sequence[bytes], first_chunk: int = 0) -> Callable[[int], ListedChunk]:
    """Where the chunk of each number is, the first of `chunks` being number `first_chunk`."""
    return lambda number: ListedChunk(chunks[number - first_chunk])


def store(one: KeyTable) -> list[ListedChunk]:
    """Let all sealed chunks of the table leave the memory; where they are now."""
    chunks = one.sealed_chunks(one.first_chunk)
    kept = [ListedChunk(bytes(chunk)) for chunk in chunks]
    stored = [StoredChunk(source, source.data) for source in kept]
    one.store(one.first_chunk, chunks, stored)
    return kept
