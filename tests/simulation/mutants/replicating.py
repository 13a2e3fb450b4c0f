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
        "an entry of an earlier term is committed because a majority holds it (Raft figure 8)",
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
        "the leader counts its own copy of an entry before its disk has it",
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
        "a follower confirms entries before its disk has them",
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
        "any-completion-counts",
        "#9",
        "the end of an earlier write makes durable whatever was handed to the disk since",
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
        "a confirmation from an earlier leadership of the same node counts in this one",
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
        "an entry counts as committed with one copy less than a majority",
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
        "a heartbeat carries the leader's commit index, also to a follower whose log differs",
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
        "conflict-not-cut",
        "Raft 5.3",
        "an entry at a known index is passed over without a look at its term",
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
        "late-append-cuts-the-tail",
        "Raft figure 2, AppendEntries 3",
        "every append replaces all that follows its place, so a late one undoes newer ones",
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
        "a follower takes entries when it has one at the place before them, of whatever term",
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
        "hint-taken-for-a-match",
        "Raft 5.3",
        "the place where a leader looks for the match counts as the match",
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
        "hopeful-leader",
        "Raft figure 2",
        "a new leader begins with the belief that everybody has all of its log",
        "A",
        (Edit(PROGRESS, "self.match_index = 0\n", "self.match_index = next_index - 1\n"),),
    ),
    Mutant(
        "sent-is-confirmed",
        "Raft 5.3",
        "entries count as held by a follower once they have been sent",
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
        "etcd raft, progress",
        "a leader that streams ignores a rejection: a follower with a lost or different tail is never helped",
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
        "entries are applied, and acked, once the leader's own disk has them",
        "A",
        (Edit(LOG, "end = min(self.committed, self.durable)", "end = self.committed = self.durable"),),
    ),
    Mutant(
        "commit-hint-too-high",
        "#10",
        "the stored commit index is the log's end: a restart applies what was never committed",
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
        "a follower that has any entry at the snapshot's index keeps its log, whatever it holds",
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
        "a snapshot that has left counts as installed; when it is lost, nothing is ever sent again",
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
        "a follower confirms a snapshot before its disk has it",
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
        "committed-answered-unseen",
        "a directory fed by another history",
        "a follower confirms all that it has committed, whatever its leader has there",
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
        "newer-commit-taken-for-another-history",
        "Raft 5.4.2",
        "a new leader that has committed nothing yet takes a follower that knows of more commits for a liar",
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
        "uncommitted-taken-for-another-history",
        "Raft 5.3",
        "a follower holds its uncommitted tail, too, against what its leader has applied",
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
        "gone-entries-end-in-silence",
        "the window, and a prefix cut past it",
        "a follower whose next entries were cut away while its window was full is sent nothing any more",
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
        "a log that begins with a snapshot goes on with the offsets from before it",
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
        "compaction-drops-the-first-entry-after-it",
        "#12",
        "the log in memory believes that its prefix reaches one entry further than it was cut",
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
        "a new leader stamps entries with its own time, not with what follows the log's",
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
