"""The rules of the window: what is known, until when, and the bytes of it."""

import struct

import pytest

from esnode.dedup.batch import identity_of
from esnode.dedup.keychunk import in_runs
from esnode.dedup.keywindow import CHUNK_KEYS, KeyWindow
from esnode.errors import Bug, DamagedRecord

from .events import key, packed
from .sources import sources

HEAD_BYTES = 28


def window(ttl_ms: int = 6_400, max_keys: int = 10_000, when_full: str = "shrink") -> KeyWindow:
    """Its generations are 100 ms wide, if nothing else is said."""
    return KeyWindow(ttl_ms, max_keys, when_full)


def dumped(one: KeyWindow) -> bytes:
    return b"".join(one.dump())


def loaded(data: bytes) -> KeyWindow:
    return KeyWindow.load(data, 6_400, 10_000, "shrink")


def test_keys_are_known_for_their_time_to_live_and_at_most_a_generation_longer() -> None:
    one = window()
    one.add(packed(range(3)), 0, 1_050)
    assert one.expires_at(2) == 1_100 + 6_400
    one.expire(7_499)
    assert one.live == 3
    one.expire(7_500)
    assert one.live == 0
    assert one.expires_at(2) is None


def test_a_generation_goes_as_a_whole_and_the_next_one_stays() -> None:
    one = window()
    one.add(packed([0]), 0, 10)
    one.add(packed([1]), 1, 99)
    one.add(packed([2]), 2, 100)
    assert [one.expires_at(offset) for offset in range(4)] == [6_500, 6_500, 6_600, None]
    one.expire(6_500)
    assert (one.floor, one.next_offset) == (2, 3)


def test_a_time_to_live_shorter_than_the_generations_still_counts_every_millisecond() -> None:
    one = window(ttl_ms=1)
    one.add(packed([0]), 0, 5)
    one.expire(6)
    assert one.live == 1
    one.expire(7)
    assert one.live == 0


def test_at_the_bound_a_shrinking_window_forgets_the_oldest_and_counts_them() -> None:
    one = window(max_keys=100)
    one.add(packed(range(90)), 0, 0)
    assert one.shrunk == 0
    one.add(packed(range(90, 130)), 90, 0)
    assert (one.floor, one.live, one.shrunk) == (30, 100, 30)
    assert one.expires_at(29) is None
    assert one.expires_at(30) == 6_500


def test_what_was_forgotten_early_stays_forgotten_as_time_passes() -> None:
    one = window(max_keys=100)
    one.add(packed(range(130)), 0, 0)
    one.expire(1)
    assert (one.floor, one.live, one.shrunk) == (30, 100, 30)


def test_at_the_bound_a_refusing_window_has_no_room_until_keys_expire() -> None:
    one = window(max_keys=100, when_full="refuse")
    one.add(packed(range(90)), 0, 0)
    assert one.has_room(100, 0)
    assert not one.has_room(101, 0)
    assert not one.has_room(101, 6_499)
    assert one.has_room(101, 6_500)
    assert not one.has_room(191, 6_500)
    one.add(packed(range(90, 130)), 90, 0)  # what is committed is applied, whatever the bound
    assert (one.live, one.shrunk) == (130, 0)


def test_a_shrinking_window_has_room_always() -> None:
    one = window(max_keys=100)
    one.add(packed(range(100)), 0, 0)
    assert one.has_room(10_000, 0)


def test_keys_that_do_not_follow_the_last_ones_are_a_bug() -> None:
    one = window()
    one.add(packed([0]), 0, 0)
    with pytest.raises(Bug, match="offset 2 come where 1 is next"):
        one.add(packed([1]), 2, 0)


def test_an_entry_without_keys_changes_nothing() -> None:
    one = window()
    before = one.digest()
    assert not one.add(b"", 0, 5)
    assert one.digest() == before


@pytest.mark.parametrize("step", [1, 64, 1_000, CHUNK_KEYS - 1, CHUNK_KEYS, 3 * CHUNK_KEYS + 5])
def test_keys_are_kept_at_their_offsets_over_chunk_boundaries(step: int) -> None:
    one = window(max_keys=100_000)
    total = max(step, 2 * CHUNK_KEYS + 10) if step > 1 else CHUNK_KEYS + 1
    for start in range(0, total, step):
        one.add(packed(range(start, start + step)), start, 0)
    for offset in (0, 1, CHUNK_KEYS - 1, CHUNK_KEYS, one.next_offset - 1):
        assert one.identity_at(offset) == identity_of(key(offset))
    assert bytes(one.packed(3, 5)) == packed([3, 4])
    assert bytes(one.packed(CHUNK_KEYS - 1, one.next_offset)) == packed([CHUNK_KEYS - 1])


def test_memory_of_expired_keys_is_given_back_bit_by_bit() -> None:
    one = window(max_keys=10**6)
    for chunk in range(100):
        one.add(packed([chunk]) * CHUNK_KEYS, chunk * CHUNK_KEYS, 0)
    full = one.size_bytes
    one.expire(10_000)
    assert one.live == 0
    assert 0 < full - one.size_bytes < full // 2
    for _ in range(3):
        one.expire(10_000)
    assert one.size_bytes == CHUNK_KEYS * 16


def test_without_a_time_to_live_only_the_bound_forgets() -> None:
    one = window(ttl_ms=0, max_keys=6_000)
    for year in range(1, 6):
        one.expire(year * 31_536_000_000)
        one.add(packed(range(1_000)), one.next_offset, year * 31_536_000_000)
    assert (one.floor, one.shrunk, one.expires_at(0)) == (0, 0, None)
    one.add(packed(range(2_000)), one.next_offset, 2**62)
    one.expire(2**63 - 1)
    assert (one.floor, one.live, one.shrunk) == (1_000, 6_000, 1_000)


def test_a_window_without_a_time_to_live_has_few_generations() -> None:
    one = window(ttl_ms=0)
    for minute in range(24 * 60):
        one.add(packed([minute]), minute, minute * 60_000)
    assert len(dumped(one)) == 28 + 24 * 16 + 24 * 60 * 16


@pytest.mark.parametrize(("before_ms", "after_ms"), [(0, 6_400), (6_400, 0)])
def test_a_time_to_live_may_begin_and_end_over_a_restart(before_ms: int, after_ms: int) -> None:
    one = window(ttl_ms=before_ms)
    one.add(packed([1]), 0, 50)
    other = KeyWindow.load(dumped(one), after_ms, 10_000, "shrink")
    other.add(packed([2]), 1, 3_600_000)
    other.expire(3_600_000 + 6_400)
    assert other.floor == (1 if after_ms else 0)
    assert KeyWindow.load(dumped(other), after_ms, 10_000, "shrink").digest() == other.digest()


def test_the_window_reaches_as_far_back_as_its_time_until_the_bound_cuts_it() -> None:
    one = window(max_keys=100)  # generations of 100 ms
    assert one.reach_ms(0) == 6_400
    for at in range(20):
        one.add(packed(range(10)), one.next_offset, at * 50)
    # Offset 100 came at 500 ms, in the generation up to 600: later ones are all known at 950.
    assert one.floor == 100
    assert one.reach_ms(950) == 350
    other = KeyWindow.load(dumped(one), 6_400, 100, "shrink")
    assert other.reach_ms(950) == 350
    one.expire(600 + 6_400)
    assert one.floor > 100
    assert one.reach_ms(7_000) == 6_400


def test_a_window_without_a_time_to_live_reaches_back_to_the_beginning_of_the_log() -> None:
    one = window(ttl_ms=0, max_keys=100)
    one.add(packed(range(100)), 0, 5)
    assert one.reach_ms(7_200_000) == 7_200_000
    one.add(packed([1]), 100, 7_200_000)
    assert one.reach_ms(7_200_000) == 7_200_000 - 3_600_000
    assert window(max_keys=100, when_full="refuse").reach_ms(9_999) == 6_400


def test_a_window_out_of_its_bytes_is_the_same_window() -> None:
    one = window(max_keys=6_000)
    for start in range(0, 9_000, 500):
        one.add(packed(range(start, start + 500)), start, start)
    other = KeyWindow.load(dumped(one), 6_400, 6_000, "shrink")
    for each in (one, other):
        each.add(packed([1]), 9_000, 9_000)
        each.expire(9_400)
    assert dumped(other) == dumped(one)
    assert other.digest() == one.digest()
    assert (other.floor, other.live, other.shrunk) == (one.floor, one.live, one.shrunk)
    assert [other.expires_at(n) for n in range(9_002)] == [one.expires_at(n) for n in range(9_002)]


@pytest.mark.parametrize("count", [0, 1, CHUNK_KEYS - 1, CHUNK_KEYS, CHUNK_KEYS + 1])
@pytest.mark.parametrize("expired", [False, True])
def test_windows_of_every_size_come_back(count: int, expired: bool) -> None:
    one = window()
    one.add(packed(range(count)), 0, 0)
    one.expire(6_500 if expired else 0)
    other = loaded(dumped(one))
    assert other.digest() == one.digest()
    assert (other.floor, other.next_offset) == (count if expired else 0, count)


def test_the_digest_tells_windows_apart() -> None:
    def after(*steps: tuple[int, int]) -> bytes:
        one = window()
        for number, log_time_ms in steps:
            one.add(packed([number]), one.next_offset, log_time_ms)
        return one.digest()

    digests = [
        after(),
        after((1, 0)),
        after((2, 0)),
        after((1, 0), (2, 0)),
        after((2, 0), (1, 0)),
        after((1, 100)),
    ]
    assert len(set(digests)) == len(digests)
    assert after((1, 0)) == after((1, 99))  # the same generation


def resumed(outline: bytes, chunks: list[bytes]) -> KeyWindow:
    return KeyWindow.resume(outline, chunks, 6_400, 10_000, "shrink", sources(chunks))


def test_an_outline_goes_with_its_own_chunks_only() -> None:
    one = window()
    one.add(packed(range(3 * CHUNK_KEYS + 7)), 0, 5)
    outline, chunks = one.dump_outline(), [bytes(chunk) for chunk in one.sealed_chunks(one.first_chunk)]
    assert dumped(resumed(outline, chunks)) == dumped(one)
    swapped = [chunks[1], chunks[0], *chunks[2:]]
    flipped = [*chunks[:-1], chunks[-1][:-1] + bytes([chunks[-1][-1] ^ 1])]
    for wrong in (chunks[:-1], [*chunks, chunks[0]], swapped, flipped, []):
        with pytest.raises(DamagedRecord, match="chunks"):
            resumed(outline, wrong)


def test_an_outline_of_another_length_is_refused() -> None:
    one = window()
    one.add(packed(range(CHUNK_KEYS + 7)), 0, 5)
    outline, chunks = one.dump_outline(), [bytes(chunk) for chunk in one.sealed_chunks(0)]
    for length in range(0, len(outline), 5):
        with pytest.raises(DamagedRecord):
            resumed(outline[:length], chunks)
    with pytest.raises(DamagedRecord, match="outline"):
        resumed(outline + b"x", chunks)


def test_a_window_under_other_settings_keeps_its_keys() -> None:
    """A node may be restarted with another configuration; generations then are of several widths."""
    one = window()
    one.add(packed([0]), 0, 10)
    other = KeyWindow.load(dumped(one), 64, 10_000, "shrink")
    assert other.expires_at(0) == 100 + 64
    other.add(packed([1]), 1, 20)
    assert other.expires_at(1) == 100 + 64
    other.add(packed([2]), 2, 100)
    assert other.expires_at(2) == 101 + 64


def head(floor: int, next_offset: int, generations: list[tuple[int, int]]) -> bytes:
    fields = struct.pack(">QQQI", floor, next_offset, 0, len(generations))
    return fields + b"".join(struct.pack(">QQ", *generation) for generation in generations)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(HEAD_BYTES - 1),
        head(0, 1, [(100, 0)]),
        head(0, 1, [(100, 0)]) + bytes(17),
        head(1, 0, []),
        struct.pack(">QQQI", 0, 0, 0, 2**32 - 1),
    ],
    ids=["nothing", "half a head", "no key", "a byte more", "floor after the end", "generations missing"],
)
def test_bytes_of_another_length_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedRecord):
        loaded(data)


@pytest.mark.parametrize(
    "generations",
    [[], [(100, 1)], [(100, 0), (200, 2)], [(100, 0), (100, 1)], [(200, 0), (100, 1)], [(100, 0), (200, 0)]],
)
def test_generations_that_cannot_be_are_refused(generations: list[tuple[int, int]]) -> None:
    with pytest.raises(DamagedRecord, match="generations"):
        loaded(head(0, 2, generations) + packed(range(2)))
    assert loaded(head(0, 2, [(100, 0), (200, 1)]) + packed(range(2))).live == 2


def test_an_empty_window_has_no_generations() -> None:
    with pytest.raises(DamagedRecord, match="generations"):
        loaded(head(2, 2, [(100, 2)]) + packed(range(2)))
    assert loaded(head(2, 2, []) + packed(range(2))).live == 0


@pytest.mark.parametrize(
    ("numbers", "runs"),
    [
        ([], []),
        ([7], [range(7, 8)]),
        ([1, 2, 3, 4, 5], [range(1, 4), range(4, 6)]),
        ([1, 2, 4, 8, 9], [range(1, 3), range(4, 5), range(8, 10)]),
    ],
)
def test_numbers_come_in_runs_of_a_bounded_length(numbers: list[int], runs: list[range]) -> None:
    assert list(in_runs(numbers, 3)) == runs
