"""Logs with real events, as a leader makes them: batches, some of a producer, and entries without events."""

from collections.abc import Sequence
from pathlib import Path

from esnode.apply import Machine
from esnode.backup.file import BackupWriter
from esnode.backup.manifest import Manifest, Origin, SnapshotPlace
from esnode.config import Ancestor, Dedup
from esnode.dedup.batch import ProducerStamp
from esnode.events import make_batch
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import Snapshot

DEDUP = Dedup.of_keys(100_000, ttl_ms=60_000)
ORIGIN = Origin(
    cluster="old-1",
    name="old",
    ancestors=(Ancestor("older-1", 3),),
    node=1,
    online=True,
    created="2013-01-01T00:00:00Z",
    known_commit=10**6,
    known_offset=10**6,
    dedup=DEDUP,
)


def log_of(counts: Sequence[int], padding: int = 0) -> list[Entry]:
    """A no-op, a producer session, then batches of these sizes, every second one of that producer."""
    kinds = [(EntryKind.NOOP, 0), (EntryKind.PRODUCER, 0), *((EntryKind.BATCH, count) for count in counts)]
    made: list[Entry] = []
    offset = sequence = 0
    for index, (kind, count) in enumerate(kinds, start=1):
        events = [
            {"id": str(offset + n), "source": "/test", "type": "t", "data": "x" * padding}
            for n in range(count)
        ]
        batch = make_batch(events) if events else None
        stamp = ProducerStamp(2, 1, sequence, count) if count and index % 2 else None
        sequence += count if stamp else 0
        made.append(
            seal(
                index=index,
                term=1 + index // 4,
                kind=kind,
                base_offset=offset,
                log_time_ms=10 * index,
                count=count,
                keys=batch.keys if batch else b"",
                payload=batch.payload if batch else b"",
                producer=stamp,
            )
        )
        offset += count
    return made


def machine_of(log: Sequence[Entry]) -> Machine:
    """What the log means."""
    machine = Machine(DEDUP)
    for entry in log:
        machine.apply(entry)
    return machine


def write_backup(
    path: Path, log: Sequence[Entry], snapshot: Snapshot | None = None, origin: Origin = ORIGIN
) -> Manifest:
    """A backup of that log, or of what follows the snapshot."""
    with BackupWriter(path) as writer:
        if snapshot is not None:
            size_bytes = len(snapshot.data)
            writer.begin_snapshot(
                SnapshotPlace(
                    snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms, size_bytes
                )
            )
            half = size_bytes // 2
            for piece in (snapshot.data[:half], snapshot.data[half:]):
                writer.add_snapshot(bytes(piece))
        writer.add([entry.record for entry in log])
        return writer.finish(origin)
