"""The RocksDB engine: damage, and a sync that does not stop the process."""

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from esnode.errors import DamagedRecord
from esnode.raft.entry import Entry
from esnode.raft.messages import HardState
from esnode.storage.directory import begin_rejoin, trust_copy
from esnode.storage.interface import Distrust, Storage
from tests.storage.logs import WHOLE, all_of, entries, snapshot_of, write
from tests.storage.places import US, DirectoryPlace, flip_bit

rocksdict = pytest.importorskip("rocksdict")


@pytest.fixture
def place(quick_path: Path) -> Iterator[DirectoryPlace]:
    with closing(DirectoryPlace("rocksdb", quick_path / "data")) as made:
        yield made


def as_after_a_kill(place: DirectoryPlace) -> DirectoryPlace:
    copy = place.path.parent / "killed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(place.path, copy)
    trust_copy(copy, "rocksdb", US)
    return DirectoryPlace("rocksdb", copy)


def journal_of(place: DirectoryPlace) -> Path:
    (path,) = (place.path / "rocksdb").glob("*.log")
    return path


def filled(place: DirectoryPlace, calls: int = 12) -> tuple[Storage, list[Entry]]:
    storage = place.open()
    storage.write([write(hard_state=HardState(1, 1))])
    log: list[Entry] = []
    for _ in range(calls - 1):
        new = entries(len(log) + 1, [2, 2], base_offset=2 * len(log), payload=bytes(3000))
        storage.write([write(new, commit=len(log))])
        log += new
    return storage, log


def test_everything_acked_is_there_when_the_process_is_killed(place: DirectoryPlace) -> None:
    _, log = filled(place)
    with closing(as_after_a_kill(place)) as killed:
        assert all_of(killed.open().read(1, 99, WHOLE)) == all_of(log)


def test_a_torn_tail_is_cut_at_open(place: DirectoryPlace) -> None:
    """A batch that was never acked: its bytes are there up to some point."""
    storage, log = filled(place)
    acked = journal_of(place).stat().st_size
    engine = storage._engine  # type: ignore[attr-defined]
    batch = rocksdict.WriteBatch(raw_mode=True)
    batch.put(b"e" + (5).to_bytes(8, "big"), bytes(20_000))
    engine._database.write(batch, engine._unsynced)
    whole = journal_of(place).stat().st_size
    assert whole > acked + 20_000
    source = random.Random(5)
    for size in [acked + 1, *(source.randrange(acked, whole) for _ in range(6))]:
        with closing(as_after_a_kill(place)) as killed:
            with journal_of(killed).open("r+b") as journal:
                journal.truncate(size)
            assert all_of(killed.open().read(1, 99, WHOLE)) == all_of(log)


def test_an_acked_tail_that_is_missing_is_damage_and_not_cut(place: DirectoryPlace) -> None:
    """RocksDB alone would open it in silence, some acked writes short."""
    filled(place)
    whole = journal_of(place).stat().st_size
    for size in (0, whole // 2, whole - 1):
        with closing(as_after_a_kill(place)) as killed:
            with journal_of(killed).open("r+b") as journal:
                journal.truncate(size)
            for _ in range(2):
                with pytest.raises(DamagedRecord):
                    killed.open()


def test_a_bit_flipped_anywhere_in_the_journal_is_damage(place: DirectoryPlace) -> None:
    filled(place, calls=6)
    size = journal_of(place).stat().st_size
    source = random.Random(11)
    for at in [0, size - 1, *(source.randrange(size) for _ in range(12))]:
        with closing(as_after_a_kill(place)) as killed:
            flip_bit(journal_of(killed), at)
            with pytest.raises(DamagedRecord):
                killed.open()


def test_a_bit_flipped_in_a_table_never_changes_what_is_read(place: DirectoryPlace) -> None:
    """raft-bugs 19: what is read is what was written, or it is `DamagedRecord`."""
    storage, log = filled(place, calls=30)
    storage._engine._database.flush()  # type: ignore[attr-defined]
    storage.close()
    source = random.Random(13)
    found = {"damage": 0, "same": 0}
    for _ in range(25):
        with closing(as_after_a_kill(place)) as killed:
            tables = sorted((killed.path / "rocksdb").glob("*.sst"))
            table = source.choice(tables)
            flip_bit(table, source.randrange(table.stat().st_size))
            found[what_is_found(killed, log)] += 1
    assert found["damage"] > 10, found


def test_after_damage_another_database_can_be_opened_in_the_same_place(place: DirectoryPlace) -> None:
    """The error that says so may still be held, as it is while a node begins to rejoin."""
    storage, log = filled(place, calls=30)
    storage._engine._database.flush()  # type: ignore[attr-defined]
    storage.close()
    held: list[DamagedRecord] = []
    for part in range(1, 10):
        with closing(as_after_a_kill(place)) as killed:
            (table,) = (killed.path / "rocksdb").glob("*.sst")
            flip_bit(table, table.stat().st_size * part // 10)
            try:
                killed.open().read(1, len(log), WHOLE)
            except DamagedRecord as error:
                held.append(error)
            killed.close()
            begin_rejoin(killed.path, "rocksdb", US, Distrust.DAMAGE)
            assert killed.open().recover().last_index == 0
    assert held


def what_is_found(place: DirectoryPlace, log: list[Entry]) -> str:
    try:
        storage = place.open()
        assert storage.recover().last_index == len(log)
        assert all_of(storage.read(1, len(log), WHOLE)) == all_of(log)
    except DamagedRecord:
        return "damage"
    return "same"


def test_a_missing_entry_in_the_middle_is_damage(place: DirectoryPlace) -> None:
    storage, _ = filled(place)
    storage.close()
    with closing(rocksdict.Rdict(str(place.path / "rocksdb"), rocksdict.Options(raw_mode=True))) as database:
        del database[b"e" + (5).to_bytes(8, "big")]
    storage = place.open()
    with pytest.raises(DamagedRecord, match="5 is missing"):
        storage.read(1, 6, WHOLE)
    assert storage.index_of_offset(43) == 22
    with pytest.raises(DamagedRecord, match="missing"):
        storage.index_of_offset(8)


def test_dropped_entries_are_gone_from_the_database(place: DirectoryPlace) -> None:
    storage, log = filled(place)
    storage.cut_prefix(snapshot_of(log[9]))
    storage.close()
    with closing(rocksdict.Rdict(str(place.path / "rocksdb"), rocksdict.Options(raw_mode=True))) as database:
        kept = [key for key in database.keys() if key.startswith(b"e")]  # noqa: SIM118 - not a dict
    assert kept == [b"e" + each.index.to_bytes(8, "big") for each in log[10:]]
