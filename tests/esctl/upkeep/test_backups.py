"""Backups, exports and cuts without a real node: what is decided, and what is refused."""

import errno
import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from sqlite_utils import Database as SQLite

from esctl.clusters import state
from esctl.clusters.backends import datadir
from esctl.clusters.backends.interface import NodeOptions, NodeProcess, RunState
from esctl.clusters.state import Cluster
from esctl.errors import (
    BackupOvertaken,
    ExportOfAnother,
    FileTaken,
    InputUnreadable,
    MachineRefused,
    QuorumNotLost,
    SurvivorDistrusted,
)
from esctl.events import export
from esctl.events.ndjson import EventReader, GoodLine
from esctl.query.survey import Report, Survey
from esctl.upkeep import recoverysteps
from esctl.upkeep.backups import catalog, create, offlinedata, safetyfloor
from esctl.upkeep.backups.drill import DrillCopy, DrillFindings
from esnode import config as node_config
from esnode.backup.file import BackupReader
from esnode.config import Ancestor, Dedup
from esnode.errors import ConnectionLost, DamagedBackup
from esnode.events import encode_event
from esnode.raft.messages import HardState, Write
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity
from tests.backup.logs import ORIGIN, log_of, write_backup
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes, plan
from tests.esctl.wire_node import IDENTITY, WireNode, event, log, serving, three

LOG = log_of([3, 1, 4, 1, 5, 9, 2, 6])


class Told:
    """Whoever watches the progress."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def begin(self, total: int) -> "Told":
        self.total, self.done = total, 0
        return self

    def advance(self, amount: int = 1) -> None:
        self.done += amount


def backups_in(home: Path) -> list[Path]:
    """Whole or not."""
    return list(home.glob("*b*"))


def agreeing(page_records: int = 3) -> list[WireNode]:
    """Three nodes with the same log, entry by entry."""
    nodes = three()
    for node in nodes:
        node.records = [entry.record for entry in LOG]
        node.page_records = page_records
        node.dedup = {"ttl_ms": 1000, "max_keys": 2000, "when_full": "refuse"}
    return nodes


# --- taking one ----------------------------------------------------------------------------------


async def test_a_follower_is_asked_and_the_whole_log_comes_entry_by_entry(tmp_path: Path) -> None:
    told, nodes = Told(), agreeing()
    async with serving(nodes, tmp_path) as cluster:
        manifest = await create.take(cluster, tmp_path / "b", None, told.begin)
    assert manifest.origin.node in (2, 3)
    assert manifest.origin.dedup == Dedup.of_keys(2000, 1000, "refuse")
    assert manifest.origin.known_offset == manifest.next_offset == 31
    assert told.done == told.total == manifest.events == 31
    assert [e for page in BackupReader.open(tmp_path / "b").pages() for e in page] == LOG


async def test_another_node_goes_on_where_the_one_that_was_asked_went_away(tmp_path: Path) -> None:
    nodes = agreeing()
    for node in nodes[1:]:
        node.leave_after_reads = 1
    async with serving(nodes, tmp_path) as cluster:
        manifest = await create.take(cluster, tmp_path / "b", None, Told().begin)
    assert manifest.origin.node == 1
    assert [e for page in BackupReader.open(tmp_path / "b").pages() for e in page] == LOG


async def test_a_log_that_is_cut_meanwhile_is_begun_anew_and_given_up_in_the_end(tmp_path: Path) -> None:
    nodes = agreeing()
    nodes[1].cut_after_reads = 1
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(BackupOvertaken):
            await create.take(cluster, tmp_path / "b", 2, Told().begin)
        assert backups_in(tmp_path) == []
        nodes[1].cut_after_reads = None
        assert (await create.take(cluster, tmp_path / "b", 2, Told().begin)).origin.node == 2
        with pytest.raises(FileTaken):
            await create.take(cluster, tmp_path / "b", 2, Told().begin)


async def test_a_backup_that_fails_leaves_no_file(tmp_path: Path) -> None:
    nodes = agreeing()
    for node in nodes:
        node.leave_after_reads = 0
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(ConnectionLost):
            await create.take(cluster, tmp_path / "b", None, Told().begin)
    assert backups_in(tmp_path) == []


# --- where they are kept -------------------------------------------------------------------------


def backup_at(home: Path, name: str, created: str) -> Path:
    path = home / catalog.default_name(name, created)
    write_backup(path, LOG, origin=replace(ORIGIN, name=name, created=created))
    return path


def test_backups_are_listed_and_the_oldest_of_each_cluster_can_go(tmp_path: Path) -> None:
    paths = [backup_at(tmp_path, "a", f"2013-01-0{day}T00:00:00Z") for day in (1, 2, 3)]
    other = backup_at(tmp_path, "b", "2012-01-01T00:00:00Z")
    torn = tmp_path / f"torn{catalog.SUFFIX}"
    torn.write_bytes(paths[0].read_bytes()[:-1])
    listed = Run("backup", "ls", str(tmp_path), "-o", "json").data["backups"]
    assert [each["whole"] for each in listed] == [True, True, True, True, False]
    assert "torn" in listed[4]["why"]
    assert [each["next_offset"] for each in listed[:4]] == [31] * 4
    tried = Run("backup", "prune", str(tmp_path), "--keep", "2", "--dry-run", "-o", "json").data
    assert tried["removed"] == [str(paths[0])]
    assert paths[0].exists()
    assert Run("backup", "prune", str(tmp_path), "--keep", "1", "--yes", "-o", "json").data["removed"] == [
        str(path) for path in paths[:2]
    ]
    assert sorted(tmp_path.glob(f"*{catalog.SUFFIX}")) == sorted([paths[2], other, torn])
    assert Run("backup", "ls", "-o", "json").data["backups"] == []  # where they go by themselves
    with pytest.raises(InputUnreadable):
        catalog.listed(tmp_path / "nowhere")


def test_a_damaged_backup_ends_verify_and_restore_with_11_and_makes_no_cluster(tmp_path: Path) -> None:
    path = backup_at(tmp_path, "a", "2013-01-01T00:00:00Z")
    whole = Run("backup", "verify", str(path), "-o", "json").data
    assert (whole["verdict"], whole["events"], whole["source_epoch"]) == ("passed", 31, 2)
    data = bytearray(path.read_bytes())
    data[200] ^= 4
    path.write_bytes(data)
    for words in (["verify", str(path)], ["restore", str(path), "--name", "again"]):
        run = Run("backup", *words, "-o", "json")
        assert run.code == 11
        (error,) = run.document["errors"]
        assert error["code"] == DamagedBackup.code
        assert "chunk 1 of" in error["message"]
    assert state.names() == []
    assert not (state.clusters_root() / "again").exists()


def test_a_backup_is_never_restored_over_a_cluster(tmp_path: Path, fakes: FakeNodes) -> None:
    path = backup_at(tmp_path, "a", "2013-01-01T00:00:00Z")
    run = Run("backup", "restore", str(path), "--name", fakes.cluster.name, "-o", "json")
    assert run.code == 1
    assert "never restored over data" in run.document["errors"][0]["message"]
    tried = Run("backup", "restore", str(path), "--name", "fresh", "--dry-run", "-o", "json").data
    assert (tried["epoch"], tried["dry_run"]) == (3, True)
    assert state.names() == [fakes.cluster.name]


def test_the_last_backup_counts_for_the_cluster_that_it_is_of_while_it_is_there(tmp_path: Path) -> None:
    cluster = replace(plan("a", tmp_path / "home"), identity=ORIGIN.cluster)
    assert catalog.last_of(cluster) is None
    path = tmp_path / "b"
    write_backup(path, LOG)
    catalog.note(cluster, path)
    noted = catalog.last_of(cluster)
    assert noted is not None
    assert (noted.next_offset, noted.path) == (31, path)
    assert catalog.last_of(replace(cluster, identity="another")) is None
    path.unlink()
    assert catalog.last_of(cluster) is None


def test_what_a_backup_has_in_doubt_is_no_reason_to_cut_the_log(tmp_path: Path) -> None:
    """The end of a stopped node's log: the cluster may have other events there by now."""
    cluster = replace(plan("a", tmp_path / "home"), identity=ORIGIN.cluster)
    write_backup(tmp_path / "b", LOG, origin=replace(ORIGIN, online=False, known_offset=25))
    catalog.note(cluster, tmp_path / "b")
    noted = catalog.last_of(cluster)
    assert noted is not None
    assert noted.next_offset == 25


def test_a_file_that_is_no_backup_any_more_is_no_reason_to_cut_the_log(tmp_path: Path) -> None:
    cluster, path = replace(plan("a", tmp_path / "home"), identity=ORIGIN.cluster), tmp_path / "b"
    write_backup(path, LOG)
    catalog.note(cluster, path)
    path.write_bytes(path.read_bytes()[:-1])
    assert catalog.last_of(cluster) is None


# --- what a restored cluster must know -----------------------------------------------------------


def test_a_restored_cluster_has_all_its_ancestors_and_the_window_of_the_last(tmp_path: Path) -> None:
    origin = replace(ORIGIN, known_offset=25)
    manifest = write_backup(tmp_path / "b", LOG, origin=origin)
    options = offlinedata.successor_options(manifest, "segments")
    assert options.ancestors == (Ancestor("older-1", 3), Ancestor("old-1", 25))
    assert (options.dedup, options.storage) == (origin.dedup, "segments")


def test_the_nodes_of_a_restored_cluster_are_made_or_nothing_is(tmp_path: Path, fakes: FakeNodes) -> None:
    manifest = write_backup(tmp_path / "b", LOG)
    reader, told = BackupReader.open(tmp_path / "b"), Told()
    cluster = plan("new", tmp_path / "new")
    offlinedata.rebuild(
        fakes.backend, cluster, offlinedata.successor_options(manifest, "sqlite"), reader, told.advance
    )
    assert told.done == 3 * 31
    loaded = [node_config.load(node.config) for node in cluster.nodes]
    assert {each.epoch for each in loaded} == {3}
    assert {each.dedup for each in loaded} == {ORIGIN.dedup}
    again = plan("again", tmp_path / "again")
    broken = bytearray((tmp_path / "b").read_bytes())
    broken[60] ^= 1
    (tmp_path / "b").write_bytes(broken)
    with pytest.raises(DamagedBackup):
        offlinedata.rebuild(
            fakes.backend, again, offlinedata.successor_options(manifest, "sqlite"), reader, told.advance
        )
    assert not (tmp_path / "again").exists()


def test_a_cluster_that_cannot_be_made_anew_leaves_what_was_put_aside(
    tmp_path: Path, fakes: FakeNodes
) -> None:
    """`node replace` put it there, and `cluster recover` promises to keep all old files."""
    manifest = write_backup(tmp_path / "b", LOG)
    reader = BackupReader.open(tmp_path / "b")
    datadir.renew(fakes.cluster.node(2), datetime(2013, 1, 2, tzinfo=UTC))
    moved = recoverysteps.move_aside(fakes.cluster, 1)
    broken = bytearray((tmp_path / "b").read_bytes())
    broken[60] ^= 1
    (tmp_path / "b").write_bytes(broken)
    options = offlinedata.successor_options(manifest, "sqlite")
    with pytest.raises(DamagedBackup):
        offlinedata.rebuild(fakes.backend, fakes.cluster, options, reader, Told().advance)
    assert not fakes.cluster.node(2).data_dir.exists()
    assert "node-2.epoch-1.aside-20130102T000000Z" in {path.name for path in moved}
    assert all(path.exists() for path in moved)


def test_a_drill_tells_what_is_wrong_from_what_could_not_be_seen(tmp_path: Path) -> None:
    manifest = write_backup(tmp_path / "b", LOG)
    copies = [DrillCopy("a", n, manifest.content_hash) for n in (1, 2)]
    good = DrillFindings([*copies, DrillCopy("a", 3, None, "not running")], 20, 20)
    assert good.wrong(manifest) == []
    assert good.doubts == ["node 3 of a: not running"]
    bad = DrillFindings([*copies, DrillCopy("drill", 1, "00")], 20, 19)
    assert len(bad.wrong(manifest)) == 2
    assert "1 of 20 events" in bad.wrong(manifest)[1]


# --- a lost quorum -------------------------------------------------------------------------------


async def test_a_cluster_that_answers_has_lost_no_quorum(tmp_path: Path) -> None:
    nodes = three()
    async with serving(nodes, tmp_path, absent=[3]) as cluster:
        with pytest.raises(QuorumNotLost, match="2 of 3"):
            await recoverysteps.refuse_if_alive(cluster)
    nodes[1].rejoining = True  # it answers, and has no vote
    async with serving(nodes, tmp_path, absent=[3]) as cluster:
        await recoverysteps.refuse_if_alive(cluster)


def write_node(cluster: Cluster, number: int, entries: int) -> None:
    config = node_config.load(cluster.node(number).config)
    storage = open_storage("sqlite", config.data_dir, Identity(cluster.identity, number))
    log = LOG[:entries]
    storage.write([Write(0, None, HardState(log[-1].term, None), tuple(log), 2)])
    storage.close()


def test_the_survivor_is_the_one_with_the_most_of_the_log(tmp_path: Path, fakes: FakeNodes) -> None:
    cluster = fakes.cluster
    write_node(cluster, 1, 6)
    write_node(cluster, 2, 8)
    with pytest.raises(SurvivorDistrusted, match="node 2 has more than node 1"):
        recoverysteps.check_best(cluster, 1, tmp_path)
    recoverysteps.check_best(cluster, 2, tmp_path)
    with pytest.raises(SurvivorDistrusted, match="node 3 is no source"):
        recoverysteps.check_best(cluster, 3, tmp_path)
    assert recoverysteps.startable(cluster, fakes.backend) == [1, 2]


def test_a_full_disk_ends_the_search_for_the_best_log_with_what_is_full(
    tmp_path: Path, fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_node(fakes.cluster, 1, 6)
    write_node(fakes.cluster, 2, 6)

    def full(*_paths: Path, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(MachineRefused, match=f"{tmp_path} cannot be written: No space left"):
        recoverysteps.check_best(fakes.cluster, 1, tmp_path)


def test_a_survivor_that_is_a_copy_is_not_believed(tmp_path: Path, fakes: FakeNodes) -> None:
    write_node(fakes.cluster, 1, 6)
    data_dir = fakes.cluster.node(1).data_dir
    shutil.move(data_dir, tmp_path / "away")
    shutil.copytree(tmp_path / "away", data_dir)
    run = Run("cluster", "recover", "fake", "--from-node", "1", "--confirm", "fake", "-o", "json")
    assert run.code == 13
    assert run.document["errors"][0]["code"] == SurvivorDistrusted.code


def test_a_stopped_node_is_backed_up_to_its_end_and_told_what_is_in_doubt(
    tmp_path: Path, fakes: FakeNodes
) -> None:
    write_node(fakes.cluster, 2, 6)
    words = ["backup", "create", "--offline", "--save", str(tmp_path / "b"), "-o", "json"]
    assert Run(*words).code == 13  # of which node?
    made = Run(*words, "--from-node", "2").data
    assert (made["online"], made["from_node"], made["last_index"]) == (False, 2, 6)
    assert (made["entries_beyond_commit"], made["known_offset"], made["next_offset"]) == (4, 0, 9)
    assert Run(*words, "--from-node", "2").code == 2  # the file is there


def test_old_files_are_moved_aside_and_never_over_others(tmp_path: Path, fakes: FakeNodes) -> None:
    cluster = fakes.cluster
    first = recoverysteps.move_aside(cluster, 1)
    assert all(path.name.endswith(".epoch-1") for path in first)
    fakes.backend.create(cluster, NodeOptions())
    second = recoverysteps.move_aside(cluster, 1)
    assert not set(first) & set(second)
    assert all(path.exists() for path in (*first, *second))


# --- cuts ----------------------------------------------------------------------------------------


def survey_of(cluster: Cluster, *next_offsets: int | None) -> Survey:
    reports = [
        Report(
            NodeProcess(node, RunState.RUNNING, 1, None, None),
            None if offset is None else {"next_offset": offset, "role": "follower"},
        )
        for node, offset in zip(cluster.nodes, next_offsets, strict=True)
    ]
    return Survey(cluster, reports)


def test_nothing_is_cut_that_a_follower_or_the_next_restore_needs(tmp_path: Path) -> None:
    survey = survey_of(plan("a", tmp_path), 50, 30, None)
    noted = catalog.NotedBackup(tmp_path / "b", 40, "2013")
    held = safetyfloor.needs(survey, noted)
    assert [need.offset for need in held] == [30, 40, 50]
    assert safetyfloor.in_the_way(held, 30) == []
    assert [need.offset for need in safetyfloor.in_the_way(held, 45)] == [30, 40]
    assert safetyfloor.needs(survey, None)[0].offset == 0
    assert "no backup" in safetyfloor.needs(survey, None)[0].what


# --- exports -------------------------------------------------------------------------------------


async def exported(cluster: Cluster, sink: export.Sink, chosen: export.Selection) -> export.Written:
    written = export.Written()
    await export.export(cluster, chosen, sink, written, Told().begin)
    return written


async def test_a_database_goes_on_where_it_ended_and_has_each_event_once(tmp_path: Path) -> None:
    path, nodes = tmp_path / "e.db", three(5)
    async with serving(nodes, tmp_path) as cluster:
        for count, expected in ((None, 5), (None, 0)):
            with export.open_database(path, cluster, []) as database:
                start = database.next_offsets
                written = await exported(cluster, database, export.Selection(start, count, None))
            assert written.events == expected
            assert written.next_offsets == {0: 5}
        for node in nodes:
            node.records = log(8)
        with export.open_database(path, cluster, []) as database:
            await exported(cluster, database, export.Selection(database.next_offsets, 2, None))
            assert database.next_offsets == {0: 5}
        with export.open_database(path, cluster, []) as database:
            assert database.next_offsets == {0: 7}
        renamed = replace(cluster, identity="another")
        with pytest.raises(ExportOfAnother), export.open_database(path, renamed, [(IDENTITY, 6)]):
            pytest.fail("it was opened")
        with export.open_database(path, renamed, [("older", 9), (IDENTITY, 7)]) as database:
            assert database.next_offsets == {0: 7}
    with sqlite3.connect(path) as connection:
        rows = connection.execute('SELECT "offset", id, source, json_extract(data, "$.n") FROM events')
        assert list(rows) == [(n, f"e{n}", "/test", n) for n in range(7)]
    connection.close()


def test_a_database_that_another_program_holds_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SQLite", lambda path: SQLite(sqlite3.connect(path, timeout=0)))
    path, cluster = tmp_path / "e.db", plan("local", tmp_path / "local")
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(MachineRefused, match="cannot be written: database is locked"),
            export.open_database(path, cluster, []),
        ):
            pytest.fail("it was opened")
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    with (
        pytest.raises(InputUnreadable, match="file is not a database"),
        export.open_database(path, cluster, []),
    ):
        pytest.fail("it was opened")


@pytest.mark.parametrize(
    "made",
    [
        "TABLE events (id TEXT, source TEXT)",
        "TABLE export (something TEXT)",
        "TABLE Events (id TEXT)",
        "VIEW events AS SELECT 1 AS id",
    ],
)
def test_tables_of_another_program_are_left_as_they_are(tmp_path: Path, made: str) -> None:
    path, cluster = tmp_path / "e.db", plan("local", tmp_path / "local")
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"CREATE {made}")
    before = path.read_bytes()
    with (
        pytest.raises(InputUnreadable, match=f"a table {made.split()[1].lower()} that no export made"),
        export.open_database(path, cluster, []),
    ):
        pytest.fail("it was opened")
    assert path.read_bytes() == before


async def test_lines_are_what_produce_takes_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "e.ndjson.gz"
    async with serving(three(6), tmp_path) as cluster:
        with export.open_lines(path) as lines:
            written = await exported(cluster, lines, export.Selection({0: 1}, 4, None))
        assert (written.events, written.next_offsets) == (4, {0: 5})
        with export.open_lines(tmp_path / "none.ndjson") as lines:
            assert (await exported(cluster, lines, export.Selection({0: 0}, None, "/other"))).events == 0
    reader = EventReader()
    read = [*reader.feed(path.read_bytes()), *reader.end()]
    assert [line.encoded for line in read if isinstance(line, GoodLine)] == [
        encode_event(event(n)) for n in range(1, 5)
    ]
    assert json.loads(gzip.decompress(path.read_bytes()).splitlines()[0]) == event(1)
    with pytest.raises(FileTaken), export.open_lines(path):
        pytest.fail("it was opened")


def test_an_export_that_fails_leaves_no_half_a_file(tmp_path: Path) -> None:
    with pytest.raises(trio.TooSlowError), export.open_lines(tmp_path / "e.ndjson"):
        raise trio.TooSlowError
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_json_has_no_form_for_are_written_in_base64() -> None:
    assert export.as_json({"data": b"\x00\xff"}) == '{"data":"AP8="}'
