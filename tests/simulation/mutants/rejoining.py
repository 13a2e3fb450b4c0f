"""Bugs in how a node comes back that has lost its disk, or was restored from an older copy of it."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

CORE: Final = "esnode.raft.core"
LEADERSHIP: Final = "esnode.raft.leadership"
REJOIN: Final = "esnode.raft.rejoin"
MEMORY: Final = "esnode.storage.memory"
STORED: Final = "esnode.storage.stored_log"

REJOINING: Final = (
    Mutant(
        "copy-believed",
        "#26",
        "a disk restored from an older copy is opened as if it were the one that the node had",
        "A",
        (Edit(MEMORY, "if self._is_copy and not self.rejoining:", "if self._is_copy and self.rejoining:"),),
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
        "A",
        (Edit(REJOIN, "if self.unanswered:", "if not self._answered:"),),
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
        "A",
        (
            Edit(
                LEADERSHIP,
                "self.progress[peer] = Progress(self._log.last_index + 1)",
                "self.progress[peer].probe(self.progress[peer].match_index + 1)",
            ),
        ),
    ),
    Mutant(
        "vote-of-an-earlier-life-kept",
        "#26",
        "a candidate counts the vote of a node that has lost its disk since",
        "A",
        (Edit(CORE, "self._votes.pop(sender, None)", "self._votes.get(sender)"),),
    ),
    Mutant(
        "rejoining-node-heeds-any-leader",
        "#26",
        "a node that rejoins confirms entries to a leader that its earlier life had helped to replace",
        "A",
        (
            Edit(
                CORE,
                "deaf = self._rejoining is not None and self._rejoining.deaf",
                "deaf = self._rejoining is not None and self._rejoining.deaf and message.term < 0",
            ),
        ),
    ),
    Mutant(
        "rejoined-node-votes-twice",
        "#26",
        "a node that has rejoined votes in a term in which its earlier life may have voted",
        "A",
        (
            Edit(
                CORE,
                "self._hard_state = HardState(self.term, self.me)",
                "self._hard_state = self._hard_state",
            ),
        ),
    ),
    Mutant(
        "answers-of-the-unsound-count",
        "#19",
        "two nodes that have both lost their disks take each other's word",
        "A",
        (Edit(REJOIN, "if reply.sound:", "if reply.sound or reply.nonce:"),),
    ),
    Mutant(
        "rejoined-in-one-round",
        "#26",
        "the answers of those who have just forgotten are also taken for where the log ends",
        "A",
        (Edit(REJOIN, "self._forgotten = False", "self._forgotten = True"),),
    ),
    Mutant(
        "marker-removed-before-fsync",
        "#26",
        "the marker of a disk that is not believed goes before the write that makes up for it is durable",
        "A",
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
    ),
    Mutant(
        "rejoined-too-soon-by-its-own-count",
        "#26",
        "a node that rejoins goes by a heartbeat's commit index, which counts what it has lost",
        "A",
        (
            Edit(
                CORE,
                "if not self.rejoining:  # one that was overtaken may go by what an earlier life had",
                "if message.commit:",
            ),
        ),
    ),
)
