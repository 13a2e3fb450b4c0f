"""The key table against its plain model, over growth, expiry, restarts and hostile sizes."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esnode.dedup import keytable
from esnode.dedup.fingerprints import FIRST_FINGERPRINTS, FingerprintTable
from esnode.dedup.keychunk import PAGE_BYTES, StoredChunk
from esnode.dedup.keytable import MIN_CAPACITY, KeyTable
from esnode.dedup.keywindow import CHUNK_BYTES, CHUNK_KEYS
from esnode.errors import DamagedRecord

from .events import key, packed
from .plain import PlainTable
from .sources import ListedChunk, index, sources, store

FINGERPRINTS = FingerprintTable(FIRST_FINGERPRINTS, 0).size_bytes
"""What the fingerprints of a table take that has not grown."""


def table(max_keys: int = 100_000, ttl_ms: int = 6_400, when_full: str = "shrink", seed: int = 0) -> KeyTable:
    return KeyTable(ttl_ms, max_keys, when_full, seed=seed)


def restored(one: KeyTable, seed: int = 0) -> KeyTable:
    """What a node has that got `one` in a snapshot."""
    other = table(one.max_keys, seed=seed)
    other.adopt(other.load(b"".join(one.dump())))
    return other


class Chunks:
    """The sealed chunks of a table, as a disk keeps them."""

    def __init__(self, one: KeyTable) -> None:
        self._kept = [bytes(chunk) for chunk in one.sealed_chunks(one.first_chunk)]
        self.source_of = sources(self._kept, one.first_chunk)

    def read(self) -> Iterator[bytes]:
        return iter(self._kept)


def fill(one: KeyTable, count: int, step: int, log_time_ms: int = 0) -> None:
    """Add keys `next_offset` and following: each number at the offset of the same number."""
    end = one.next_offset + count
    while one.next_offset < end:
        start = one.next_offset
        one.add(packed(range(start, min(start + step, end))), start, log_time_ms)


def assert_holds_its_last(one: KeyTable, source: Random) -> None:
    """Some of the live keys are found, some of the dead ones are not."""
    live = [source.randrange(one.first_offset, one.next_offset) for _ in range(50)]
    dead = [source.randrange(one.first_offset) for _ in range(50)] if one.first_offset else []
    assert one.lookup([key(n) for n in live + dead]) == {key(n): n for n in live}


def test_an_empty_table_knows_nothing() -> None:
    assert table().lookup([key(0)]) == {}
    assert table().live == 0


def test_a_key_is_known_at_its_offset_until_it_expires() -> None:
    one = table()
    fill(one, 3, 3, log_time_ms=50)
    assert one.lookup([key(2), key(7)]) == {key(2): 2}
    assert one.expires_at(2) == 6_500
    one.expire(6_500)
    assert one.lookup([key(2)]) == {}


def test_a_key_that_comes_again_after_it_was_forgotten_is_at_its_new_offset() -> None:
    one = table(max_keys=CHUNK_KEYS)
    fill(one, 2 * CHUNK_KEYS, 512)
    one.add(packed([0]), one.next_offset, 0)
    assert one.lookup([key(0)]) == {key(0): 2 * CHUNK_KEYS}


def test_a_key_that_is_there_twice_is_at_its_later_offset() -> None:
    """A leader with a shorter window may have let it in again."""
    one = table()
    fill(one, CHUNK_KEYS, 512)
    fill_from = one.next_offset
    one.add(packed([5]), fill_from, 0)
    assert one.lookup([key(5)]) == {key(5): fill_from}
    fill(one, CHUNK_KEYS, 512)
    assert one.lookup([key(5)]) == {key(5): fill_from}
    assert one.find_sealed(key(5), one.hash(key(5))) == {0: fill_from}


@pytest.mark.parametrize("step", [1, 64, 1_000])
def test_all_keys_are_found_while_the_index_grows_under_them(step: int) -> None:
    one, source = table(), Random(step)
    sizes = set()
    for _ in range(60):
        fill(one, 1_000, step)
        assert_holds_its_last(one, source)
        sizes.add(one.size_bytes - one.live * 16)
    assert one.size_bytes < 62 * one.live + FINGERPRINTS  # an index with room for twice as many
    assert len(sizes) > 3


def test_at_its_bound_a_young_key_takes_less_than_forty_bytes() -> None:
    one = table(max_keys=60_000)
    fill(one, 150_000, 64)
    assert one.live == 60_000
    assert one.shrunk == 90_000
    assert one.size_bytes < 38 * one.live + FINGERPRINTS
    assert_holds_its_last(one, Random(1))


def test_the_index_shrinks_again_when_most_keys_have_expired() -> None:
    one = table()
    fill(one, 90_000, 64)
    large = one.size_bytes
    one.expire(6_500)
    fill(one, 3 * CHUNK_KEYS, 64, log_time_ms=6_500)
    assert one.size_bytes - FINGERPRINTS < (large - FINGERPRINTS) // 3
    assert_holds_its_last(one, Random(1))


def test_the_index_is_built_anew_before_its_positions_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keytable, "WORN_AFTER", 20_000)
    one, source = table(max_keys=8_000), Random(1)
    bases = set()
    for _ in range(100):
        fill(one, 1_000, 100)
        bases.add(one._index.base_offset)
        assert_holds_its_last(one, source)
    assert len(bases) > 3


def test_more_keys_than_the_bound_are_still_found_when_the_table_refuses() -> None:
    """Whatever is committed is applied: a leader with a larger bound may have let it in."""
    one = KeyTable(6_400, 20_000, "refuse")
    fill(one, 50_000, 64)
    assert one.live == 50_000
    assert not one.has_room(50_000, 0)
    assert_holds_its_last(one, Random(1))


@pytest.mark.parametrize("count", [0, 1, CHUNK_KEYS - 1, CHUNK_KEYS, 5 * CHUNK_KEYS + 7])
def test_a_table_out_of_a_snapshot_behaves_like_the_one_that_replayed(count: int) -> None:
    one = table(max_keys=3 * CHUNK_KEYS)
    fill(one, count, 64)
    other = restored(one, seed=99)
    for _ in range(4):
        for each in (one, other):
            fill(each, 2_000, 64, log_time_ms=100)
            assert_holds_its_last(each, Random(1))
        assert other.digest() == one.digest()
        assert b"".join(other.dump()) == b"".join(one.dump())
        assert (other.live, other.shrunk) == (one.live, one.shrunk)


def test_a_snapshot_replaces_whatever_was_there() -> None:
    one = table()
    fill(one, 100, 10)
    other = table()
    other.add(packed(range(1_000, 61_000)), 0, 0)
    other.adopt(other.load(b"".join(one.dump())))
    assert other.lookup([key(5), key(1_005)]) == {key(5): 5}
    fill(other, 100, 10)
    assert other.lookup([key(150)]) == {key(150): 150}


def test_a_snapshot_may_come_while_the_index_is_being_rebuilt() -> None:
    one, other = table(), table()
    fill(one, 100, 10)
    while other._next_index is None:
        fill(other, 64, 64)
    other.adopt(other.load(b"".join(one.dump())))
    fill(other, 30_000, 64)
    assert_holds_its_last(other, Random(1))


def test_a_damaged_snapshot_changes_nothing() -> None:
    one = table()
    fill(one, 10, 10)
    with pytest.raises(DamagedRecord):
        one.load(b"".join(one.dump())[:-1])
    assert one.live == 10


def test_a_table_that_only_follows_has_the_same_state_and_answers_nothing() -> None:
    one, other = table(), KeyTable(6_400, 100_000, "shrink", searchable=False)
    for each in (one, other):
        fill(each, 30_000, 500)
        each.adopt(each.load(b"".join(each.dump())))
    assert other.digest() == one.digest()
    assert other.size_bytes < one.size_bytes - FINGERPRINTS
    with pytest.raises(AssertionError):
        other.lookup([key(1)])


def test_a_table_out_of_its_outline_and_its_chunks_is_the_same_table() -> None:
    one = table(max_keys=40_000)
    fill(one, 70_000, 500)
    other = table(max_keys=40_000, seed=3)
    chunks = Chunks(one)
    other.adopt(other.resume(one.dump_outline(), chunks.read(), chunks.source_of))
    for each in (one, other):
        fill(each, 9_000, 64, log_time_ms=100)
        assert_holds_its_last(each, Random(1))
    assert other.digest() == one.digest()
    assert b"".join(other.dump()) == b"".join(one.dump())


# --- keys on disk -----------------------------------------------------------------------------------


def test_a_table_whose_sealed_keys_are_on_disk_is_the_same_table() -> None:
    one, other = table(max_keys=40_000), table(max_keys=40_000)
    for _ in range(5):
        for each in (one, other):
            fill(each, 20_000, 500)
        in_memory = one.size_bytes
        store(one)
        assert one.stored_bytes == (one.open_chunk - one.first_chunk) * CHUNK_BYTES
        assert one.size_bytes <= in_memory - 4 * CHUNK_BYTES
        assert_holds_its_last(one, Random(1))
        assert one.digest() == other.digest()
        assert b"".join(one.dump()) == b"".join(other.dump())
        assert_holds_its_last(restored(one), Random(2))


def test_an_index_is_built_of_keys_that_are_on_disk() -> None:
    one = table(max_keys=10**6)
    fill(one, 2 * MIN_CAPACITY // 3, 500)
    store(one)
    fill(one, 4 * MIN_CAPACITY, 500)  # a larger index takes over
    assert one.lookup([key(5), key(9_000)]) == {key(5): 5, key(9_000): 9_000}


def test_a_window_that_came_meanwhile_keeps_its_own_chunks() -> None:
    one = table()
    fill(one, 3 * CHUNK_KEYS, 1_000)
    chunks = one.sealed_chunks(0)
    one.adopt(one.load(b"".join(one.dump())))
    one.store(0, chunks, [StoredChunk.of(ListedChunk(bytes(chunk)), chunk) for chunk in chunks])
    assert one.stored_bytes == 0


def test_chunks_that_have_expired_while_they_were_written_are_left_out() -> None:
    one = table(max_keys=CHUNK_KEYS)
    fill(one, 2 * CHUNK_KEYS, 1_000)
    first_chunk, chunks = one.first_chunk, one.sealed_chunks(one.first_chunk)
    fill(one, 2 * CHUNK_KEYS, 1_000)
    one.store(first_chunk, chunks, [StoredChunk.of(ListedChunk(bytes(chunk)), chunk) for chunk in chunks])
    assert one.stored_bytes == 0


def test_a_bit_that_flips_on_the_disk_makes_no_known_key_a_new_one() -> None:
    one = table()
    fill(one, 2 * CHUNK_KEYS, 1_000)
    (source, _) = store(one)
    source.data = source.data[:1_600] + bytes([source.data[1_600] ^ 1]) + source.data[1_601:]
    assert one.lookup([key(4_000)]) == {key(4_000): 4_000}  # on another page
    with pytest.raises(DamagedRecord, match="page 0 of a chunk"):
        one.lookup([key(7)])
    with pytest.raises(DamagedRecord):
        one.dump()


def test_pages_are_remembered_while_duplicates_come_in_their_order() -> None:
    one = table()
    fill(one, 2 * CHUNK_KEYS, 1_000)
    (source, _) = store(one)
    for start in range(0, CHUNK_KEYS, 64):
        again = range(start, start + 64)
        assert one.lookup([key(number) for number in again]) == {key(number): number for number in again}
    assert source.reads == CHUNK_BYTES // PAGE_BYTES


def test_after_one_wait_for_the_disk_what_would_wait_is_told_beforehand() -> None:
    one = table(max_keys=10**6)
    fill(one, 80 * CHUNK_KEYS, 4_000)
    kept = store(one)
    assert one.cold(key(5)) == []  # nothing has waited yet
    for source in kept:
        source.cached = False
    assert one.lookup([key(5)]) == {key(5): 5}  # it waits
    assert one.cold(key(6)) == []  # the same page
    (fetch,) = one.cold(packed([10**7, CHUNK_KEYS, 10**7 + 1]))
    assert fetch() == kept[1].data[:PAGE_BYTES]
    kept[1].cached = True
    assert one.cold(key(CHUNK_KEYS)) == []
    reads = kept[1].reads
    assert one.lookup([key(CHUNK_KEYS + 1)]) == {key(CHUNK_KEYS + 1): CHUNK_KEYS + 1}
    assert kept[1].reads == reads  # the page was remembered
    for number in range(1, 70):  # more pages than are remembered
        one.lookup([key(number * CHUNK_KEYS)])
    assert len(one.cold(key(6))) == 1
    kept[0].data, kept[0].cached = bytes(CHUNK_BYTES), True
    assert one.cold(key(6)) == []  # it is damaged, as the decision will find
    with pytest.raises(DamagedRecord):
        one.lookup([key(6)])


def test_nothing_is_looked_at_beforehand_once_nothing_has_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keytable, "_WARY_BATCHES", 2)
    one = table()
    fill(one, 2 * CHUNK_KEYS + 1, 1_000)
    (source, other) = store(one)
    source.cached = other.cached = False
    one.lookup([key(0)])
    assert len(one.cold(key(300))) == 1
    source.cached = True
    for _ in range(2):
        assert one.cold(key(600)) == []
    assert one.cold(key(CHUNK_KEYS + 900)) == []


def test_sealed_chunks_never_change_and_later_ones_follow_them() -> None:
    one = table()
    fill(one, 3 * CHUNK_KEYS + 5, 1_000)
    chunks = one.sealed_chunks(0)
    copies = [bytes(chunk) for chunk in chunks]
    assert copies == [packed(range(n * CHUNK_KEYS, (n + 1) * CHUNK_KEYS)) for n in range(3)]
    fill(one, 2 * CHUNK_KEYS, 1_000)
    assert [bytes(chunk) for chunk in chunks] == copies
    assert one.sealed_chunks(3) == one.sealed_chunks(0)[3:]
    assert (one.first_chunk, one.open_chunk) == (0, 5)


def test_a_table_that_is_not_indexed_for_a_while_finds_everything_afterwards() -> None:
    one = table()
    fill(one, 20_000, 1_000)
    with one.unindexed():
        fill(one, 40_000, 1_000)
        one.adopt(one.load(b"".join(one.dump())))
        fill(one, 10_000, 1_000)
    assert_holds_its_last(one, Random(2))
    fill(one, 10_000, 1_000)
    assert_holds_its_last(one, Random(3))


def test_a_seed_changes_no_answer_and_no_byte() -> None:
    one, other = table(seed=0), table(seed=2**127)
    for each in (one, other):
        fill(each, 20_000, 100)
        assert_holds_its_last(each, Random(5))
    assert b"".join(one.dump()) == b"".join(other.dump())


Step = tuple[str, int, int]
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"), st.sampled_from([1, 2, 63, 1_000, 4_095, 4_096, 9_000]), st.integers(0, 300)
        ),
        st.tuples(st.just("again"), st.integers(0, 40_000), st.integers(1, 200)),
        st.tuples(st.just("expire"), st.just(0), st.integers(0, 4_000)),
        st.tuples(st.just("restart"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("store"), st.just(0), st.just(0)),
        st.tuples(st.just("index"), st.just(0), st.just(0)),
    ),
    min_size=6,
    max_size=30,
)


def with_its_segments(one: KeyTable, ttl_ms: int, max_keys: int, when_full: str) -> KeyTable:
    """What a node has that starts from the checkpoint of `one` and the indexes that are there."""
    chunks, outline = Chunks(one), one.dump_outline()
    segments = [segment for segment in one._segments if segment.end_offset > one.first_offset]
    other = KeyTable(ttl_ms, max_keys, when_full, segment_chunks=2)
    other.use_seed(one.seed)
    with other.unindexed():
        other.adopt(other.resume(outline, chunks.read(), chunks.source_of))
        other.use_segments(segments)
    return other


@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
@pytest.mark.parametrize("ttl_ms", [0, 1, 50, 6_400])
@pytest.mark.parametrize("max_keys", [1_024, 5_000, 1_000_000])
@pytest.mark.parametrize("when_full", ["shrink", "refuse"])
@settings(max_examples=15)
@given(taken=steps)
def test_the_table_does_what_its_plain_model_does(
    taken: list[Step], ttl_ms: int, max_keys: int, when_full: str
) -> None:
    model = PlainTable(ttl_ms, max_keys, when_full)
    replayed = KeyTable(ttl_ms, max_keys, when_full)
    restarted = KeyTable(ttl_ms, max_keys, when_full, seed=1, segment_chunks=2)
    source = Random(0)
    log_time_ms, fresh = 0, 0
    for action, first, second in taken:
        added: list[bytes] = []
        if action == "add":
            added = [key(n) for n in range(fresh, fresh + first)]
            fresh += first
            log_time_ms += second
        elif action == "again":
            added = [key(n) for n in range(first, first + second)]
        elif action == "expire":
            log_time_ms += second
        elif action == "store":
            store(restarted)
        elif action == "index":
            store(restarted)
            index(restarted)
        elif first % 2:
            data = b"".join(restarted.dump())
            restarted = KeyTable(ttl_ms, max_keys, when_full, seed=first, segment_chunks=2)
            restarted.adopt(restarted.load(data))
        else:
            restarted = with_its_segments(restarted, ttl_ms, max_keys, when_full)
        base_offset = len(model.keys)
        model.expire(log_time_ms)
        model.add(added, log_time_ms)
        asked = [key(source.randrange(fresh + 10)) for _ in range(20)] + added[:5] + added[-5:]
        for one in (replayed, restarted):
            one.expire(log_time_ms)
            one.add(b"".join(added), base_offset, log_time_ms)
            assert one.lookup(asked) == model.lookup(asked)
            assert (one.first_offset, one.shrunk) == (model.floor, model.shrunk)
        assert replayed.digest() == restarted.digest()
        assert b"".join(replayed.dump()) == b"".join(restarted.dump())
