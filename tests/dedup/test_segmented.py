"""The key table whose keys are in segments on disk, and whose fingerprints grow in a thread."""

from random import Random

import numpy as np
import pytest

from esnode.dedup import fingerprints, keytable
from esnode.dedup.fingerprints import FULL_LOAD, POSITION_MASK, SHARDS
from esnode.dedup.keychunk import StoredChunk
from esnode.dedup.keyhash import Hashes, KeyHash
from esnode.dedup.keysegment import open_segment, pack_segment
from esnode.dedup.keytable import MIN_CAPACITY, KeyTable
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.errors import DamagedRecord

from .events import key, packed
from .sources import ListedChunk, ListedIndex, index, store
from .test_keytable import FINGERPRINTS, assert_holds_its_last, fill


def segmented(max_keys: int = 100_000, segment_chunks: int = 2, seed: int = 0) -> KeyTable:
    return KeyTable(6_400, max_keys, "shrink", segment_chunks=segment_chunks, seed=seed)


def grow(one: KeyTable) -> None:
    """What the node does in a thread."""
    while (growth := one.next_growth()) is not None:
        growth.run()
        one.grown(growth)


def test_a_segment_is_indexed_once_its_chunks_are_all_stored() -> None:
    one = segmented()
    fill(one, 2 * CHUNK_KEYS - 1, 1_000)
    assert not one.has_full_segment
    fill(one, 2, 1)
    assert one.has_full_segment
    assert one.next_segment() is None
    store(one)
    assert len(index(one)) == 1
    assert not one.has_full_segment
    assert one.next_segment() is None
    assert_holds_its_last(one, Random(1))


def test_keys_of_segments_take_an_eighth_of_the_memory() -> None:
    one, other = segmented(10**6), segmented(10**6)
    for _ in range(20):
        for each in (one, other):
            fill(each, 2 * CHUNK_KEYS, 4_000)
            store(each)
        index(one)
    assert one._index.capacity <= 2 * MIN_CAPACITY
    assert one.size_bytes - FINGERPRINTS < (other.size_bytes - FINGERPRINTS) // 3
    assert_holds_its_last(one, Random(1))


def test_a_key_that_is_in_two_segments_and_young_is_at_its_latest_offset() -> None:
    one = segmented()
    for _ in range(2):
        fill(one, 2 * CHUNK_KEYS - 1, 1_000)
        one.add(packed([5]), one.next_offset, 0)
        store(one)
        index(one)
    assert one.lookup([key(5)]) == {key(5): 4 * CHUNK_KEYS - 1}
    fill(one, CHUNK_KEYS - 1, 1_000)
    one.add(packed([5]), one.next_offset, 0)
    assert one.find_sealed(key(5), one.hash(key(5))) == {0: 5 * CHUNK_KEYS - 1}


def test_segments_that_have_expired_are_let_go() -> None:
    one = segmented(max_keys=20_000)
    for _ in range(12):
        fill(one, 2 * CHUNK_KEYS, 1_000)
        store(one)
        index(one)
        assert_holds_its_last(one, Random(1))
    assert len(one._segments) <= 4


def test_a_segment_of_another_window_is_not_used() -> None:
    one = segmented()
    fill(one, 3 * CHUNK_KEYS, 1_000)
    store(one)
    new = one.next_segment()
    assert new is not None
    source = ListedIndex(b"".join(pack_segment(new)))
    _, segment = open_segment(source, lambda number: ListedChunk(b""))
    one.adopt(one.load(b"".join(one.dump())))
    one.publish(new, segment)
    assert not one._segments
    assert_holds_its_last(one, Random(1))


def test_a_segment_that_expired_while_it_was_indexed_is_not_used() -> None:
    one = segmented(max_keys=CHUNK_KEYS)
    fill(one, CHUNK_KEYS, 1_000)
    fill(one, CHUNK_KEYS, 1_000)
    store(one)
    new = one.next_segment()
    assert new is not None
    _, segment = open_segment(ListedIndex(b"".join(pack_segment(new))), lambda number: ListedChunk(b""))
    fill(one, 3 * CHUNK_KEYS, 1_000)
    one.publish(new, segment)
    assert not one._segments
    assert_holds_its_last(one, Random(1))


def test_a_table_grows_in_a_thread_while_keys_come_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keytable, "FIRST_FINGERPRINTS", 4_000)
    one, source = segmented(max_keys=60_000, segment_chunks=1), Random(2)
    fill(one, 1_000, 500)
    while one.next_offset < 150_000:
        growth = one.next_growth()
        if growth is not None:
            assert one.next_growth() is None  # one at a time
            growth.run()
        fill(one, source.choice([500, 5_000, 9_000]), 500)
        if source.random() < 0.5:
            store(one)
            index(one)
        if growth is not None:
            one.grown(growth)
        assert_holds_its_last(one, source)
    grow(one)
    assert one._fingerprints.load <= FULL_LOAD
    assert_holds_its_last(one, source)


def test_growth_of_a_window_that_is_replaced_meanwhile_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keytable, "FIRST_FINGERPRINTS", 13_500)
    one = segmented()
    fill(one, 4 * CHUNK_KEYS, 500)
    growth = one.next_growth()
    assert growth is not None
    growth.run()
    one.adopt(one.load(b"".join(one.dump())))
    one.grown(growth)
    assert_holds_its_last(one, Random(1))


def test_a_key_whose_segment_is_not_cached_is_read_in_a_thread_first() -> None:
    one = segmented()
    fill(one, 3 * CHUNK_KEYS, 1_000)
    chunks = store(one)
    (source,) = index(one)
    source.cached = False
    assert one.lookup([key(9)]) == {key(9): 9}  # it waits
    (fetch,) = one.cold(packed([10, 10**7]))
    reads = chunks[0].reads, source.reads
    fetch()
    assert chunks[0].reads > reads[0]
    assert source.reads > reads[1]
    source.cached = True
    assert one.cold(key(10)) == []
    source.data = bytes(len(source.data))
    assert one.cold(key(10)) == []  # damaged, as the decision will find
    with pytest.raises(DamagedRecord):
        one.lookup([key(10)])
    assert source.discarded


def test_a_table_resumes_with_the_segments_and_chunks_that_are_on_disk() -> None:
    one = segmented(seed=7)
    fill(one, 5 * CHUNK_KEYS + 9, 1_000)
    assert one.window.first_chunk_in_memory == 0
    kept = store(one)
    assert one.window.first_chunk_in_memory == 5
    index(one)
    again = segmented()
    again.use_seed(7)
    stored = [chunk for chunk in one._window.sealed(0, 4) if isinstance(chunk, StoredChunk)]
    with again.unindexed():
        loaded = again.resume(one.dump_outline(), [*stored, kept[4].data], lambda number: kept[number])
        again.adopt(loaded)
        again.use_segments(one._segments)
    assert again.digest() == one.digest()
    assert len(again._segments) == 2
    assert_holds_its_last(again, Random(1))


def test_a_part_of_a_segment_and_of_a_chunk_can_be_asked_for() -> None:
    one = segmented()
    fill(one, 5 * CHUNK_KEYS, 1_000)
    store(one)
    index(one)
    runs = one._runs()
    for start, end in [(10, 50), (CHUNK_KEYS, 3 * CHUNK_KEYS + 7), (4 * CHUNK_KEYS + 5, 5 * CHUNK_KEYS)]:
        found = [
            run.first_offset + (entry & POSITION_MASK)
            for shard in range(SHARDS)
            for run in runs.of_shard(shard, start, end)
            for entry in run.entries.tolist()
        ]
        assert sorted(found) == list(range(start, end))


def test_a_table_that_nobody_grows_in_a_thread_grows_at_once_while_its_keys_are_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fingerprints, "FIRST_FINGERPRINTS", 2_000)
    monkeypatch.setattr(keytable, "FIRST_FINGERPRINTS", 2_000)
    one = segmented()
    for _ in range(12):
        fill(one, CHUNK_KEYS, 1_000)
    assert one._fingerprints.load <= 1
    assert_holds_its_last(one, Random(1))


def test_a_key_that_found_no_place_is_looked_up_in_a_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(self: KeyHash, packed_keys: bytes) -> Hashes:
        return np.zeros_like(np.frombuffer(packed_keys, np.uint64)[1::2])

    monkeypatch.setattr(KeyHash, "__call__", poor)
    one = segmented(segment_chunks=1)
    fill(one, CHUNK_KEYS + 5, 1_000)
    (chunk,) = store(one)
    index(one)
    chunk.cached = False
    assert one.lookup([key(3_000)]) == {key(3_000): 3_000}  # it waits
    one._window._pages.clear()
    assert one.cold(key(3_001))


@pytest.mark.parametrize("bits", [0, 1, 8])
def test_keys_whose_hashes_collide_are_told_apart(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(self: KeyHash, packed_keys: bytes) -> Hashes:
        hashes = np.frombuffer(packed_keys, np.uint64)[1::2]
        return hashes >> np.uint64(64 - bits) << np.uint64(64 - bits) if bits else np.zeros_like(hashes)

    monkeypatch.setattr(KeyHash, "__call__", poor)
    one = segmented(max_keys=3 * CHUNK_KEYS, segment_chunks=1)
    for _ in range(4):
        fill(one, CHUNK_KEYS, 1_000)
        store(one)
        index(one)
        live = [one.first_offset, (one.first_offset + one.next_offset) // 2, one.next_offset - 1]
        asked = [key(number) for number in [*live, 10**7]]
        assert one.lookup(asked) == {key(number): number for number in live}
