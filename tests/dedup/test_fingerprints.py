"""The fingerprints of all keys: what is live is suspected where it is, however full, old or hostile."""

from collections.abc import Iterable, Iterator
from random import Random

import numpy as np
import pytest

from esnode.dedup.fingerprints import (
    EPOCHS,
    FULL_LOAD,
    POSITION_MASK,
    SHARDS,
    SLOTS,
    FingerprintTable,
    Run,
    entries_of,
    part_of_shard,
)
from esnode.dedup.keyhash import Hashes, KeyHash

from .events import packed

HASH = KeyHash(7)
STEP = 1_000


def hashes_of(numbers: Iterable[int]) -> Hashes:
    return HASH(packed(numbers))


class Keys:
    """A table, and beside it all hashes that ever went in: event `n` at offset `n`."""

    def __init__(self, capacity: int, hashes: Hashes) -> None:
        self.table = FingerprintTable(capacity, 0)
        self.hashes = hashes
        self.end = 0
        self.floor = 0

    def add(self, count: int) -> None:
        for start in range(self.end, self.end + count, STEP):
            self.end = min(start + STEP, self.end + count)
            self.table.insert(Run(entries_of(self.hashes[start : self.end]), start))

    def expire(self, floor: int) -> None:
        self.floor = floor
        self.table.expire(floor)

    def grow(self) -> None:
        while (resize := self.table.resize()) is not None:
            resize.advance(resize.epochs, resize.end, self.runs)
            self.table.adopt(resize, self.runs)

    def runs(self, shard: int, start: int, end: int) -> Iterator[Run]:
        for at in range(start, end, STEP):
            entries = entries_of(self.hashes[at : min(end, at + STEP)])
            yield Run(part_of_shard(entries, shard), at)

    def assert_finds_all(self) -> None:
        live = self.hashes[self.floor : self.end]
        suspected = [False] * len(live)
        for place, start, end in self.table.find(live):
            if start <= self.floor + place < end:
                suspected[place] = True
        assert all(suspected)


@pytest.fixture(scope="module")
def many() -> Hashes:
    return hashes_of(range(60_000))


def test_entries_are_in_the_order_of_their_hashes_and_know_their_places(many: Hashes) -> None:
    entries = entries_of(many[:5_000])
    assert (entries[1:] >= entries[:-1]).all()
    for entry in entries[::500].tolist():
        assert entry >> 20 == int(many[entry & POSITION_MASK]) >> 20


def test_the_parts_of_all_shards_are_all_entries(many: Hashes) -> None:
    entries = entries_of(many[:5_000])
    parts = [part_of_shard(entries, shard) for shard in range(SHARDS)]
    assert np.concatenate(parts).tolist() == entries.tolist()
    assert all({entry >> 60 for entry in part.tolist()} == {shard} for shard, part in enumerate(parts))


@pytest.mark.parametrize("capacity", [1, 5_000, 60_000])
def test_every_live_key_is_suspected_in_the_right_epoch(capacity: int, many: Hashes) -> None:
    keys = Keys(capacity, many)
    for floor in range(0, 40_000, 5_000):
        keys.add(5_000)
        keys.assert_finds_all()
        keys.expire(floor // 2)
        keys.assert_finds_all()


def test_a_stranger_is_seldom_suspected(many: Hashes) -> None:
    keys = Keys(60_000, many)
    keys.add(60_000)
    hits = keys.table.find(hashes_of(range(10**9, 10**9 + 20_000)))
    assert len(hits) < 20_000 // 300


def test_what_has_expired_is_suspected_no_more(many: Hashes) -> None:
    keys = Keys(60_000, many)
    keys.add(30_000)
    keys.expire(20_000)
    assert len(keys.table.find(many[:10_000])) < 100
    keys.expire(30_000)
    assert keys.table.find(many[:30_000]) == []
    assert keys.table.kept == 0


def test_an_epoch_is_a_small_part_of_the_window(many: Hashes) -> None:
    keys = Keys(60_000, many)
    for floor in range(0, 40_000, 1_000):
        keys.add(1_000)
        keys.expire(max(0, floor - 20_000))
    assert len(keys.table._epochs) <= EPOCHS
    lengths = [hit.end - hit.start for hit in keys.table.find(many[keys.floor : keys.end])]
    assert max(lengths) <= 3_000
    keys.assert_finds_all()


def test_slots_are_used_again_once_their_epochs_have_expired(many: Hashes) -> None:
    keys = Keys(12_000, many)
    for _ in range(50):
        keys.add(1_000)
        keys.expire(max(0, keys.end - 10_000))
        keys.assert_finds_all()
    assert keys.table.loose < 100
    assert keys.table.rows * SLOTS < 2 * 12_000


def test_keys_that_find_their_row_full_are_kept_aside_and_go_when_they_expire(many: Hashes) -> None:
    keys = Keys(1, many)
    keys.add(10_000)
    assert keys.table.loose > 7_000
    keys.assert_finds_all()
    keys.expire(10_000)
    keys.add(2_000)
    for _ in range(20):
        keys.add(1_000)
        keys.expire(keys.end - 1_000)
    assert keys.table.loose < 2_000
    keys.assert_finds_all()


def test_keys_with_one_hash_are_all_suspected() -> None:
    keys = Keys(10_000, np.full(1_000, 2**63 + 12_345, np.uint64))
    keys.add(1_000)
    found = {(hit.start, hit.end) for hit in keys.table.find(keys.hashes[:1])}
    assert all(any(start <= offset < end for start, end in found) for offset in range(1_000))


def test_a_table_grows_and_shrinks_one_shard_after_the_other(many: Hashes) -> None:
    keys, source = Keys(2_000, many), Random(3)
    largest = 0
    while keys.end < 50_000:
        keys.add(source.choice([1, 500, 1_000, 3_000]))
        keys.grow()
        assert keys.table.load <= FULL_LOAD
        largest = max(largest, keys.table.rows)
        keys.assert_finds_all()
    assert keys.table.loose < 100
    keys.expire(keys.end - 1_000)
    keys.grow()
    assert keys.table.rows < largest // 4
    keys.assert_finds_all()
    keys.add(3_000)
    keys.grow()
    keys.assert_finds_all()


@pytest.mark.parametrize("seed", range(8))
def test_a_shard_may_be_written_anew_while_keys_come_and_expire(seed: int, many: Hashes) -> None:
    keys, source = Keys(3_000, many), Random(seed)
    keys.add(2_500)
    while keys.end < 45_000:
        keys.add(source.choice([100, 700, 2_000]))
        resize = keys.table.resize()
        if resize is not None:
            resize.advance(resize.epochs, resize.end, keys.runs)
        for _ in range(source.randrange(4)):  # epochs begin, become one and expire meanwhile
            keys.add(source.choice([1, 300, 3_000]))
            if source.random() < 0.7:
                keys.expire(source.randrange(keys.floor, keys.end + 1))
            keys.assert_finds_all()
        if resize is not None:
            keys.table.adopt(resize, keys.runs)
        keys.assert_finds_all()


def test_loose_keys_are_those_of_the_new_rows_once_a_shard_has_grown(many: Hashes) -> None:
    keys = Keys(1_000, many)
    keys.add(20_000)
    assert keys.table.loose > 1_000
    keys.grow()
    assert keys.table.loose < 100
    keys.assert_finds_all()


def test_memory_is_given_back(many: Hashes) -> None:
    keys = Keys(60_000, many)
    keys.add(30_000)
    base = int(keys.table._bases[3])
    keys.table.release(base)
    assert not keys.table._rows[base : base + keys.table._region_rows].any()
