"""What a follower makes of what its leader sends: entries and snapshots, taken into its log or refused.

Raft 5.3 and 7. A leader's log holds everything that was ever committed (5.4.3): whatever it says of what is
committed here is compared, and a difference is a `HistoryConflict`, before anything is changed. Nothing
counts as a match that was not compared. Never decides whom to follow, nor sends the answers: they leave
once the log is durable. Called by `core.py`.
"""

from esnode.errors import HistoryConflict
from esnode.raft.log import RaftLog
from esnode.raft.messages import (
    UNKNOWN,
    AppendEntries,
    AppendReject,
    AppendReply,
    Conflict,
    LogPoint,
    NodeId,
    Snapshot,
)


def take_entries(
    log: RaftLog, term: int, message: AppendEntries, *, sides: tuple[NodeId, NodeId]
) -> AppendReply | AppendReject:
    """The entries become the end of `log`, if it has the one before them; the answer, in `term`.

    `sides` are this node and its leader. Raises `HistoryConflict`.
    """
    prev_index, entries = message.prev_index, message.entries
    matched = prev_index + len(entries)
    if prev_index <= log.committed:
        compare(log, LogPoint(prev_index, message.prev_term, UNKNOWN, UNKNOWN), sides)
        known, entries = entries[: log.committed - prev_index], entries[log.committed - prev_index :]
        for entry in known:
            compare(log, LogPoint(entry.index, entry.term, entry.next_offset, entry.log_time_ms), sides)
        if matched < log.prefix_index:
            return _begins_later(log, term, prev_index)
    elif log.term_at(prev_index) != message.prev_term:
        hint_index, hint_term = log.last_common(prev_index, message.prev_term)
        return AppendReject(term, prev_index, hint_index, hint_term)
    try:
        log.merge(entries)
    except HistoryConflict as error:
        me, leader = sides
        text = f"node {me} cannot follow node {leader}: {error}"
        raise HistoryConflict(text, index=error.index) from error
    log.commit_to(min(message.commit, matched))
    return AppendReply(term, matched)


def takes_snapshot(log: RaftLog, snapshot: Snapshot, *, sides: tuple[NodeId, NodeId]) -> bool:
    """Whether `snapshot` has become the whole of `log`, and is to be stored; it may be known already.

    Raises `HistoryConflict`.
    """
    if snapshot.index <= log.committed:
        point = LogPoint(snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)
        compare(log, point, sides)
        return False
    if log.term_at(snapshot.index) == snapshot.term:
        log.commit_to(snapshot.index)
        return False
    log.reset(snapshot)
    return True


def answer_to_snapshot(log: RaftLog, term: int, index: int) -> AppendReply | AppendReject:
    """The answer to a snapshot of `index`, once it is taken or was known."""
    return AppendReply(term, index) if index >= log.prefix_index else _begins_later(log, term, index)


def _begins_later(log: RaftLog, term: int, index: int) -> AppendReject:
    """What is at `index` was cut away here, and cannot be compared: the leader may go on where it can be."""
    return AppendReject(term, index, log.committed, log.point(log.committed).term)


def compare(log: RaftLog, theirs: LogPoint, sides: tuple[NodeId, NodeId]) -> None:
    """Hold what the leader has committed, or sends, against what is committed here."""
    ours = log.other_than(theirs) if theirs.index <= log.committed else None
    if ours is not None:
        me, leader = sides
        conflict = Conflict(me, ours=theirs, theirs=ours)
        raise HistoryConflict(tell_conflict(leader, conflict), index=ours.index)


def tell_conflict(me: NodeId, found: Conflict) -> str:
    """What a leader says of a follower that contradicts it."""
    theirs, ours = tell(found.theirs), tell(found.ours)
    text = f"node {found.peer} has committed {theirs}; node {me}, which leads, has {ours}"
    if found.end is None or found.end == found.ours:
        return text
    return f"{text}, and has applied {tell(found.end)}"


def tell(point: LogPoint) -> str:
    """A place in a log, for people."""
    entry = f"entry {point.index} of term {point.term}" if point.term >= 0 else f"entry {point.index}"
    if point.next_offset == UNKNOWN:
        return entry
    return f"{entry}, which ends at offset {point.next_offset} and log time {point.log_time_ms}"
