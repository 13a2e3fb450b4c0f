"""Backups of clusters with several partitions: what `esctl backup` does with them, and says of them.

Called by the commands of the group.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.errors import Inconclusive
from esctl.exits import Exit
from esctl.ui.answer import Answer, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.escape import quoted
from esctl.ui.formatting import leaders_named, quantity

if TYPE_CHECKING:
    from esctl.ui.progress import Progress
    from esctl.upkeep.backups.answers import (
        CheckedRingBackupAnswer,
        PlannedRingRestoreAnswer,
        RingBackupData,
        RingRestoreAnswer,
    )
    from esctl.upkeep.backups.ringbackup import RingBackup


def create(
    run: Invocation, cluster: state.Cluster, path: Path, number: int | None, *, offline: bool
) -> "Answer[RingBackupData]":
    """Write a directory with the logs of all partitions; `offline`, those of the stopped node `number`."""
    from esctl.upkeep.backups import catalog, ringbackup  # loaded late: they bring trio and the client

    if offline:
        assert number is not None
        with run.terminal.progress(f"backing up node {number} of {cluster.name}", None, "events") as bar:
            backup = ringbackup.take_stopped(cluster, path, number, bar.advance)
        return _created(cluster, path, backup)
    with ExitStack() as bars:

        def begin(total: int) -> "Progress":
            return bars.enter_context(run.terminal.progress(f"backing up {cluster.name}", total, "events"))

        backup = run.trio(lambda: ringbackup.take(cluster, path, number, begin))
    catalog.note(cluster, path)
    return _created(cluster, path, backup)


def _created(cluster: state.Cluster, path: Path, backup: "RingBackup") -> "Answer[RingBackupData]":
    what = f"backed up {quantity(backup.events, 'event')} of {cluster.partitions} partitions into {path}"
    after = Fields([("next", f"esctl backup verify {quoted(path)}")])
    return Answer(data_of(backup), [Line(what, Tone.GOOD), *views_of(backup), after])


def verify(run: Invocation, path: Path) -> "Answer[CheckedRingBackupAnswer]":
    """Check all parts completely."""
    from esctl.upkeep.backups import ringbackup  # loaded late: it brings the storage

    backup = ringbackup.open_backup(path)
    with run.terminal.progress(f"checking {path.name}", backup.events, "events") as bar:
        ringbackup.check(backup, bar.advance)
    views: list[View] = [Line(f"{path} is whole", Tone.GOOD), *views_of(backup)]
    data: CheckedRingBackupAnswer = {**data_of(backup), "verdict": "passed"}
    if backup.events:
        return Answer(data, views)
    nothing = Inconclusive(f"{path} is whole and holds no event", next_step="esctl backup ls")
    return Answer({**data, "verdict": "inconclusive"}, views, [Trouble.of(nothing)], Exit.INCONCLUSIVE)


def restore(
    run: Invocation,
    path: Path,
    name: str,
    nodes: int,
    *,
    data_dir: Path | None,
    storage: str,
    base_port: int | None,
    timeout_s: float,
    dry_run: bool,
) -> "Answer[PlannedRingRestoreAnswer | RingRestoreAnswer]":
    """Make a cluster with as many partitions as the backup has, and start it. The lock is held."""
    from esctl.upkeep.backups import ringbackup  # loaded late: it brings the storage

    backup = ringbackup.open_backup(path)
    cluster = layout.plan(
        name, nodes, data_dir=data_dir, storage=storage, base_port=base_port, partitions=len(backup.readers)
    )
    options, backend = ringbackup.successor_options(backup, storage), backend_named(cluster.backend)
    epoch = 1 + len(options.ancestors)
    if dry_run:
        layout.check_free(cluster, options)
        planned: PlannedRingRestoreAnswer = {
            **data_of(backup), "name": name, "dry_run": True, "epoch": epoch,
        }  # fmt: skip
        made = f"{nodes} nodes of {cluster.partitions} partitions in {cluster.data_dir}, epoch {epoch}"
        return Answer(planned, [Line(f"would make {made}")])
    with run.terminal.progress(f"checking {path.name}", backup.events, "events") as bar:
        ringbackup.check(backup, bar.advance)
    with run.terminal.progress(f"restoring {name}", backup.events * nodes, "events") as bar:
        ringbackup.rebuild(backend, cluster, options, backup, bar.advance)
    state.add(cluster)
    leaders = _started(run, name, timeout_s)
    restored: RingRestoreAnswer = {
        **data_of(backup),
        "name": name, "identity": cluster.identity, "epoch": epoch, "leaders": leaders,
        "addresses": cluster.addresses, "data_dir": str(cluster.data_dir),
    }  # fmt: skip
    said = f"cluster {name} has the {quantity(backup.events, 'event')} of {path}; {leaders_named(leaders)}"
    pairs: list[tuple[str, Value]] = [
        ("epoch", epoch),
        ("identity", cluster.identity),
        ("addresses", ", ".join(cluster.addresses)),
        ("next", f"esctl verify --cluster {name}"),
    ]
    return Answer(restored, [Line(said, Tone.GOOD), Fields(pairs)])


def _started(run: Invocation, name: str, timeout_s: float) -> list[int]:
    from esctl.query.leader import wait_for_leaders  # loaded late: it brings trio and the client

    with run.changing(name) as cluster, run.terminal.progress(f"starting all nodes of {name}"):
        backend = backend_named(cluster.backend)

        async def start() -> list[int]:
            await backend.start(cluster, [node.id for node in cluster.nodes], timeout_s)
            return await wait_for_leaders(cluster, timeout_s)

        return run.trio(start)


def data_of(backup: "RingBackup") -> "RingBackupData":
    """For the JSON answer."""
    origin = backup.manifests[0].origin
    return {
        "file": str(backup.path),
        "size_bytes": backup.size_bytes,
        "cluster": origin.name,
        "identity": origin.cluster,
        "source_epoch": origin.epoch,
        "created": origin.created,
        "events": backup.events,
        "partitions": [
            {
                "id": number,
                "events": one.events,
                "from_node": one.origin.node,
                "first_offset": one.first_offset,
                "next_offset": one.next_offset,
                "content_hash": one.content_hash,
                "sha256": one.sha256,
            }
            for number, one in enumerate(backup.manifests)
        ],
    }


def views_of(backup: "RingBackup") -> list[View]:
    """For people."""
    origin = backup.manifests[0].origin
    head: list[tuple[str, Value]] = [
        ("cluster", f"{origin.name} ({origin.cluster}), epoch {origin.epoch}"),
        ("made", origin.created),
        ("events", backup.events),
        ("bytes", backup.size_bytes),
    ]
    rows: list[list[Value]] = [
        [str(number), one.events, one.first_offset, one.next_offset, one.origin.node, one.content_hash]
        for number, one in enumerate(backup.manifests)
    ]
    columns = ["partition", "events", "first", "next", "of node", "hash of the events"]
    return [Fields(head), Table(columns, rows)]
