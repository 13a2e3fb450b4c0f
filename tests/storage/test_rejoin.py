"""A disk that is not to be believed: the marker, what is put aside, copies, and crashes in between."""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from esnode.errors import CopiedDirectory, DamagedRecord, DirectoryInUse, StorageFailed, WrongDirectory
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.birthtime import born_ns
from esnode.storage.directory import MARK_FILE, begin_rejoin, trust_copy
from esnode.storage.identity import read_title, write_title
from esnode.storage.interface import Distrust, Identity, Storage
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.place import DirectoryPlace as DataDirectory
from tests.storage.logs import entries, write
from tests.storage.places import US, DirectoryPlace, MemoryPlace, Place

SNAPSHOT = Snapshot(5, 3, 40, 50, b"state")
SOUND = Write(0, None, HardState(4, 1), (), 0, rejoined=True)


def filled(place: Place) -> None:
    storage = place.open()
    storage.write([write(entries(1, [1, 1]), hard_state=HardState(1, 1))])
    storage.write([write(snapshot=SNAPSHOT, hard_state=HardState(3, None))])
    storage.write([write(entries(6, [1, 1], term=3, base_offset=40))])
    storage.remember_peer(2, b"2" * 16)
    storage.close()


def begin(place: Place, why: Distrust = Distrust.OPERATOR) -> None:
    if isinstance(place, DirectoryPlace):
        begin_rejoin(place.path, place.engine, US, why)
    else:
        assert isinstance(place, MemoryPlace)
        place.disk.begin_rejoin(why)


def trust(place: Place) -> None:
    if isinstance(place, DirectoryPlace):
        trust_copy(place.path, place.engine, US)
    else:
        assert isinstance(place, MemoryPlace)
        place.disk.trust_copy()


# --- on every engine --------------------------------------------------------------------------------


def test_a_new_disk_is_to_be_believed_and_has_a_name(place: Place) -> None:
    storage = place.open()
    name = storage.directory
    assert len(name) == 16
    for opened in place.twice(storage):
        assert not opened.recover().rejoining
        assert opened.directory == name


def test_a_rejoin_that_keeps_the_log_keeps_all_but_the_name(place: Place) -> None:
    filled(place)
    storage = place.open()
    before, name = storage.recover(), storage.directory
    storage.close()
    begin(place)
    for opened in place.twice(place.open()):
        found = opened.recover()
        assert found.rejoining
        assert (found.hard_state, found.last_index) == (before.hard_state, before.last_index)
        assert [entry.index for entry in opened.read(6, 7, 1 << 20)] == [6, 7]
        assert opened.directory != name
        assert opened.peer_directories == {2: b"2" * 16}


def test_a_rejoin_that_puts_the_log_aside_begins_with_nothing(place: Place) -> None:
    filled(place)
    name = place.open().directory
    place.close()
    begin(place, Distrust.DAMAGE)
    for opened in place.twice(place.open()):
        found = opened.recover()
        assert (found.rejoining, found.hard_state, found.last_index) == (True, HardState(0, None), 0)
        assert opened.load_snapshot() is None
        assert opened.directory != name
        assert opened.peer_directories == {}


def test_the_marker_goes_with_the_write_that_says_rejoined(place: Place) -> None:
    filled(place)
    begin(place, Distrust.DAMAGE)
    storage = place.open()
    storage.write([write(entries(1, [1]), hard_state=HardState(4, None))])
    assert storage.recover().rejoining
    storage.write([SOUND])
    for opened in place.twice(storage):
        found = opened.recover()
        assert not found.rejoining
        assert (found.hard_state, found.last_index) == (HardState(4, 1), 1)


def test_a_write_that_says_nothing_but_rejoined_takes_the_marker_too(place: Place) -> None:
    begin(place)
    storage = place.open()
    storage.write([Write(0, None, None, (), 0, rejoined=True)])
    for opened in place.twice(storage):
        assert not opened.recover().rejoining


def test_a_write_that_says_rejoined_on_a_sound_disk_changes_nothing(place: Place) -> None:
    storage = place.open()
    storage.write([SOUND])
    for opened in place.twice(storage):
        assert not opened.recover().rejoining


def test_the_marker_stays_until_the_write_is_durable(place: Place) -> None:
    begin(place)
    storage = place.open()
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch, storage)
        with pytest.raises(StorageFailed):
            storage.write([SOUND])
    storage.close()
    assert place.open().recover().rejoining


def refuse(patch: pytest.MonkeyPatch, storage: Storage) -> None:
    def commit(change: object) -> None:
        raise StorageFailed("no space")

    patch.setattr(storage._engine, "commit", commit)  # type: ignore[attr-defined]


def test_a_disk_can_begin_to_rejoin_again_and_again(place: Place) -> None:
    filled(place)
    names = set()
    for why in (Distrust.PEERS, Distrust.DAMAGE, Distrust.DAMAGE, Distrust.COPY):
        begin(place, why)
        storage = place.open()
        assert storage.recover().rejoining
        names.add(storage.directory)
        storage.close()
    assert len(names) == 4


def test_nobody_may_have_the_disk_open_when_it_begins_to_rejoin(place: Place) -> None:
    storage = place.open()
    for why in Distrust:
        with pytest.raises(DirectoryInUse):
            begin(place, why)
    with pytest.raises(DirectoryInUse):
        trust(place)
    assert not storage.recover().rejoining


def test_peers_are_remembered_and_replaced(place: Place) -> None:
    storage = place.open()
    assert storage.peer_directories == {}
    storage.remember_peer(2, b"2" * 16)
    storage.remember_peer(3, b"3" * 16)
    storage.remember_peer(2, b"x" * 16)
    for opened in place.twice(storage):
        assert opened.peer_directories == {2: b"x" * 16, 3: b"3" * 16}


def test_a_node_without_a_past_may_begin_to_rejoin(place: Place) -> None:
    begin(place)
    assert place.open().recover().rejoining


# --- directories ------------------------------------------------------------------------------------


def copied(place: DirectoryPlace) -> DirectoryPlace:
    copy = place.path.with_name("copy")
    shutil.copytree(place.path, copy)
    return DirectoryPlace(place.engine, copy)


def contents(path: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


def test_a_copy_is_noticed_and_left_as_it_is(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    with closing(copied(on_disk)) as copy:
        before = {name: data for name, data in contents(copy.path).items() if not name.endswith("lock")}
        with pytest.raises(CopiedDirectory, match="is a copy"):
            copy.open()
        after = contents(copy.path)
        assert before == {name: after[name] for name in before}
        on_disk.open().close()


def test_a_copy_whose_mark_got_the_inode_of_the_original_is_still_a_copy(on_disk: DirectoryPlace) -> None:
    """ext4 gives the inode of a deleted file to the next one: `rm -r data; cp -r backup data` does that."""
    on_disk.open().close()
    if born_ns(on_disk.path) is None:
        pytest.skip("this file system does not tell when a file was made")
    with closing(copied(on_disk)) as copy:
        title = read_title(copy.path)
        assert title is not None
        write_title(copy.path, replace(title, inode=(copy.path / MARK_FILE).stat().st_ino))
        with pytest.raises(CopiedDirectory, match="is a copy"):
            copy.open()


def test_a_copy_rejoins_with_its_log(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    with closing(copied(on_disk)) as copy:
        begin(copy, Distrust.COPY)
        for opened in copy.twice(copy.open()):
            assert opened.recover().rejoining
            assert opened.recover().last_index == 7


def test_a_copy_that_is_trusted_is_the_nodes_own(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    name = on_disk.open().directory
    on_disk.close()
    with closing(copied(on_disk)) as copy:
        trust(copy)
        for opened in copy.twice(copy.open()):
            assert not opened.recover().rejoining
            assert opened.directory == name


def test_a_copy_of_a_directory_that_rejoins_goes_on_rejoining(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    begin(on_disk)
    with closing(copied(on_disk)) as copy:
        assert copy.open().recover().rejoining


def test_what_is_put_aside_is_all_there_and_the_operators_files_stay(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    (on_disk.path / "notes.txt").write_text("mine")
    names = {path.name for path in on_disk.path.iterdir()}
    stay = {"lock", "identity.json", "notes.txt"}
    aside = begin_rejoin(on_disk.path, on_disk.engine, US, Distrust.DAMAGE)
    assert aside is not None
    assert aside == on_disk.path / "damaged-1"
    assert {path.name for path in aside.iterdir()} == names - stay
    assert {path.name for path in on_disk.path.iterdir()} == stay | {"rejoining", "damaged-1"}
    filled(on_disk)
    again = (on_disk.path, on_disk.engine, US, Distrust.DAMAGE)
    assert begin_rejoin(*again) == on_disk.path / "damaged-2"
    assert begin_rejoin(*again) is None
    assert oct((on_disk.path / "damaged-1").stat().st_mode)[-3:] == "700"
    whole = DirectoryPlace(on_disk.engine, on_disk.path.with_name("whole"))
    aside.rename(whole.path)
    (on_disk.path / "identity.json").rename(whole.path / "identity.json")
    trust(whole)
    with closing(whole):
        assert whole.open().recover().last_index == 7


def test_an_identity_that_cannot_be_read_is_put_aside_with_the_log(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    (on_disk.path / "identity.json").write_text("{")
    aside = DataDirectory(on_disk.engine, on_disk.path, US).begin_rejoin(Distrust.COPY)
    assert (Path(aside) / "identity.json").read_text() == "{"
    assert on_disk.open().recover().rejoining


@pytest.mark.parametrize("text", ['{"2": 5}', '{"2": "aa"}', '{"two": "%s"}' % ("aa" * 16), "[]"])
def test_a_list_of_peers_that_cannot_be_read_is_damage(on_disk: DirectoryPlace, text: str) -> None:
    filled(on_disk)
    (on_disk.path / "peers.json").write_text(text)
    with pytest.raises(DamagedRecord, match=r"peers\.json"):
        on_disk.open()


def test_another_nodes_directory_is_not_made_to_rejoin(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    before = contents(on_disk.path)
    stranger = DataDirectory(on_disk.engine, on_disk.path, Identity("test", 2))
    with pytest.raises(WrongDirectory):
        stranger.begin_rejoin(Distrust.DAMAGE)
    with pytest.raises(WrongDirectory):
        stranger.trust_copy()
    assert contents(on_disk.path) == before


@pytest.mark.parametrize("size", [None, 0, 100])
def test_a_mark_that_is_lost_or_cut_stays_damage_at_every_start(
    on_disk: DirectoryPlace, size: int | None
) -> None:
    filled(on_disk)
    path = on_disk.path / "durable"
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    for _ in range(2):
        with pytest.raises(DamagedRecord, match="mark"):
            on_disk.open()


class Crash(BaseException):
    """The machine goes down at this very call."""


def crash_at(patch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let the `number`th call that changes the disk be the last thing that happens, before or after it."""
    calls = [0]

    def guarded(name: str, real: Callable[..., object]) -> None:
        def call(*arguments: object, **named: object) -> object:
            calls[0] += 1
            if 2 * calls[0] - 1 == number:
                raise Crash
            done = real(*arguments, **named)
            if 2 * calls[0] == number:
                raise Crash
            return done

        patch.setattr(os, name, call)

    for name in ("fsync", "rename", "mkdir", "unlink", "open"):
        guarded(name, getattr(os, name))
    return calls


@pytest.mark.parametrize("why", [Distrust.PEERS, Distrust.DAMAGE])
def test_a_crash_at_any_point_of_it_leaves_a_directory_that_rejoins(
    on_disk: DirectoryPlace, why: Distrust
) -> None:
    """And is a stranger to the peers that knew it; or, before the marker is there, one that is as it was."""
    filled(on_disk)
    name = on_disk.open().directory
    on_disk.close()
    original = on_disk.path
    marked = finished = 0
    for number in range(1, 200):
        place = DirectoryPlace(on_disk.engine, original.with_name(f"crashed-{number}"))
        shutil.copytree(original, place.path)
        trust(place)
        with pytest.MonkeyPatch.context() as patch:
            calls = crash_at(patch, number)
            try:
                begin_rejoin(place.path, place.engine, US, why)
                finished += 1
            except Crash:
                pass
        there = (place.path / "rejoining").exists()
        marked += there
        with closing(place):
            storage = opened_with_repair(place)
            assert storage.recover().rejoining == there
            assert (storage.directory != name) == there
        shutil.rmtree(place.path)
        if 2 * calls[0] < number:
            break
    assert finished == 1
    assert marked >= 4


def opened_with_repair(place: DirectoryPlace) -> Storage:
    """As a node opens it: what is damaged is put aside."""
    for _ in range(3):
        try:
            storage = place.open()
            storage.load_snapshot()
        except DamagedRecord:
            place.close()
            begin(place, Distrust.DAMAGE)
        else:
            return storage
    return place.open()


def test_a_crash_while_the_marker_goes_leaves_a_whole_log(on_disk: DirectoryPlace) -> None:
    begin(on_disk)
    for number in range(1, 9):
        storage = on_disk.open()
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, number)
            with suppress(Crash):
                storage._home.end_rejoin()  # type: ignore[attr-defined]
        on_disk.close()
        there = (on_disk.path / "rejoining").exists()
        storage = on_disk.open()
        assert storage.recover().rejoining == there
        storage.close()
        begin(on_disk)


# --- disks in memory --------------------------------------------------------------------------------


def test_an_image_that_is_put_back_is_a_copy() -> None:
    place = MemoryPlace()
    filled(place)
    image = place.disk.image()
    storage = place.open()
    storage.write([write(entries(8, [1, 1], term=3, base_offset=42))])
    storage.close()
    place.disk.restore(image)
    with pytest.raises(CopiedDirectory):
        place.open()
    place.disk.begin_rejoin(Distrust.COPY)
    for opened in place.twice(place.open()):
        assert opened.recover().rejoining
        assert opened.recover().last_index == 7
        assert opened.load_snapshot() == SNAPSHOT


def test_an_image_that_is_put_back_unnoticed_or_trusted_is_the_disk() -> None:
    place = MemoryPlace()
    filled(place)
    image = place.disk.image()
    place.disk.restore(image, unnoticed=True)
    storage = place.open()
    name = storage.directory
    assert storage.recover().last_index == 7
    storage.close()
    place.disk.restore(image)
    place.disk.trust_copy()
    storage = place.open()
    assert (storage.directory, storage.recover().rejoining) == (name, False)


def test_an_image_holds_what_is_durable_and_nothing_else() -> None:
    disk = MemoryDisk()
    storage = MemoryStorage(disk, US)
    storage.write([write(entries(1, [1]))])
    storage.write_unsynced([write(entries(2, [1], base_offset=1))])
    image = disk.image()
    storage.close()
    disk.restore(image, unnoticed=True)
    assert MemoryStorage(disk, US).recover().last_index == 1


def test_names_never_come_back_with_an_image() -> None:
    disk = MemoryDisk(b"seed")
    image = disk.image()
    names = [disk.directory]
    for _ in range(3):
        disk.wipe()
        names.append(disk.directory)
        disk.restore(image)
        disk.begin_rejoin(Distrust.COPY)
        names.append(disk.directory)
    assert len(set(names)) == 7
    assert MemoryDisk(b"seed").directory == names[0] != MemoryDisk(b"other").directory


def test_a_wiped_disk_is_a_new_one() -> None:
    place = MemoryPlace()
    filled(place)
    place.disk.begin_rejoin(Distrust.COPY)
    place.disk.wipe()
    storage = place.open(Identity("other", 7))
    found = storage.recover()
    assert (found.last_index, found.rejoining, found.hard_state) == (0, False, HardState(0, None))
    assert storage.peer_directories == {}


def test_the_two_halves_of_a_write_take_the_marker_with_the_second() -> None:
    for lost in (False, True):
        disk = MemoryDisk()
        disk.begin_rejoin(Distrust.COPY)
        storage = MemoryStorage(disk, US)
        storage.write_unsynced([SOUND])
        assert disk.rejoining
        if lost:
            disk.crash(random.Random(1))
        else:
            storage.sync()
        assert disk.rejoining == lost
