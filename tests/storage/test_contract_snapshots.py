"""The contract's sentences on snapshots and the cutting of the prefix, for every engine."""

import shutil
from contextlib import closing

import pytest

from esnode.errors import Bug
from esnode.raft.messages import HardState, Snapshot
from esnode.storage.directory import Directory, trust_copy
from esnode.storage.interface import Recovered, TermRun
from tests.storage.logs import WHOLE, all_of, entries, snapshot_of, write
from tests.storage.places import US, DirectoryPlace, Place


def test_a_snapshot_replaces_the_whole_log(place: Place) -> None:
    """raft-bugs 11: no conflicting tail outlives the installation of a snapshot."""
    storage = place.open()
    storage.write([write(entries(1, [1] * 9))])
    snapshot = Snapshot(5, 3, 40, 500, b"state")
    storage.write([write(snapshot=snapshot, hard_state=HardState(3, None))])
    for opened in place.twice(storage):
        assert opened.recover() == Recovered(HardState(3, None), 5, 5, 3, 5, (), 40)
        assert opened.load_snapshot() == snapshot
        assert opened.read(6, 9, WHOLE) == []
        assert opened.size_bytes() == 0


def test_a_log_goes_on_after_a_snapshot_in_the_same_write(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1] * 3))])
    snapshot = Snapshot(50, 3, 400, 500, bytes(3_000_000))
    log = entries(51, [2, 2], term=3, base_offset=400)
    storage.write([write(log, snapshot=snapshot, hard_state=HardState(3, 1), commit=51)])
    for opened in place.twice(storage):
        assert opened.recover() == Recovered(HardState(3, 1), 51, 50, 3, 52, (TermRun(51, 3),), 400)
        assert opened.load_snapshot() == snapshot
        assert all_of(opened.read(51, 60, WHOLE)) == all_of(log)
        assert opened.index_of_offset(0) == 51
        assert opened.index_of_offset(403) == 52


def test_a_snapshot_never_goes_back(place: Place) -> None:
    storage = place.open()
    storage.write([write(snapshot=Snapshot(50, 3, 400, 500, b"new"))])
    with pytest.raises(Bug, match="snapshot"):
        storage.write([write(snapshot=Snapshot(49, 3, 399, 500, b"old"))])
    storage.write([write(entries(51, [1, 1], term=3, base_offset=400), commit=52)])
    with pytest.raises(Bug, match="snapshot"):
        storage.write([write(snapshot=Snapshot(51, 4, 401, 500, b"behind the commits"))])
    snapshot = storage.load_snapshot()
    assert snapshot is not None
    assert snapshot.data == b"new"


def test_only_the_last_of_two_snapshots_in_one_call_is_kept(place: Place) -> None:
    storage = place.open()
    first, second = Snapshot(5, 1, 9, 50, b"first"), Snapshot(8, 2, 14, 80, b"second")
    between = entries(6, [1, 1], base_offset=9)
    after = entries(9, [1], term=2, base_offset=14)
    storage.write([write(between, snapshot=first), write(after, snapshot=second)])
    for opened in place.twice(storage):
        assert opened.load_snapshot() == second
        assert [each.index for each in opened.read(9, 99, WHOLE)] == [9]
        assert opened.recover().terms == (TermRun(9, 2),)


def test_a_snapshot_of_the_same_place_replaces_the_one_before(place: Place) -> None:
    storage = place.open()
    first, second = Snapshot(5, 1, 9, 50, b"first"), Snapshot(5, 1, 9, 50, b"second")
    for snapshot in (first, second, second):
        storage.write([write(snapshot=snapshot)])
        storage = place.reopened(storage)
        assert storage.load_snapshot() == snapshot
        assert storage.recover().last_index == 5


def test_the_prefix_is_cut_and_the_rest_stays(place: Place) -> None:
    storage = place.open()
    log = (*entries(1, [1, 2, 3]), *entries(4, [1, 1, 1], term=2, base_offset=6))
    storage.write([write(log, commit=5)])
    snapshot = snapshot_of(log[3])
    storage.cut_prefix(snapshot)
    for opened in place.twice(storage):
        assert opened.recover() == Recovered(HardState(0, None), 5, 4, 2, 6, (TermRun(5, 2),), 7)
        assert opened.load_snapshot() == snapshot
        assert opened.read(4, 6, WHOLE) == []
        assert all_of(opened.read(5, 6, WHOLE)) == all_of(log[4:])
        assert opened.index_of_offset(0) == 5
        assert opened.index_of_offset(log[5].base_offset) == 6
        assert opened.size_bytes() == sum(each.size_bytes for each in log[4:])


def test_the_prefix_can_be_the_whole_log(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1, 2, 3])
    storage.write([write(log, commit=1)])
    storage.cut_prefix(snapshot_of(log[2]))
    storage = place.reopened(storage)
    assert storage.recover() == Recovered(HardState(0, None), 3, 3, 1, 3, (), 6)
    assert storage.size_bytes() == 0
    assert storage.index_of_offset(0) == 4
    storage.write([write(entries(4, [1], term=1, base_offset=6))])
    assert place.reopened(storage).recover().terms == (TermRun(4, 1),)


def test_the_prefix_is_cut_again_and_again(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 1000)
    storage.write([write(log, commit=1000)])
    for last in (log[299], log[300], log[998]):
        storage.cut_prefix(snapshot_of(last))
        storage.tend()
    storage = place.reopened(storage)
    assert [each.index for each in storage.read(1000, 2000, WHOLE)] == [1000]
    assert storage.recover().prefix_index == 999


def test_a_prefix_that_is_gone_already_is_not_cut_again(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 5)
    storage.write([write(log, commit=5)])
    storage.cut_prefix(snapshot_of(log[3], b"newer"))
    storage.cut_prefix(snapshot_of(log[1], b"older"))
    snapshot = storage.load_snapshot()
    assert snapshot is not None
    assert snapshot.data == b"newer"


def test_a_prefix_that_is_not_in_the_log_is_a_bug(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 5)
    storage.write([write(log)])
    with pytest.raises(Bug, match="not in the log"):
        storage.cut_prefix(Snapshot(6, 1, 6, 60, b""))
    with pytest.raises(Bug, match="of term 1"):
        storage.cut_prefix(Snapshot(4, 2, 4, 40, b""))
    assert storage.recover().prefix_index == 0


def test_a_staged_snapshot_changes_nothing_before_it_is_named(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 5)
    storage.write([write(log, commit=5)])
    snapshot = snapshot_of(log[2])
    storage.stage_snapshot(snapshot)
    storage = place.reopened(storage)
    assert storage.load_snapshot() is None
    storage.stage_snapshot(snapshot)
    storage.cut_prefix(snapshot)
    assert place.reopened(storage).load_snapshot() == snapshot


def test_a_snapshot_staged_before_another_came_is_written_again(place: Place) -> None:
    storage = place.open()
    log = entries(1, [1] * 9)
    storage.write([write(log, commit=9)])
    early, late = snapshot_of(log[2], b"early"), snapshot_of(log[5], b"late")
    storage.stage_snapshot(late)
    storage.cut_prefix(early)
    storage.cut_prefix(late)
    assert storage.load_snapshot() == late
    assert place.reopened(storage).load_snapshot() == late


def test_an_old_snapshot_goes_at_open_only_when_the_record_of_the_new_one_is_durable(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process has left the record in its journal, which may be in the system's cache only."""
    storage = on_disk.open()
    storage.write([write(entries(1, [1, 1, 1, 1]), hard_state=HardState(1, 1), commit=4)])
    log = storage.read(1, 4, WHOLE)
    monkeypatch.setattr(Directory, "drop_snapshots", lambda *_: None)
    storage.cut_prefix(snapshot_of(log[1]))
    storage.cut_prefix(snapshot_of(log[2]))
    killed, cut = (DirectoryPlace(on_disk.engine, on_disk.path.with_name(name)) for name in ("killed", "cut"))
    shutil.copytree(on_disk.path, killed.path)
    trust_copy(killed.path, killed.engine, US)

    def power_cut(directory: Directory, index: int, term: int) -> None:
        """Keep what is there without its journal, as after a power cut at this moment."""
        monkeypatch.undo()
        shutil.copytree(directory.path, cut.path)
        for journal in [*cut.path.glob("log.sqlite-*"), *(cut.path / "rocksdb").glob("*.log")]:
            journal.unlink()
        directory.drop_snapshots(index, term)
        assert sorted(path.name for path in directory.path.glob("snapshot-*")) == ["snapshot-3-1"]

    monkeypatch.setattr(Directory, "drop_snapshots", power_cut)
    with closing(killed), closing(cut):
        assert killed.open().recover().prefix_index == 3
        trust_copy(cut.path, cut.engine, US)
        opened = cut.open()
        assert opened.recover().prefix_index == 3
        assert opened.load_snapshot() == snapshot_of(log[2])
