"""A file name that tells what a restore in place has taken away: on real files, and by itself."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from esnode.errors import DamagedRecord, OlderDirectory
from esnode.storage.directory import begin_rejoin, trust_copy
from esnode.storage.interface import Distrust
from esnode.storage.witness import Witness
from tests.storage.logs import entries, write
from tests.storage.places import US, DirectoryPlace
from tests.storage.test_rejoin import SOUND


def names(path: Path) -> list[int]:
    return sorted(int(each.name.removeprefix("written-")) for each in path.glob("written-*"))


def put_back(place: DirectoryPlace, copy: Path) -> None:
    subprocess.run(["cp", "-a", f"{copy}/.", str(place.path)], check=True)


def older(place: DirectoryPlace, copy: Path) -> None:
    """Write, copy what is there, write once more, and put the copy back in place."""
    storage = place.open()
    storage.write([write(entries(1, [1, 1]))])
    storage.close()
    shutil.copytree(place.path, copy)
    storage = place.open()
    storage.write([write(entries(3, [1], base_offset=2))])
    storage.close()
    put_back(place, copy)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "a-copy"


def test_one_write_that_a_restore_in_place_has_taken_away_is_missed(
    on_disk: DirectoryPlace, copy: Path
) -> None:
    older(on_disk, copy)
    for _ in range(2):  # and at every later open
        with pytest.raises((OlderDirectory, DamagedRecord)):
            on_disk.open()


def test_a_process_that_was_killed_has_left_its_witness_with_the_first_write(
    on_disk: DirectoryPlace, copy: Path
) -> None:
    storage = on_disk.open()
    storage.write([write(entries(1, [1, 1]))])
    storage.close()
    before = names(on_disk.path)
    storage = on_disk.open()
    storage.write([write(entries(3, [1], base_offset=2))])
    assert names(on_disk.path)[-1] > before[-1]


def test_a_state_put_back_is_current_where_nothing_was_written_since(
    on_disk: DirectoryPlace, copy: Path
) -> None:
    storage = on_disk.open()
    storage.write([write(entries(1, [1, 1]))])
    storage.close()
    shutil.copytree(on_disk.path, copy)
    on_disk.open().close()
    put_back(on_disk, copy)
    assert on_disk.open().recover().last_index == 2


def test_a_node_that_has_rejoined_does_not_rejoin_for_the_same_again(
    on_disk: DirectoryPlace, copy: Path
) -> None:
    """Its writes are counted on from the older state's, and may be fewer than there were."""
    older(on_disk, copy)
    begin_rejoin(on_disk.path, on_disk.engine, US, Distrust.OLDER)
    storage = on_disk.open()
    assert storage.distrust is Distrust.OLDER
    storage.write([SOUND])
    assert on_disk.reopened(storage).distrust is None


def test_the_operators_word_for_a_copy_is_not_enough_for_an_older_state(
    on_disk: DirectoryPlace, copy: Path
) -> None:
    older(on_disk, copy)
    trust_copy(on_disk.path, on_disk.engine, US)
    with pytest.raises((OlderDirectory, DamagedRecord)):
        on_disk.open()
    trust_copy(on_disk.path, on_disk.engine, US, older=True)
    if on_disk.engine != "sqlite" or not (on_disk.path / "log.sqlite-wal").exists():
        assert on_disk.open().recover().last_index == 2


def test_names_are_few_and_one_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one = Witness(tmp_path)
    assert one.number == 0
    for number in range(1, 31):
        one.note(number)
        now += 0.25
    assert names(tmp_path) == [25, 29]
    one.note(30, at_once=True)
    one.note(3, at_once=True)
    assert names(tmp_path) == [29, 30]
    assert Witness(tmp_path).number == 30
    one.begin_again(29)
    assert names(tmp_path) == [29]


def test_a_disk_without_room_for_a_name_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    one = Witness(tmp_path)
    monkeypatch.setattr(os, "open", no_room)
    one.note(7)
    assert one.number == 0


def test_a_directory_that_takes_the_place_of_another_gets_none_of_its_names(tmp_path: Path) -> None:
    place = tmp_path / "node"
    place.mkdir()
    older = Witness(place)
    older.note(5_000, at_once=True)
    shutil.rmtree(place)
    place.mkdir()
    older.note(6_000, at_once=True)
    older.close()
    assert names(place) == []
