"""Bugs in linearizable reads: answers from a leader that has been replaced without knowing it."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

CORE: Final = "esnode.raft.core"
READS: Final = "esnode.raft.reads"
LEADERSHIP: Final = "esnode.raft.leadership"

READ_BUGS: Final = (
    Mutant(
        "read-before-the-noop",
        "#5",
        "a new leader answers reads before it has committed an entry of its own term",
        "A",
        (
            Edit(
                CORE,
                "if leadership.reads.are_waiting and self.log.term_at(self.log.committed) == self.term:",
                "if leadership.reads.are_waiting:",
            ),
        ),
    ),
    Mutant(
        "read-rounds-share-a-number",
        "#6",
        "every ReadIndex round has the same number, so an old confirmation releases a new read",
        "A",
        (Edit(READS, "self.probe += 1", "self.probe = 1"),),
    ),
    Mutant(
        "read-joins-a-started-round",
        "#6",
        "a read that arrives during a ReadIndex round is released by that round, although the round"
        " started before the read",
        "T",
        (
            Edit(
                READS,
                "self._waiting.append(token)",
                """
                if self._rounds:
                    last = self._rounds.pop()
                    self._rounds.append(_Round(last.probe, last.index, (*last.tokens, token)))
                else:
                    self._waiting.append(token)
                """,
            ),
        ),
        "tests/raft/test_known_bugs.py::test_a_late_answer_to_one_round_frees_no_later_read",
    ),
    Mutant(
        "read-without-a-round",
        "#23",
        "a leader answers reads without a ReadIndex round, that is, without confirming that it still leads",
        "A",
        (
            Edit(
                "esnode.raft.requests",
                "self._leadership.reads.add(token)",
                "self._read_grants.append(ReadGrant(token, self._log.committed, None))",
            ),
        ),
    ),
    Mutant(
        "read-at-the-applied-index",
        "thesis 6.4",
        "a read is served from the state applied so far, without waiting for everything that was"
        " committed when it arrived",
        "A",
        (
            Edit(
                LEADERSHIP,
                "self.reads.begin_round(self._log.committed)",
                "self.reads.begin_round(self._log.applied)",
            ),
        ),
    ),
)
