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
from esctl.upkeep.backups import ringbackup
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
    """Of a backup of several partitions, that of partition 0."""
    why: str = ""
    partitions: Sequence[Manifest] = ()
    """Of each of several partitions."""


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
    found = sorted(directory.glob(f"*{SUFFIX}"))
    return [_look(path) for path in found if path.is_file() or path.is_dir()]


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


def last_of(cluster: state.Cluster, partition: int | None = None) -> NotedBackup | None:
    """The last backup of the cluster as it is now; None when there is none, or its file is none any more.

    With several partitions, how far it has one of them.
    """
    try:
        path = Path(json.loads((cluster.directory / _NOTE).read_text(encoding="utf-8"))["path"])
        if partition is None:
            manifest = BackupReader.open(path).manifest
        else:
            manifest = ringbackup.open_backup(path).manifests[partition]
    except (OSError, ValueError, KeyError, TypeError, IndexError, DamagedBackup, NewerFormat):
        return None
    origin = manifest.origin
    if origin.cluster != cluster.identity:
        return None
    return NotedBackup(path, min(origin.known_offset, manifest.next_offset), origin.created)


def _look(path: Path) -> BackupFile:
    size_bytes = 0
    try:
        if path.is_dir():
            ring = ringbackup.open_backup(path)
            return BackupFile(path, ring.size_bytes, ring.manifests[0], partitions=ring.manifests)
        size_bytes = path.stat().st_size
        return BackupFile(path, size_bytes, BackupReader.open(path).manifest)
    except (DamagedBackup, NewerFormat) as error:
        return BackupFile(path, size_bytes, None, str(error))
    except OSError as error:
        return BackupFile(path, size_bytes, None, str(error.strerror))
