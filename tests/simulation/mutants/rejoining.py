"""Bugs in how a node comes back that has lost its disk, or was restored from an older copy of it."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

CORE: Final = "esnode.raft.core"
LEADERSHIP: Final = "esnode.raft.leadership"
REJOIN: Final = "esnode.raft.rejoin"
MEMORY: Final = "esnode.storage.memory"
STORED: Final = "esnode.storage.storedlog"

REJOINING: Final = (
    Mutant(
        "old-copy-accepted",
        "#26",
        "a disk restored from an older copy is opened normally, although other records show that entries"
        " are missing",
        "A",
        (
            Edit(MEMORY, "if self._is_copy and not self.rejoining:", "if self._is_copy and self.rejoining:"),
            Edit(STORED, "if outline.number < self._home.witnessed and", "if outline.number < 0 and"),
        ),
    ),
    Mutant(
        "rejoining-node-votes",
        "#26",
        "a node that has lost its disk votes like any other node",
        "A",
        (Edit(CORE, "may_vote = may_vote and self._is_sound", "may_vote = bool(may_vote)"),),
    ),
    Mutant(
        "rejoined-after-one-answer",
        "#26",
        "a rejoining node proceeds after the first answer from another node",
        "T",
        (Edit(REJOIN, "if self.unanswered:", "if not self._answered:"),),
        "tests/raft/test_rejoin.py::test_all_must_forget_and_a_majority_of_sound_voters_says_where_they_are",
    ),
    Mutant(
        "rejoined-without-the-log",
        "#26",
        "a rejoining node votes again before it has recovered the entries that it acknowledged before it"
        " lost its disk",
        "A",
        (
            Edit(
                REJOIN,
                "return not self.deaf and (durable_term, durable_index) >= self._target",
                "return not self.deaf",
            ),
        ),
    ),
    Mutant(
        "match-kept-after-disk-loss",
        "#19",
        "a leader keeps the match index that a follower had before it lost its disk",
        "T",
        (
            Edit(
                LEADERSHIP,
                "self.progress[peer] = Progress(self._log.last_index + 1)",
                "self.progress[peer].probe(self.progress[peer].match_index + 1)",
            ),
        ),
        "tests/raft/test_rejoin_stories.py::test_a_match_of_an_earlier_life_is_not_counted",
    ),
    Mutant(
        "vote-kept-after-disk-loss",
        "#26",
        "a candidate still counts the vote of a node that has since lost its disk",
        "T",
        (Edit("esnode.raft.elections", "self._votes.pop(voter, None)", "self._votes.get(voter)"),),
        "tests/raft/test_rejoin_asked.py::test_a_candidate_takes_the_vote_of_a_lost_disk_off_its_tally",
    ),
    Mutant(
        "rejoining-node-obeys-any-leader",
        "#26",
        "a rejoining node acknowledges entries from a leader that it had voted to replace before it lost"
        " its disk",
        "T",
        (
            Edit(
                REJOIN,
                "deaf = rejoining is not None and rejoining.deaf",
                "deaf = rejoining is not None and rejoining.deaf and rejoining is None",
            ),
        ),
        "tests/raft/test_rejoin.py::test_a_node_that_does_not_know_its_promises_obeys_no_leader",
    ),
    Mutant(
        "rejoined-node-votes-twice",
        "#26",
        "a node that has rejoined votes in a term in which it may already have voted before it lost its disk",
        "T",
        (
            Edit(
                CORE,
                "self._hard_state = HardState(self.term, self.me)",
                "self._hard_state = self._hard_state",
            ),
        ),
        "tests/raft/test_rejoin.py::test_the_end_of_the_log_must_be_reached_durably",
    ),
    Mutant(
        "rejoining-nodes-answer-each-other",
        "#19",
        "two nodes that have both lost their disks rely on each other's answers",
        "T",
        (Edit(REJOIN, "if reply.sound:", "if reply.sound or reply.nonce:"),),
        "tests/raft/test_rejoin.py::test_all_must_forget_and_a_majority_of_sound_voters_says_where_they_are",
    ),
    Mutant(
        "rejoined-in-one-round",
        "#26",
        "the answers in the first round, in which the other nodes discard the old match index and votes,"
        " are also used to find the end of the log",
        "T",
        (Edit(REJOIN, "self._forgotten = False", "self._forgotten = True"),),
        "tests/raft/test_rejoin.py::test_the_second_question_is_asked_as_soon_as_all_have_forgotten",
    ),
    Mutant(
        "marker-removed-before-fsync",
        "#26",
        "the marker that a disk cannot be trusted is removed before the write that completes the log"
        " again is durable",
        "T",
        (
            Edit(
                MEMORY,
                "self._rejoined = self._rejoined or any(write.rejoined for write in writes)",
                """
                if any(write.rejoined for write in writes):
                    self._disk.end_rejoin()
                """,
            ),
        ),
        "tests/storage/test_rejoin.py::test_the_two_halves_of_a_write_take_the_marker_with_the_second",
    ),
    Mutant(
        "rejoining-node-trusts-heartbeat-commit",
        "#26",
        "a rejoining node trusts the commit index of a heartbeat, which still counts entries that this"
        " node has lost",
        "T",
        (
            Edit(
                CORE,
                "if not self.rejoining:  # one that was overtaken may go by what an earlier life had",
                "if message.commit:",
            ),
        ),
        "tests/raft/test_rejoin.py::test_a_rejoining_node_commits_nothing_on_the_word_of_a_heartbeat",
    ),
)
