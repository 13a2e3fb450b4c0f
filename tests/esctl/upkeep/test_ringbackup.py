"""A backup of several partitions: all parts of one backup or none, and a cluster that is made of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from esctl.cli.errorgroups import told_as_one
from esctl.clusters import state
from esctl.clusters.backends.interface import NodeOptions
from esctl.clusters.state import Cluster
from esctl.errors import FileTaken, RingMoving
from esctl.exits import Exit
from esctl.query import ringrest
from esctl.ui.progress import Silent
from esctl.upkeep.backups import catalog, create, offlinedata, ringbackup
from esnode.backup.manifest import Manifest
from esnode.config import Ancestor, load
from esnode.dedup.ownership import RingSwitch
from esnode.errors import DamagedBackup, NewerFormat, Unreachable
from esnode.raft.entry import seal_ring_change
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity
from tests.backup.logs import ORIGIN, log_of, write_backup
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes

LOGS = (log_of([3, 1, 4]), log_of([1, 5]))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A backup of two partitions; the first ends where 8 events are known, the second at 6."""
    return backup_in(tmp_path / "two.esbackup")


def backup_in(path: Path, created: str = "2013-01-01T00:00:00Z", name: str = "two") -> Path:
    path.mkdir()
    parts: list[Manifest] = []
    for number, log in enumerate(LOGS):
        origin = replace(
            ORIGIN, name=name, created=created, known_offset=log[-1].next_offset, node=number + 1,
            ancestors=(Ancestor("before-0a1b2c3d", 7 - number),),
        )  # fmt: skip
        parts.append(write_backup(ringbackup.part_of(path, number), log, origin=origin))
    write_manifest(path, parts)
    return path


def write_manifest(path: Path, parts: list[Manifest], **changes: object) -> None:
    document = {
        "schema": "eventstreamcore-ring-backup/v1", "ring_version": 1,
        "partitions": [{"id": number, "sha256": one.sha256} for number, one in enumerate(parts)],
    }  # fmt: skip
    (path / ringbackup.MANIFEST).write_text(json.dumps(document | changes), encoding="utf-8")


def test_a_backup_is_what_its_parts_are(home: Path) -> None:
    backup = ringbackup.open_backup(home)
    assert (backup.events, len(backup.readers)) == (14, 2)
    run = Run("backup", "verify", str(home), "-o", "json")
    assert run.code is Exit.OK
    assert [(one["id"], one["events"], one["from_node"]) for one in run.data["partitions"]] == [
        (0, 8, 1), (1, 6, 2),
    ]  # fmt: skip


def test_a_directory_without_a_manifest_or_a_part_is_no_backup(home: Path) -> None:
    ringbackup.part_of(home, 1).rename(home / "elsewhere")
    with pytest.raises(DamagedBackup, match=r"lacks partition-1\.esbackup"):
        ringbackup.open_backup(home)
    (home / ringbackup.MANIFEST).unlink()
    with pytest.raises(DamagedBackup, match="it is no backup, or was not finished"):
        ringbackup.open_backup(home)
    assert Run("backup", "verify", str(home)).code is not Exit.OK


def test_a_part_of_another_backup_is_noticed(home: Path) -> None:
    write_backup_over = ringbackup.part_of(home, 1)
    write_backup_over.unlink()
    write_backup(write_backup_over, log_of([9]))
    with pytest.raises(DamagedBackup, match="is not the part that the manifest of the backup names"):
        ringbackup.open_backup(home)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"schema": "eventstreamcore-ring-backup/v2"}, NewerFormat),
        ({"schema": "something"}, DamagedBackup),
        ({"ring_version": 2}, DamagedBackup),
        ({"partitions": []}, DamagedBackup),
        ({"partitions": [{"id": 1, "sha256": ""}]}, DamagedBackup),
        ({"partitions": 3}, DamagedBackup),
    ],
)
def test_a_manifest_that_is_not_understood_is_refused(
    home: Path, changes: dict[str, object], error: type[Exception]
) -> None:
    parts = ringbackup.open_backup(home).manifests
    write_manifest(home, parts, **changes)
    with pytest.raises(error):
        ringbackup.open_backup(home)


def test_a_restored_cluster_has_each_log_in_its_partition_and_knows_where_it_comes_from(
    home: Path, make_fakes: Callable[..., FakeNodes]
) -> None:
    backup = ringbackup.open_backup(home)
    options = ringbackup.successor_options(backup, "sqlite")
    assert options.ancestors == (Ancestor("before-0a1b2c3d", 6), Ancestor(ORIGIN.cluster, 6))
    fakes = make_fakes("again", partitions=2)
    cluster, done = fakes.cluster, list[int]()
    fakes.backend.destroy(cluster)
    ringbackup.rebuild(fakes.backend, cluster, options, backup, done.append)
    assert sum(done) == 14 * len(cluster.nodes)
    for node in cluster.nodes:
        config = load(node.config)
        assert config.partitions == 2
        for number, log in enumerate(LOGS):
            theirs = config.of_partition(number)
            identity = Identity(theirs.cluster, theirs.node_id, partition=number)
            storage = open_storage(theirs.storage, theirs.data_dir, identity)
            try:
                assert storage.recover().last_index == len(log)
            finally:
                storage.close()


def test_nothing_is_left_of_a_backup_that_failed_and_no_other_is_touched(
    tmp_path: Path, make_fakes: Callable[..., FakeNodes]
) -> None:
    cluster = make_fakes("down", partitions=2).cluster
    with pytest.raises(Unreachable), told_as_one():
        trio.run(ringbackup.take, cluster, tmp_path / "new", None, lambda _: Silent())
    assert not (tmp_path / "new").exists()
    (tmp_path / "taken").mkdir()
    with pytest.raises(FileTaken):
        trio.run(ringbackup.take, cluster, tmp_path / "taken", None, lambda _: Silent())
    assert (tmp_path / "taken").is_dir()


@pytest.mark.parametrize("versions", [(2, 3), (2, None), (None,)], ids=str)
def test_a_backup_while_sources_move_is_refused_and_nothing_is_left_of_it(
    tmp_path: Path,
    make_fakes: Callable[..., FakeNodes],
    monkeypatch: pytest.MonkeyPatch,
    versions: tuple[int | None, ...],
) -> None:
    cluster, seen = make_fakes("moves", partitions=2).cluster, iter(versions)

    async def version(_cluster: Cluster) -> int:
        if (found := next(seen)) is None:
            raise RingMoving("sources are moving")
        return found

    async def take(_cluster: Cluster, into: Path, _number: None, _begin: object, part: int) -> Manifest:
        return write_backup(into, LOGS[part])

    monkeypatch.setattr(ringrest, "version_at_rest", version)
    monkeypatch.setattr(create, "take", take)
    with pytest.raises(RingMoving, match=r"sources .*mov"), told_as_one():
        trio.run(ringbackup.take, cluster, tmp_path / "new", None, lambda _: Silent())
    assert not (tmp_path / "new").exists()
    seen = iter((2, 2))
    assert trio.run(ringbackup.take, cluster, tmp_path / "new", None, lambda _: Silent()).events == 14


def test_a_backup_that_was_taken_while_sources_moved_is_not_whole_and_not_restored(
    tmp_path: Path, make_fakes: Callable[..., FakeNodes]
) -> None:
    """The first part still takes what the second one has taken over: restored, it would be stored twice."""
    made = tmp_path / "halfway"
    made.mkdir()
    end = LOGS[1][-1]
    switch = seal_ring_change(
        RingSwitch(2, 2), index=end.index + 1, term=end.term, base_offset=end.next_offset,
        log_time_ms=end.log_time_ms,
    )  # fmt: skip
    logs = (LOGS[0], [*LOGS[1], switch])
    write_manifest(made, [write_backup(ringbackup.part_of(made, n), log) for n, log in enumerate(logs)])
    for words in (["verify", str(made)], ["restore", str(made), "--name", "new"]):
        (error,) = Run("backup", *words, "-o", "json").document["errors"]
        assert "written while sources moved" in error["message"] + error["cause"]
    assert state.names() == []


def test_it_is_listed_pruned_and_remembered_as_others_are(
    tmp_path: Path, make_fakes: Callable[..., FakeNodes]
) -> None:
    place = tmp_path / "backups"
    place.mkdir()
    for year in (2013, 2014, 2015):
        backup_in(place / f"two-{year}.esbackup", f"{year}-01-01T00:00:00Z")
    (place / "unfinished.esbackup").mkdir()
    listed = Run("backup", "ls", str(place), "-o", "json").data["backups"]
    assert [(one["whole"], len(one.get("partitions", ()))) for one in listed] == [
        (True, 2), (True, 2), (True, 2), (False, 0),
    ]  # fmt: skip
    assert Run("backup", "prune", str(place), "--keep", "1", "--yes").code is Exit.OK
    assert sorted(path.name for path in place.iterdir()) == ["two-2015.esbackup", "unfinished.esbackup"]
    cluster = replace(make_fakes("two", partitions=2).cluster, identity=ORIGIN.cluster)
    catalog.note(cluster, place / "two-2015.esbackup")
    noted = [catalog.last_of(cluster, number) for number in (0, 1, 2)]
    assert [one.next_offset if one is not None else None for one in noted] == [8, 6, None]


def test_an_offline_backup_has_the_log_of_every_partition_of_a_stopped_node(
    tmp_path: Path, home: Path, make_fakes: Callable[..., FakeNodes]
) -> None:
    fakes = make_fakes("again", partitions=2)
    cluster, backup = fakes.cluster, ringbackup.open_backup(home)
    fakes.backend.destroy(cluster)
    options = ringbackup.successor_options(backup, "sqlite")
    ringbackup.rebuild(fakes.backend, cluster, options, backup, lambda _: None)
    made = tmp_path / "offline"
    words = ["create", "--offline", "--from-node", "2", "--cluster", "again", "--save", str(made)]
    data = Run("backup", *words, "-o", "json").data
    assert [(one["id"], one["events"], one["from_node"]) for one in data["partitions"]] == [
        (0, 8, 2),
        (1, 6, 2),
    ]
    again = ringbackup.open_backup(made)
    assert [one.content_hash for one in again.manifests] == [one.content_hash for one in backup.manifests]
    shutil.rmtree(cluster.node(2).data_dir / "partition-1")
    (error,) = Run("backup", *words[:-1], str(tmp_path / "half"), "-o", "json").document["errors"]
    assert (error["code"], (tmp_path / "half").exists()) == ("ES4404", False)


def test_compact_wants_to_know_the_partition(make_fakes: Callable[..., FakeNodes]) -> None:
    make_fakes("two", partitions=2)
    (error,) = Run("compact", "--before", "1", "-o", "json").document["errors"]
    assert error["next"] == "esctl compact --before 1 --partition 0 --cluster two"


def test_one_partition_is_restored_from_its_file_as_ever(
    tmp_path: Path, make_fakes: Callable[..., FakeNodes]
) -> None:
    fakes = make_fakes("one")
    fakes.backend.destroy(fakes.cluster)
    write_backup(tmp_path / "one.esbackup", LOGS[0])
    reader = offlinedata.open_backup(tmp_path / "one.esbackup")
    offlinedata.rebuild(fakes.backend, fakes.cluster, NodeOptions(), reader, lambda _: None)
    for node in fakes.cluster.nodes:
        assert (node.data_dir / "log.sqlite").exists()
