"""The youngest keys against a plain dict, through every way that they are kept."""

from random import Random

import pytest

from esnode.dedup import recent
from esnode.dedup.keyhash import Hashes
from esnode.dedup.keyindex import KeyIndex
from esnode.dedup.keytable import KeyTable
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.dedup.recent import BULK_KEYS, FIRST_CAPACITY, RecentKeys

from .events import key, packed


class Tail:
    """A leader's log of keys: what is appended, and how much of it the table has."""

    def __init__(self) -> None:
        self.table = KeyTable(ttl_ms=10**12, max_keys=10**9, when_full="shrink")
        self.recent = RecentKeys(self.table)
        self.numbers: list[int] = []
        self.waiting: list[tuple[bytes, int]] = []

    def append(self, numbers: list[int]) -> None:
        base_offset = len(self.numbers)
        self.recent.add(len(self.numbers) + 1, base_offset, packed(numbers))
        self.waiting.append((packed(numbers), base_offset))
        self.numbers += numbers

    def commit(self, entries: int) -> None:
        for keys, base_offset in self.waiting[:entries]:
            self.table.add(keys, base_offset, 0)
        del self.waiting[:entries]
        self.recent.trim()

    def lose_leadership(self) -> None:
        """What is not committed is cut away; then this node leads again."""
        del self.numbers[self.table.next_offset :]
        self.waiting.clear()
        self.recent.clear()

    def find(self, numbers: list[int]) -> dict[int, int]:
        wanted = packed(numbers)
        return self.recent.find(wanted, self.table.hash(wanted))

    def check(self, numbers: list[int]) -> None:
        """What the table has sealed may be found here or not; all that is younger must be, and no other."""
        last = {number: offset for offset, number in enumerate(self.numbers)}
        found = self.find(numbers)
        for place, number in enumerate(numbers):
            offset = last.get(number, -1)
            if offset >= self.table.sealed_to:
                assert found[place] == offset
            else:
                assert found.get(place, offset) == offset


@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
@pytest.mark.parametrize("seed", range(12))
def test_every_young_key_is_found_at_its_last_offset_whatever_the_sizes(seed: int) -> None:
    source = Random(seed)
    tail = Tail()
    sizes = source.choice(([1, 3], [64], [BULK_KEYS - 1, BULK_KEYS], [1, 700], [1, 64, 1000, 3000]))
    fresh = iter(range(10**9))
    for _ in range(max(40, min(400, 3 * CHUNK_KEYS // max(sizes)))):
        size = source.choice(sizes)
        again = source.sample(tail.numbers, min(len(tail.numbers), size // 50))
        tail.append([*(next(fresh) for _ in range(size - len(again))), *again])
        if source.random() < 0.6:
            tail.commit(source.randint(0, len(tail.waiting)))
        if source.random() < 0.02:
            tail.lose_leadership()
        asked = source.choice([1, 64, BULK_KEYS, 1000])
        known = source.sample(tail.numbers, min(len(tail.numbers), asked))
        tail.check(known + [10**10 + n for n in range(asked - len(known))])
        if source.random() < 0.2:
            tail.check(tail.numbers[-asked:])


def test_a_long_tail_that_nobody_commits_gets_a_larger_index() -> None:
    tail = Tail()
    for start in range(0, 3 * FIRST_CAPACITY, 2_000):
        tail.append(list(range(start, start + 2_000)))
    assert len(tail.recent) > 2 * FIRST_CAPACITY
    assert tail.recent._index.loose < 50
    tail.check(tail.numbers)


def test_a_tail_of_a_thousand_entries_is_moved_to_a_larger_index_in_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []

    class Counted(KeyIndex):
        def insert(self, hashes: Hashes, first_offset: int, floor: int) -> None:
            steps.append(len(hashes))
            super().insert(hashes, first_offset, floor)

    monkeypatch.setattr(recent, "KeyIndex", Counted)
    monkeypatch.setattr(recent, "FIRST_CAPACITY", CHUNK_KEYS)
    tail = Tail()
    for number in range(3 * CHUNK_KEYS):
        tail.append([number])
    assert len(steps) == 2
    assert max(steps) >= CHUNK_KEYS
    tail.check(list(range(3 * CHUNK_KEYS)))


def test_an_index_that_is_worn_out_is_replaced_with_all_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "WORN_AFTER", 3 * CHUNK_KEYS)
    tail = Tail()
    for start in range(0, 10 * CHUNK_KEYS, 1_000):
        tail.append(list(range(start, start + 1_000)))
        tail.commit(len(tail.waiting) - 1)
        tail.check(tail.numbers[-3_000:])
    assert tail.recent._index.base_offset > 5 * CHUNK_KEYS


def test_small_entries_that_nobody_commits_are_moved_to_the_index() -> None:
    tail = Tail()
    for start in range(0, 6 * CHUNK_KEYS, 64):
        tail.append(list(range(start, start + 64)))
    assert len(tail.recent._few) + len(tail.recent._older_few) <= 2 * CHUNK_KEYS
    tail.check(list(range(6 * CHUNK_KEYS)))


def test_keys_that_only_share_a_hash_are_told_apart() -> None:
    tail = Tail()
    tail.append(list(range(BULK_KEYS)))
    strange = key(10**9) * BULK_KEYS
    assert tail.recent.find(strange, tail.table.hash(packed(range(BULK_KEYS)))) == {}
