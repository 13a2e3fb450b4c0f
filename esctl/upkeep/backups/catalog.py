"""Where backups are kept: a directory of files, and a note of the last one of each cluster.

Decides names, and which backups are old enough to remove: the newest of each cluster stay, and unreadable
files are neither counted nor removed. Reads manifests only. Called by `esctl backup` and `esctl compact`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esctl.clusters import state
from esctl.errors import InputUnreadable
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest
from esnode.errors import DamagedBackup, NewerFormat

SUFFIX: Final = ".esbackup"
_NOTE: Final = "last-backup.json"


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A file that is called a backup; without a manifest, why it is none."""

    path: Path
    size_bytes: int
    manifest: Manifest | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class NotedBackup:
    """The last backup that was made of a cluster here, as far as it is still there.

    `next_offset`: up to there it has the cluster's events for certain. The end of a stopped node's log may
    have been replaced by other events since.
    """

    path: Path
    next_offset: int
    created: str


def default_directory() -> Path:
    """Where backups go when nothing else is said."""
    return state.clusters_root().parent / "backups"


def default_name(manifest_name: str, created: str) -> str:
    """Of a new file: names sort by their time."""
    return f"{manifest_name}-{created.replace(':', '').replace('-', '')}{SUFFIX}"


def listed(directory: Path) -> list[BackupFile]:
    """The backups in a directory, by name; raises `InputUnreadable`."""
    if not directory.is_dir():
        if directory == default_directory():
            return []
        raise InputUnreadable(f"{directory} is no directory")
    return [_look(path) for path in sorted(directory.glob(f"*{SUFFIX}")) if path.is_file()]


def too_many(listed: Sequence[BackupFile], keep: int) -> list[BackupFile]:
    """All but the newest `keep` of each cluster, by name and by the time they were made."""
    by_name: dict[str, list[tuple[str, BackupFile]]] = {}
    for each in listed:
        if each.manifest is not None:
            origin = each.manifest.origin
            by_name.setdefault(origin.name, []).append((origin.created, each))
    old: list[BackupFile] = []
    for found in by_name.values():
        found.sort(key=lambda pair: (pair[0], pair[1].path.name))
        old += [each for _, each in found[: len(found) - keep]]
    return old


def note(cluster: state.Cluster, path: Path) -> None:
    """Remember the last backup of `cluster`."""
    document = {"path": str(path.absolute())}
    state.write_atomically(cluster.directory / _NOTE, json.dumps(document, indent=2) + "\n")


def last_of(cluster: state.Cluster) -> NotedBackup | None:
    """The last backup of the cluster as it is now; None when there is none, or its file is none any more."""
    try:
        path = Path(json.loads((cluster.directory / _NOTE).read_text(encoding="utf-8"))["path"])
        manifest = BackupReader.open(path).manifest
    except (OSError, ValueError, KeyError, TypeError, DamagedBackup, NewerFormat):
        return None
    origin = manifest.origin
    if origin.cluster != cluster.identity:
        return None
    return NotedBackup(path, min(origin.known_offset, manifest.next_offset), origin.created)


def _look(path: Path) -> BackupFile:
    size_bytes = 0
    try:
        size_bytes = path.stat().st_size
        return BackupFile(path, size_bytes, BackupReader.open(path).manifest)
    except (DamagedBackup, NewerFormat) as error:
        return BackupFile(path, size_bytes, None, str(error))
    except OSError as error:
        return BackupFile(path, size_bytes, None, str(error.strerror))
