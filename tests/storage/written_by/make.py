"""Writes what the present version stores, as test data for every later one.

`python -m tests.storage.written_by.make` makes a folder with the version's name; another name may be given.
Run it once, on each version that changes a stored format, and commit what it makes; never for an older one.
Each directory is copied while its log is open, as a kill leaves it: a snapshot with a cut prefix, a replaced
tail, a checkpoint, entries after it, a vote, a named producer session, the peers' names. `expected.json`
says what every later version must find there and in the backup; `tests/storage/test_written_by.py` looks.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import esnode
from esnode.apply import Machine
from esnode.backup.file import BackupWriter
from esnode.backup.manifest import Manifest, Origin, SnapshotPlace
from esnode.config import Dedup
from esnode.dedup.batch import ProducerStamp
from esnode.dedup.producers import Opening
from esnode.events import make_batch
from esnode.raft.entry import Entry, EntryKind, seal, seal_opening
from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage
from esnode.storage.segments import SegmentStorage

HERE: Final = Path(__file__).parent
IDENTITY: Final = Identity("written-1a2b3c", 1)
DEDUP: Final = Dedup.of_keys(10_000, ttl_ms=600_000)
ENGINES: Final = ("sqlite", "rocksdb", "segments")
PEERS: Final = {2: bytes(range(16)), 3: bytes(range(16, 32))}
NAME: Final = "billing-1"
SESSION: Final = 2
"""The session's id: the index of the entry that opens it."""
CUT_AT: Final = 6
RESUMED_AT: Final = 8
SAVED_AT: Final = 12
SMALL_SEGMENT_BYTES: Final = 2048
_NOT_KEPT: Final = shutil.ignore_patterns("LOG*", "lock")
"""RocksDB's own diary, which has paths in it, and the lock, which has a process id."""


def log_of(last_index: int) -> list[Entry]:
    """Two terms, no-ops, one named producer session that is resumed, and batches with and without it."""
    made: list[Entry] = []
    offset = sequence = 0
    for index in range(1, last_index + 1):
        epoch = 1 if index < RESUMED_AT else 2
        if index in (SESSION, RESUMED_AT):
            opening = Opening(SESSION, epoch, sequence, NAME, holder=index)
            made.append(
                seal_opening(opening, index=index, term=1, base_offset=offset, log_time_ms=1_000 * index)
            )
            continue
        kind = EntryKind.NOOP if index in (1, 10) else EntryKind.BATCH
        count = 1 + index % 3 if kind is EntryKind.BATCH else 0
        batch = make_batch([_event(offset + n) for n in range(count)]) if count else None
        stamp = ProducerStamp(SESSION, epoch, sequence, count) if count and index % 2 else None
        sequence += count if stamp else 0
        made.append(
            seal(
                index=index,
                term=1 if index < 10 else 2,
                kind=kind,
                base_offset=offset,
                log_time_ms=1_000 * index,
                count=count,
                keys=batch.keys if batch else b"",
                payload=batch.payload if batch else b"",
                producer=stamp,
            )
        )
        offset += count
    return made


def _event(number: int) -> dict[str, str]:
    return {"id": f"event-{number}", "source": "/written", "type": "t", "data": "d" * 40}


def fill(storage: Storage, log: list[Entry]) -> None:
    """What a node would have stored of `log`, in several commits."""
    machine = Machine(DEDUP)
    for peer, name in PEERS.items():
        storage.remember_peer(peer, name)
    storage.write([Write(0, None, HardState(1, 1), tuple(log[:4]), 0)])
    storage.write([Write(0, None, None, tuple(log[4:9]), 4)])
    for entry in log[:CUT_AT]:
        machine.apply(entry)
    snapshot = machine.snapshot()
    storage.stage_snapshot(snapshot)
    storage.cut_prefix(snapshot)
    lost = seal(index=10, term=1, kind=EntryKind.NOOP, base_offset=log[9].base_offset, log_time_ms=9_500)
    storage.write([Write(0, None, None, (lost,), 9)])
    storage.write([Write(0, None, HardState(2, 3), tuple(log[9:SAVED_AT]), 9)])
    for entry in log[CUT_AT:SAVED_AT]:
        machine.apply(entry)
    checkpoint = machine.checkpoint()
    storage.keep_keys(checkpoint.first_chunk, machine.keys.sealed_chunks(checkpoint.first_chunk))
    storage.save_checkpoint(checkpoint)
    for entry in log[SAVED_AT:]:
        storage.write([Write(0, None, None, (entry,), entry.index - 1)])


def write_backup(path: Path, log: list[Entry]) -> Manifest:
    """The backup of the same log, which begins behind the same snapshot."""
    machine = Machine(DEDUP)
    for entry in log[:CUT_AT]:
        machine.apply(entry)
    snapshot = machine.snapshot()
    last = log[-1]
    origin = Origin(
        IDENTITY.cluster, "written", (), 1, True, "2026-12-01T00:00:00Z", last.index, last.next_offset, DEDUP
    )
    with BackupWriter(path) as writer:
        writer.begin_snapshot(_place(snapshot))
        writer.add_snapshot(bytes(snapshot.data))
        writer.add([entry.record for entry in log[CUT_AT:]])
        return writer.finish(origin)


def _place(snapshot: Snapshot) -> SnapshotPlace:
    return SnapshotPlace(
        snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms, len(snapshot.data)
    )


def _open(engine: str, path: Path) -> Storage:
    if engine == "segments":
        return SegmentStorage(path, IDENTITY, SMALL_SEGMENT_BYTES)
    return open_storage(engine, path, IDENTITY)


def main(name: str) -> None:
    """Make `HERE/name`, which must not be there."""
    target = HERE / name
    target.mkdir()
    log = log_of(16)
    for engine in ENGINES:
        with tempfile.TemporaryDirectory() as scratch:
            data_dir = Path(scratch) / "data"
            storage = _open(engine, data_dir)
            fill(storage, log)
            shutil.copytree(data_dir, target / engine, ignore=_NOT_KEPT)
            storage.close()
    manifest = write_backup(target / "backup.esbackup", log)
    expected = {
        "version": esnode.__version__,
        "cluster": IDENTITY.cluster,
        "node_id": IDENTITY.node_id,
        "term": 2,
        "vote": 3,
        "prefix_index": CUT_AT,
        "savepoint_index": SAVED_AT,
        "last_index": log[-1].index,
        "commit": log[-1].index - 1,
        "records": [entry.record.hex() for entry in log[CUT_AT:]],
        "offsets_of_keys": {
            entry.keys[16 * n : 16 * (n + 1)].hex(): entry.base_offset + n
            for entry in log
            for n in range(entry.count)
        },
        "producer": {
            "id": SESSION,
            "epoch": 2,
            "name": NAME,
            "next_sequence": sum(entry.count for entry in log if entry.producer),
        },
        "peers": {str(peer): name.hex() for peer, name in PEERS.items()},
        "content_hash": manifest.content_hash,
    }
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else esnode.__version__)
