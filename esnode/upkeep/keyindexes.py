"""The indexes of keys on disk: written once their chunks are stored, and read at the start.

Decides whether an index that is found there may be used; where it may not, it is made again from the keys.
Called by the recovery and the checkpointer.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keysegment import KeySegment, NewSegment, open_segment, pack_segment
from esnode.dedup.keytable import KeyTable
from esnode.errors import DamagedRecord
from esnode.storage.interface import Storage


def write_index(storage: Storage, new: NewSegment) -> KeySegment:
    """Put the index of `new` on disk. Takes long, and may run in any thread.

    Raises `StorageFailed`, and `DamagedRecord` where the keys are not what was written.
    """
    storage.keep_index(new.end_chunk, pack_segment(new))
    source = storage.index_source(new.end_chunk)
    if source is None:
        raise DamagedRecord(f"the index of the keys before chunk {new.end_chunk} is gone")
    return open_segment(source, storage.chunk_source)[1]


def index_now(storage: Storage, keys: KeyTable) -> None:
    """What the checkpointer does in a thread, at once: for those who have none, or wait for it anyway."""
    while (growth := keys.next_growth()) is not None:
        growth.run()
        keys.grown(growth)
    while (new := keys.next_segment()) is not None:
        keys.publish(new, write_index(storage, new))


def read_indexes(storage: Storage, keys: KeyTable, first_chunk: int, open_chunk: int) -> list[KeySegment]:
    """The segments of the sealed chunks of these numbers, checked, and `keys` with the seed of the first one.

    Raises `StorageFailed`, and `DamagedRecord` where the keys are missing.
    """
    step = keys.segment_chunks
    ends = range(first_chunk - first_chunk % step + step, open_chunk + 1, step)
    found = {end: opened for end in ends if (opened := _opened(storage, end)) is not None}
    for seed, _ in islice(found.values(), 1):
        keys.use_seed(seed)
    segments = []
    for end in ends:
        start = max(first_chunk, end - step)
        seed, segment = found.get(end, (-1, None))
        if segment is None or seed != keys.seed or segment.first_chunk > start:
            segment = write_index(storage, NewSegment(keys.seed, start, _chunks(storage, start, end)))
        segments.append(segment)
    return segments


def sealed_chunks(
    storage: Storage, segments: Sequence[KeySegment], first_chunk: int, open_chunk: int
) -> Iterator[bytes | StoredChunk]:
    """The sealed chunks of these numbers: as they are on disk, those of segments without reading them."""
    for segment in segments:
        yield from segment.chunks[max(0, first_chunk - segment.first_chunk) :]
        first_chunk = segment.end_chunk
    yield from storage.kept_keys(first_chunk, open_chunk)


def _opened(storage: Storage, end_chunk: int) -> tuple[int, KeySegment] | None:
    """The seed and the segment that ends there; None where there is no index that is whole."""
    source = storage.index_source(end_chunk)
    if source is None:
        return None
    try:
        seed, segment = open_segment(source, storage.chunk_source)
        segment.entries()
    except DamagedRecord:
        return None
    return (seed, segment) if segment.end_chunk == end_chunk else None


def _chunks(storage: Storage, first_chunk: int, end_chunk: int) -> list[StoredChunk]:
    chunks = enumerate(storage.kept_keys(first_chunk, end_chunk), first_chunk)
    return [StoredChunk.of(storage.chunk_source(number), chunk) for number, chunk in chunks]
