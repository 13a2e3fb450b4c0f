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
        "a new leader answers reads before it has committed in its own term",
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
        "every round of reads has the same number, so an old confirmation frees a new read",
        "A",
        (Edit(READS, "self.probe += 1", "self.probe = 1"),),
    ),
    Mutant(
        "read-joins-a-round-under-way",
        "#6",
        "a read that comes while a round is under way is freed by it, though it began later",
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
        "a leader answers reads at once, because it believes that it leads",
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
        "read-index-of-the-applied",
        "thesis 6.4",
        "a read is served from what is applied when it comes, not from what was committed",
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
