"""The log as the core sees it: terms, conflicts, durability, the cache."""

import pytest

from esnode.errors import HistoryConflict
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.log import Position, RaftLog
from esnode.raft.messages import Snapshot

from .solo import entries_of, events, log_of, noop, terms_in


def batches(count: int) -> RaftLog:
    """A log of `count` batches of one event each, nothing applied, cached without bound."""
    log = RaftLog()
    log.append([events(index, 1, index - 1, f"e{index}") for index in range(1, count + 1)])
    return log


def all_durable(log: RaftLog) -> RaftLog:
    log.take_unwritten()
    log.claim(1)
    log.persisted(1)
    return log


@pytest.mark.parametrize(
    ("terms", "index", "term", "common"),
    [
        ([1, 1, 1], 3, 1, (3, 1)),
        ([1, 1, 1], 9, 1, (3, 1)),
        ([1, 2, 3], 3, 2, (2, 2)),
        ([1, 2, 3], 3, 9, (3, 3)),
        ([2, 2, 2], 3, 1, (0, 0)),
        ([1, 3, 3, 3, 5], 5, 4, (4, 3)),
        ([1, 3, 3, 3, 5], 4, 2, (1, 1)),
        ([], 7, 7, (0, 0)),
    ],
)
def test_the_last_common_place_skips_whole_terms(
    terms: list[int], index: int, term: int, common: tuple[int, int]
) -> None:
    assert log_of(entries_of(terms)).last_common(index, term) == common


def test_terms_are_known_from_the_prefix_to_the_end() -> None:
    log = log_of(entries_of([1, 1, 2, 5, 5]))
    assert [log.term_at(index) for index in range(-1, 7)] == [None, 0, 1, 1, 2, 5, 5, None]
    assert log.last_term == 5


def test_a_log_found_on_disk_is_durable_and_known_after_its_prefix() -> None:
    log = RaftLog(prefix_index=10, prefix_term=3, applied=10, position=Position(70, 900))
    assert (log.last_index, log.last_term, log.durable, log.term_at(10)) == (10, 3, 10, 3)
    assert log.end == Position(70, 900)
    log.append((events(11, 3, 70, "a"),))
    assert (log.end.next_offset, log.last_term) == (71, 3)


def test_an_entry_may_not_leave_a_gap_nor_fall_in_term() -> None:
    log = log_of(entries_of([1, 2]))
    with pytest.raises(AssertionError, match="gap"):
        log.append((noop(4, 2),))
    with pytest.raises(AssertionError, match="terms never fall"):
        log.append((noop(3, 1),))


@pytest.mark.parametrize(
    ("held", "first", "sent", "result"),
    [
        ([1, 1], 1, [1, 1], [1, 1]),
        ([1, 1], 2, [1, 1], [1, 1, 1]),
        ([1, 2, 2], 2, [1], [1, 1]),
        ([1, 2, 2], 2, [3, 3, 3], [1, 3, 3, 3]),
        ([1, 1], 3, [2], [1, 1, 2]),
        ([1, 2, 2], 1, [1], [1, 2, 2]),
        ([1], 1, [], [1]),
    ],
)
def test_merging_cuts_only_what_conflicts(
    held: list[int], first: int, sent: list[int], result: list[int]
) -> None:
    log = log_of(entries_of(held))
    log.merge([noop(first + place, term) for place, term in enumerate(sent)])
    assert terms_in(log) == result
    assert log.unapplied_bytes == sum(entry.size_bytes for entry in log.unapplied())


def test_a_committed_entry_is_never_cut_away() -> None:
    log = log_of(entries_of([1, 1]))
    log.commit_to(2)
    with pytest.raises(AssertionError, match="never cut away"):
        log.merge((noop(2, 2),))


@pytest.mark.parametrize(("base_offset", "log_time_ms"), [(1, 10), (3, 10), (2, 9)])
@pytest.mark.parametrize("applied", [0, 2])
def test_an_entry_that_cannot_follow_what_is_held_is_never_taken(
    base_offset: int, log_time_ms: int, applied: int
) -> None:
    """Found by the fuzzer: in the place of a tail that was cut away, nobody looked at the log time."""
    held = [at(1, 1, 0, 5), at(2, 1, 1, 10), at(3, 1, 2, 20)]
    log = log_of(held[:2])
    log.append(held[2:])
    log.commit_to(applied)
    log.applied_to(applied)
    with pytest.raises(HistoryConflict, match=r"the leader sent entry 3 .* cannot follow"):
        log.merge((at(3, 2, base_offset, log_time_ms),))
    assert terms_in(log) == [1, 1, 1]


def at(index: int, term: int, base_offset: int, log_time_ms: int) -> Entry:
    """An entry of one event."""
    return seal(
        index=index,
        term=term,
        kind=EntryKind.BATCH,
        base_offset=base_offset,
        log_time_ms=log_time_ms,
        count=1,
        keys=bytes(16),
        payload=b"\x81\x41e",
    )


def test_the_commit_index_neither_falls_nor_passes_the_end() -> None:
    log = log_of(entries_of([1, 1, 1]))
    log.commit_to(2)
    log.commit_to(1)
    assert log.committed == 2
    log.commit_to(99)
    assert log.committed == 3


def test_what_is_committed_and_not_applied_still_counts_as_held() -> None:
    log = log_of(entries_of([1, 1, 1]))
    log.commit_to(3)
    assert log.unapplied_bytes == sum(entry.size_bytes for entry in log.unapplied()) > 0
    log.take_unwritten()
    log.claim(1)
    log.persisted(1)
    log.applied_to(3)
    assert log.unapplied_bytes == 0


def test_only_what_is_committed_and_durable_is_applied() -> None:
    log = batches(3)
    log.commit_to(3)
    assert log.appliable() == ()
    assert [entry.index for entry in log.take_unwritten()] == [1, 2, 3]
    assert log.take_unwritten() == ()
    log.claim(1)
    log.append((events(4, 1, 3, "e4"),))
    log.commit_to(4)
    log.persisted(1)
    assert [entry.index for entry in log.appliable()] == [1, 2, 3]
    log.applied_to(3)
    log.applied_to(2)
    assert (log.applied, log.appliable()) == (3, ())


def test_a_completed_write_makes_only_its_own_entries_durable() -> None:
    log = batches(2)
    log.take_unwritten()
    log.claim(1)
    log.append((events(3, 1, 2, "e3"),))
    log.take_unwritten()
    log.claim(2)
    log.persisted(1)
    assert log.durable == 2
    log.persisted(2)
    assert log.durable == 3


def test_a_truncated_write_makes_nothing_after_the_cut_durable() -> None:
    log = log_of(entries_of([1, 1, 1]))
    log.append((noop(4, 1),))
    log.take_unwritten()
    log.claim(1)
    log.merge((noop(3, 2), noop(4, 2), noop(5, 2)))
    assert log.durable == 2
    assert [entry.term for entry in log.take_unwritten()] == [2, 2, 2]
    log.claim(2)
    log.persisted(1)
    assert log.durable == 2
    log.persisted(2)
    assert log.durable == 5


def test_applied_entries_stay_in_memory_up_to_the_bound() -> None:
    entry_bytes = events(1, 1, 0, "e1").size_bytes
    log = RaftLog(cache_bytes=3 * entry_bytes)
    log.append([events(index, 1, index - 1, f"e{index}") for index in range(1, 9)])
    all_durable(log).commit_to(6)
    assert all(log.is_cached(index) for index in range(1, 9))
    log.applied_to(6)
    assert [log.is_cached(index) for index in range(10)] == [False] * 6 + [True] * 3 + [False]
    assert [entry.index for entry in log.slice(6, 8, 1)] == [6]
    assert [entry.index for entry in log.slice(6, 8, 2 * entry_bytes)] == [6, 7]
    assert [entry.index for entry in log.slice(6, 8, 99 * entry_bytes)] == [6, 7, 8]


def test_entries_that_are_not_applied_stay_in_memory_whatever_the_bound() -> None:
    log = RaftLog(cache_bytes=0)
    log.append(entries_of([1] * 5))
    all_durable(log).commit_to(5)
    log.applied_to(2)
    assert [log.is_cached(index) for index in range(1, 6)] == [False, False, True, True, True]


def test_applied_events_are_found_by_offset_while_in_memory() -> None:
    log = all_durable(batches(5))
    log.commit_to(5)
    assert log.applied_from(0, 10_000) == ()
    log.applied_to(4)
    assert [entry.index for entry in log.applied_from(2, 10_000)] == [3, 4]
    assert [entry.index for entry in log.applied_from(2, 1)] == [3]
    log.cut_prefix(2)
    assert log.applied_from(1, 10_000) == ()


@pytest.mark.parametrize(
    ("cut", "left"), [(1, [1, 1, 2, 2, 3]), (3, [2, 2, 3]), (4, [2, 3]), (5, [3]), (6, [])]
)
def test_a_cut_prefix_leaves_its_last_term_behind(cut: int, left: list[int]) -> None:
    terms = [1, 1, 1, 2, 2, 3]
    log = log_of(entries_of(terms))
    log.commit_to(6)
    log.applied_to(6)
    log.cut_prefix(cut)
    assert terms_in(log) == left
    assert (log.prefix_index, log.term_at(cut), log.term_at(cut - 1)) == (cut, terms[cut - 1], None)
    assert log.last_term == 3
    log.cut_prefix(cut - 1)
    assert log.prefix_index == cut
    log.append((noop(7, 3),))
    assert terms_in(log) == [*left, 3]


def test_the_prefix_is_cut_only_where_it_is_applied() -> None:
    log = log_of(entries_of([1, 1, 1]))
    log.commit_to(3)
    log.applied_to(1)
    with pytest.raises(AssertionError, match="only where it is applied"):
        log.cut_prefix(2)


def test_a_snapshot_takes_the_place_of_everything() -> None:
    log = batches(4)
    log.take_unwritten()
    log.claim(1)
    log.reset(Snapshot(9, 3, 50, 700, b""))
    assert (log.prefix_index, log.applied, log.committed, log.durable, log.last_index) == (9,) * 5
    assert (log.last_term, log.end, log.unapplied_bytes) == (3, Position(50, 700), 0)
    log.persisted(1)
    assert log.durable == 9
    log.append((events(10, 3, 50, "a"),))
    assert [entry.index for entry in log.unapplied()] == [10]


@pytest.mark.parametrize(
    ("index", "term", "newer"), [(2, 2, False), (3, 2, False), (1, 2, True), (1, 3, False), (9, 1, True)]
)
def test_a_log_is_newer_by_its_last_term_then_by_its_length(index: int, term: int, *, newer: bool) -> None:
    assert log_of(entries_of([1, 2])).is_newer_than(index, term) is newer
