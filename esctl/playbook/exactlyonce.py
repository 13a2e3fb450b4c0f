"""The exactly-once check of a run: what its loads were told, held against the log of every node.

What is wrong is told whatever else could not be seen. When nothing wrong was found and not all could be
looked at, the names that would say "all is well" are missing: an assertion on them has no verdict then.
Never prints. Called by `values.py` for `verify.*`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from esctl.bench import ledger
from esctl.bench.ledger import LoadPlan
from esctl.chaos.failover.outcome import DrillOutcome, LogsReading
from esctl.clusters.state import Cluster
from esctl.ui.formatting import duration
from esctl.verify.operations import Operations
from esctl.verify.verdict import Flaw

if TYPE_CHECKING:
    from esctl.playbook.progress import ExactlyOnceDoubts, ExactlyOnceFacts

FLOOR: Final = 0.1
"""A load that had less than this share of its events acked, while it ran, shows nothing."""


class _Unwatched:
    def advance(self, amount: int = 1) -> None:
        """Nobody watches."""

    def describe(self, text: str) -> None:
        """Nobody watches."""


async def verify(
    cluster: Cluster, loads: Sequence[Path], wait_s: float
) -> "ExactlyOnceFacts | ExactlyOnceDoubts":
    """`verify.*`: waits `wait_s` for nodes that are behind. Raises `RunUnreadable`."""
    books: list[tuple[Operations, int]] = []
    thin: list[str] = []
    for directory in loads:
        operations, acked = await trio.to_thread.run_sync(ledger.operations_of, directory)
        books.append((operations, acked))
        thin += _too_little(ledger.read_plan(directory), directory, acked)
    reading = LogsReading(cluster)
    await reading.read(lambda _total: _Unwatched(), wait_s)
    judged = [
        await trio.to_thread.run_sync(reading.judge, operations)
        for operations, _ in books or [(Operations(), 0)]
    ]
    return facts_of(judged, sum(acked for _, acked in books), thin)


def facts_of(
    judged: Sequence[DrillOutcome], acked: int, thin: Sequence[str]
) -> "ExactlyOnceFacts | ExactlyOnceDoubts":
    """What one reading, held against each of the ledgers, says; `thin` is why there was too little load."""
    outcome = judged[0]
    clean = all(one.findings.clean and one.verdict.clean for one in judged)
    doubts = [*outcome.doubts, *thin]
    facts: ExactlyOnceDoubts = {
        "conclusive": not doubts or not clean,
        "doubts": doubts,
        "acked": acked,
        "events": outcome.verdict.events,
        "nodes_read": len(outcome.reading.up),
        "flaws": [text for one in judged for text in one.flaws][:10],
    }
    if doubts and clean:
        return facts
    return {
        **facts,
        "passed": clean,
        "acked_lost": max(outcome.verdict.lost, sum(one.findings.counts[Flaw.LOST] for one in judged)),
        "duplicates": max(
            outcome.verdict.duplicates, sum(one.findings.counts[Flaw.DUPLICATE] for one in judged)
        ),
        "stored_again": outcome.verdict.stored_again,
        "reordered": outcome.verdict.counts.get(Flaw.REORDERED, 0)
        + sum(one.findings.counts[Flaw.REORDERED] for one in judged),
        "changed": outcome.verdict.changed,
        "hashes_equal": outcome.verdict.hashes_equal,
    }


def _too_little(plan: LoadPlan, directory: Path, acked: int) -> list[str]:
    """Why this load shows nothing; empty when it does."""
    sample = ledger.last_sample(directory)
    seconds = max(0.0, float(sample["at"]) - plan.begun) if sample else 0.0
    least = max(1, round(FLOOR * plan.rate * min(seconds, plan.seconds)))
    if acked >= least:
        return []
    return [f"the load {plan.name} had {acked:,} events acked in {duration(seconds)}, {least:,} are wanted"]
