"""Bugs in who may lead: terms, votes, and what is durable before anybody hears of it."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

CORE: Final = "esnode.raft.core"
LEADERSHIP: Final = "esnode.raft.leadership"
LOG: Final = "esnode.raft.log"
VOTING: Final = "esnode.raft.elections"
QUORUM: Final = "esnode.raft.quorum"
OUTLINE: Final = "esnode.storage.logoutline"

ELECTIONS: Final = (
    Mutant(
        "leads-with-a-slow-disk",
        "decision 6",
        "a leader whose own disk lags behind the commit index keeps leading, and acks only as fast as"
        " that disk",
        "A",
        (Edit(CORE, "elif self.disk.is_slow and", "elif self.disk.lag_ms < 0 and"),),
    ),
    Mutant(
        "hands-over-to-a-slow-disk",
        "decision 6",
        "a leader with a slow disk transfers leadership to a follower whose disk was slow a moment ago",
        "T",
        (Edit(LEADERSHIP, "and not progress.disk.was_slow", "and True"),),
        "tests/raft/test_disklag.py::test_nobody_is_handed_the_leadership_whose_disk_was_slow_lately",
    ),
    Mutant(
        "slow-disk-campaigns-first",
        "decision 6",
        "a node whose disk was slow starts an election as early as any other node",
        "T",
        (
            Edit(
                CORE,
                "self._timer.stands_late = self.disk.tick(",
                "self._timer.stands_late = False and self.disk.tick(",
            ),
        ),
        "tests/raft/test_disklag.py::test_the_survivor_with_the_slow_disk_lets_the_other_one_stand",
    ),
    Mutant(
        "partial-message-confirms-a-read-round",
        "decision 51",
        "part of a large message makes a follower confirm a ReadIndex round that it has not received",
        "T",
        (
            Edit(
                CORE,
                """
                self._timer.heard()
                self._now.append(Outgoing(sender, HeartbeatReply(self.term, 0)))
                """,
                """
                self._timer.heard()
                self._now.append(Outgoing(sender, HeartbeatReply(self.term, 1)))
                """,
            ),
        ),
        "tests/raft/test_thesis.py::test_thesis_6_2_part_of_a_large_message_is_a_sign_of_life_of_the_leader",
    ),
    Mutant(
        "any-peers-bytes-count-as-the-leaders",
        "decision 51",
        "part of a large message from any peer counts as a message from the leader and resets the"
        " election timer",
        "T",
        (Edit(CORE, "if sender == self.leader:", "if self.leader is not None:"),),
        "tests/raft/test_thesis.py::test_thesis_6_2_part_of_what_another_sends_is_no_sign_of_the_leaders_life",
    ),
    Mutant(
        "vote-before-fsync",
        "#1",
        "a vote is sent before it is on disk, so a node can vote twice in one term after a crash",
        "A",
        (
            Edit(
                CORE,
                "self._after.append(Outgoing(sender, VoteReply(self.term, granted, pre=False)))",
                "self._now.append(Outgoing(sender, VoteReply(self.term, granted, pre=False)))",
            ),
        ),
    ),
    Mutant(
        "vote-forgotten-on-disk",
        "#1",
        "the stored record has the term but no vote",
        "A",
        (Edit(OUTLINE, "hard_state.vote or 0,", "0,"),),
    ),
    Mutant(
        "vote-without-a-new-term-not-written",
        "#1",
        "term and vote are written when the term changes, but not when only the vote changes",
        "A",
        (
            Edit(
                CORE,
                "hard_state = self._hard_state if self._hard_state is not self._given_hard_state else None",
                "hard_state = self._hard_state if self.term != self._given_hard_state.term else None",
            ),
        ),
    ),
    Mutant(
        "term-and-vote-in-two-writes",
        "#1",
        "a new term is written first, without its vote; the vote is part of the next write",
        "A",
        (
            Edit(
                CORE,
                """
                if hard_state is not None:
                    self._given_hard_state = hard_state
                """,
                """
                if hard_state is not None:
                    if hard_state.term != self._given_hard_state.term:
                        hard_state = HardState(hard_state.term, None)
                    self._given_hard_state = hard_state
                """,
            ),
        ),
    ),
    Mutant(
        "hard-state-waits-for-entries",
        "#20",
        "term and vote are written only together with the next entries: after a power cut, one term can"
        " have two leaders",
        "A",
        (
            Edit(
                CORE,
                "if not entries and hard_state is None and self._snapshot is None",
                "if not entries and self._snapshot is None",
            ),
        ),
    ),
    Mutant(
        "step-down-clears-the-vote",
        "#2",
        "stepping down within a term clears the vote, so the node can vote again in that term",
        "A",
        (
            Edit(
                CORE,
                """
                if term > self.term:
                    self._hard_state = HardState(term, None)
                """,
                """
                if term >= self.term:
                    self._hard_state = HardState(term, None)
                """,
            ),
        ),
    ),
    Mutant(
        "vote-of-an-older-term-counted",
        "#3",
        "a vote from an earlier term is counted in the current term",
        "T",
        (
            Edit(
                CORE,
                "self._now += [Outgoing(sender, answer) for answer in answers_to_stale(self.term, message)]",
                """
                self._now += [Outgoing(sender, answer) for answer in answers_to_stale(self.term, message)]
                if isinstance(message, VoteReply):
                    self._on_vote_reply(sender, message)
                """,
            ),
            Edit(
                CORE,
                "if self.role is asked_role and reply.term == asked_term:",
                "if self.role is asked_role and reply.term <= asked_term:",
            ),
        ),
        "tests/raft/test_known_bugs.py::test_a_vote_of_an_older_term_is_not_counted",
    ),
    Mutant(
        "pre-vote-counted-as-a-vote",
        "thesis 9.6",
        "a late reply to the pre-vote counts as a vote in the election that follows",
        "A",
        (
            Edit(
                CORE,
                """
                asked_role = Role.PRE_CANDIDATE if reply.pre else Role.CANDIDATE
                asked_term = self.term + 1 if reply.pre and reply.granted else self.term
                """,
                """
                asking = self.role is Role.PRE_CANDIDATE
                asked_role = Role.PRE_CANDIDATE if asking else Role.CANDIDATE
                asked_term = self.term + 1 if asking and reply.granted else self.term
                """,
            ),
        ),
    ),
    Mutant(
        "own-vote-before-fsync",
        "#1",
        "a candidate counts its own vote, and asks for other votes, before its own vote is on disk",
        "A",
        (
            Edit(CORE, "outbox = self._now if pre else self._after", "outbox = self._now"),
            Edit(
                VOTING,
                """
                self._was_split = False
                self._votes = {}
                """,
                """
                self._was_split = False
                self._votes = {self._me: True}
                """,
            ),
        ),
    ),
    Mutant(
        "two-votes-in-a-term",
        "Raft 5.2",
        "a node that has voted in a term also votes for other candidates in that term",
        "A",
        (
            Edit(
                CORE,
                "free = vote == sender or (vote is None and self.leader is None)",
                "free = vote == sender or self.leader is None",
            ),
            Edit(CORE, "if vote is None:", "if vote != sender:"),
        ),
    ),
    Mutant(
        "long-old-log-wins",
        "#14",
        "logs are compared by length first and by last term second",
        "A",
        (
            Edit(
                LOG,
                "return (self.last_term, self.last_index) > (term, index)",
                "return (self.last_index, self.last_term) > (index, term)",
            ),
        ),
    ),
    Mutant(
        "vote-for-a-shorter-log",
        "Raft 5.4.1",
        "a vote is given without checking the candidate's log",
        "A",
        (
            Edit(
                CORE,
                "granted = may_vote and not self.log.is_newer_than(request.last_index, request.last_term)",
                "granted = may_vote",
            ),
        ),
    ),
    Mutant(
        "one-vote-short",
        "Raft 5.2",
        "an election is won with one vote fewer than a majority",
        "A",
        (Edit(QUORUM, "if granted >= majority(len(voters)):", "if granted >= max(1, len(voters) // 2):"),),
    ),
    Mutant(
        "term-of-a-reply-ignored",
        "Raft 5.1",
        "a leader that receives a reply with a newer term keeps leading",
        "A",
        (
            Edit(
                CORE,
                "if not is_about_a_future_term(message):",
                "if not is_about_a_future_term(message) and self.leadership is None:",
            ),
        ),
    ),
    Mutant(
        "leads-without-a-quorum",
        "#13",
        "check-quorum is missing: a leader that nobody answers keeps leading",
        "A",
        (
            Edit(
                "esnode.raft.leadership",
                "return active >= quorum.majority(1 + len(self.progress))",
                "return True",
            ),
        ),
    ),
)
