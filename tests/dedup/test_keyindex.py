"""The index: whatever goes in is found, however full or hostile."""

import struct
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from esnode.dedup.keyhash import Hashes, KeyHash, has_repeats
from esnode.dedup.keyindex import WAYS, KeyIndex

from .events import key, packed

HASH = KeyHash(0)


def hashes(numbers: Iterable[int]) -> Hashes:
    return HASH(packed(numbers))


def found_in(index: KeyIndex, numbers: range) -> dict[bytes, set[int]]:
    found: dict[bytes, set[int]] = {}
    for place, offset in index.find(hashes(numbers)):
        found.setdefault(key(numbers[place]), set()).add(offset)
    return found


@pytest.mark.parametrize("count", [1, 100, 5_000])
@pytest.mark.parametrize("capacity", [1, 100, 5_000])
def test_every_key_is_found_at_its_offset(capacity: int, count: int) -> None:
    index = KeyIndex(capacity, 0)
    index.insert(hashes(range(count)), 0, 0)
    found = found_in(index, range(count))
    assert all(number in found[key(number)] for number in range(count))


def test_a_stranger_is_hardly_ever_suspected() -> None:
    index = KeyIndex(5_000, 0)
    index.insert(hashes(range(5_000)), 0, 0)
    assert len(index.find(hashes(range(10**9, 10**9 + 100_000)))) < 100


def test_a_hash_that_comes_twice_is_seen_wherever_it_is() -> None:
    assert not has_repeats(hashes([]))
    assert not has_repeats(hashes(range(1_000)))
    assert has_repeats(hashes([*range(1_000), 7]))


def test_keys_that_find_their_bucket_full_are_kept_aside_and_found() -> None:
    index = KeyIndex(1, 0)
    index.insert(hashes(range(WAYS + 10)), 0, 0)
    assert index.loose == 10
    assert len(found_in(index, range(WAYS + 10))) == WAYS + 10


def test_what_was_kept_aside_goes_when_it_expires() -> None:
    index = KeyIndex(1, 0)
    for number in range(100):
        index.insert(hashes([number]), number, 0)
    assert index.loose == 100 - WAYS
    index.insert(hashes([]), 100, 90)
    assert index.loose == 10
    index.insert(hashes([]), 100, 100)
    assert index.loose == 0


def test_a_key_that_was_kept_aside_twice_stays_until_its_second_time_is_over() -> None:
    index = KeyIndex(1, 0)
    index.insert(hashes(range(WAYS)), 0, 0)
    index.insert(hashes([99, 99]), WAYS, 0)
    index.insert(hashes([]), WAYS + 2, WAYS + 1)
    assert WAYS + 1 in found_in(index, range(99, 100))[key(99)]
    index.insert(hashes([]), WAYS + 2, WAYS + 2)
    assert index.loose == 0


def test_slots_are_used_again_once_their_keys_have_expired() -> None:
    index = KeyIndex(1_000, 0)
    for start in range(0, 20_000, 500):
        floor = max(0, start - 500)
        index.insert(hashes(range(start, start + 500)), start, floor)
        found = found_in(index, range(floor, start + 500))
        assert all(number in found[key(number)] for number in range(floor, start + 500))
    assert index.loose < 50


def test_an_index_may_begin_at_any_offset() -> None:
    base = 2**56 - 5
    index = KeyIndex(100, base)
    index.insert(hashes(range(5)), base, base)
    found = found_in(index, range(5))
    assert all(base + number in found[key(number)] for number in range(5))


def test_positions_end_before_they_could_wrap() -> None:
    index = KeyIndex(100, 0)
    with pytest.raises(AssertionError, match="outlived"):
        index.insert(hashes(range(5)), 2**32 - 4, 0)


SCATTERED = [lambda i: i << 56, lambda i: i << 48, lambda i: i << 24, lambda i: i, lambda i: i * 2**32 + 5]


@pytest.mark.parametrize("spread", SCATTERED, ids=["top", "high", "middle", "low", "upper half"])
@pytest.mark.parametrize("seed", [0, 1, 2**100 + 7])
def test_keys_that_differ_in_a_few_bits_of_both_halves_scatter_under_every_seed(
    seed: int, spread: Callable[[int], int]
) -> None:
    """As a client would choose that wants many keys in one bucket, or with one fingerprint."""
    numbers = [spread(number) % 2**64 for number in range(256)]
    short = [(number >> 32 ^ number) % 2**32 for number in numbers]  # an identity has 12 bytes
    found = KeyHash(seed)(b"".join(struct.pack("=IIQ", 0, one, other) for one in short for other in numbers))
    index = KeyIndex(len(found), 0)
    buckets, fingerprints = index._places(found)
    assert len(set(found.tolist())) == len(found)
    assert len(set(fingerprints.tolist())) > 30_000  # 41,400 when drawn at random
    assert max(Counter(buckets.tolist()).values()) < 60  # 15 on average
    index.insert(found, 0, 0)
    assert index.loose < len(found) // 100


def test_memory_is_fetched_and_given_back_in_steps() -> None:
    index = KeyIndex(50_000, 0)
    steps = 1
    while not index.touch(65536):
        steps += 1
    assert steps == -(-index.size_bytes // 65536)
    index.insert(hashes(range(1000)), 0, 0)
    assert len(found_in(index, range(1000))) == 1000
    for _ in range(steps - 1):
        assert not index.release(65536)
    assert index.release(65536)
