"""A node whose disk is gone or distrusted gets an empty directory, and everything else from the others.

The node rejoins (docs/guarantees.md): all others have to answer it, so nothing begins before they count.
Done when it votes again; whether it then holds what they hold is for `proof`. Never prints, never
deletes. Called by `esctl node replace`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from esctl.clusters.state import Cluster
from esctl.query.ringsurvey import RingSurvey, of_each
from esctl.ui.formatting import shared
from esctl.upkeep import drain
from esctl.upkeep.operations import NodeOperations
from esctl.verify.history import History
from esctl.verify.reading import ReadProgress, WholeProgress, read_logs

REJOIN: Final = ("--rejoin",)
"""With an empty directory, the node must say of itself that it has lost what it had acked."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The node votes again, on its new directory."""

    pid: int
    old: Path | None
    """Where the old directory is."""
    handed_over: bool
    events: int
    """Up to which offset it has the log; the sum of all partitions."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Sameness:
    """Whether all nodes hold the same events."""

    equal: bool
    hashes: Sequence[Mapping[int, str | None]]
    """Of each partition, by node."""
    doubts: Sequence[str]
    """What could not be looked at."""


async def replace(
    operations: NodeOperations,
    number: int,
    swap: Callable[[], Path | None],
    timeout_s: float,
    seen: Callable[[int, int], None],
) -> Replaced:
    """Stop the node once it can be spared, `swap` its directory, start it, and wait until it votes.

    `seen` is told how many events the node has, and how many its leader has. `timeout_s` bounds the
    guard, and each stretch in which the node gets no further. Raises `TooFewNodes` when nothing was done,
    `NodeNotBack`, and what `swap` and the backend raise.
    """
    ring = await drain.spared(operations, number, timeout_s)
    begun = trio.current_time()
    handed_over = await drain.hand_over(operations, ring, number)
    with trio.CancelScope(shield=True):
        await operations.stop(number)
        old = swap()
        pid = await operations.start(number, REJOIN)

    async def look() -> RingSurvey:
        looked = await operations.look()
        if all(survey.leader is not None for survey in looked.partitions):
            seen(events_of(looked, number), whole(looked))
        return looked

    after = await drain.back(look, number, timeout_s)
    spent_s = trio.current_time() - begun
    return Replaced(pid, old, bool(handed_over.led), events_of(after, number), spent_s)


def events_of(ring: RingSurvey, number: int) -> int:
    """How far a node has come, in all partitions together."""
    return sum(survey.report(number).number("next_offset") or 0 for survey in ring.partitions)


def whole(ring: RingSurvey) -> int:
    """How far the leaders have come, in all partitions together."""
    leaders = [survey.leader for survey in ring.partitions]
    return sum(leader.number("next_offset") or 0 for leader in leaders if leader is not None)


async def same_everywhere(cluster: Cluster, wait_s: float, begin: Callable[[int], ReadProgress]) -> Sameness:
    """Read every node's log and compare; waits up to `wait_s` for nodes that are behind."""
    waiting = WholeProgress(cluster.partitions, begin)

    async def read_one(partition: int | None) -> Sameness:
        history = History(node.id for node in cluster.nodes)
        read = await read_logs(cluster, history, wait_s, waiting.begin, partition)
        verdict = history.verdict()
        hashes = {number: evidence.hash for number, evidence in verdict.nodes.items()}
        doubts = [f"node {number}: {why}" for number, why in sorted(read.troubles.items())]
        return Sameness(verdict.clean and verdict.hashes_equal, [hashes], doubts)

    each = await of_each(cluster, read_one)
    return Sameness(
        all(one.equal for one in each),
        [hashes for one in each for hashes in one.hashes],
        [f"{where}{doubt}" for where, doubt in shared([one.doubts for one in each])],
    )
