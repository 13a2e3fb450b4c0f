"""A storage whose files are removed or replaced under it says so, whatever was taken away and how."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from esnode.errors import FilesGone, StorageFailed
from esnode.raft.messages import HardState
from esnode.storage.interface import Storage
from esnode.storage.worker import StorageWorker
from tests.storage.logs import entries, snapshot_of, write
from tests.storage.places import DirectoryPlace, place_of

LOG = {"sqlite": "log.sqlite", "segments": "segments", "rocksdb": "rocksdb"}
JOURNAL = {"sqlite": "log.sqlite-wal", "segments": "segments/*.log", "rocksdb": "rocksdb/LOCK"}


def filled(place: DirectoryPlace) -> Storage:
    storage = place.open()
    log = entries(1, [1, 1, 1])
    storage.write([write(log, hard_state=HardState(1, 1))])
    storage.cut_prefix(snapshot_of(log[0]))
    return storage


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace(path: Path) -> None:
    """By one with the same content, as a restore or a `rsync` does it."""
    other = path.with_name("other")
    shutil.copytree(path, other) if path.is_dir() else shutil.copy2(path, other)
    remove(path)
    other.rename(path)


def move_away(path: Path) -> None:
    path.rename(path.with_name("moved"))


def leave_a_link_to_nowhere(path: Path) -> None:
    """As a mount that has vanished."""
    move_away(path)
    path.symlink_to("nowhere")


NAMES: dict[str, Callable[[DirectoryPlace], Path]] = {
    "directory": lambda place: place.path,
    "log": lambda place: place.path / LOG[place.engine],
    "journal": lambda place: next(place.path.glob(JOURNAL[place.engine])),
    "mark": lambda place: place.path / "durable",
    "lock": lambda place: place.path / "lock",
}


@pytest.mark.parametrize("how", [remove, replace, move_away, leave_a_link_to_nowhere])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_removed_or_replaced_under_an_open_log_is_noticed(
    on_disk: DirectoryPlace, name: str, how: Callable[[Path], None]
) -> None:
    storage = filled(on_disk)
    storage.check_files()
    how(NAMES[name](on_disk))
    with pytest.raises(FilesGone):
        storage.check_files()


@pytest.mark.parametrize("name", ["identity.json", "snapshot-1-1"])
def test_a_removed_identity_or_snapshot_is_noticed(on_disk: DirectoryPlace, name: str) -> None:
    storage = filled(on_disk)
    (on_disk.path / name).unlink()
    with pytest.raises(FilesGone, match=name):
        storage.check_files()


def test_a_log_that_lives_on_is_never_taken_for_a_replaced_one(on_disk: DirectoryPlace) -> None:
    """New files, removed ones, names written anew: none of that was done by anybody else."""
    storage = on_disk.open()
    offset = 0
    for number in range(1, 40):
        log = entries(number, [1], base_offset=offset, payload=os.urandom(64 * 1024))
        offset = log[0].next_offset
        storage.write([write(log, commit=number)])
        if number % 8 == 0:
            storage.cut_prefix(snapshot_of(log[0]))
            storage.remember_peer(2, os.urandom(16))
        while storage.tend():
            pass
        storage.check_files()
    storage = on_disk.reopened(storage)
    storage.check_files()


def test_every_full_file_is_looked_at_in_turn(quick_path: Path) -> None:
    place = place_of("small segments", quick_path)
    assert isinstance(place, DirectoryPlace)
    storage = place.open()
    for number in range(1, 20):
        storage.write([write(entries(number, [1], base_offset=number - 1, payload=bytes(4000)))])
        storage.tend()
    files = sorted((place.path / "segments").glob("*.log"))
    assert len(files) > 3
    files[1].unlink()

    def look_at_all() -> None:
        for _ in files:
            storage.check_files()

    with pytest.raises(FilesGone, match=files[1].name):
        look_at_all()
    place.close()


def test_a_write_that_finds_no_directory_says_that_and_not_that_the_disk_refuses(
    on_disk: DirectoryPlace,
) -> None:
    storage = filled(on_disk)
    shutil.rmtree(on_disk.path)
    with pytest.raises(FilesGone):
        storage.remember_peer(2, bytes(16))


def test_a_write_that_meets_somebody_who_removes_the_files_says_that(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory, the lock and the log are still there; what the node has just written is not."""
    storage = filled(on_disk)
    sync = os.fsync

    def remove_new_ones(descriptor: int) -> None:
        sync(descriptor)
        for path in on_disk.path.glob("*.new"):
            path.unlink()

    monkeypatch.setattr(os, "fsync", remove_new_ones)
    with pytest.raises(FilesGone, match="what is known of the peers"):
        storage.remember_peer(2, bytes(16))
    with pytest.raises(FilesGone, match="what is known of the peers"):
        storage.read(2, 2, 1000)


def test_two_threads_that_meet_the_removal_both_say_so(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one looks for the reason still while the other is told of the failure, and ends the node."""
    storage = filled(on_disk)
    shutil.rmtree(on_disk.path)
    home = storage._home  # type: ignore[attr-defined]
    look = home.check_files
    both: list[type[BaseException] | None] = []

    def meanwhile(index: int, term: int) -> None:
        monkeypatch.setattr(home, "check_files", look)
        other = threading.Thread(target=lambda: both.append(failure_of(storage.sync_mark)))
        other.start()
        other.join()
        look(index, term)

    monkeypatch.setattr(home, "check_files", meanwhile)
    both.append(failure_of(lambda: storage.remember_reached({2: 1})))
    assert both == [FilesGone, FilesGone]


def failure_of(call: Callable[[], None]) -> type[BaseException] | None:
    try:
        call()
    except (FilesGone, StorageFailed) as error:
        return type(error)
    return None


def test_a_log_that_cannot_be_written_since_its_files_are_gone_says_that(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the log was removed so far: what the engine says of its write names another reason."""
    storage = filled(on_disk)
    removed = NAMES["journal"](on_disk)
    engine = storage._engine  # type: ignore[attr-defined]

    def refuse(_: object) -> None:
        raise StorageFailed("the write failed")

    monkeypatch.setattr(engine, "commit", refuse)
    remove(removed)
    with pytest.raises(FilesGone):
        storage.write([write(hard_state=HardState(2, 1))])


def test_the_mark_is_synced_when_it_has_grown_and_not_otherwise(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut it tells a torn end from damage: left to the kernel it may be half a minute old."""
    storage = filled(on_disk)
    storage.sync_mark()
    synced: list[str] = []
    sync = os.fdatasync

    def note(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", note)
    storage.sync_mark()
    assert synced == []
    storage.write([write(hard_state=HardState(2, 1))])
    synced.clear()
    storage.sync_mark()
    storage.sync_mark()
    assert synced == ["durable"]
    storage.close()
    with pytest.raises(StorageFailed):
        storage.sync_mark()


async def test_a_node_s_disk_ends_it_within_seconds_of_its_files_being_removed(
    on_disk: DirectoryPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esnode.limits.FILES_CHECK_S", 0.01)
    worker = StorageWorker(filled(on_disk))

    async def run() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                nursery.start_soon(worker.watch_files)
                await worker.call(worker.storage.check_files)
                shutil.rmtree(on_disk.path)

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert caught.group_contains(FilesGone)
