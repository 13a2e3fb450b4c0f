"""From a stopped node's directory to a backup, and from a backup to a directory that a node starts from."""

import json
import shutil
from pathlib import Path

import pytest

from esnode.apply import Machine
from esnode.backup.directory import back_up, check_source, lay_down, opened_copy
from esnode.backup.file import BackupReader, BackupWriter
from esnode.backup.manifest import Origin
from esnode.config import Address, Config, Member
from esnode.errors import (
    CopiedDirectory,
    DirectoryInUse,
    DistrustedDirectory,
    WrongDirectory,
)
from esnode.raft.messages import HardState, Write
from esnode.storage.directory import begin_rejoin
from esnode.storage.engines import open_storage
from esnode.storage.interface import Distrust, Identity
from esnode.upkeep.recovery import recover
from tests.backup.logs import DEDUP, ORIGIN, log_of, machine_of, write_backup

LOG = log_of([3, 1, 4, 1, 5, 9, 2, 6])
CUT, COMMIT = 5, 8

ENGINES = ["sqlite", "segments", "rocksdb"]


def config_of(path: Path, engine: str, cluster: str = "c-1") -> Config:
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    member = Member(1, Address("127.0.0.1", 1), Address("127.0.0.1", 2))
    return Config(cluster, 1, path, (member,), storage=engine, dedup=DEDUP)


def stopped_node(config: Config) -> None:
    """A directory as a node leaves it that had cut a prefix and knew of some commits."""
    storage = open_storage(config.storage, config.data_dir, Identity(config.cluster, 1))
    storage.write([Write(0, None, HardState(LOG[-1].term, 1), tuple(LOG[:COMMIT]), COMMIT)])
    storage.cut_prefix(machine_of(LOG[:CUT]).snapshot())
    storage.write([Write(0, None, None, tuple(LOG[COMMIT:]), COMMIT)])
    storage.close()


def origin(known_commit: int, known_offset: int) -> Origin:
    return Origin("c-1", "c", (), 1, False, "2013-01-01T00:00:00Z", known_commit, known_offset, DEDUP)


def image_of(path: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_stopped_node_has_is_restored_into_a_node_that_knows_it_all(
    tmp_path: Path, engine: str
) -> None:
    """The whole log, what the cut prefix meant, and what the log means for duplicates."""
    config = config_of(tmp_path / "old", engine)
    stopped_node(config)
    before = image_of(config.data_dir)
    with (
        BackupWriter(tmp_path / "b") as writer,
        opened_copy(config, tmp_path / "scratch") as storage,
    ):
        manifest = back_up(storage, writer, origin, lambda events: None)
    assert image_of(config.data_dir) == before  # not one byte of it
    assert not list((tmp_path / "scratch").iterdir())
    assert (manifest.first_index, manifest.last_index, manifest.beyond_commit) == (CUT + 1, 10, 2)
    assert manifest.origin.known_offset == LOG[COMMIT - 1].next_offset

    for target in ENGINES if engine == "sqlite" else [engine]:
        new = config_of(tmp_path / f"new-{target}", target, "c-2")
        told: list[int] = []
        lay_down(BackupReader.open(tmp_path / "b"), new, told.append)
        assert sum(told) == manifest.events
        laid = open_storage(target, new.data_dir, Identity("c-2", 1))
        machine = Machine(DEDUP)
        found = recover(laid, machine)
        assert machine.digest() == machine_of(LOG).digest()
        assert found.checkpoint is not None
        assert found.checkpoint.index == found.log.last_index == 10
        assert found.hard_state == HardState(LOG[-1].term, None)
        assert not found.rejoining
        assert [entry.record for entry in laid.read(CUT + 1, 10, 1 << 20)] == [e.record for e in LOG[CUT:]]
        assert machine.keys.lookup([LOG[2].keys[:16]])  # of the prefix: not an event any more, and known
        laid.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restored_node_starts_without_a_snapshot_too(tmp_path: Path, engine: str) -> None:
    write_backup(tmp_path / "b", LOG)
    config = config_of(tmp_path / "new", engine, "c-2")
    lay_down(BackupReader.open(tmp_path / "b"), config, lambda events: None)
    laid = open_storage(engine, config.data_dir, Identity("c-2", 1))
    machine = Machine(DEDUP)
    recover(laid, machine)
    assert machine.digest() == machine_of(LOG).digest()
    laid.close()


def test_a_backup_is_never_laid_over_something(tmp_path: Path) -> None:
    write_backup(tmp_path / "b", LOG)
    config = config_of(tmp_path / "new", "sqlite")
    config.data_dir.mkdir()
    (config.data_dir / "a file").write_text("mine")
    with pytest.raises(WrongDirectory):
        lay_down(BackupReader.open(tmp_path / "b"), config, lambda events: None)
    assert [each.name for each in config.data_dir.iterdir()] == ["a file"]


def test_the_directory_of_a_running_node_is_no_source(tmp_path: Path) -> None:
    config = config_of(tmp_path / "old", "sqlite")
    storage = open_storage("sqlite", config.data_dir, Identity("c-1", 1))
    with pytest.raises(DirectoryInUse), opened_copy(config, tmp_path / "scratch"):
        pytest.fail("it was opened")
    storage.close()


def test_a_disk_that_is_not_to_be_believed_is_no_source(tmp_path: Path) -> None:
    config = config_of(tmp_path / "old", "sqlite")
    with pytest.raises(WrongDirectory):
        check_source(config)  # there is none
    config.data_dir.mkdir()
    with pytest.raises(WrongDirectory):
        check_source(config)  # it is nobody's
    stopped_node(config)
    check_source(config)
    copied = config_of(tmp_path / "copy", "sqlite")
    shutil.copytree(config.data_dir, copied.data_dir)
    with pytest.raises(CopiedDirectory):
        check_source(copied)
    begin_rejoin(config.data_dir, "sqlite", Identity("c-1", 1), Distrust.OPERATOR)
    with pytest.raises(DistrustedDirectory):
        check_source(config)


def test_a_manifest_can_be_read_with_nothing_but_a_pager(tmp_path: Path) -> None:
    write_backup(tmp_path / "b", LOG)
    data = (tmp_path / "b").read_bytes()
    document = json.loads(data[data.rindex(b'{"schema"') : -48])
    assert document["origin"]["cluster"] == ORIGIN.cluster
    assert document["next_offset"] == LOG[-1].next_offset
