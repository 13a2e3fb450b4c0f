"""The data directory: whose it is, who may read it, and what lasts of it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from esnode.errors import (
    DamagedRecord,
    DirectoryInUse,
    EngineMissing,
    InvalidConfig,
    StorageFailed,
    WrongDirectory,
)
from esnode.raft.messages import HardState, Snapshot
from esnode.storage.directory import Directory
from esnode.storage.durablemark import DurableMark
from esnode.storage.engines import open_storage
from tests.storage.logs import entries, snapshot_of, write
from tests.storage.places import US, DirectoryPlace, flip_bit

SNAPSHOT = Snapshot(5, 3, 40, 50, b"state")


def filled(place: DirectoryPlace) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1]), hard_state=HardState(1, 1))])
    storage.write([write(snapshot=SNAPSHOT)])
    storage.write([write(entries(6, [1, 1], term=3, base_offset=40))])
    storage.close()


def content_of(path: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


def test_only_the_owner_may_look_into_what_is_created(on_disk: DirectoryPlace) -> None:
    before = os.umask(0)
    try:
        filled(on_disk)
    finally:
        os.umask(before)
    assert stat.S_IMODE(on_disk.path.stat().st_mode) == 0o700
    for path in on_disk.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name


def test_missing_parents_are_created_for_the_owner_alone(quick_path: Path) -> None:
    open_storage("sqlite", quick_path / "a" / "b", US).close()
    assert stat.S_IMODE((quick_path / "a").stat().st_mode) == 0o700


def test_an_existing_directory_keeps_its_mode_and_its_other_files(on_disk: DirectoryPlace) -> None:
    on_disk.path.mkdir(mode=0o750)
    (on_disk.path / "notes.txt").write_text("mine")
    filled(on_disk)
    assert stat.S_IMODE(on_disk.path.stat().st_mode) == 0o750
    assert (on_disk.path / "notes.txt").read_text() == "mine"


def test_every_new_name_is_synced_into_its_directory(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """raft-bugs 8: a file whose name is lost is lost."""
    synced: list[tuple[str, frozenset[str]]] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        names = frozenset(each.name for each in path.iterdir()) if path.is_dir() else frozenset()
        synced.append((str(path), names))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    storage = open_storage("sqlite", quick_path / "a" / "b", US)
    storage.write([write(snapshot=SNAPSHOT)])
    names: dict[str, set[str]] = {}
    for path, found in synced:
        names.setdefault(path, set()).update(found)
    assert "a" in names[str(quick_path)]
    assert "b" in names[str(quick_path / "a")]
    there = {each.name for each in (quick_path / "a" / "b").iterdir()}
    there -= {"written-1"}  # a witness that is lost with the power says nothing, and nothing false
    assert there <= names[str(quick_path / "a" / "b")]
    assert "snapshot-5-3" in there
    storage.close()


def test_the_name_of_a_new_directory_is_synced_whoever_made_it(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toolkit makes it, beside the old one that `node replace` moved away."""
    synced: list[Path] = []
    monkeypatch.setattr("esnode.storage.directory.sync_directory", synced.append)
    (quick_path / "data").mkdir()
    Directory(quick_path / "data", "sqlite", US).close()
    assert quick_path in synced
    synced.clear()
    Directory(quick_path / "data", "sqlite", US).close()
    assert quick_path not in synced  # a node that starts again need not be allowed to


@pytest.mark.parametrize(
    "change",
    [{"cluster": "other"}, {"node_id": 2}, {"format": 2}, {"format": 4}, {"engine": "paper"}],
    ids=["cluster", "node", "older format", "newer format", "engine"],
)
def test_a_directory_that_is_not_ours_is_refused_and_left_as_it_is(
    on_disk: DirectoryPlace, change: dict[str, object]
) -> None:
    """raft-bugs 27."""
    filled(on_disk)
    path = on_disk.path / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    before = content_of(on_disk.path)
    with pytest.raises(WrongDirectory):
        on_disk.open()
    assert content_of(on_disk.path) == before


def test_another_engines_directory_is_refused(quick_path: Path) -> None:
    pytest.importorskip("rocksdict")
    open_storage("sqlite", quick_path / "data", US).close()
    with pytest.raises(WrongDirectory, match="engine sqlite"):
        open_storage("rocksdb", quick_path / "data", US)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": "1"}'])
def test_an_identity_that_cannot_be_read_is_damage(on_disk: DirectoryPlace, text: str) -> None:
    filled(on_disk)
    (on_disk.path / "identity.json").write_text(text)
    with pytest.raises((DamagedRecord, WrongDirectory)):
        on_disk.open()


def test_a_lost_mark_beside_a_log_is_damage(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    (on_disk.path / "durable").unlink()
    with pytest.raises(DamagedRecord, match="mark"):
        on_disk.open()


def test_a_lost_database_beside_its_mark_is_damage(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    for pattern in ("log.sqlite*", "rocksdb/*", "segments/*"):
        for path in on_disk.path.glob(pattern):
            path.unlink()
    with pytest.raises(DamagedRecord):
        on_disk.open()


def test_a_lost_snapshot_is_damage(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    (on_disk.path / "snapshot-5-3").unlink()
    with pytest.raises(DamagedRecord, match="snapshot-5-3"):
        on_disk.open().load_snapshot()


@pytest.mark.parametrize("size", [0, 10, 48, 53])
def test_a_snapshot_that_was_cut_short_is_damage(on_disk: DirectoryPlace, size: int) -> None:
    filled(on_disk)
    os.truncate(on_disk.path / "snapshot-5-3", size)
    with pytest.raises(DamagedRecord, match="snapshot"):
        on_disk.open().load_snapshot()


def test_every_bit_of_a_snapshot_is_checked(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    path = on_disk.path / "snapshot-5-3"
    storage = on_disk.open()
    for at in range(path.stat().st_size):
        flip_bit(path, at)
        with pytest.raises(DamagedRecord):
            storage.load_snapshot()
        flip_bit(path, at)
    assert storage.load_snapshot() == SNAPSHOT


def test_files_of_snapshots_that_no_log_names_are_removed(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    for name in ("snapshot-4-3", "snapshot-9-9.new"):
        (on_disk.path / name).write_bytes(b"left by a crash")
    on_disk.open().close()
    assert [path.name for path in on_disk.path.glob("snapshot-*")] == ["snapshot-5-3"]


def test_an_old_snapshots_file_is_removed_with_its_log(on_disk: DirectoryPlace) -> None:
    storage = on_disk.open()
    storage.write([write(snapshot=SNAPSHOT)])
    log = entries(6, [1, 1], term=3, base_offset=40)
    storage.write([write(log, commit=7)])
    storage.cut_prefix(snapshot_of(log[0]))
    assert [path.name for path in on_disk.path.glob("snapshot-*")] == ["snapshot-6-3"]


def test_a_snapshot_staged_while_another_is_named_is_written_again(quick_path: Path) -> None:
    """Its file was removed with the other old ones, in the instant before the other was named."""
    home = Directory(quick_path / "data", "sqlite", US)
    named, staged = SNAPSHOT, Snapshot(6, 3, 41, 60, b"later")
    home.save_snapshot(named)
    home.save_snapshot(staged)
    home.drop_snapshots(named.index, named.term)
    home.save_snapshot(staged)
    assert home.load_snapshot(staged.index, staged.term) == staged
    home.close()


def test_a_process_that_holds_the_directory_is_named(on_disk: DirectoryPlace) -> None:
    on_disk.open()
    program = f"""
import sys
from pathlib import Path
from esnode.errors import DirectoryInUse
from esnode.storage.directory import Directory
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity
try:
    open_storage({on_disk.engine!r}, Path({str(on_disk.path)!r}), Identity("test", 1))
except DirectoryInUse as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"process {os.getpid()} has" in said.stdout


def test_a_directory_that_cannot_be_made_is_a_failed_storage(quick_path: Path) -> None:
    (quick_path / "file").write_text("no directory")
    with pytest.raises(StorageFailed, match="cannot open"):
        open_storage("sqlite", quick_path / "file" / "data", US)


def test_a_failed_open_gives_the_lock_back(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    path = on_disk.path / "durable"
    whole = path.read_bytes()
    path.write_bytes(b"\1" * len(whole))
    with pytest.raises(DamagedRecord, match="mark"):
        on_disk.open()
    path.write_bytes(whole)
    assert on_disk.open().recover().last_index == 7


def test_an_engine_that_is_not_installed_says_how_to_install_it(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    monkeypatch.delitem(sys.modules, "esnode.storage.rocksdb", raising=False)
    with pytest.raises(EngineMissing) as caught:
        open_storage("rocksdb", quick_path / "data", US)
    assert "pip install" in caught.value.next_step
    assert not (quick_path / "data").exists()


@pytest.mark.parametrize("engine", ["paper", "memory"])
def test_an_engine_without_files_is_a_wrong_configuration(engine: str, quick_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=engine):
        open_storage(engine, quick_path / "data", US)


# --- the mark --------------------------------------------------------------------------------------


def test_a_mark_remembers_the_last_number(quick_path: Path) -> None:
    path = quick_path / "durable"
    for number in (1, 2, 3, 7, 8, 2**60):
        mark = DurableMark(path)
        mark.advance(number)
        mark.close()
        reopened = DurableMark(path)
        assert (reopened.number, reopened.is_new) == (number, False)
        reopened.close()


def test_a_mark_survives_a_torn_slot(quick_path: Path) -> None:
    path = quick_path / "durable"
    mark = DurableMark(path)
    mark.advance(4)
    mark.advance(5)
    mark.close()
    flip_bit(path, 64)
    reopened = DurableMark(path)
    assert reopened.number == 4
    reopened.close()
    flip_bit(path, 0)
    with pytest.raises(DamagedRecord):
        DurableMark(path)


def test_a_second_open_in_the_same_process_is_refused(on_disk: DirectoryPlace) -> None:
    on_disk.open()
    with pytest.raises(DirectoryInUse, match=str(os.getpid())):
        on_disk.open()
