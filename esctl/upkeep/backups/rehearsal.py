"""One drill from the backup to the verdict: take it, restore it, compare, and throw all of it away.

Decides the order, and that the throw-away cluster goes whatever happens. The verdict counts, also where the
clean-up is not complete. Called by `esctl backup drill`.
"""

import secrets
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.clusters.backends import backend_named, layout
from esctl.clusters.state import Cluster
from esctl.upkeep.backups import create, drill, offlinedata
from esctl.upkeep.backups.drill import DrillFindings
from esctl.upkeep.backups.startup import start_and_elect
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came out, and what is left behind."""

    manifest: Manifest
    findings: DrillFindings
    throw_away: str
    seconds: dict[str, float]
    left: list[Path]


def rehearse(
    run: Invocation, source: Cluster, file: Path | None, storage: str, timeout_s: float
) -> Rehearsed:
    """Drill with `file`, or with a backup made for it. Raises what making and restoring one does."""
    clock = _Clock()
    with tempfile.TemporaryDirectory(prefix="esctl-drill-") as home:
        reader = _backup(run, source, file, Path(home))
        clock.lap("backup")
        with state.locked("", run.terminal.note):
            name = f"drill-{secrets.token_hex(3)}"
            restored = layout.plan(name, len(source.nodes), data_dir=Path(home) / "nodes", storage=storage)
            backend = backend_named(restored.backend)
            total = reader.manifest.events * len(restored.nodes)
            with run.terminal.progress(f"restoring {name}", total, "events") as bar:
                options = offlinedata.successor_options(reader.manifest, storage)
                offlinedata.rebuild(backend, restored, options, reader, bar.advance)
            state.add(restored)
        left: list[Path] = []
        try:
            with run.terminal.progress(f"starting {name}"):
                run.trio(lambda: start_and_elect(backend, restored, timeout_s))
            clock.lap("restore")
            findings = _compare(run, source, restored, reader)
            clock.lap("compare")
        finally:
            numbers = [node.id for node in restored.nodes]
            run.trio(lambda: backend.stop(restored, numbers, 0.0))
            left = backend.destroy(restored)
            if not left:
                state.remove(name)
        return Rehearsed(reader.manifest, findings, name, clock.laps, left)


def _backup(run: Invocation, source: Cluster, file: Path | None, home: Path) -> BackupReader:
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
    return reader


def _compare(run: Invocation, source: Cluster, restored: Cluster, reader: BackupReader) -> DrillFindings:
    with ExitStack() as bars:

        def begin(total: int) -> drill.DrillProgress:
            return bars.enter_context(run.terminal.progress("comparing", total, "events"))

        return run.trio(lambda: drill.compare(source, restored, reader, begin))


class _Clock:
    """Seconds for each part of the work."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._begun = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._begun = round(now - self._begun, 3), now
