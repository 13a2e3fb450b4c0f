"""The contract of `esnode/storage/interface.py`, sentence by sentence, for every engine."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from esnode.errors import Bug, DamagedRecord, DirectoryInUse, StorageFailed, WrongDirectory
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.interface import Identity, Recovered, Storage, TermRun, pages
from esnode.storage.storedlog import StoredLog
from tests.storage.logs import WHOLE, all_of, entries, entry, snapshot_of, write
from tests.storage.places import US, Place


def test_a_new_log_is_empty_and_knows_no_term(place: Place) -> None:
    storage = place.open()
    assert storage.recover() == Recovered(HardState(0, None), 0, 0, 0, 0, ())
    assert storage.read(1, 10, WHOLE) == []
    assert storage.load_snapshot() is None
    assert storage.size_bytes() == 0
    assert storage.identity == US


def test_what_was_written_is_there_after_a_restart(place: Place) -> None:
    storage = place.open()
    log = entries(1, [2, 0, 3])
    storage.write([write(log, hard_state=HardState(1, 2), commit=2)])
    for opened in place.twice(storage):
        assert all_of(opened.read(1, 3, WHOLE)) == all_of(log)
        assert opened.recover() == Recovered(HardState(1, 2), 2, 0, 0, 3, (TermRun(1, 1),))
        assert opened.size_bytes() == sum(each.size_bytes for each in log)


def test_an_entry_read_back_equals_the_one_written(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1, 2])
    storage.write([write(log)])
    assert storage.read(1, 2, WHOLE) == list(log)


def test_many_writes_in_one_call_are_stored_in_order(place: Place) -> None:
    storage = place.open()
    first, second = entries(1, [1, 1]), entries(3, [1, 1], base_offset=2, term=2)
    storage.write([write(first), write(hard_state=HardState(2, 3)), write(second, commit=3)])
    found = place.reopened(storage).recover()
    assert found == Recovered(HardState(2, 3), 3, 0, 0, 4, (TermRun(1, 1), TermRun(3, 2)))


def test_a_call_with_many_rows_is_stored_whole(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 100)
    storage.write([write(log[:33]), write(log[33:34]), write(log[34:])])
    assert all_of(place.reopened(storage).read(1, 100, WHOLE)) == all_of(log)


def test_a_write_of_nothing_changes_nothing(place: Place) -> None:
    storage = place.open()
    storage.write([])
    storage.write([write()])
    assert storage.recover() == Recovered(HardState(0, None), 0, 0, 0, 0, ())


def test_term_and_vote_are_stored_together(place: Place) -> None:
    """raft-bugs 1: both in one record, none without the other."""
    storage = place.open()
    for hard_state in (HardState(1, None), HardState(1, 2), HardState(4, 3), HardState(5, None)):
        storage.write([write(hard_state=hard_state)])
        storage = place.reopened(storage)
        assert storage.recover().hard_state == hard_state


def test_an_entry_that_replaces_another_begins_at_its_offset(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [2, 2, 2]))])
    with pytest.raises(Bug, match="begins at offset 5, not at 2"):
        storage.write([write(entries(2, [1], term=2, base_offset=5))])
    assert storage.recover().last_index == 3


def test_a_term_never_falls(place: Place) -> None:
    storage = place.open()
    storage.write([write(hard_state=HardState(5, 1))])
    with pytest.raises(Bug, match="cannot fall"):
        storage.write([write(hard_state=HardState(4, None))])
    assert storage.recover().hard_state == HardState(5, 1)


@pytest.mark.parametrize("second", [2, None])
def test_a_vote_is_never_changed_within_a_term(place: Place, second: int | None) -> None:
    """raft-bugs 1 and 2."""
    storage = place.open()
    storage.write([write(hard_state=HardState(5, 1))])
    with pytest.raises(Bug, match="vote"):
        storage.write([write(hard_state=HardState(5, second))])
    storage.write([write(hard_state=HardState(6, second))])
    assert place.reopened(storage).recover().hard_state == HardState(6, second)


def test_a_conflicting_tail_is_cut_away(place: Place) -> None:
    """Raft figure 2, AppendEntries 3: an existing entry that conflicts goes, and all that follow it."""
    storage = place.open()
    old = entries(1, [1, 1, 1, 1, 1])
    storage.write([write(old, commit=2)])
    new = entries(3, [4], term=2, base_offset=old[1].next_offset)
    storage.write([write(new)])
    for opened in place.twice(storage):
        assert all_of(opened.read(1, 9, WHOLE)) == all_of([*old[:2], *new])
        assert opened.recover().terms == (TermRun(1, 1), TermRun(3, 2))
        assert opened.recover().last_index == 3
        assert opened.size_bytes() == sum(each.size_bytes for each in [*old[:2], *new])
        assert [opened.index_of_offset(offset) for offset in range(8)] == [1, 2, 3, 3, 3, 3, 4, 4]


def test_a_tail_is_replaced_within_one_call(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1]))])
    second = entries(2, [1, 1, 1], term=2, base_offset=1)
    third = entries(4, [5], term=3, base_offset=3)
    storage.write([write(second), write(third)])
    for opened in place.twice(storage):
        found = opened.read(1, 9, WHOLE)
        assert [(each.index, each.term) for each in found] == [(1, 1), (2, 2), (3, 2), (4, 3)]
        assert opened.recover().terms == (TermRun(1, 1), TermRun(2, 2), TermRun(4, 3))
        assert opened.size_bytes() == sum(each.size_bytes for each in found)


def test_the_whole_log_is_replaced_from_its_first_entry(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1, 1]))])
    storage.write([write(entries(1, [7], term=2))])
    recovered = place.reopened(storage).recover()
    assert (recovered.last_index, recovered.terms) == (1, (TermRun(1, 2),))


def test_a_committed_entry_is_never_replaced(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1, 1, 1])
    storage.write([write(log, commit=2)])
    with pytest.raises(Bug, match="committed"):
        storage.write([write(entries(2, [1], term=2, base_offset=1))])
    assert all_of(storage.read(1, 3, WHOLE)) == all_of(log)


REFUSED: dict[str, Callable[[], Write]] = {
    "a gap": lambda: write([entry(5, base_offset=6)]),
    "an entry of the prefix": lambda: write([entry(0, base_offset=0)]),
    "a gap within": lambda: write([entry(4, base_offset=6), entry(6, base_offset=8)]),
    "a term that falls": lambda: write([entry(4, term=1, base_offset=6)]),
    "an offset that jumps": lambda: write([entry(4, term=2, base_offset=7)]),
    "an offset that goes back": lambda: write([entry(4, term=2, base_offset=5)]),
    "a log time that goes back": lambda: write([replace(entry(4, term=2, base_offset=6), log_time_ms=29)]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_follow_the_log_is_a_bug_and_changes_nothing(place: Place, what: str) -> None:
    storage = place.open()
    log = entries(1, [2, 2, 2], term=2)
    storage.write([write(log)])
    before = storage.recover()
    with pytest.raises(Bug):
        storage.write([write(hard_state=HardState(9, None)), REFUSED[what]()])
    for opened in place.twice(storage):
        assert opened.recover() == before
        assert all_of(opened.read(1, 9, WHOLE)) == all_of(log)


# --- reading ---------------------------------------------------------------------------------------


def test_a_read_gives_what_is_asked_for_and_no_more(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1] * 6))])
    assert [each.index for each in storage.read(2, 4, WHOLE)] == [2, 3, 4]
    assert [each.index for each in storage.read(5, 99, WHOLE)] == [5, 6]
    assert storage.read(7, 99, WHOLE) == []
    assert storage.read(0, 3, WHOLE) == []
    assert storage.read(4, 3, WHOLE) == []


def test_a_read_stops_before_the_record_that_is_too_much(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1, 1, 1])
    storage.write([write(log)])
    two = log[0].size_bytes + log[1].size_bytes
    assert len(storage.read(1, 3, two)) == 2
    assert len(storage.read(1, 3, two - 1)) == 1
    assert len(storage.read(1, 3, two + log[2].size_bytes)) == 3


def test_a_read_gives_one_entry_however_large(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1], payload=bytes(100_000)))])
    assert [each.index for each in storage.read(1, 2, 0)] == [1]
    assert [each.index for each in storage.read(2, 2, 10)] == [2]


def test_pages_lead_through_the_log_without_gaps(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 20)
    storage.write([write(log)])
    found = list(pages(storage, 3, 18, 3 * log[0].size_bytes))
    assert len(found) > 4
    assert [each.index for page in found for each in page] == list(range(3, 19))


def test_an_offset_leads_to_the_entry_that_holds_it(place: Place) -> None:
    storage = place.open()
    counts = [0, 3, 0, 0, 1, 2, 0, 5, 0]
    log = entries(1, counts)
    storage.write([write(log)])
    expected = [each.index for each in log for _ in range(each.count)]
    for opened in place.twice(storage):
        assert [opened.index_of_offset(offset) for offset in range(sum(counts))] == expected
        assert opened.index_of_offset(sum(counts)) == len(counts) + 1
        assert opened.index_of_offset(10**12) == len(counts) + 1


def test_an_offset_of_an_empty_log_is_the_next_index(place: Place) -> None:
    storage = place.open()
    assert storage.index_of_offset(0) == 1
    storage.write([write(snapshot=Snapshot(7, 2, 30, 99, b"state"))])
    assert storage.index_of_offset(0) == 8
    assert storage.index_of_offset(30) == 8


# --- the commit hint -------------------------------------------------------------------------------


def test_the_largest_commit_hint_is_kept(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1, 1]), commit=2)])
    storage.write([write(entries(4, [1], base_offset=3), commit=1)])
    assert place.reopened(storage).recover().commit == 2


def test_a_commit_hint_alone_goes_to_disk_with_the_next_write(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1, 1]), commit=1)])
    storage.write([write(commit=3)])
    assert storage.recover().commit == 3
    storage.write([write(entries(4, [1], base_offset=3))])
    storage = place.reopened(storage)
    assert storage.recover().commit == 3
    storage.write([write(commit=4)])
    storage.write([write(hard_state=HardState(2, None))])
    assert place.reopened(storage).recover().commit == 4


# --- identity, damage, failure ---------------------------------------------------------------------


@pytest.mark.parametrize("stranger", [Identity("test", 2), Identity("other", 1)])
def test_the_disk_of_another_node_or_cluster_is_refused(place: Place, stranger: Identity) -> None:
    """raft-bugs 27."""
    storage = place.open()
    storage.write([write(entries(1, [1]))])
    storage.close()
    with pytest.raises(WrongDirectory):
        place.open(stranger)
    assert place.open().recover().last_index == 1


def test_a_second_opener_is_refused_until_the_first_has_closed(place: Place) -> None:
    first = place.open()
    with pytest.raises(DirectoryInUse):
        place.open()
    first.write([write(entries(1, [1]))])
    assert place.reopened(first).recover().last_index == 1


def test_closing_twice_is_the_same_as_once_and_ends_every_use(place: Place) -> None:
    storage = place.open()
    storage.close()
    storage.close()
    with pytest.raises(StorageFailed, match="closed"):
        storage.recover()


def refuses_to_open_or_to_read(place: Place, index: int) -> None:
    with pytest.raises(DamagedRecord):
        place.open().read(index, index, WHOLE)


def test_a_damaged_record_is_never_given_out(place: Place) -> None:
    """raft-bugs 19: neither skipped nor cut, wherever it is found."""
    storage = place.open()
    storage.write([write(entries(1, [1, 1, 1]))])
    storage.write([write(entries(4, [1, 1, 1], base_offset=3))])
    storage.close()
    place.damage_record(2)
    refuses_to_open_or_to_read(place, 2)


def test_a_damaged_last_record_is_refused_at_open(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1, 1]))])
    storage.close()
    place.damage_record(3)
    with pytest.raises(DamagedRecord):
        place.open()


def test_what_is_believed_at_open_is_marked_as_durable(place: Place) -> None:
    """Kill -9 before the mark, a start: damage to what the node has acked since is no torn tail.

    Found by the simulator: tier A, seeds 201228, 210525 and 210712 of 5.7 minutes.
    """
    storage = place.open()
    storage.write([write(entries(1, [1]))])
    storage.close()
    before = place.mark
    storage = place.open()
    storage.write([write(entries(2, [1], base_offset=1))])
    storage.close()
    after = place.mark
    assert after != before
    place.mark = before
    storage = place.open()
    assert storage.recover().last_index == 2
    storage.close()
    assert place.mark == after


def test_a_damaged_snapshot_is_never_given_out(place: Place) -> None:
    storage = place.open()
    storage.write([write(snapshot=Snapshot(5, 3, 40, 500, b"state"))])
    storage.close()
    place.damage_snapshot()
    with pytest.raises(DamagedRecord):
        place.open().load_snapshot()


def engine_of(storage: Storage) -> object:
    assert isinstance(storage, StoredLog)
    return storage._engine


CHANGES: dict[str, Callable[[Storage], None]] = {
    "write": lambda storage: storage.write([write(entries(3, [1], base_offset=2))]),
    "cut_prefix": lambda storage: storage.cut_prefix(snapshot_of(entries(1, [1])[0])),
}


@pytest.mark.parametrize("call", CHANGES)
def test_the_first_error_of_the_disk_ends_every_use(
    place: Place, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """raft-bugs 21: nothing is retried, nothing more is believed."""
    storage = place.open()
    log = entries(1, [1, 1])
    storage.write([write(log, commit=2)])

    def refuse(change: object) -> None:
        raise StorageFailed("the disk is on fire")

    monkeypatch.setattr(engine_of(storage), "commit", refuse)
    with pytest.raises(StorageFailed, match="on fire"):
        CHANGES[call](storage)
    monkeypatch.undo()
    calls: list[Callable[[], object]] = [
        storage.recover,
        lambda: storage.write([write(entries(3, [1], base_offset=2))]),
        lambda: storage.read(1, 1, WHOLE),
        lambda: storage.index_of_offset(0),
        storage.load_snapshot,
        lambda: storage.stage_snapshot(snapshot_of(log[0])),
        lambda: storage.cut_prefix(snapshot_of(log[0])),
        storage.tend,
    ]
    for each in calls:
        with pytest.raises(StorageFailed, match="on fire"):
            each()
    recovered = place.reopened(storage).recover()
    assert (recovered.last_index, recovered.prefix_index) == (2, 0)


def test_tending_changes_nothing_that_can_be_seen(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 700, payload=bytes(2000))
    storage.write([write(log, commit=600)])
    storage.cut_prefix(snapshot_of(log[599]))
    before = storage.recover()
    steps = 1
    while storage.tend():
        steps += 1
    assert steps < 50
    for opened in place.twice(storage):
        assert opened.recover() == before
        assert all_of(opened.read(601, 700, WHOLE)) == all_of(log[600:])


def test_a_long_history_reads_the_same_after_every_restart(place: Place) -> None:
    """Terms, votes, truncations, cuts and restarts in turn, against plain lists."""
    source = random.Random(7)
    storage = place.open()
    log = list(entries(1, [1]))
    storage.write([write(log)])
    first, term, commit = 1, 1, 0
    for _ in range(30):
        term += source.random() < 0.3
        keep = source.randint(max(commit, first), log[-1].index)
        log = [each for each in log if each.index <= keep]
        counts = [source.randint(0, 3) for _ in range(source.randint(1, 5))]
        new = entries(keep + 1, counts, term=term, base_offset=log[-1].next_offset)
        log += new
        commit = source.randint(commit, log[-1].index)
        storage.write([write(new, commit=commit)])
        if source.random() < 0.2 and first < commit:
            first = source.randint(first + 1, commit)
            storage.cut_prefix(snapshot_of(next(each for each in log if each.index == first - 1)))
            log = [each for each in log if each.index >= first]
        if source.random() < 0.3:
            storage = place.reopened(storage)
        assert all_of(storage.read(first, 10_000, WHOLE)) == all_of(log)
        assert storage.recover().commit == max(commit, first - 1)
