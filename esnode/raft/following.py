"""What a follower makes of what its leader sends: entries and snapshots, taken into its log or refused.

Raft 5.3 and 7. Never decides whom to follow, nor sends the answers: they leave once the log is durable.
Called by `core.py`.
"""

from esnode.raft.log import RaftLog
from esnode.raft.messages import AppendEntries, AppendReject, AppendReply, Snapshot


def take_entries(log: RaftLog, term: int, message: AppendEntries) -> AppendReply | AppendReject:
    """The entries become the end of `log`, if it has the one before them; the answer, in `term`."""
    if message.prev_index < log.committed:
        return AppendReply(term, log.committed)
    if log.term_at(message.prev_index) != message.prev_term:
        hint_index, hint_term = log.last_common(message.prev_index, message.prev_term)
        return AppendReject(term, message.prev_index, hint_index, hint_term)
    log.merge(message.entries)
    matched = message.prev_index + len(message.entries)
    log.commit_to(min(message.commit, matched))
    return AppendReply(term, matched)


def takes_snapshot(log: RaftLog, snapshot: Snapshot) -> bool:
    """Whether `snapshot` has become the whole of `log`, and is to be stored; it may be known already."""
    if snapshot.index <= log.committed:
        return False
    if log.term_at(snapshot.index) == snapshot.term:
        log.commit_to(snapshot.index)
        return False
    log.reset(snapshot)
    return True
