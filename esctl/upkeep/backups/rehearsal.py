"""One drill from the backup to the verdict: take it, restore it, compare, and throw all of it away.

Decides the order, and that the throw-away cluster goes whatever happens. The verdict counts, also where the
clean-up is not complete. Called by `esctl backup drill`.
"""

import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.clusters.backends.interface import Backend
from esctl.clusters.state import Cluster
from esctl.query.leader import wait_for_leaders
from esctl.ui.progress import Progress
from esctl.upkeep.backups import create, drill, offlinedata, ringbackup
from esctl.upkeep.backups.drill import DrillFindings
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest


@dataclass(frozen=True, slots=True)
class DrilledPartition:
    """What is in the backup of a partition, and what came out."""

    manifest: Manifest
    findings: DrillFindings


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came out of each partition, by number, and what is left behind."""

    partitions: Sequence[DrilledPartition]
    throw_away: str
    seconds: dict[str, float]
    left: list[Path]


def rehearse(
    run: Invocation, source: Cluster, file: Path | None, storage: str, timeout_s: float
) -> Rehearsed:
    """Drill with `file`, or with a backup made for it. Raises what making and restoring one does."""
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="esctl-drill-") as home:
        readers = _backup(run, source, file, Path(home))
        clock.lap("backup")
        with state.locked("", run.terminal.note):
            name = f"drill-{secrets.token_hex(3)}"
            restored = layout.plan(
                name,
                len(source.nodes),
                data_dir=Path(home) / "nodes",
                storage=storage,
                partitions=len(readers),
            )
            backend = backend_named(restored.backend)
            total = sum(reader.manifest.events for reader in readers) * len(restored.nodes)
            with run.terminal.progress(f"restoring {name}", total, "events") as bar:
                options = ringbackup.options_of([reader.manifest for reader in readers], storage)
                offlinedata.rebuild_all(backend, restored, options, readers, bar.advance)
            state.add(restored)
        left: list[Path] = []
        try:
            with run.terminal.progress(f"starting {name}"):
                run.trio(lambda: _start(backend, restored, timeout_s))
            clock.lap("restore")
            found = [
                DrilledPartition(reader.manifest, _compare(run, source, restored, reader, partition))
                for partition, reader in enumerate(readers)
            ]
            clock.lap("compare")
        finally:
            numbers = [node.id for node in restored.nodes]
            run.trio(lambda: backend.stop(restored, numbers, 0.0))
            left = backend.destroy(restored)
            if not left:
                state.remove(name)
        return Rehearsed(found, name, clock.laps, left)


async def _start(backend: Backend, cluster: Cluster, timeout_s: float) -> None:
    await backend.start(cluster, [node.id for node in cluster.nodes], timeout_s)
    await wait_for_leaders(cluster, timeout_s)


def _backup(run: Invocation, source: Cluster, file: Path | None, home: Path) -> Sequence[BackupReader]:
    """Of each partition."""
    if source.partitions > 1 if file is None else file.is_dir():
        return _backup_of_several(run, source, file, home)
    if file is None:
        file = home / "drill.esbackup"
        with ExitStack() as bars:

            def begin(total: int) -> create.BackupProgress:
                return bars.enter_context(run.terminal.progress(f"backing up {source.name}", total, "events"))

            made = file
            run.trio(lambda: create.take(source, made, None, begin))
    reader = offlinedata.open_backup(file)
    with run.terminal.progress(f"checking {file.name}", reader.manifest.events, "events") as bar:
        offlinedata.check_backup(reader, bar.advance)
    return [reader]


def _backup_of_several(
    run: Invocation, source: Cluster, path: Path | None, home: Path
) -> Sequence[BackupReader]:
    if path is None:
        path = home / "drill.esbackup"
        with ExitStack() as bars:

            def begin(total: int) -> Progress:
                return bars.enter_context(run.terminal.progress(f"backing up {source.name}", total, "events"))

            made = path
            run.trio(lambda: ringbackup.take(source, made, None, begin))
    backup = ringbackup.open_backup(path)
    with run.terminal.progress(f"checking {path.name}", backup.events, "events") as bar:
        ringbackup.check(backup, bar.advance)
    return backup.readers


def _compare(
    run: Invocation, source: Cluster, restored: Cluster, reader: BackupReader, partition: int
) -> DrillFindings:
    of = f" partition {partition}" if restored.partitions > 1 else ""
    with ExitStack() as bars:

        def begin(total: int) -> drill.DrillProgress:
            return bars.enter_context(run.terminal.progress(f"comparing{of}", total, "events"))

        return run.trio(lambda: drill.compare(source, restored, reader, begin, partition))


class _Clock:
    """Seconds for each part of the work."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._begun = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._begun = round(now - self._begun, 3), now
