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
from esctl.query.survey import Survey
from esctl.upkeep import drain
from esctl.upkeep.operations import NodeOperations
from esctl.verify.history import History
from esctl.verify.reading import ReadProgress, read_logs

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
    """Up to which offset it has the log."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Sameness:
    """Whether all nodes hold the same events."""

    equal: bool
    before_offset: int
    """The hashes are those of the events before this offset."""
    hashes: Mapping[int, str | None]
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
    survey = await drain.spared(operations, number, timeout_s)
    begun = trio.current_time()
    leader = await drain.hand_over(operations, survey, number)
    with trio.CancelScope(shield=True):
        await operations.stop(number)
        old = swap()
        pid = await operations.start(number, REJOIN)

    async def look() -> Survey:
        looked = await operations.look()
        if looked.leader is not None:
            have = looked.report(number).number("next_offset") or 0
            seen(have, looked.leader.number("next_offset") or 0)
        return looked

    after = await drain.back(look, number, timeout_s)
    events = after.report(number).number("next_offset") or 0
    return Replaced(pid, old, leader is not None, events, trio.current_time() - begun)


async def same_everywhere(cluster: Cluster, wait_s: float, begin: Callable[[int], ReadProgress]) -> Sameness:
    """Read every node's log and compare; waits up to `wait_s` for nodes that are behind."""
    history = History(node.id for node in cluster.nodes)
    read = await read_logs(cluster, history, wait_s, begin)
    verdict = history.verdict()
    hashes = {number: evidence.hash for number, evidence in verdict.nodes.items()}
    doubts = [f"node {number}: {why}" for number, why in sorted(read.troubles.items())]
    equal = verdict.clean and verdict.hashes_equal
    return Sameness(equal, verdict.next_offset, hashes, doubts)
