"""From a stopped node's data directory to a backup, and from a backup to a new data directory.

Reads from a copy of the directory, since opening a log writes to it: the original is never changed. Writes
through the Storage contract, as a node does, and only to an empty place. Refuses a disk that cannot be
trusted as a source. Blocks; may run in any thread. Called by the toolkit, for a node that is not running.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from esnode import limits
from esnode.apply import Machine, whole_bytes
from esnode.backup.file import BackupReader, BackupWriter
from esnode.backup.manifest import Manifest, Origin, SnapshotPlace
from esnode.config import Config, Dedup
from esnode.errors import WrongDirectory
from esnode.raft.entry import Entry
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.directory import check_believed, nobody_else, trust_copy
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage, pages, resized, whole_snapshot

Advance = Callable[[int], None]
"""Told of so many more events."""


def check_source(config: Config) -> None:
    """Whether the data directory of this stopped node may be believed.

    Raises `WrongDirectory` where there is none, or another's, `CopiedDirectory`, `DistrustedDirectory`,
    `DamagedRecord`, `StorageFailed`.
    """
    identity = Identity(config.cluster, config.node_id, partition=config.partition)
    if not config.data_dir.is_dir() or not check_believed(config.data_dir, config.storage, identity):
        raise WrongDirectory(f"{config.data_dir} is not the data directory of node {config.node_id}")


@contextmanager
def opened_copy(config: Config, scratch: Path) -> Iterator[Storage]:
    """The storage of a stopped node, opened on a copy in `scratch`, which goes with the block.

    Raises what `check_source` does, `DirectoryInUse`, and what `open_storage` does.
    """
    check_source(config)
    identity = Identity(config.cluster, config.node_id, partition=config.partition)
    copy = scratch / f"node-{config.node_id}"
    try:
        with nobody_else(config.data_dir):
            shutil.copytree(config.data_dir, copy, ignore=shutil.ignore_patterns("damaged-*"))
        trust_copy(copy, config.storage, identity)
        with closing(open_storage(config.storage, copy, identity)) as storage:
            yield storage
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def back_up(
    storage: Storage, writer: BackupWriter, origin: Callable[[int, int], Origin], advance: Advance
) -> Manifest:
    """Write all that `storage` has: the snapshot, and the log to its very end.

    `origin` is told the last index that is committed for certain, and the offset after it. Raises
    `DamagedRecord`.
    """
    found = storage.recover()
    with whole_snapshot(storage) as (snapshot, pieces):
        if snapshot is not None:
            place = (snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)
            writer.begin_snapshot(SnapshotPlace(*place, whole_bytes(snapshot.data)))
        for piece in resized(pieces, limits.SNAPSHOT_CHUNK_BYTES):
            writer.add_snapshot(piece)
    for page in pages(storage, found.prefix_index + 1, found.last_index, limits.MAX_FETCH_BYTES):
        advance(writer.add([entry.record for entry in page]))
    last = next(iter(storage.read(found.commit, found.commit, 1)), None)
    return writer.finish(origin(found.commit, found.prefix_offset if last is None else last.next_offset))


def replay(reader: BackupReader, dedup: Dedup, take: Callable[[list[Entry]], None]) -> Machine:
    """The machine that the log in a backup leads to; `take` is given each page that was applied.

    Raises `DamagedBackup`, and `DamagedRecord` where the snapshot in it is not what it says.
    """
    machine = Machine(dedup, searchable=False)
    snapshot = snapshot_of(reader)
    if snapshot is not None:
        machine.restore(snapshot)
    for page in reader.pages():
        for entry in page:
            machine.apply(entry)
        take(page)
    return machine


def snapshot_of(reader: BackupReader) -> Snapshot | None:
    """The snapshot in a backup, if its log begins behind one."""
    place = reader.manifest.snapshot
    if place is None:
        return None
    data = reader.snapshot_data()
    return Snapshot(place.index, place.term, place.next_offset, place.log_time_ms, data)


def lay_down(reader: BackupReader, config: Config, advance: Advance) -> None:
    """Make the data directory of a new node: the log and the snapshot of the backup, a checkpoint at its end.

    All of the log counts as committed from now on: every node of the new cluster begins with it. Raises
    `WrongDirectory` where something is there already, `DamagedBackup`, `StorageFailed`, `EngineMissing`.
    """
    path = config.data_dir
    if path.exists() and any(path.iterdir()):
        raise WrongDirectory(f"{path} is not empty; nothing was changed")
    identity = Identity(config.cluster, config.node_id, partition=config.partition)
    with closing(open_storage(config.storage, path, identity)) as storage:
        term = HardState(reader.manifest.last_term, None)
        storage.write([Write(0, snapshot_of(reader), term, (), 0)])

        def take(page: list[Entry]) -> None:
            storage.write([Write(0, None, None, tuple(page), page[-1].index)])
            while storage.tend():
                pass
            advance(page[-1].next_offset - page[0].base_offset)

        machine = replay(reader, config.dedup, take)
        if machine.applied_index:
            checkpoint = machine.checkpoint()
            storage.keep_keys(checkpoint.first_chunk, machine.keys.sealed_chunks(checkpoint.first_chunk))
            storage.save_checkpoint(checkpoint)
