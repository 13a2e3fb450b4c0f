"""Recovers a node's state: from the files on disk to a log and a machine.

Begins with the last checkpoint, or with the snapshot of what was cut, replays the committed entries after
it, and keeps the rest as the log's tail. Decides nothing: what is not known to be committed is not applied,
and a checkpoint that cannot be used costs only the time of a longer replay. Tells how long each part took.
Runs in a worker thread, before anything else is started. Called by `node.py`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from esnode import limits
from esnode.apply import Checkpoint, Machine
from esnode.dedup.keysegment import KeySegment
from esnode.errors import DamagedRecord
from esnode.raft.log import Position, RaftLog
from esnode.raft.messages import HardState
from esnode.storage.interface import Recovered, Storage, pages
from esnode.upkeep.keyindexes import read_indexes, sealed_chunks

log = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Seconds, from any beginning."""


@dataclass(frozen=True, slots=True)
class Found:
    """A node as it was when it last stopped. With a `checkpoint`, nothing before it was looked at."""

    hard_state: HardState
    log: RaftLog
    first_offset: int
    rejoining: bool
    checkpoint: Checkpoint | None


def recover(storage: Storage, machine: Machine, clock: Clock = time.monotonic) -> Found:
    """Bring `machine`, which is new, to the last commit that the disk knows of.

    Raises `DamagedRecord` where the disk does not hold what was written.
    """
    found = storage.recover()
    told = _Told(clock)
    with machine.keys.unindexed():
        checkpoint = _resume(storage, machine, found)
        if checkpoint is not None:
            told.say("savepoint_loaded", savepoint_index=checkpoint.index, live_keys=machine.keys.live)
        elif found.prefix_index:
            snapshot = storage.load_snapshot()
            assert snapshot is not None, "a log without its prefix has a snapshot"
            machine.restore(snapshot, storage)
            told.say("snapshot_loaded", snapshot_index=snapshot.index, live_keys=machine.keys.live)
        first_index = machine.applied_index + 1
        for page in pages(storage, first_index, found.commit, limits.MAX_FETCH_BYTES):
            for entry in page:
                machine.apply(entry)
        told.say("log_replayed", entries=machine.applied_index + 1 - first_index)
    told.say("keys_indexed", live_keys=machine.keys.live)
    applied = machine.applied_index
    tail = [
        entry
        for page in pages(storage, applied + 1, found.last_index, limits.MAX_FETCH_BYTES)
        for entry in page
    ]
    raft_log = RaftLog(
        prefix_index=found.prefix_index,
        prefix_term=found.prefix_term,
        terms=found.terms,
        applied=applied,
        position=Position(machine.next_offset, machine.log_time_ms),
        tail=tail,
    )
    return Found(found.hard_state, raft_log, found.prefix_offset, found.rejoining, checkpoint)


def _resume(storage: Storage, machine: Machine, found: Recovered) -> Checkpoint | None:
    """Let `machine` begin with the last checkpoint; None where there is none that is of use."""
    try:
        checkpoint = storage.load_checkpoint()
        if checkpoint is None or checkpoint.index <= found.prefix_index:
            return None
        if _follows_from(checkpoint, found):
            first_chunk, open_chunk = checkpoint.first_chunk, checkpoint.open_chunk
            segments = read_indexes(storage, machine.keys, first_chunk, open_chunk)
            sealed = sealed_chunks(storage, segments, first_chunk, open_chunk)
            with _of_use(segments):
                machine.resume(checkpoint, sealed, storage.chunk_source)
            machine.keys.use_segments(segments)
            return checkpoint
    except DamagedRecord as error:
        log.warning("savepoint_unusable", extra={"reason": str(error)})
        return None
    # Its entry was durable, and applied: the log has lost what was acked.
    raise DamagedRecord(
        f"entry {checkpoint.index} of term {checkpoint.term} was applied, and the log does not hold it:"
        f" it ends with entry {found.last_index}"
    )


@contextmanager
def _of_use(segments: Sequence[KeySegment]) -> Iterator[None]:
    """Let no later start believe the indexes if what they tell of the keys is not so."""
    try:
        yield
    except DamagedRecord:
        for segment in segments:
            segment.discard()
        raise


def _follows_from(checkpoint: Checkpoint, found: Recovered) -> bool:
    return checkpoint.index <= found.last_index and _term_at(found, checkpoint.index) == checkpoint.term


def _term_at(found: Recovered, index: int) -> int:
    return next(run.term for run in reversed(found.terms) if run.first_index <= index)


class _Told:
    """Says what a part of the start was, and how long it took."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock()

    def say(self, event: str, **fields: int) -> None:
        now = self._clock()
        log.info(event, extra={**fields, "seconds": round(now - self._begun, 3)})
        self._begun = now
