"""How a node finds itself again: from what is on disk to a log and a machine.

Reads the snapshot, replays the committed entries, and keeps the rest as the log's tail. Decides
nothing: what is not known to be committed is not applied. Runs in a worker thread, before anything
else is started. Called by `node.py`.
"""

from dataclasses import dataclass

from esnode import limits
from esnode.apply import Machine
from esnode.raft.log import Position, RaftLog
from esnode.raft.messages import HardState
from esnode.storage.interface import Storage, pages


@dataclass(frozen=True, slots=True)
class Found:
    """A node as it was when it last stopped."""

    hard_state: HardState
    log: RaftLog
    first_offset: int
    rejoining: bool


def recover(storage: Storage, machine: Machine) -> Found:
    """Bring `machine`, which is new, to the last commit that the disk knows of.

    Raises `DamagedRecord` where the disk does not hold what was written.
    """
    found = storage.recover()
    first_offset = 0
    if found.prefix_index:
        snapshot = storage.load_snapshot()
        assert snapshot is not None, "a log without its prefix has a snapshot"
        machine.restore(snapshot)
        first_offset = snapshot.next_offset
    for page in pages(storage, found.prefix_index + 1, found.commit, limits.MAX_FETCH_BYTES):
        for entry in page:
            machine.apply(entry)
    tail = [
        entry
        for page in pages(storage, found.commit + 1, found.last_index, limits.MAX_FETCH_BYTES)
        for entry in page
    ]
    log = RaftLog(
        prefix_index=found.prefix_index,
        prefix_term=found.prefix_term,
        terms=found.terms,
        applied=found.commit,
        position=Position(machine.next_offset, machine.log_time_ms),
        tail=tail,
    )
    return Found(found.hard_state, log, first_offset, found.rejoining)
