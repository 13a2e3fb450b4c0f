"""The state after the strikes: compares the nodes' logs with each other and with the client's acks.

Reads all nodes over the wire, as `esctl verify` does, and holds the acks of the load against what they have.
Never prints. Called by `esctl bench failover`, playbooks and the torture tests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from esctl.clusters.state import Cluster
from esctl.verify.history import History
from esctl.verify.operations import Operations
from esctl.verify.reading import ReadOutcome, ReadProgress, read_logs
from esctl.verify.verdict import Flaw, LogFindings, LogVerdict

CATCH_UP_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """`findings` hold the client against the log, `verdict` the nodes against each other."""

    reading: ReadOutcome
    verdict: LogVerdict
    findings: LogFindings

    @property
    def lost(self) -> int:
        """Acked events that are not where they were acked."""
        return max(self.findings.counts[Flaw.LOST], self.verdict.lost)

    @property
    def duplicates(self) -> int:
        """Events that the log has more than once."""
        return max(self.findings.counts[Flaw.DUPLICATE], self.verdict.duplicates)

    @property
    def clean(self) -> bool:
        """Was nothing found that must not be?"""
        return self.findings.clean and self.verdict.clean and self.verdict.hashes_equal

    @property
    def flaws(self) -> Sequence[str]:
        """The first of what was found, in words."""
        return [finding.text for finding in (*self.findings.examples, *self.verdict.examples)]

    @property
    def doubts(self) -> Sequence[str]:
        """Why there is not enough to judge by; empty when there is."""
        found = [f"node {number}: {why}" for number, why in sorted(self.reading.troubles.items())]
        return found if self.reading.confirmed else [*found, "no majority confirmed where the log ends"]


class LogsReading:
    """All logs, read; `judge` is for afterwards, in a thread of one's own if need be.

    With several partitions, those of one of them.
    """

    def __init__(self, cluster: Cluster, partition: int | None = None) -> None:
        self._cluster = cluster
        self._partition = partition
        self._history = History(node.id for node in cluster.nodes)
        self._reading = ReadOutcome(confirmed=False)

    async def read(self, begin: Callable[[int], ReadProgress], wait_s: float = CATCH_UP_TIMEOUT_S) -> None:
        """Read every node to the end that a majority confirms; waits `wait_s` for those that are behind.

        What is acked later than this begins is not among what `judge` may be asked about.
        """
        self._reading = await read_logs(self._cluster, self._history, wait_s, begin, self._partition)

    def judge(self, operations: Operations) -> DrillOutcome:
        """Hold it all together. Others may have appended to the same log."""
        verdict = self._history.verdict()
        readable = [number for number in verdict.nodes if number in self._reading.up]
        findings = LogFindings()
        if readable:
            number = readable[0]
            keys = self._history.keys(number)
            findings = operations.check(
                keys,
                verdict.nodes[number].first_offset,
                may_repeat=self._history.may_repeat(number),
                exact=False,
            )
        return DrillOutcome(self._reading, verdict, findings)
