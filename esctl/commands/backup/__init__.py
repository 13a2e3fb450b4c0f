"""`esctl backup`: one file with the whole log, made, checked, restored and rehearsed.

A backup has the log as it is stored and what its cut prefix meant, so that a restored cluster knows every
event again. It is restored into a new cluster only, of a new epoch, and never over data that is there.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli import guard
from esctl.cli.arguments import BasePort, DataDir, DryRun, Engine, Nodes, StartTimeout, Yes
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.clusters.backends.interface import RunState
from esctl.commands.backup import severalpartitions
from esctl.errors import (
    ClusterExists,
    Inconclusive,
    InvalidArgument,
    NodeStillRuns,
)
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.escape import quoted
from esctl.ui.formatting import quantity

if TYPE_CHECKING:
    from esctl.upkeep.backups.answers import (
        BackupData,
        BackupDrillAnswer,
        BackupsAnswer,
        CheckedBackupAnswer,
        CheckedRingBackupAnswer,
        DamagedBackupRow,
        PlannedBackupAnswer,
        PlannedRestoreAnswer,
        PlannedRingRestoreAnswer,
        PruneAnswer,
        RestoreAnswer,
        RingBackupData,
        RingRestoreAnswer,
        WholeBackupRow,
        WholeRingBackupRow,
    )
    from esctl.upkeep.backups.catalog import BackupFile
    from esnode.backup.manifest import Manifest

app = new_typer()
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Backup file", show_default=False)]
DirectoryArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", help="Directory; by default, the directory to which backup create writes"
    ),
]


@command(app, "create", partitions=True)
def create(
    run: Invocation,
    into: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE", help="File to write (must not exist yet), or a directory to write it in"
        ),
    ] = None,
    from_node: Annotated[
        int | None,
        typer.Option(
            "--from-node", metavar="ID", min=1, help="Node to read the log from; by default, a follower"
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the data directory of --from-node, which must be stopped")
    ] = False,
    dry_run: DryRun = False,
) -> "Answer[BackupData | RingBackupData | PlannedBackupAnswer]":
    """Write all events that are acked so far into one file, while the cluster keeps running"""
    from esctl.upkeep.backups import catalog, create  # loaded late: they bring trio and the client

    cluster = run.cluster()
    if offline:
        _refuse_running(cluster, from_node)
    elif from_node is not None:
        cluster.node(from_node)
    path = _place(into, catalog.default_name(cluster.name, create.now_text()))
    if dry_run:
        whose = "a node that answers" if from_node is None else f"node {from_node}"
        data: PlannedBackupAnswer = {"cluster": cluster.name, "dry_run": True, "file": str(path)}
        return Answer(data, [Line(f"would write the log of {whose} into {path}; the quorum stays as it is")])
    state.make_directory(path.parent)
    if cluster.partitions > 1:
        return severalpartitions.create(run, cluster, path, from_node, offline=offline)
    manifest = _taken(run, cluster, path, from_node, offline=offline)
    catalog.note(cluster, path)
    views: list[View] = [Line(f"backed up {quantity(manifest.events, 'event')} into {path}", Tone.GOOD)]
    return Answer(
        _data(path, manifest), [*views, *_views(manifest), _next(f"esctl backup verify {quoted(path)}")]
    )


@command(app, "verify", partitions=True)
def verify(run: Invocation, file: FileArgument) -> "Answer[CheckedBackupAnswer | CheckedRingBackupAnswer]":
    """Check a backup completely: its digests and checksums, the order of its entries, and that the state
    can be rebuilt from it"""
    from esctl.upkeep.backups import offlinedata  # loaded late: it brings the storage

    if file.is_dir():
        return severalpartitions.verify(run, file)
    _must_be_there(file)
    reader = offlinedata.open_backup(file)
    with run.terminal.progress(f"checking {file.name}", reader.manifest.events, "events") as bar:
        offlinedata.check_backup(reader, bar.advance)
    views: list[View] = [Line(f"{file} is whole", Tone.GOOD)]
    if reader.manifest.events:
        return Answer(
            {**_data(file, reader.manifest), "verdict": "passed"}, [*views, *_views(reader.manifest)]
        )
    data: CheckedBackupAnswer = {**_data(file, reader.manifest), "verdict": "inconclusive"}
    nothing = Inconclusive(f"{file} is whole and holds no event", next_step="esctl backup ls")
    return Answer(data, [*views, *_views(reader.manifest)], [Trouble.of(nothing)], Exit.INCONCLUSIVE)


@command(app, "restore", partitions=True)
def restore(
    run: Invocation,
    file: FileArgument,
    name: Annotated[str, typer.Option("--name", metavar="NEW", help="Name of the new cluster")],
    nodes: Nodes = 3,
    data_dir: DataDir = None,
    storage: Engine = "sqlite",
    base_port: BasePort = None,
    timeout: StartTimeout = 30.0,
    dry_run: DryRun = False,
) -> "Answer[PlannedRestoreAnswer | RestoreAnswer | PlannedRingRestoreAnswer | RingRestoreAnswer]":
    """Create a cluster from a backup, with all its events and its deduplication state, and start it"""
    from esctl.upkeep.backups import offlinedata  # loaded late: it brings the storage
    from esctl.upkeep.backups.startup import start_and_elect

    state.check_name(name)
    layout.check_count(nodes, f"esctl backup restore {quoted(file)} --name {name} --nodes {nodes + 1}")
    if file.is_dir():
        with state.locked("", run.terminal.note):
            _must_be_new(file, name)
            return severalpartitions.restore(
                run, file, name, nodes, data_dir=data_dir, storage=storage, base_port=base_port,
                timeout_s=timeout, dry_run=dry_run,
            )  # fmt: skip
    _must_be_there(file)
    reader = offlinedata.open_backup(file)
    manifest = reader.manifest
    with state.locked("", run.terminal.note):
        _must_be_new(file, name)
        cluster = layout.plan(name, nodes, data_dir=data_dir, storage=storage, base_port=base_port)
        options, backend = offlinedata.successor_options(manifest, storage), backend_named(cluster.backend)
        epoch = 1 + len(options.ancestors)
        if dry_run:
            layout.check_free(cluster, options)
            planned: PlannedRestoreAnswer = {
                **_data(file, manifest), "name": name, "dry_run": True, "epoch": epoch,
            }  # fmt: skip
            return Answer(planned, [Line(f"would make {nodes} nodes in {cluster.data_dir}, epoch {epoch}")])
        with run.terminal.progress(f"checking {file.name}", manifest.events, "events") as bar:
            offlinedata.check_backup(reader, bar.advance)
        with run.terminal.progress(f"restoring {name}", manifest.events * nodes, "events") as bar:
            offlinedata.rebuild(backend, cluster, options, reader, bar.advance)
        state.add(cluster)
    with run.changing(name) as cluster, run.terminal.progress(f"starting {nodes} nodes of {name}"):
        leader = run.trio(lambda: start_and_elect(backend, cluster, timeout))
    views: list[View] = [
        Line(
            f"cluster {name} has the {quantity(manifest.events, 'event')} of {file}; node {leader} leads",
            Tone.GOOD,
        ),
        Fields(
            [
                ("epoch", epoch),
                ("identity", cluster.identity),
                ("next offset", manifest.next_offset),
                (
                    "old clients",
                    f"are told so (ES2020), and to send again what is from {manifest.origin.known_offset} on",
                ),
                ("addresses", ", ".join(cluster.addresses)),
                ("next", f"esctl verify --cluster {name}"),
            ]
        ),
    ]
    restored: RestoreAnswer = {
        **_data(file, manifest),
        "name": name, "identity": cluster.identity, "epoch": epoch, "leader": leader,
        "addresses": cluster.addresses, "data_dir": str(cluster.data_dir),
    }  # fmt: skip
    return Answer(restored, views)


@command(app, "drill", impact="rw", partitions=True)
def drill(
    run: Invocation,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Backup to restore; by default, a new one")
    ] = None,
    storage: Engine = "sqlite",
    timeout: StartTimeout = 30.0,
) -> "Answer[BackupDrillAnswer]":
    """Restore a backup into a temporary cluster, and compare that cluster, node by node, with the running
    one"""
    from esctl.commands.backup import drillanswer
    from esctl.upkeep.backups.rehearsal import rehearse  # loaded late: it brings trio and the storage

    cluster = run.cluster()
    return drillanswer.answer_of(cluster.name, rehearse(run, cluster, file, storage, timeout))


@command(app, "ls")
def ls(run: Invocation, directory: DirectoryArgument = None) -> "Answer[BackupsAnswer]":
    """List the backups in a directory"""
    from esctl.upkeep.backups import catalog  # loaded late: it brings the file format

    rows: list[list[Value]] = []
    data: list[WholeBackupRow | WholeRingBackupRow | DamagedBackupRow] = []
    for each in catalog.listed(directory or catalog.default_directory()):
        manifest = each.manifest
        size = f"{each.size_bytes / 1e6:,.1f} MB"
        if each.partitions:
            data.append(_ring_row(each))
            origin = each.partitions[0].origin
            created = origin.created.replace("T", " ").replace("Z", " UTC")
            what = f"{len(each.partitions)} partitions"
            rows.append([each.path.name, origin.name, origin.epoch, created, what, size])
        elif manifest is None:
            damaged: DamagedBackupRow = {
                "file": str(each.path), "size_bytes": each.size_bytes, "whole": False, "why": each.why,
            }  # fmt: skip
            data.append(damaged)
            rows.append([each.path.name, Cell("damaged", Tone.BAD), None, None, None, size])
        else:
            whole: WholeBackupRow = {
                **_data(each.path, manifest, each.size_bytes), "whole": True, "why": None,
            }  # fmt: skip
            data.append(whole)
            origin = manifest.origin
            rows.append(
                [
                    each.path.name,
                    origin.name,
                    origin.epoch,
                    origin.created.replace("T", " ").replace("Z", " UTC"),
                    manifest.next_offset,
                    size,
                ]
            )
    table = Table(
        ["file", "cluster", "epoch", "created", "next", "size"],
        rows,
        empty="no backups; make one: esctl backup create",
    )
    return Answer({"backups": data}, [table])


@command(app, "prune", impact="destructive")
def prune(
    run: Invocation,
    directory: DirectoryArgument = None,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=1, help="Number of backups to keep per cluster")
    ] = 7,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PruneAnswer]":
    """Remove the oldest backups of each cluster; damaged backups are kept for inspection"""
    from esctl.upkeep.backups import catalog  # loaded late: it brings the file format

    listed = catalog.listed(directory or catalog.default_directory())
    old = [each.path for each in catalog.too_many(listed, keep)]
    data: PruneAnswer = {"removed": [str(path) for path in old], "kept": len(listed) - len(old)}
    if dry_run or not old:
        verb = "would remove" if old else "nothing to remove:"
        return Answer({**data, "dry_run": dry_run}, [Line(f"{verb} {len(old)} of {len(listed)} backups")])
    guard.moderate(
        run.terminal, f"{len(old)} of {len(listed)} backups would be removed.", yes=yes, typed=run.typed
    )
    for path in old:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return Answer(data, [Line(f"removed {len(old)} backups, kept {len(listed) - len(old)}", Tone.GOOD)])


def _ring_row(each: "BackupFile") -> "WholeRingBackupRow":
    from esctl.upkeep.backups import ringbackup  # loaded late: it brings the storage

    return {
        **severalpartitions.data_of(ringbackup.open_backup(each.path)), "whole": True, "why": None,
    }  # fmt: skip


def _refuse_running(cluster: state.Cluster, number: int | None) -> None:
    again = f"esctl backup create --offline --from-node ID --cluster {cluster.name}"
    if number is None:
        raise NodeStillRuns("--offline wants --from-node: whose directory is to be read", next_step=again)
    process = next(p for p in backend_named(cluster.backend).nodes(cluster) if p.node == cluster.node(number))
    if process.state is not RunState.DOWN:
        raise NodeStillRuns(
            f"node {number} of {cluster.name} is {process.state}: its directory is its own",
            next_step=f"esctl backup create --from-node {number} --cluster {cluster.name}",
        )


def _must_be_new(file: Path, name: str) -> None:
    if name in state.names():
        raise ClusterExists(
            f"there is a cluster {name} already; a backup is never restored over data",
            next_step=f"esctl backup restore {quoted(file)} --name ANOTHER",
        )


def _must_be_there(file: Path) -> None:
    if not file.exists():
        raise InvalidArgument(f"there is no file {file}", next_step="esctl backup ls")
    if not file.is_file():  # a pipe cannot be read twice, and a directory not at all
        raise InvalidArgument(
            f"{file} is no regular file; a backup is read from several places",
            next_step="copy it into a file first: cat PIPE > FILE",
        )


def _place(into: Path | None, default_name: str) -> Path:
    from esctl.upkeep.backups import catalog  # loaded late: it brings the file format

    if into is None:
        return catalog.default_directory() / default_name
    return into.absolute() / default_name if into.is_dir() else into.absolute()


def _taken(
    run: Invocation, cluster: state.Cluster, path: Path, number: int | None, *, offline: bool
) -> "Manifest":
    from contextlib import ExitStack

    from esctl.upkeep.backups import create, offlinedata  # loaded late: they bring trio and the storage

    if offline:
        assert number is not None
        with run.terminal.progress(f"backing up node {number} of {cluster.name}", None, "events") as bar:
            return offlinedata.back_up_stopped(cluster, number, path, bar.advance)
    with ExitStack() as bars:

        def begin(total: int) -> create.BackupProgress:
            return bars.enter_context(run.terminal.progress(f"backing up {cluster.name}", total, "events"))

        return run.trio(lambda: create.take(cluster, path, number, begin))


def _data(path: Path, manifest: "Manifest", size_bytes: int | None = None) -> "BackupData":
    origin = manifest.origin
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size if size_bytes is None else size_bytes,
        "cluster": origin.name,
        "identity": origin.cluster,
        "source_epoch": origin.epoch,
        "created": origin.created,
        "from_node": origin.node,
        "online": origin.online,
        "events": manifest.events,
        "first_offset": manifest.first_offset,
        "next_offset": manifest.next_offset,
        "known_offset": origin.known_offset,
        "first_index": manifest.first_index,
        "last_index": manifest.last_index,
        "last_term": manifest.last_term,
        "entries_beyond_commit": manifest.beyond_commit,
        "log_time_ms": manifest.log_time_ms,
        "content_hash": manifest.content_hash,
        "sha256": manifest.sha256,
        "chunks": len(manifest.chunks),
    }


def _views(manifest: "Manifest") -> Sequence[View]:
    origin = manifest.origin
    pairs: list[tuple[str, Value]] = [
        ("cluster", f"{origin.name} ({origin.cluster}), epoch {origin.epoch}"),
        (
            "made",
            f"{origin.created} of node {origin.node}" + ("" if origin.online else ", which was stopped"),
        ),
        (
            "events",
            f"{manifest.events:,}: offsets {manifest.first_offset:,} to before {manifest.next_offset:,}",
        ),
        ("entries", f"{manifest.entries:,}: index {manifest.first_index:,} to {manifest.last_index:,}"),
        ("bytes", manifest.size_bytes),
        ("hash of the events", manifest.content_hash),
    ]
    if manifest.beyond_commit:
        pairs.insert(4, ("not known to be committed", f"the last {manifest.beyond_commit} entries"))
    return [Fields(pairs)]


def _next(words: str) -> View:
    return Fields([("next", words)])
