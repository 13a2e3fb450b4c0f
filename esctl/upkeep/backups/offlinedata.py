"""The data directories of nodes that are stopped: read into a backup, and made from one.

The one place where the toolkit touches what is a node's own, by way of `esnode/backup/directory.py`: a node
that is gone, or not there yet, cannot be asked. Translates what the file system says. Called by the commands
`backup` and `cluster recover`, and by the drill.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from esctl.clusters.backends.interface import Backend, NodeOptions
from esctl.clusters.state import Cluster
from esctl.errors import FileTaken, MachineRefused, SurvivorDistrusted
from esctl.upkeep.backups.create import now_text
from esnode import config as node_config
from esnode.backup import directory
from esnode.backup.file import BackupReader, BackupWriter
from esnode.backup.manifest import Manifest, Origin
from esnode.config import Ancestor, Config
from esnode.dedup.ownership import Ownership
from esnode.errors import (
    CopiedDirectory,
    DamagedRecord,
    DistrustedDirectory,
    InvalidConfig,
    OlderDirectory,
    WrongDirectory,
)

Advance = Callable[[int], None]
_NOT_BELIEVED = (
    CopiedDirectory, DamagedRecord, DistrustedDirectory, InvalidConfig, OlderDirectory, WrongDirectory
)  # fmt: skip


def open_backup(path: Path) -> BackupReader:
    """The backup at `path`; raises `DamagedBackup`, and `MachineRefused` where it cannot be read."""
    try:
        return BackupReader.open(path)
    except OSError as error:
        raise MachineRefused(f"{path} cannot be read: {error.strerror}") from error


def check_backup(reader: BackupReader, advance: Advance) -> Ownership:
    """Read every byte, follow the whole log, and rebuild what it means; raises `DamagedBackup`.

    Gives what the log says of the ring.
    """
    try:
        machine = directory.replay(
            reader, reader.manifest.origin.dedup, lambda page: advance(sum(e.count for e in page))
        )
        return machine.ring.now
    except OSError as error:
        raise MachineRefused(f"{reader.path} cannot be read: {error.strerror}") from error


def check_survivor(cluster: Cluster, number: int, partition: int | None = None) -> Config:
    """The configuration of a stopped node whose disk may be believed; raises `SurvivorDistrusted`.

    With several partitions, that of its process for one of them.
    """
    with _believing(number):
        config = node_config.load(cluster.node(number).config)
        if partition is not None:
            config = config.of_partition(partition)
        directory.check_source(config)
    return config


def back_up_stopped(
    cluster: Cluster, number: int, into: Path, advance: Advance, partition: int | None = None
) -> Manifest:
    """A backup of what a stopped node has, to the end of its log; its directory is only read.

    With several partitions, of one of them.

    Needs as much room again beside `into` while it works. Raises `SurvivorDistrusted`, `DirectoryInUse`,
    `FileTaken`, `MachineRefused`.
    """
    config = check_survivor(cluster, number, partition)

    def origin(known_commit: int, known_offset: int) -> Origin:
        return Origin(
            cluster=config.cluster,
            name=cluster.name,
            ancestors=config.ancestors,
            node=number,
            online=False,
            created=now_text(),
            known_commit=known_commit,
            known_offset=known_offset,
            dedup=config.dedup,
        )

    with (
        _believing(number),
        _writing(into),
        tempfile.TemporaryDirectory(dir=into.parent) as scratch,
        BackupWriter(into) as writer,
        directory.opened_copy(config, Path(scratch)) as storage,
    ):
        return directory.back_up(storage, writer, origin, advance)


def end_of(cluster: Cluster, number: int, beside: Path) -> tuple[int, int] | None:
    """Term and index of the last entry of a stopped node; None where its disk is gone, or not believed.

    Needs as much room again in `beside` while it works; raises `MachineRefused` where there is none.
    """
    try:
        config = check_survivor(cluster, number)
        with (
            _believing(number),
            _writing(beside),
            tempfile.TemporaryDirectory(dir=beside) as scratch,
            directory.opened_copy(config, Path(scratch)) as storage,
        ):
            found = storage.recover()
    except SurvivorDistrusted:
        return None
    return (found.terms[-1].term if found.terms else found.prefix_term, found.last_index)


def rebuild(
    backend: Backend, cluster: Cluster, options: NodeOptions, reader: BackupReader, advance: Advance
) -> None:
    """Make the files of all nodes of a new cluster from a backup; nothing is left of them after an error.

    Raises `DirectoryTaken`, `DamagedBackup`, `MachineRefused`, `StorageFailed`.
    """
    rebuild_all(backend, cluster, options, [reader], advance)


def rebuild_all(
    backend: Backend,
    cluster: Cluster,
    options: NodeOptions,
    readers: Sequence[BackupReader],
    advance: Advance,
) -> None:
    """The same from a backup of each partition, by number; of the only one, into the node's directory."""
    backend.create(cluster, options)
    made = False
    try:
        for node in cluster.nodes:
            config = node_config.load(node.config)
            for partition, reader in enumerate(readers):
                place = config if len(readers) == 1 else config.of_partition(partition)
                directory.lay_down(reader, place, advance)
        made = True
    except OSError as error:
        raise MachineRefused(f"{cluster.data_dir} cannot be written: {error.strerror or error}") from error
    finally:
        if not made:
            backend.destroy(cluster)


def successor_options(manifest: Manifest, storage: str) -> NodeOptions:
    """What the nodes of a cluster restored from this backup must know: its lineage, and its window."""
    origin = manifest.origin
    ancestors = (*origin.ancestors, Ancestor(origin.cluster, min(origin.known_offset, manifest.next_offset)))
    return NodeOptions(storage=storage, dedup=origin.dedup, ancestors=ancestors)


@contextmanager
def _believing(number: int) -> Iterator[None]:
    try:
        yield
    except _NOT_BELIEVED as error:
        raise SurvivorDistrusted(f"node {number} is no source: {error}") from error


@contextmanager
def _writing(into: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise FileTaken(f"{into} exists already; it was not touched") from error
    except OSError as error:
        raise MachineRefused(f"{into} cannot be written: {error.strerror or error}") from error
