"""Bugs in what a leader sends, what a follower does with it, and what that commits."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

CORE: Final = "esnode.raft.core"
FOLLOWING: Final = "esnode.raft.following"
LEADERSHIP: Final = "esnode.raft.leadership"
LOG: Final = "esnode.raft.log"
PROGRESS: Final = "esnode.raft.progress"
QUORUM: Final = "esnode.raft.quorum"
REQUESTS: Final = "esnode.raft.requests"

REPLICATING: Final = (
    Mutant(
        "old-term-committed-by-count",
        "#4",
        "an entry of an earlier term is committed because a majority has it (Raft figure 8)",
        "T",
        (
            Edit(
                CORE,
                "if commit > self.log.committed and self.log.term_at(commit) == self.term:",
                "if commit > self.log.committed:",
            ),
        ),
        "tests/raft/test_known_bugs.py::test_counting_replicas_commits_nothing_of_an_earlier_term",
    ),
    Mutant(
        "own-entry-counted-before-fsync",
        "#7",
        "the leader counts its own copy of an entry before the entry is on its disk",
        "A",
        (
            Edit(
                LEADERSHIP,
                "return quorum.agreed([self._log.durable, *matches])",
                "return quorum.agreed([self._log.last_index, *matches])",
            ),
        ),
    ),
    Mutant(
        "append-acked-before-fsync",
        "#18",
        "a follower acknowledges entries before they are on its disk",
        "A",
        (
            Edit(
                CORE,
                "self._after.append(Outgoing(leader, reply))",
                "self._now.append(Outgoing(leader, reply))",
            ),
        ),
    ),
    Mutant(
        "one-completion-counts-for-later-writes",
        "#9",
        "when one write completes, all writes submitted after it are treated as durable too",
        "A",
        (
            Edit(
                LOG,
                "while self._claims and self._claims[0].write_id <= write_id:",
                "while self._claims:",
            ),
        ),
    ),
    Mutant(
        "match-of-an-older-term-counted",
        "Raft 5.3",
        "an acknowledgement from an earlier term in which this node led is counted in its current term",
        "T",
        (
            Edit(
                CORE,
                "self._now += [Outgoing(sender, answer) for answer in answers_to_stale(self.term, message)]",
                """
                self._now += [Outgoing(sender, answer) for answer in answers_to_stale(self.term, message)]
                if isinstance(message, AppendReply) and self.leadership is not None:
                    self.leadership.on_append_reply(sender, message)
                """,
            ),
        ),
        "tests/raft/test_stale_answers.py::test_a_match_from_an_earlier_leadership_commits_nothing",
    ),
    Mutant(
        "commit-one-short-of-a-majority",
        "Raft 5.3",
        "an entry is committed with one copy fewer than a majority",
        "A",
        (
            Edit(
                QUORUM,
                "return sorted(positions, reverse=True)[majority(len(positions)) - 1]",
                "return sorted(positions, reverse=True)[max(0, majority(len(positions)) - 2)]",
            ),
        ),
    ),
    Mutant(
        "heartbeat-commits-past-the-match",
        "Raft 5.3",
        "a heartbeat carries the leader's commit index even to a follower whose log does not match that far",
        "A",
        (
            Edit(
                LEADERSHIP,
                "commit = min(self._log.committed, progress.match_index)",
                "commit = self._log.committed",
            ),
        ),
    ),
    Mutant(
        "conflict-not-truncated",
        "Raft 5.3",
        "a follower skips an entry at an index that it already has, without comparing the terms",
        "A",
        (
            Edit(
                LOG,
                "if entry.index <= self.last_index and self.term_at(entry.index) == entry.term:",
                "if entry.index <= self.last_index:",
            ),
        ),
    ),
    Mutant(
        "late-append-truncates-the-tail",
        "Raft figure 2, AppendEntries 3",
        "every append truncates the log after its position, so a delayed append removes entries of later"
        " ones",
        "A",
        (
            Edit(
                LOG,
                """
                if entry.index <= self.last_index and self.term_at(entry.index) == entry.term:
                    continue
                self._check_follows(entry)
                if entry.index <= self.last_index:
                    self._truncate(entry.index)
                """,
                """
                if entry.index <= self.committed:
                    continue
                self._check_follows(entry)
                if entry.index <= self.last_index:
                    self._truncate(entry.index)
                """,
            ),
        ),
    ),
    Mutant(
        "previous-entry-not-compared",
        "Raft figure 2, AppendEntries 2",
        "a follower accepts entries if it has any entry at the preceding index, whatever its term",
        "A",
        (
            Edit(
                FOLLOWING,
                "elif log.term_at(prev_index) != message.prev_term:",
                "elif log.term_at(prev_index) is None:",
            ),
        ),
    ),
    Mutant(
        "probe-index-used-as-match",
        "Raft 5.3",
        "the index at which the leader probes a follower's log is used as that follower's match index",
        "A",
        (
            Edit(
                PROGRESS,
                "self.match_index = min(self.match_index, next_index - 1)",
                "self.match_index = next_index - 1",
            ),
        ),
    ),
    Mutant(
        "new-leader-assumes-full-match",
        "Raft figure 2",
        "a new leader assumes that every follower has its whole log",
        "A",
        (Edit(PROGRESS, "self.match_index = 0\n", "self.match_index = next_index - 1\n"),),
    ),
    Mutant(
        "sent-counts-as-acknowledged",
        "Raft 5.3",
        "entries count as stored by a follower once they have been sent",
        "A",
        (
            Edit(
                PROGRESS,
                "self._inflight.append((last_index, size_bytes))",
                """
                self._inflight.append((last_index, size_bytes))
                self.match_index = last_index
                """,
            ),
        ),
    ),
    Mutant(
        "rejection-is-always-stale",
        "etcd raft",
        "a leader that is streaming to a follower ignores its rejections, so a follower with a lost or"
        " different tail never catches up",
        "A",
        (
            Edit(
                PROGRESS,
                "ProgressState.REPLICATE: rejected_index <= self.match_index,",
                "ProgressState.REPLICATE: True,",
            ),
        ),
    ),
    Mutant(
        "applied-before-commit",
        "Raft 5.3",
        "a leader applies and acks entries as soon as they are on its own disk",
        "A",
        (Edit(LOG, "end = min(self.committed, self.durable)", "end = self.committed = self.durable"),),
    ),
    Mutant(
        "stored-commit-index-too-high",
        "#10",
        "the end of the log is stored as the commit index, so a restart applies uncommitted entries",
        "A",
        (
            Edit(
                CORE,
                "Write(self._write_id, self._snapshot, hard_state, entries, self.log.committed",
                "Write(self._write_id, self._snapshot, hard_state, entries, self.log.last_index",
            ),
        ),
    ),
    Mutant(
        "snapshot-keeps-a-conflicting-tail",
        "#11",
        "a follower that has any entry at the snapshot's index keeps its log, whatever that entry's term",
        "A",
        (
            Edit(
                FOLLOWING,
                "if log.term_at(snapshot.index) == snapshot.term:",
                "if log.term_at(snapshot.index) is not None:",
            ),
        ),
    ),
    Mutant(
        "snapshot-sent-is-installed",
        "#12",
        "a snapshot counts as installed once it has been sent; if it is lost, the follower is never sent"
        " anything again",
        "T",
        (
            Edit(
                LEADERSHIP,
                "progress.probe(progress.snapshot_index + 1 if ok else progress.match_index + 1)",
                "progress.matched(progress.snapshot_index)",
            ),
        ),
        "tests/raft/test_known_bugs.py::test_a_cut_while_a_snapshot_travels_leads_to_a_newer_snapshot",
    ),
    Mutant(
        "snapshot-confirmed-before-fsync",
        "#12",
        "a follower acknowledges a snapshot before it is on disk",
        "A",
        (
            Edit(
                CORE,
                """
                    self._snapshot = snapshot
                self._reply(leader, answer_to_snapshot(self.log, self.term, snapshot.index))
                """,
                """
                    self._snapshot = snapshot
                self._now.append(Outgoing(leader, AppendReply(self.term, self.log.committed)))
                """,
            ),
        ),
    ),
    Mutant(
        "commit-index-acked-uncompared",
        "decision 50",
        "a follower acknowledges everything up to its commit index without comparing it with the leader's"
        " log",
        "T",
        (
            Edit(
                FOLLOWING,
                "if prev_index <= log.committed:",
                """
                if prev_index < log.committed:
                    return AppendReply(term, log.committed)
                if prev_index == log.committed:
                """,
            ),
        ),
        "tests/raft/test_histories.py::test_another_term_below_what_is_committed_ends_the_follower",
    ),
    Mutant(
        "newer-commit-reported-as-another-history",
        "Raft 5.4.2",
        "a new leader that has committed nothing yet treats a follower with a higher commit index as"
        " having another history",
        "A",
        (
            Edit(
                LEADERSHIP,
                "theirs.index > log.committed and log.term_at(log.committed) == self.term:",
                "theirs.index > log.committed:",
            ),
        ),
    ),
    Mutant(
        "uncommitted-tail-reported-as-another-history",
        "Raft 5.3",
        "a follower also compares its uncommitted tail with the entry that the leader has applied last,"
        " and reports a difference as another history",
        "A",
        (
            Edit(
                FOLLOWING,
                "ours = log.other_than(theirs) if theirs.index <= log.committed else None",
                "ours = log.other_than(theirs)",
            ),
        ),
    ),
    Mutant(
        "compacted-entries-stall-a-follower",
        "Raft 7",
        "if the next entries for a follower are deleted while its in-flight window is full, it is never"
        " sent anything again",
        "A",
        (
            Edit(
                LEADERSHIP,
                """
                if prev_term is None:
                    self._send_snapshot(peer, progress)
                    return
                """,
                """
                if prev_term is None:
                    return
                """,
            ),
        ),
    ),
    Mutant(
        "snapshot-forgets-the-offset",
        "#12",
        "after a snapshot is installed, the log continues with the offset from before the snapshot",
        "A",
        (
            Edit(
                LOG,
                "self._applied_position = Position(snapshot.next_offset, snapshot.log_time_ms)",
                "self._applied_position = Position(self._applied_position.next_offset, snapshot.log_time_ms)",
            ),
        ),
    ),
    Mutant(
        "compaction-one-entry-too-far",
        "#12",
        "the in-memory log assumes that the deleted prefix ends one entry later than it does",
        "A",
        (
            Edit(
                LOG,
                'assert index <= self.applied, "the prefix is cut only where it is applied"',
                "index = min(index + 1, self.applied)",
            ),
        ),
    ),
    Mutant(
        "log-time-goes-back",
        "#17",
        "a new leader continues its own log time instead of the log time of the last entry",
        "A",
        (
            Edit(
                REQUESTS,
                "self._log_time_ms = self._log.end.log_time_ms",
                "self._log_time_ms = self._log_time_ms + 0",
            ),
        ),
    ),
)
