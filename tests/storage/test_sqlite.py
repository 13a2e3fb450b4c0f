"""The SQLite engine: what its files hold after damage, and how it lies on disk."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlite_utils

from esnode.errors import DamagedRecord, DirectoryInUse, StorageFailed
from esnode.raft.entry import Entry
from esnode.raft.messages import HardState
from esnode.storage import sqlite as engine
from esnode.storage.directory import trust_copy
from esnode.storage.interface import Storage
from tests.storage.logs import WHOLE, all_of, entries, snapshot_of, write
from tests.storage.places import US, DirectoryPlace, flip_bit

FRAME_BYTES = 24 + engine.PAGE_BYTES


@pytest.fixture
def place(quick_path: Path) -> Iterator[DirectoryPlace]:
    with closing(DirectoryPlace("sqlite", quick_path / "data")) as made:
        yield made


def as_after_a_kill(place: DirectoryPlace, name: str = "killed") -> DirectoryPlace:
    """The files as they are now, in a directory of their own: the process never closes them."""
    copy = place.path.parent / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(place.path, copy)
    trust_copy(copy, "sqlite", US)
    return DirectoryPlace("sqlite", copy)


def wal_of(place: DirectoryPlace) -> Path:
    return place.path / "log.sqlite-wal"


def filled(place: DirectoryPlace, calls: int = 12) -> tuple[Storage, list[Entry]]:
    """`calls` write calls that are all still in the WAL."""
    storage = place.open()
    storage.write([write(hard_state=HardState(1, 1))])
    log: list[Entry] = []
    for _ in range(calls - 1):
        new = entries(len(log) + 1, [2, 2], base_offset=4 * len(log) // 2, payload=bytes(3000))
        storage.write([write(new, commit=len(log))])
        log += new
    return storage, log


def test_what_a_killed_process_left_in_the_wal_is_in_the_synced_database_before_it_is_believed(
    place: DirectoryPlace,
) -> None:
    """The WAL may be in the system's cache only, or its fsync have failed and its pages be called clean."""
    _, log = filled(place)
    killed = as_after_a_kill(place)
    with closing(killed.open()) as storage:
        alone = place.path.parent / "alone.sqlite"
        shutil.copy(killed.path / "log.sqlite", alone)
        assert storage.recover().last_index == log[-1].index
    with closing(sqlite3.connect(alone)) as connection:
        assert connection.execute("SELECT max(idx) FROM entries").fetchone() == (log[-1].index,)


def test_the_schema_is_the_documented_one(place: DirectoryPlace) -> None:
    place.open().close()
    database = sqlite_utils.Database(place.path / engine.DATABASE)
    assert {table.name: [column.name for column in table.columns] for table in database.tables} == {
        "entries": ["idx", "base_offset", "number", "commit_hint", "position", "stamp_crc", "record"],
        "kept": ["name", "value"],
    }
    assert all(table.strict for table in database.tables)
    assert database.journal_mode == "wal"
    database.close()


def test_a_write_call_is_synced_by_sqlite_itself(place: DirectoryPlace) -> None:
    storage = place.open()
    connection = storage._engine._connection  # type: ignore[attr-defined]
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("synchronous", "journal_mode", "wal_autocheckpoint", "locking_mode")
    }
    assert settings == {
        "synchronous": 2,
        "journal_mode": "wal",
        "wal_autocheckpoint": 0,
        "locking_mode": "exclusive",
    }


def test_syncing_is_full_again_after_dropped_entries_are_deleted(place: DirectoryPlace) -> None:
    storage, log = filled(place)
    storage.cut_prefix(snapshot_of(log[9]))
    while storage.tend():
        pass
    connection = storage._engine._connection  # type: ignore[attr-defined]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("SELECT min(idx), count(*) FROM entries").fetchone() == (11, len(log) - 10)


def test_everything_acked_is_there_when_the_process_is_killed(place: DirectoryPlace) -> None:
    _, log = filled(place)
    with closing(as_after_a_kill(place)) as killed:
        storage = killed.open()
        assert all_of(storage.read(1, 99, WHOLE)) == all_of(log)
        assert storage.recover().hard_state == HardState(1, 1)


def test_a_torn_tail_is_cut_at_open(place: DirectoryPlace) -> None:
    """A transaction that was never acked: its frames are there up to some byte."""
    storage, log = filled(place)
    acked = wal_of(place).stat().st_size
    storage._engine._connection.executescript(  # type: ignore[attr-defined]
        "BEGIN; UPDATE entries SET record = zeroblob(20000); COMMIT"
    )
    whole = wal_of(place).stat().st_size
    assert whole > acked + 10 * FRAME_BYTES
    source = random.Random(5)
    for size in [acked + 1, acked + FRAME_BYTES, *(source.randrange(acked, whole) for _ in range(6))]:
        with closing(as_after_a_kill(place)) as killed:
            with wal_of(killed).open("r+b") as wal:
                wal.truncate(size)
            assert all_of(killed.open().read(1, 99, WHOLE)) == all_of(log)


def test_an_acked_tail_that_is_missing_is_damage_and_not_cut(place: DirectoryPlace) -> None:
    """SQLite alone would open it in silence, some acked writes short."""
    filled(place)
    whole = wal_of(place).stat().st_size
    for size in (0, 31, 32, FRAME_BYTES, whole // 2, whole - FRAME_BYTES, whole - 1):
        with closing(as_after_a_kill(place)) as killed:
            with wal_of(killed).open("r+b") as wal:
                wal.truncate(size)
            for _ in range(2):
                with pytest.raises(DamagedRecord, match="its end is lost"):
                    killed.open()


def test_a_bit_flipped_anywhere_in_the_journal_is_damage(place: DirectoryPlace) -> None:
    """SQLite alone would cut the log there."""
    filled(place, calls=6)
    size = wal_of(place).stat().st_size
    source = random.Random(11)
    for at in [0, 8, 16, 24, size - 1, *(source.randrange(size) for _ in range(40))]:
        with closing(as_after_a_kill(place)) as killed:
            flip_bit(wal_of(killed), at)
            with pytest.raises(DamagedRecord):
                killed.open()


def test_a_mark_that_a_power_cut_left_behind_does_no_harm(place: DirectoryPlace) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1]))])
    old = (place.path / "durable").read_bytes()
    storage.write([write(entries(2, [1, 1], base_offset=1))])
    with closing(as_after_a_kill(place)) as killed:
        (killed.path / "durable").write_bytes(old)
        storage = killed.open()
        assert storage.recover().last_index == 3
        storage.write([write(entries(4, [1], base_offset=3))])
        assert killed.reopened(storage).recover().last_index == 4


def test_damage_that_only_a_write_meets_is_damage_and_ends_the_storage(place: DirectoryPlace) -> None:
    """A disk that refuses is for a person; damage is repaired from the other nodes."""
    storage, log = filled(place, calls=40)
    storage.cut_prefix(snapshot_of(log[-2]))
    while storage.tend():
        pass
    storage.close()
    path = place.path / "log.sqlite"
    with path.open("r+b") as file:
        file.seek(32)  # the header's pointer to the list of free pages
        trunk = int.from_bytes(file.read(4), "big")
        assert trunk > 0
        file.seek((trunk - 1) * engine.PAGE_BYTES)
        file.write(b"\xff" * 64)
    storage = place.open()
    last = log[-1]
    more = entries(last.index + 1, [2] * 20, base_offset=last.next_offset, payload=bytes(60_000))
    with pytest.raises(DamagedRecord, match="damaged"):
        storage.write([write(more)])
    with pytest.raises(StorageFailed):
        storage.recover()
    storage.close()


def test_a_bit_flipped_anywhere_in_the_database_never_changes_what_is_read(place: DirectoryPlace) -> None:
    """raft-bugs 19: what is read is what was written, or it is `DamagedRecord`."""
    storage, log = filled(place, calls=30)
    storage.close()
    path = place.path / "log.sqlite"
    source = random.Random(13)
    outcomes = {"damage": 0, "same": 0}
    for at in [*range(0, 100, 7), *(source.randrange(path.stat().st_size) for _ in range(120))]:
        with closing(as_after_a_kill(place)) as killed:
            flip_bit(killed.path / "log.sqlite", at)
            outcomes[what_is_found(killed, log)] += 1
    assert min(outcomes.values()) > 10, outcomes


def what_is_found(place: DirectoryPlace, log: list[Entry]) -> str:
    try:
        storage = place.open()
        recovered = storage.recover()
        assert (recovered.last_index, recovered.hard_state) == (len(log), HardState(1, 1))
        for offset in range(0, 4 * len(log) // 2, 9):
            assert storage.index_of_offset(offset) == offset // 2 + 1
        assert all_of(storage.read(1, len(log), WHOLE)) == all_of(log)
    except DamagedRecord:
        return "damage"
    return "same"


def test_a_missing_entry_in_the_middle_is_damage(place: DirectoryPlace) -> None:
    storage, log = filled(place)
    storage.close()
    with closing(sqlite3.connect(place.path / "log.sqlite")) as connection:
        connection.execute("DELETE FROM entries WHERE idx = 5")
        connection.commit()
    storage = place.open()
    assert all_of(storage.read(1, 4, WHOLE)) == all_of(log[:4])
    with pytest.raises(DamagedRecord, match="5 is missing"):
        storage.read(1, 6, WHOLE)
    with pytest.raises(DamagedRecord, match="5 is missing"):
        storage.read(5, 6, WHOLE)
    assert storage.index_of_offset(7) == 4
    with pytest.raises(DamagedRecord, match="no entry holds offset 8"):
        storage.index_of_offset(8)


def test_a_missing_first_entry_is_damage_at_open(place: DirectoryPlace) -> None:
    storage, _ = filled(place)
    storage.close()
    with closing(sqlite3.connect(place.path / "log.sqlite")) as connection:
        connection.execute("DELETE FROM entries WHERE idx = 1")
        connection.commit()
    with pytest.raises(DamagedRecord, match="1 is missing"):
        place.open()


@pytest.mark.parametrize("name", ["state", "terms"])
def test_a_damaged_record_of_terms_or_vote_is_refused(place: DirectoryPlace, name: str) -> None:
    storage, _ = filled(place)
    storage.close()
    with closing(sqlite3.connect(place.path / "log.sqlite")) as connection:
        (value,) = connection.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        damaged = value[:-1] + bytes([value[-1] ^ 1])
        connection.execute("UPDATE kept SET value = ? WHERE name = ?", (damaged, name))
        connection.commit()
    with pytest.raises(DamagedRecord):
        place.open()


@pytest.mark.parametrize("column", ["number", "commit_hint", "position", "stamp_crc"])
def test_what_stands_beside_the_last_record_is_checked(place: DirectoryPlace, column: str) -> None:
    """A commit hint that is too high would let a node apply what was never committed."""
    storage, log = filled(place)
    storage.close()
    with closing(sqlite3.connect(place.path / "log.sqlite")) as connection:
        connection.execute(f"UPDATE entries SET {column} = {column} + 1 WHERE idx = ?", (log[-1].index,))
        connection.commit()
    with pytest.raises(DamagedRecord):
        place.open()


def test_a_file_that_is_no_database_is_damage(place: DirectoryPlace) -> None:
    place.open().close()
    (place.path / "log.sqlite").write_bytes(b"no database, whatever its name" * 1000)
    with pytest.raises(DamagedRecord):
        place.open()


def test_another_program_that_has_the_database_open_is_noticed(place: DirectoryPlace) -> None:
    place.open().close()
    with closing(sqlite3.connect(place.path / "log.sqlite")) as shell:
        shell.execute("BEGIN")
        shell.execute("SELECT * FROM entries").fetchall()
        with pytest.raises(DirectoryInUse):
            place.open()


def test_the_journal_stays_short_when_nobody_tends(place: DirectoryPlace) -> None:
    storage = place.open()
    for n in range(60):
        storage.write([write(entries(n + 1, [1], base_offset=n, payload=bytes(500_000)))])
    assert wal_of(place).stat().st_size < 3 * engine.CHECKPOINT_ANYWAY_BYTES


def test_the_space_of_dropped_entries_is_used_again(place: DirectoryPlace) -> None:
    storage = place.open()
    log = list(entries(1, [1] * 400, payload=bytes(10_000)))
    storage.write([write(log, commit=400)])
    sizes = []
    for _ in range(4):
        last = log[-1]
        storage.cut_prefix(snapshot_of(last))
        while storage.tend():
            pass
        log = list(entries(last.index + 1, [1] * 400, base_offset=last.next_offset, payload=bytes(10_000)))
        storage.write([write(log, commit=log[-1].index)])
        storage.tend()
        sizes.append((place.path / "log.sqlite").stat().st_size)
    assert max(sizes) < 1.5 * storage.size_bytes()


def test_an_error_while_committing_ends_every_use(place: DirectoryPlace) -> None:
    storage, log = filled(place)
    storage._engine._connection.execute("PRAGMA query_only = ON")  # type: ignore[attr-defined]
    with pytest.raises(StorageFailed, match="readonly"):
        storage.write([write(entries(len(log) + 1, [1], base_offset=log[-1].next_offset))])
    with pytest.raises(StorageFailed, match="readonly"):
        storage.recover()
