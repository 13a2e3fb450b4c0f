"""The index of a segment on disk: every key is found in it, and a flipped bit is told."""

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest

from esnode.dedup import keysegment
from esnode.dedup.fingerprints import POSITION_BITS
from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keyhash import Hashes, KeyHash
from esnode.dedup.keysegment import INDEX_PAGE_BYTES, KeySegment, NewSegment, open_segment, pack_segment
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.errors import DamagedIndex, DamagedRecord

from .events import packed
from .sources import ListedChunk, ListedIndex

SEED = 2**127 + 5
FIRST = 6


def nowhere(number: int) -> ListedChunk:
    """Where chunks are that nobody reads."""
    return ListedChunk(b"")


@dataclass
class Written:
    """A segment of three chunks, the first of which is number 6, and where it is."""

    segment: KeySegment
    index: ListedIndex
    chunks: list[ListedChunk]


def new_segment(count: int = 3) -> tuple[NewSegment, list[ListedChunk]]:
    start = FIRST * CHUNK_KEYS
    kept = [
        ListedChunk(packed(range(start + at * CHUNK_KEYS, start + (at + 1) * CHUNK_KEYS)))
        for at in range(count)
    ]
    return NewSegment(SEED, FIRST, [StoredChunk.of(one, one.data) for one in kept]), kept


@pytest.fixture(scope="module")
def file() -> bytes:
    return b"".join(pack_segment(new_segment()[0]))


def written(file: bytes) -> Written:
    _, kept = new_segment()
    index = ListedIndex(file)
    seed, segment = open_segment(index, lambda number: kept[number - FIRST])
    assert seed == SEED
    return Written(segment, index, kept)


def hash_of(offset: int) -> int:
    return int(KeyHash(SEED)(packed([offset]))[0])


def test_every_key_is_found_at_its_place_with_one_page_read(file: bytes) -> None:
    one = written(file)
    assert (one.segment.first_chunk, one.segment.end_chunk, one.segment.size) == (6, 9, 3 * CHUNK_KEYS)
    reads = one.index.reads
    for place in range(0, 3 * CHUNK_KEYS, 97):
        assert one.segment.positions(hash_of(one.segment.first_offset + place)) == [place]
        assert one.segment.cached_positions(hash_of(one.segment.first_offset + place)) == [place]
    assert one.index.reads - reads <= 2 * 127 + 4  # a hash may begin a page


def test_a_stranger_is_not_found(file: bytes) -> None:
    one = written(file)
    assert all(one.segment.positions(hash_of(10**9 + number)) == [] for number in range(300))


def test_all_entries_come_back_and_those_of_a_range(file: bytes) -> None:
    segment = written(file).segment
    entries = segment.entries()
    assert len(entries) == segment.size
    assert (entries[1:] >= entries[:-1]).all()
    low, high = 3 << 60, (4 << 60) - 1
    part = segment.part(low, high)
    inside = [entry for entry in entries.tolist() if low <= entry <= high]
    assert [entry for entry in part.tolist() if low <= entry <= high] == inside
    assert segment.part(2**64 - 1, 2**64 - 1).tolist()[-1] == entries[-1]
    assert segment.part(0, 0).tolist()[0] == entries[0]


def test_what_is_not_cached_is_not_read_and_is_read_in_a_thread(file: bytes) -> None:
    one = written(file)
    one.index.cached = False
    key = hash_of(one.segment.first_offset + 5_000)
    assert one.segment.cached_positions(key) is None
    reads = one.chunks[1].reads
    one.segment.warm(key)
    assert one.chunks[1].reads == reads + 1


def test_the_chunks_of_a_segment_are_known_without_reading_them(file: bytes) -> None:
    one = written(file)
    new, _ = new_segment()
    assert [chunk.digest for chunk in one.segment.chunks] == [chunk.digest for chunk in new.chunks]
    assert [chunk.checksums for chunk in one.segment.chunks] == [chunk.checksums for chunk in new.chunks]
    assert [source.reads for source in one.chunks] == [0, 0, 0]
    assert one.segment.chunks[2].whole() == one.chunks[2].data


def test_a_bit_that_flips_anywhere_is_told_and_the_index_is_not_used_again(file: bytes) -> None:
    source = Random(1)
    for _ in range(300):
        at = source.choice([source.randrange(1_400), source.randrange(len(file))])
        flipped = file[:at] + bytes([file[at] ^ (1 << source.randrange(8))]) + file[at + 1 :]
        index = ListedIndex(flipped)
        try:
            _, segment = open_segment(index, nowhere)
            segment.entries()
        except DamagedRecord:
            continue
        assert file[at : at + 1] == b"\0"  # the rest of the page after the front
        assert len(segment.entries()) == segment.size


def test_a_damaged_page_is_told_where_it_is_met_and_the_index_discarded(file: bytes) -> None:
    one = written(file)
    one.index.data = file[: -INDEX_PAGE_BYTES // 2] + bytes(INDEX_PAGE_BYTES // 2)
    hashes = [hash_of(one.segment.first_offset + place) for place in range(3 * CHUNK_KEYS)]
    assert not one.index.discarded
    with pytest.raises(DamagedIndex, match="of an index of keys"):
        one.segment.cached_positions(max(hashes))
    assert one.index.discarded


def test_a_damaged_chunk_discards_the_index_that_vouches_for_it(file: bytes) -> None:
    one = written(file)
    one.chunks[1].data = bytes(len(one.chunks[1].data))
    with pytest.raises(DamagedRecord, match="page 0 of a chunk"):
        one.segment.chunks[1].page(0)
    assert one.index.discarded


def test_a_file_of_another_kind_or_version_is_damage(file: bytes) -> None:
    for at in (0, 4):
        other = bytearray(file)
        other[at] ^= 1
        with pytest.raises(DamagedRecord, match="of another kind"):
            open_segment(ListedIndex(bytes(other)), nowhere)


def test_a_segment_that_shall_not_be_used_again_discards_its_index(file: bytes) -> None:
    one = written(file)
    assert new_segment()[0].end_chunk == one.segment.end_chunk == 9
    one.segment.discard()
    assert one.index.discarded


@pytest.mark.parametrize("cut", [0, 10, 700, 5_000])
def test_a_file_that_is_cut_short_is_damage(file: bytes, cut: int) -> None:
    index = ListedIndex(file[:cut])
    with pytest.raises(DamagedRecord):
        open_segment(index, nowhere)[1].entries()


def test_keys_with_one_hash_are_all_found_though_they_fill_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(packed_keys: bytes) -> Hashes:
        count = len(packed_keys) // 16
        return np.where(np.arange(count) % 2 == 0, np.uint64(77 << POSITION_BITS), np.uint64(5 << 60))

    monkeypatch.setattr(keysegment, "KeyHash", lambda seed: poor)
    new, kept = new_segment(1)
    _, segment = open_segment(ListedIndex(b"".join(pack_segment(new))), lambda number: kept[0])
    assert segment.positions(77 << POSITION_BITS) == list(range(0, CHUNK_KEYS, 2))
    assert segment.positions(5 << 60) == list(range(1, CHUNK_KEYS, 2))
    assert segment.positions(78 << POSITION_BITS) == []
    assert segment.positions(0) == []
