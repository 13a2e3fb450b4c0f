"""One term of leadership: what the followers have, what they are sent, and what that commits.

Made when a node becomes leader, thrown away when it steps down, so nothing of an old term can leak
into a new one. It changes no role and no term: it reports, and `core.py` decides. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import assert_never

from esnode import limits
from esnode.raft import quorum
from esnode.raft.entry import Entry
from esnode.raft.log import RaftLog
from esnode.raft.messages import (
    UNKNOWN,
    AppendEntries,
    AppendReject,
    AppendReply,
    Conflict,
    Fetch,
    Fetched,
    Heartbeat,
    HeartbeatReply,
    LogPoint,
    NodeId,
    Outgoing,
    PeerUnreachable,
    ReadGrant,
    SendSnapshot,
    SnapshotSent,
    TimeoutNow,
)
from esnode.raft.progress import Progress, ProgressState
from esnode.raft.reads import PendingReads


class Leadership:
    """The leader's state of Raft figure 2, and its outbox."""

    def __init__(self, term: int, peers: Iterable[NodeId], log: RaftLog, quorum_check_ms: int) -> None:
        self.term = term
        self.progress = {peer: Progress(log.last_index + 1) for peer in peers}
        self.reads = PendingReads()
        self.transferee: NodeId | None = None
        self.conflicts: dict[NodeId, Conflict] = {}
        """Followers with another history: they are sent heartbeats only, and nothing they say counts."""
        self._untold_conflicts: list[Conflict] = []
        self._messages: list[Outgoing] = []
        self._grants: list[ReadGrant] = []
        self._fetches: list[Fetch] = []
        self._snapshots: list[SendSnapshot] = []
        self._log = log
        self._quorum_check_ms = quorum_check_ms
        self._since_check_ms = 0
        self._age_ms = 0
        self._transfer_elapsed_ms = 0
        self._transfer_is_asked = False
        self._timeout_now_left = False
        self._transfer_pause_ms = 0
        """So long no other hand-over begins: one that ended in vain has kept clients waiting."""
        self._unsent_commits = False

    def take(self) -> tuple[list[Outgoing], list[ReadGrant], list[Fetch], list[SendSnapshot]]:
        """What has to leave since the last time; each thing is handed out once."""
        taken = self._messages, self._grants, self._fetches, self._snapshots
        self._messages, self._grants, self._fetches, self._snapshots = [], [], [], []
        return taken

    def take_conflicts(self) -> tuple[Conflict, ...]:
        """Those found since the last time."""
        taken, self._untold_conflicts = self._untold_conflicts, []
        return tuple(taken)

    def heed(self, item: Fetched | PeerUnreachable | SnapshotSent) -> None:
        """What the driver tells of what it was asked to do."""
        match item:
            case Fetched(fetch, _):
                if fetch.term == self.term:
                    self.on_fetched(item)
            case PeerUnreachable(peer):
                self.on_unreachable(peer)
            case SnapshotSent(peer, ok):
                self.on_snapshot_sent(peer, ok)
            case _:
                assert_never(item)

    # --- time ----------------------------------------------------------------------------------

    def tick(self, elapsed_ms: int) -> bool:
        """Time passes; tells whether this node may go on leading (check-quorum, thesis 6.2)."""
        self._unsent_commits = True
        self._transfer_pause_ms -= elapsed_ms
        self._age_ms += elapsed_ms
        for progress in self.progress.values():
            progress.silence_ms += elapsed_ms
            progress.disk.tick(elapsed_ms, progress.match_index, self._log.committed)
        if self.transferee is not None:
            self._transfer_elapsed_ms += elapsed_ms
            if self._transfer_elapsed_ms >= self._quorum_check_ms:
                self._end_transfer()
        self._since_check_ms += elapsed_ms
        if self._since_check_ms < self._quorum_check_ms:
            return True
        self._since_check_ms = 0
        active = 1 + sum(progress.recently_active for progress in self.progress.values())
        for progress in self.progress.values():
            progress.recently_active = False
        return active >= quorum.majority(1 + len(self.progress))

    def beat(self) -> None:
        """The heartbeat interval has passed: ask everybody for a sign of life."""
        for progress in self.progress.values():
            progress.overdue = True
        self._send_heartbeats()

    def _send_heartbeats(self) -> None:
        """A heartbeat to every follower, with the newest round of reads."""
        applied = self._log.point(self._log.applied)
        for peer, progress in self.progress.items():
            commit = min(self._log.committed, progress.match_index)
            # One with another history is shown what contradicts it, so that it ends, too.
            shown = self.conflicts[peer].ours if peer in self.conflicts else applied
            self._post(peer, Heartbeat(self.term, commit, self.reads.probe, shown))

    # --- what followers answer -----------------------------------------------------------------

    def hear(self, peer: NodeId, answer: AppendReply | HeartbeatReply | AppendReject) -> None:
        """A follower answers."""
        match answer:
            case AppendReply():
                self.on_append_reply(peer, answer)
            case HeartbeatReply():
                self.on_heartbeat_reply(peer, answer)
            case AppendReject():
                self.on_append_reject(peer, answer)
            case _:
                assert_never(answer)

    def on_append_reply(self, peer: NodeId, reply: AppendReply) -> None:
        """The follower holds the log up to the reply's index."""
        if reply.match_index > self._log.last_index:
            self._contradict(peer, LogPoint(reply.match_index, UNKNOWN, UNKNOWN, UNKNOWN))
        elif (progress := self._heard(peer)) is not None:
            progress.matched(reply.match_index)
            self._hand_over_when_caught_up()

    def on_append_reject(self, peer: NodeId, reject: AppendReject) -> None:
        """The follower's log differs: go back, by whole terms (Raft 5.3); or it begins later: go on there."""
        progress = self._heard(peer)
        if progress is None:
            return
        if reject.hint_index > reject.rejected_index:
            hint = LogPoint(reject.hint_index, reject.hint_term, UNKNOWN, UNKNOWN)
            if not self._contradict(peer, hint):
                progress.rejected(reject.rejected_index, reject.hint_index + 1)
            return
        if not reject.rejected_index:  # every log begins there; before it nothing can be sent
            return
        common, _term = self._log.last_common(reject.hint_index, reject.hint_term)
        # The hint itself where it is before our prefix: only a snapshot helps.
        match = min(common, reject.hint_index, reject.rejected_index - 1)
        progress.rejected(reject.rejected_index, match + 1)

    def on_heartbeat_reply(self, peer: NodeId, reply: HeartbeatReply) -> None:
        """The follower lives: what it has not confirmed may be lost, and its answer may free reads."""
        progress = self._heard(peer)
        if progress is None or self._contradict(peer, reply.applied):
            return
        if progress.overdue:
            progress.overdue = False
            progress.ask_again()
            if progress.has_unconfirmed():
                # Behind all that is in flight: it is confirmed, or rejected and sent again.
                self._send(peer, progress, ())
        progress.acked_probe = max(progress.acked_probe, reply.probe)
        self._free_reads()

    def _heard(self, peer: NodeId) -> Progress | None:
        """The follower lives; None where its history is another, since nothing that it says counts then."""
        if peer in self.conflicts:
            return None
        progress = self.progress[peer]
        progress.heard()
        return progress

    def _contradict(self, peer: NodeId, theirs: LogPoint) -> bool:
        """Whether what the follower has committed is not in this log, which has all that ever was (5.4.3).

        One that has committed more than a leader that has committed in its own term did not get it here.
        Nobody can tell which of the two has the right history, so the follower counts as dead from now on.
        """
        log = self._log
        ours = log.other_than(theirs)
        if ours is None and theirs.index > log.committed and log.term_at(log.committed) == self.term:
            ours = log.point(log.committed)
        if ours is not None and peer not in self.conflicts:
            self.forget(peer)
            self.progress[peer].awaits_reply = True
            self.conflicts[peer] = Conflict(peer, ours, theirs, log.point(log.applied))
            self._untold_conflicts.append(self.conflicts[peer])
        return ours is not None

    def on_fetched(self, fetched: Fetched) -> None:
        """Entries for a slow follower have been read from disk."""
        fetch = fetched.fetch
        progress = self.progress[fetch.peer]
        if fetch != progress.fetching:  # that of before it was forgotten
            return
        progress.fetching = None
        if fetch.first_index == progress.next_index:
            for entries in _in_messages(fetched.entries):
                if not progress.may_send():
                    return  # what is left is fetched again
                self._send(fetch.peer, progress, entries)

    def on_connected(self, peer: NodeId) -> None:
        """What was in flight on the old connection may be lost: find the match again."""
        self.progress[peer].probe()

    def forget(self, peer: NodeId) -> None:
        """The peer has lost its disk: begin anew with it, as with one that was never heard."""
        self.conflicts.pop(peer, None)
        self.progress[peer] = Progress(self._log.last_index + 1)
        if self.transferee == peer:
            self._end_transfer()

    def on_unreachable(self, peer: NodeId) -> None:
        """A message was dropped: stop streaming, find the match again."""
        progress = self.progress[peer]
        if progress.state is ProgressState.REPLICATE:
            progress.probe()
            progress.awaits_reply = True  # until a heartbeat is answered

    def on_snapshot_sent(self, peer: NodeId, ok: bool) -> None:
        """The transfer of a snapshot has ended."""
        progress = self.progress[peer]
        if progress.state is ProgressState.SNAPSHOT:
            progress.probe(progress.snapshot_index + 1 if ok else progress.match_index + 1)
            progress.awaits_reply = True  # until it has installed it, or answers a heartbeat

    # --- what follows from it ------------------------------------------------------------------

    def commit_index(self) -> int:
        """The highest index that a majority holds durably, the leader's own disk counted likewise."""
        matches = [progress.match_index for progress in self.progress.values()]
        return quorum.agreed([self._log.durable, *matches])

    def held(self, before: Mapping[NodeId, int]) -> dict[NodeId, int]:
        """Up to where each follower is known to hold what is committed; or `before`, where that is more.

        It holds it for ever: nothing that is committed is cut away from the end of a log.
        """
        held = dict(before)
        for peer, progress in self.progress.items():
            held[peer] = max(held.get(peer, 0), min(progress.match_index, self._log.committed))
        return held

    def begin_reads(self) -> None:
        """Start a round for the reads that wait. Only after a commit in the own term (thesis 6.4)."""
        self.reads.begin_round(self._log.committed)
        self._send_heartbeats()
        self._free_reads()

    def transfer(self, to: NodeId | None, *, asked: bool = False) -> bool:
        """Hand over to `to`, or to the follower with the longest log (thesis 3.10); whether that is granted.

        One at a time: while one is under way another target is refused, and nobody can make it last longer.
        Nothing is appended meanwhile, so after one that failed the next may begin an election timeout
        later: however often it is asked for, clients are kept waiting half of the time at most. To hand over
        to no follower (this node stays) calls back what has not left yet.
        """
        if to is not None and to not in self.progress:
            return self._call_transfer_back()
        if self.transferee is not None:
            is_same = to in {None, self.transferee}
            self._transfer_is_asked |= asked and is_same
            return is_same
        if self._transfer_pause_ms > 0:
            return False
        alive_ms = self._quorum_check_ms
        candidates = [peer for peer, progress in self.progress.items() if progress.silence_ms < alive_ms]
        if to is None and candidates:
            to = max(candidates, key=lambda peer: (self.progress[peer].match_index, -peer))
        if to is not None:
            self.transferee = to
            self._transfer_is_asked = asked
            self._transfer_elapsed_ms = 0
            self._timeout_now_left = False
            self._hand_over_when_caught_up()
        return True

    def _call_transfer_back(self) -> bool:
        """Lead on; False when the follower may have been told already to stand for election."""
        if self.transferee is not None and self._timeout_now_left:
            return False
        if self.transferee is not None:
            self._end_transfer()
        return True

    def _end_transfer(self) -> None:
        self.transferee = None
        self._transfer_pause_ms = self._quorum_check_ms

    def yield_to_a_faster_disk(self) -> NodeId | None:
        """Hand over to a follower that has all that is committed, and has had it all along; whom.

        The commit goes on without this disk and no ack leaves before it has the entry too (applied <=
        durable). A young leader waits: it may have been handed the leadership for the same reason.
        """
        if self.transferee is not None or self._age_ms < limits.YOUNG_LEADERSHIP_MS:
            return None
        sound = [
            peer
            for peer, progress in self.progress.items()
            if progress.recently_active
            and progress.match_index >= self._log.committed
            and not progress.disk.was_slow
        ]
        if not sound:
            return None
        best = max(sound, key=lambda peer: (self.progress[peer].match_index, -peer))
        return best if self.transfer(best) else None

    def replicate(self) -> None:
        """Send each follower what it lacks, as far as its window allows."""
        for peer, progress in self.progress.items():
            if peer in self.conflicts:  # its log, whichever history is the right one, stays as it is
                continue
            while self._wants_entries(progress) and progress.may_send():
                if not self._send_next(peer, progress):
                    break
            if self._unsent_commits and self._lacks_commit(progress):
                self._send(peer, progress, ())
        self._unsent_commits = False

    def _wants_entries(self, progress: Progress) -> bool:
        return progress.next_index <= self._log.last_index or progress.state is ProgressState.PROBE

    def _lacks_commit(self, progress: Progress) -> bool:
        reachable = min(self._log.committed, progress.match_index)
        return progress.state is ProgressState.REPLICATE and progress.sent_commit < reachable

    def _send_next(self, peer: NodeId, progress: Progress) -> bool:
        """Send, fetch or send a snapshot; tells whether another message may follow."""
        first_index = progress.next_index
        if first_index <= self._log.prefix_index:
            self._send_snapshot(peer, progress)
            return False
        if first_index > self._log.last_index or progress.asks_again:
            self._send(peer, progress, ())
        elif self._log.is_cached(first_index):
            last_index = self._log.last_index
            self._send(peer, progress, self._log.slice(first_index, last_index, limits.MAX_APPEND_BYTES))
        elif progress.inflight_bytes >= limits.MAX_CATCH_UP_BYTES:
            return False
        else:
            progress.fetching = Fetch(peer, self.term, first_index, self._log.last_index)
            self._fetches.append(progress.fetching)
            return False
        return True

    def _send_snapshot(self, peer: NodeId, progress: Progress) -> None:
        progress.await_snapshot(self._log.prefix_index)
        self._snapshots.append(SendSnapshot(peer, self.term))

    def _send(self, peer: NodeId, progress: Progress, entries: tuple[Entry, ...]) -> None:
        """Send `entries`, which are the next ones; or a snapshot, where the prefix was cut past them.

        What is under way to the follower may be lost and nobody told, and what comes after it is gone: one
        that was sent nothing then would answer heartbeats, and stay behind, for ever.
        """
        prev_index = progress.next_index - 1
        prev_term = self._log.term_at(prev_index)
        if prev_term is None:
            self._send_snapshot(peer, progress)
            return
        commit = self._log.committed
        self._post(peer, AppendEntries(self.term, prev_index, prev_term, commit, entries))
        size_bytes = sum(entry.size_bytes for entry in entries)
        progress.sent(prev_index + len(entries), size_bytes, min(commit, prev_index + len(entries)))

    def _hand_over_when_caught_up(self) -> None:
        if self.transferee is None:
            return
        if self.progress[self.transferee].match_index == self._log.last_index:
            self._timeout_now_left = True
            self._post(self.transferee, TimeoutNow(self.term, self._transfer_is_asked))

    def _free_reads(self) -> None:
        acked = [progress.acked_probe for progress in self.progress.values()]
        confirmed = self.reads.confirm(quorum.agreed([self.reads.probe, *acked]))
        self._grants += [ReadGrant(read.token, read.index, None) for read in confirmed]

    def _post(self, peer: NodeId, message: AppendEntries | Heartbeat | TimeoutNow) -> None:
        self._messages.append(Outgoing(peer, message))


def _in_messages(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ...]]:
    """The same entries, cut where a message is full; each holds one at least."""
    begin = size_bytes = 0
    for end, entry in enumerate(entries):
        if begin < end and size_bytes + entry.size_bytes > limits.MAX_APPEND_BYTES:
            yield tuple(entries[begin:end])
            begin, size_bytes = end, 0
        size_bytes += entry.size_bytes
    if entries:
        yield tuple(entries[begin:])
