"""Why a disk is not to be believed: noted in the marker, and what may take the marker away."""

import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from esnode.apply import Checkpoint
from esnode.dedup.keywindow import CHUNK_BYTES
from esnode.errors import CopiedDirectory, DamagedRecord, DistrustedDirectory, WrongDirectory
from esnode.raft.messages import HardState
from esnode.storage.interface import Distrust, Identity, Storage
from esnode.storage.place import DirectoryPlace as DataDirectory
from tests.storage.logs import entries, write
from tests.storage.places import US, DirectoryPlace, Place
from tests.storage.test_rejoin import SOUND, begin, copied, filled, trust

GRAVE = [why for why in Distrust if why is not Distrust.COPY]


@pytest.mark.parametrize("why", Distrust)
def test_the_marker_says_why(place: Place, why: Distrust) -> None:
    filled(place)
    assert place.open().distrust is None
    place.close()
    begin(place, why)
    storage = place.open()
    for opened in place.twice(storage):
        assert opened.distrust is why
        storage = opened
    storage.write([SOUND])
    for opened in place.twice(storage):
        assert opened.distrust is None


def test_of_several_causes_the_gravest_counts(place: Place) -> None:
    filled(place)
    for why, counts in [
        (Distrust.COPY, Distrust.COPY),
        (Distrust.PEERS, Distrust.PEERS),
        (Distrust.COPY, Distrust.PEERS),
        (Distrust.OPERATOR, Distrust.OPERATOR),
        (Distrust.DAMAGE, Distrust.DAMAGE),
        (Distrust.PEERS, Distrust.DAMAGE),
    ]:
        begin(place, why)
        storage = place.open()
        assert storage.distrust is counts
        storage.close()


def test_a_copy_that_has_begun_to_rejoin_can_still_be_trusted(place: Place) -> None:
    """It has followed a leader meanwhile: what it has acked since is kept, under the name it has now."""
    filled(place)
    begin(place, Distrust.COPY)
    storage = place.open()
    storage.write([write(entries(8, [1], term=3, base_offset=42), hard_state=HardState(4, None))])
    storage.remember_peer(3, b"3" * 16)
    name = storage.directory
    storage.close()
    trust(place)
    for opened in place.twice(place.open()):
        found = opened.recover()
        assert (found.rejoining, opened.distrust) == (False, None)
        assert (found.last_index, found.hard_state) == (8, HardState(4, None))
        assert opened.directory == name
        assert opened.peer_directories == {}


@pytest.mark.parametrize("why", GRAVE)
def test_a_disk_that_rejoins_for_a_graver_reason_cannot_be_trusted(place: Place, why: Distrust) -> None:
    filled(place)
    begin(place, Distrust.COPY)
    begin(place, why)
    with pytest.raises(DistrustedDirectory, match="--trust-copy is for a copy"):
        trust(place)
    assert place.open().distrust is why


def test_a_copy_that_has_rejoined_has_nothing_to_be_trusted_for(place: Place) -> None:
    filled(place)
    begin(place, Distrust.COPY)
    storage = place.open()
    storage.write([SOUND])
    storage.close()
    trust(place)
    assert place.open().distrust is None


# --- directories ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"cause": "copy"}', '{"cause": "whim", "directory": "%s"}' % ("aa" * 16)],
)
def test_a_marker_that_cannot_be_read_says_damage(on_disk: DirectoryPlace, text: str) -> None:
    filled(on_disk)
    name = on_disk.open().directory
    on_disk.close()
    (on_disk.path / "rejoining").write_text(text)
    storage = on_disk.open()
    assert storage.distrust is Distrust.DAMAGE
    assert storage.directory != name
    storage.write([SOUND])
    storage.close()
    assert on_disk.open().distrust is None


def test_a_copy_that_is_trusted_forgets_the_directories_of_the_others(on_disk: DirectoryPlace) -> None:
    """They may have been moved with it, and begun to rejoin under other names."""
    filled(on_disk)
    with closing(copied(on_disk)) as copy:
        trust(copy)
        assert copy.open().peer_directories == {}


def test_another_nodes_marker_is_left_alone(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    begin(on_disk, Distrust.COPY)
    before = (on_disk.path / "rejoining").read_bytes()
    stranger = DataDirectory(on_disk.engine, on_disk.path, Identity("test", 2))
    with pytest.raises(WrongDirectory):
        stranger.trust_copy()
    with pytest.raises(WrongDirectory):
        stranger.begin_rejoin(Distrust.DAMAGE)
    assert (on_disk.path / "rejoining").read_bytes() == before


@pytest.fixture
def lost_end(on_disk: DirectoryPlace) -> DirectoryPlace:
    """A directory whose log ends before its mark, as after a power cut on a disk that lies, put aside."""
    filled(on_disk)
    with closing(on_disk.open()) as storage:
        save_checkpoint(storage)
    mark = (on_disk.path / "durable").read_bytes()
    shutil.copytree(on_disk.path, on_disk.path.with_name("earlier"))
    storage = on_disk.open()
    storage.write([write(entries(8, [1], term=3, base_offset=42))])
    storage.close()
    later = (on_disk.path / "durable").read_bytes()
    assert later != mark
    shutil.rmtree(on_disk.path)
    on_disk.path.with_name("earlier").rename(on_disk.path)
    trust(on_disk)
    (on_disk.path / "durable").write_bytes(later)
    trust(on_disk)
    with pytest.raises(DamagedRecord, match="its end is lost"):
        on_disk.open()
    on_disk.close()
    begin(on_disk, Distrust.DAMAGE)
    with closing(on_disk.open()) as storage:
        save_checkpoint(storage)
    return on_disk


def save_checkpoint(storage: Storage) -> None:
    storage.keep_keys(0, [bytes(CHUNK_BYTES)])
    storage.save_checkpoint(Checkpoint(8, 3, 80, 0, 1, b"the state"))


def test_a_log_that_was_put_aside_can_be_put_back_by_hand(lost_end: DirectoryPlace) -> None:
    """docs/deployment.md, "When a majority rejoins": the steps for a log that was put aside."""
    data_dir = lost_end.path
    names = ("log.sqlite", "rocksdb", "segments")
    engine_files = [each for each in data_dir.iterdir() if each.name.startswith(names)]
    kept = [*data_dir.glob("savepoint"), *data_dir.glob("keys-*")]
    assert len(kept) == 2
    for each in [*engine_files, data_dir / "durable", *data_dir.glob("written-*"), *kept]:
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    for each in (data_dir / "damaged-1").iterdir():
        each.rename(data_dir / each.name)
    (data_dir / "durable").write_bytes(bytes(128))
    for each in [data_dir / "savepoint", *data_dir.glob("written-*"), data_dir / "rejoining"]:
        each.unlink()
    trust(lost_end)
    for opened in lost_end.twice(lost_end.open()):
        assert opened.recover().last_index == 7
        assert opened.distrust is None


def test_the_marker_is_written_whole_and_only_its_owner_reads_it(on_disk: DirectoryPlace) -> None:
    begin(on_disk, Distrust.OPERATOR)
    path = Path(on_disk.path / "rejoining")
    found = json.loads(path.read_text())
    assert found["cause"] == "operator"
    assert found["directory"] == on_disk.open().directory.hex()
    assert oct(os.stat(path).st_mode)[-3:] == "600"


def test_a_copy_that_was_not_trusted_is_still_a_copy(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    with closing(copied(on_disk)) as copy:
        for _ in range(2):
            with pytest.raises(CopiedDirectory):
                copy.open()


def test_the_identity_is_checked_to_the_type(on_disk: DirectoryPlace) -> None:
    filled(on_disk)
    path = on_disk.path / "identity.json"
    whole = json.loads(path.read_text())
    wrong: list[object] = [float("inf"), float("nan"), 2.5, "7", True, []]
    for key in ("inode", "born_ns"):
        for value in wrong:
            path.write_text(json.dumps({**whole, key: value}))
            with pytest.raises(DamagedRecord, match="identity"):
                on_disk.open()
    path.write_text(json.dumps({**whole, "born_ns": None}))
    on_disk.open()
    assert US.node_id == whole["node_id"]
