"""A backup of a cluster with several partitions: a directory with a backup of each, and one manifest.

The manifest is written last: a directory without it is no backup. It has the digest of every part, so parts
of different backups are not mixed. Each partition is read up to an end of its own that its majority confirms;
there is no moment that is common to all. So the ring must be at rest meanwhile: all parts go by the same one.
Never prints. Called by `esctl backup` and `esctl compact`.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from esctl.clusters import state
from esctl.clusters.backends.interface import Backend, NodeOptions
from esctl.clusters.state import Cluster
from esctl.errors import FileTaken, MachineRefused, RingMoving
from esctl.query import ringrest
from esctl.query.ringsurvey import of_each
from esctl.ui.progress import Progress
from esctl.upkeep.backups import create, offlinedata
from esctl.verify.reading import WholeProgress
from esnode.backup.file import BackupReader
from esnode.backup.manifest import Manifest
from esnode.config import Ancestor
from esnode.dedup.ownership import Ownership
from esnode.errors import DamagedBackup
from esnode.formats import refuse_newer

RING_VERSION: Final = 1
"""How partitions make their points on the circle: a version that does it otherwise finds other owners."""
MANIFEST: Final = "manifest.json"
_NAME: Final = "eventstreamcore-ring-backup/v"
FORMAT: Final = 1
_AGAIN: Final = "run it again"
_START: Final = "start the cluster, so that the move ends: esctl cluster start"


@dataclass(frozen=True, slots=True)
class RingBackup:
    """A backup that is there: all its parts are, each with a manifest of its own."""

    path: Path
    readers: Sequence[BackupReader]
    """Of each partition, by number."""

    @property
    def manifests(self) -> list[Manifest]:
        """Of each partition."""
        return [reader.manifest for reader in self.readers]

    @property
    def events(self) -> int:
        """In all partitions."""
        return sum(manifest.events for manifest in self.manifests)

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(reader.path.stat().st_size for reader in self.readers)


def open_backup(path: Path) -> RingBackup:
    """The backup in a directory; raises `DamagedBackup`, `NewerFormat`, and `OSError` as it comes."""
    try:
        parts = _parts(json.loads((path / MANIFEST).read_text(encoding="utf-8")), path)
    except FileNotFoundError as error:
        raise DamagedBackup(f"{path} has no {MANIFEST}: it is no backup, or was not finished") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedBackup(f"{path / MANIFEST} cannot be read: {error}") from error
    readers = []
    for number, digest in enumerate(parts):
        file = part_of(path, number)
        if not file.exists():
            raise DamagedBackup(f"{path} lacks {file.name}")
        readers.append(BackupReader.open(file))
        if readers[-1].manifest.sha256 != digest:
            raise DamagedBackup(f"{file} is not the part that the manifest of the backup names")
    return RingBackup(path, readers)


def part_of(path: Path, partition: int) -> Path:
    """The file with one partition."""
    return path / f"partition-{partition}.esbackup"


def _parts(document: Any, path: Path) -> list[str]:
    """The digests of the parts, by number."""
    schema = str(document["schema"])
    number = schema.removeprefix(_NAME)
    if schema == number or not number.isdecimal():
        raise DamagedBackup(f"{path / MANIFEST} is not one of the schema {_NAME}{FORMAT}")
    refuse_newer(str(path / MANIFEST), int(number), FORMAT)
    parts = document["partitions"]
    if not parts or [part["id"] for part in parts] != list(range(len(parts))):
        raise DamagedBackup(f"{path / MANIFEST} does not name the parts 0, 1, ...")
    if document["ring_version"] != RING_VERSION:
        raise DamagedBackup(
            f"{path / MANIFEST} is of ring {document['ring_version']}, and this is {RING_VERSION}"
        )
    return [str(part["sha256"]) for part in parts]


async def take(
    cluster: Cluster, into: Path, number: int | None, begin: Callable[[int], Progress]
) -> RingBackup:
    """Write the backup into a new directory; nothing is left of it after an error. See `create.take`.

    Raises `RingMoving` where sources move, or have begun to while it was written.
    """
    _make(into)
    whole, done = WholeProgress(cluster.partitions, begin), False

    async def take_one(partition: int | None) -> Manifest:
        file = part_of(into, partition or 0)
        return await create.take(cluster, file, number, whole.begin, partition)

    try:
        version = await ringrest.version_at_rest(cluster)
        manifests = await of_each(cluster, take_one)
        if await ringrest.version_at_rest(cluster) != version:
            raise RingMoving(
                "sources have moved while the backup was written; it was removed", next_step=_AGAIN
            )
        _finish(cluster, into, manifests)
        done = True
    finally:
        if not done:
            shutil.rmtree(into, ignore_errors=True)
    return open_backup(into)


def _finish(cluster: Cluster, into: Path, manifests: Sequence[Manifest]) -> None:
    """Write the manifest: all parts are there."""
    document = {
        "schema": f"{_NAME}{FORMAT}",
        "cluster": cluster.identity,
        "name": cluster.name,
        "created": create.now_text(),
        "ring_version": RING_VERSION,
        "partitions": [
            {"id": n, "events": one.events, "next_offset": one.next_offset, "sha256": one.sha256}
            for n, one in enumerate(manifests)
        ],
    }
    state.write_atomically(into / MANIFEST, json.dumps(document, indent=2) + "\n")


def _make(into: Path) -> None:
    try:
        into.mkdir(mode=0o700)
    except FileExistsError as error:
        raise FileTaken(f"{into} exists already; it was not touched") from error
    except OSError as error:
        raise MachineRefused(f"{into} cannot be made: {error.strerror}") from error


def check(backup: RingBackup, advance: offlinedata.Advance) -> None:
    """Read every byte of every part, and rebuild what they mean; raises `DamagedBackup`."""
    if what := ringrest.unrest(_owned(backup, advance)):
        raise DamagedBackup(f"{backup.path} was written while sources moved between partitions: {what}")


def _owned(backup: RingBackup, advance: offlinedata.Advance) -> dict[int, Ownership]:
    """What the log of each partition says of the ring; reads all of them."""
    return {number: offlinedata.check_backup(reader, advance) for number, reader in enumerate(backup.readers)}


def rebuild(
    backend: Backend, cluster: Cluster, options: NodeOptions, backup: RingBackup, advance: offlinedata.Advance
) -> None:
    """Make the files of all nodes of a new cluster from the backup; see `offlinedata.rebuild`."""
    offlinedata.rebuild_all(backend, cluster, options, backup.readers, advance)


def take_stopped(cluster: Cluster, into: Path, number: int, advance: offlinedata.Advance) -> RingBackup:
    """The same of what a stopped node has, to the end of the log of each partition.

    Raises what `offlinedata.back_up_stopped` does, and `RingMoving`.
    """
    _make(into)
    done = False
    try:
        manifests = [
            offlinedata.back_up_stopped(cluster, number, part_of(into, partition), advance, partition)
            for partition in range(cluster.partitions)
        ]
        _finish(cluster, into, manifests)
        backup = open_backup(into)
        if what := ringrest.unrest(_owned(backup, lambda _events: None)):
            raise RingMoving(f"{what}, as node {number} knows; the backup was removed", next_step=_START)
        done = True
        return backup
    finally:
        if not done:
            shutil.rmtree(into, ignore_errors=True)


def successor_options(backup: RingBackup, storage: str) -> NodeOptions:
    """What the nodes of a cluster restored from this backup must know."""
    return options_of(backup.manifests, storage)


def options_of(manifests: Sequence[Manifest], storage: str) -> NodeOptions:
    """The same, from the manifest of each partition, or of the only one. Of the old cluster, they have in
    every partition at least the events before the least of the parts' ends: a client that knows more sends
    again what they recognise."""
    each = [offlinedata.successor_options(manifest, storage) for manifest in manifests]
    first, *others = each
    ancestors = tuple(
        Ancestor(one.cluster, min(option.ancestors[place].end_offset for option in each))
        for place, one in enumerate(first.ancestors)
    )
    if any(len(option.ancestors) != len(ancestors) for option in others):
        raise DamagedBackup("the parts of the backup are of different clusters")
    return NodeOptions(storage=storage, dedup=first.dedup, ancestors=ancestors)
