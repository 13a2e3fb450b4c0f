"""The engine on plain files: what is torn and what is damaged, and how files come and go."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from esnode.errors import DamagedRecord
from esnode.raft.entry import Entry
from esnode.raft.messages import HardState, Snapshot
from esnode.storage import segments
from esnode.storage.interface import Storage, pages
from tests.storage.logs import WHOLE, entries, snapshot_of, write
from tests.storage.places import DirectoryPlace, SmallSegmentsPlace, flip_bit


@pytest.fixture
def large(quick_path: Path) -> Iterator[DirectoryPlace]:
    """One file that never fills."""
    with closing(DirectoryPlace("segments", quick_path / "data")) as made:
        yield made


@pytest.fixture
def small(quick_path: Path) -> Iterator[SmallSegmentsPlace]:
    """A new file for every few commits."""
    with closing(SmallSegmentsPlace(quick_path / "data")) as made:
        yield made


def files(place: DirectoryPlace) -> list[Path]:
    return sorted((place.path / "segments").iterdir())


def fill(storage: Storage, commits: int, first_index: int = 1) -> tuple[Entry, ...]:
    """One entry of one event a commit, tended as the worker does."""
    all_of_them = entries(first_index, [1] * commits, base_offset=first_index - 1)
    for each in all_of_them:
        storage.write([write([each])])
        while storage.tend():
            continue
    return all_of_them


def everything(storage: Storage) -> list[Entry]:
    found = storage.recover()
    return [each for page in pages(storage, found.prefix_index + 1, found.last_index, 200) for each in page]


def written(path: Path) -> int:
    """The bytes before the zeros that wait at the end."""
    return len(path.read_bytes().rstrip(b"\0"))


def forget_since(place: DirectoryPlace, mark: bytes) -> None:
    """As if the machine had lost power before the later marks, and names of writes, reached its disk."""
    place.mark = mark
    for name in place.path.glob("written-*"):
        name.unlink()


# --- the tail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 20, 60, 90])
def test_a_torn_frame_at_the_end_is_cut_and_the_log_goes_on(large: DirectoryPlace, lost: int) -> None:
    storage = large.open()
    kept = fill(storage, 3)
    storage.close()
    mark = large.mark
    storage = large.open()
    fill(storage, 1, first_index=4)
    storage.close()
    forget_since(large, mark)
    (path,) = files(large)
    whole = path.read_bytes()
    end = written(path)
    path.write_bytes(whole[: end - lost] + bytes(len(whole) - end + lost))
    storage = large.open()
    assert everything(storage) == list(kept)
    again = fill(storage, 2, first_index=4)
    for opened in large.twice(storage):
        assert everything(opened) == [*kept, *again]


def test_a_torn_frame_that_was_durable_is_damage(large: DirectoryPlace) -> None:
    storage = large.open()
    fill(storage, 3)
    storage.close()
    (path,) = files(large)
    path.write_bytes(path.read_bytes()[: written(path) - 5])
    with pytest.raises(DamagedRecord, match="its end is lost"):
        large.open()


def test_a_frame_that_is_not_whole_before_others_is_damage_even_without_the_mark(
    large: DirectoryPlace,
) -> None:
    """Each commit is synced before the next begins, so only the very last frame can be torn."""
    storage = large.open()
    mark = large.mark
    last = fill(storage, 3)[-1]
    storage.close()
    forget_since(large, mark)
    (path,) = files(large)
    whole = path.read_bytes()
    at = whole.index(last.record) - 180  # in the frame before
    path.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
    with pytest.raises(DamagedRecord, match="is damaged"):
        large.open()


@pytest.mark.parametrize("seed", range(60))
def test_no_flipped_bit_changes_the_log_unnoticed(small: SmallSegmentsPlace, seed: int) -> None:
    source = random.Random(seed)
    storage = small.open()
    wrote = fill(storage, 30)
    storage.close()
    path = source.choice(files(small))
    flip_bit(path, source.randrange(written(path)))
    try:
        storage = small.open()
        found = everything(storage)
    except DamagedRecord:
        return
    assert found == list(wrote)


# --- files ------------------------------------------------------------------------------------------


def test_a_log_goes_on_from_file_to_file(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    wrote = fill(storage, 40)
    assert len(files(small)) > 5
    for opened in small.twice(storage):
        assert everything(opened) == list(wrote)
        assert opened.index_of_offset(17) == 18


def test_a_reader_goes_on_where_it_stopped_while_the_log_grows(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    wrote = list(fill(storage, 5))
    found: list[Entry] = []
    for _ in range(20):
        found += storage.read(len(found) + 1, len(wrote), 150)
        wrote += fill(storage, 1, first_index=len(wrote) + 1)
    assert found == wrote[: len(found)]
    assert len(found) > 15


def test_files_before_the_prefix_go_one_at_a_time(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    wrote = fill(storage, 40)
    before = len(files(small))
    storage.cut_prefix(snapshot_of(wrote[29]))
    assert storage.tend()
    assert len(files(small)) == before - 1
    while storage.tend():
        continue
    assert len(files(small)) <= before / 2
    for opened in small.twice(storage):
        assert everything(opened) == list(wrote[30:])


def test_a_replaced_tail_stays_dead_in_every_file(small: SmallSegmentsPlace) -> None:
    """The dead entries lie in files that were full before they were replaced."""
    storage = small.open()
    wrote = fill(storage, 40)
    other = entries(12, [1] * 3, term=2, base_offset=11)
    storage.write([write(other)])
    for opened in small.twice(storage):
        assert everything(opened) == [*wrote[:11], *other]
        assert opened.index_of_offset(12) == 13
        storage = opened
    late = entries(15, [1] * 20, term=3, base_offset=14)
    for each in late:
        storage.write([write([each])])
        storage.tend()
    for opened in small.twice(storage):
        assert everything(opened) == [*wrote[:11], *other, *late]


@pytest.mark.parametrize("cut_to", range(4))
def test_a_replaced_tail_stays_dead_when_the_file_that_it_began_in_is_gone(
    small: SmallSegmentsPlace, cut_to: int
) -> None:
    storage = small.open()
    old = entries(1, [1] * 60, payload=b"deposed")
    while len(files(small)) < 2:
        storage.write([write(old[storage.recover().last_index :][:1])])
        storage.tend()
    kept = storage.recover().last_index - 1  # in the first file; the tail goes on in the second
    storage.write([write(old[kept + 1 : kept + 3])])
    new = entries(kept + 1, [1] * 5, term=2, base_offset=kept)
    for each in new:
        storage.write([write([each])])
        storage.tend()
    whole = [*old[:kept], *new]
    storage.write([write(commit=len(whole))])
    storage.cut_prefix(snapshot_of(whole[kept - 1 + cut_to]))
    while storage.tend():
        continue
    storage.write([write(hard_state=HardState(3, None))])
    for opened in small.twice(storage):
        assert everything(opened) == whole[kept + cut_to :]


def test_entries_before_a_snapshot_may_have_had_other_offsets(large: DirectoryPlace) -> None:
    """A deposed leader's long batches, then a snapshot of the real ones."""
    storage = large.open()
    storage.write([write(entries(1, [20] * 20))])
    snapshot = Snapshot(20, 2, 50, 200, b"state")
    storage.write([write(entries(21, [1] * 40, term=2, base_offset=50), snapshot=snapshot, commit=20)])
    for opened in large.twice(storage):
        assert [opened.index_of_offset(offset) for offset in (50, 60, 89)] == [21, 31, 60]


def test_a_reader_never_keeps_the_zeros_that_become_frames(
    large: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "READ_BYTES", 400)
    storage = large.open()
    wrote = list(fill(storage, 3))
    found: list[Entry] = []
    for _ in range(30):
        found += storage.read(len(found) + 1, len(wrote), 1)
        wrote += fill(storage, 1, first_index=len(wrote) + 1)
    assert found == wrote[:30]


def test_a_long_log_holds_few_files_open(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    wrote = fill(storage, 200)
    assert len(files(small)) > 2 * segments.OPEN_FILES
    for opened in small.twice(storage):
        assert everything(opened) == list(wrote)
        held = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        assert sum(path.parent == small.path / "segments" for path in held) <= segments.OPEN_FILES + 1


def test_a_full_file_whose_index_is_damaged_is_read_instead(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    wrote = fill(storage, 30)
    storage.close()
    for path in files(small)[:-1]:
        flip_bit(path, path.stat().st_size - 1)
    assert everything(small.open()) == list(wrote)


def test_a_file_that_was_filled_but_not_followed_goes_on(small: SmallSegmentsPlace) -> None:
    """A crash between the index of a full file and the next file."""
    storage = small.open()
    wrote: list[Entry] = []
    while len(files(small)) < 3:
        wrote += fill(storage, 1, first_index=len(wrote) + 1)
    storage.close()
    files(small)[-1].unlink()  # nothing was committed to it yet
    (small.path / "segments" / "0000000000000003.log.new").write_bytes(b"half of a head")
    storage = small.open()
    more = fill(storage, 9, first_index=len(wrote) + 1)
    for opened in small.twice(storage):
        assert everything(opened) == [*wrote, *more]


@pytest.mark.parametrize("which", [1, 2, -1])
def test_a_lost_file_is_damage(small: SmallSegmentsPlace, which: int) -> None:
    storage = small.open()
    fill(storage, 31)
    storage.close()
    files(small)[which].unlink()
    with pytest.raises(DamagedRecord):
        small.open()


def test_a_lost_first_file_is_damage(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    fill(storage, 30)
    storage.close()
    files(small)[0].unlink()
    with pytest.raises(DamagedRecord, match="beginning of the log"):
        small.open()


def test_a_file_under_another_name_is_damage(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    fill(storage, 30)
    storage.close()
    first, second, *_ = files(small)
    second.write_bytes(first.read_bytes())
    with pytest.raises(DamagedRecord, match="not what was written"):
        small.open()


def test_an_entry_larger_than_a_file_has_one_of_its_own(small: SmallSegmentsPlace) -> None:
    storage = small.open()
    large = entries(1, [1, 1], payload=bytes(300_000))
    storage.write([write(large)])
    storage.tend()
    after = fill(storage, 3, first_index=3)
    for opened in small.twice(storage):
        assert opened.read(1, 9, WHOLE) == [*large, *after]
