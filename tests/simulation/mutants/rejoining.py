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
        "copy-believed",
        "#26",
        "a disk restored from an older copy is opened as if it were t"
        "he one that the node had, whatever says that there was more",
        "A",
        (
            Edit(MEMORY, "if self._is_copy and not self.rejoining:", "if self._is_copy and self.rejoining:"),
            Edit(STORED, "if outline.number < self._home.witnessed and", "if outline.number < 0 and"),
        ),
    ),
    Mutant(
        "rejoining-node-votes",
        "#26",
        "a node that has lost its disk votes like any other",
        "A",
        (Edit(CORE, "may_vote = may_vote and self._is_sound", "may_vote = bool(may_vote)"),),
    ),
    Mutant(
        "rejoined-after-one-answer",
        "#26",
        "a node that rejoins goes on when the first of the others has answered",
        "T",
        (Edit(REJOIN, "if self.unanswered:", "if not self._answered:"),),
        "tests/raft/test_rejoin.py::test_all_must_forget_and_a_majority_of_sound_voters_says_where_they_are",
    ),
    Mutant(
        "rejoined-without-the-log",
        "#26",
        "a node that rejoins votes again before it has the entries that its earlier life had acked",
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
        "match-of-an-earlier-life-kept",
        "#19",
        "a leader goes on counting what a follower had before it lost its disk",
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
        "vote-of-an-earlier-life-kept",
        "#26",
        "a candidate counts the vote of a node that has lost its disk since",
        "T",
        (Edit("esnode.raft.elections", "self._votes.pop(voter, None)", "self._votes.get(voter)"),),
        "tests/raft/test_rejoin_asked.py::test_a_candidate_takes_the_vote_of_a_lost_disk_off_its_tally",
    ),
    Mutant(
        "rejoining-node-heeds-any-leader",
        "#26",
        "a node that rejoins confirms entries to a leader that its earlier life had helped to replace",
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
        "a node that has rejoined votes in a term in which its earlier life may have voted",
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
        "answers-of-the-unsound-count",
        "#19",
        "two nodes that have both lost their disks take each other's word",
        "T",
        (Edit(REJOIN, "if reply.sound:", "if reply.sound or reply.nonce:"),),
        "tests/raft/test_rejoin.py::test_all_must_forget_and_a_majority_of_sound_voters_says_where_they_are",
    ),
    Mutant(
        "rejoined-in-one-round",
        "#26",
        "the answers of those who have just forgotten are also taken for where the log ends",
        "T",
        (Edit(REJOIN, "self._forgotten = False", "self._forgotten = True"),),
        "tests/raft/test_rejoin.py::test_the_second_question_is_asked_as_soon_as_all_have_forgotten",
    ),
    Mutant(
        "marker-removed-before-fsync",
        "#26",
        "the marker of a disk that is not believed goes before the write that makes up for it is durable",
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
        "rejoined-too-soon-by-its-own-count",
        "#26",
        "a node that rejoins goes by a heartbeat's commit index, which counts what it has lost",
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
