"""How one node leaves and comes back: spared first, the leadership handed over, back when it counts again.

The steps that a rolling restart, a drain and a replacement share. Decides when each is over. Never prints.
Called by the rest of this package and by `esctl node drain`.
"""

from dataclasses import dataclass

import trio

from esctl.errors import NodeNotBack
from esctl.query.survey import Survey
from esctl.ui.formatting import duration
from esctl.upkeep import readiness
from esctl.upkeep.operations import NodeOperations
from esctl.upkeep.readiness import Look


@dataclass(frozen=True, slots=True)
class Drained:
    """A node that was taken out of service."""

    leader: int
    """Who leads afterwards, as a majority has confirmed."""
    handed_over: bool
    killed: bool
    """It did not end when asked to."""
    seconds: float


async def spared(operations: NodeOperations, number: int, timeout_s: float) -> Survey:
    """Wait until the cluster can do without the node, and a majority answers a read.

    Raises `TooFewNodes`, and what `NodeOperations.confirm` raises; nothing was done then.
    """
    survey = await readiness.wait_until_spared(operations.look, number, timeout_s)
    await operations.confirm()
    return survey


async def hand_over(
    operations: NodeOperations, survey: Survey, number: int, to: int | None = None
) -> int | None:
    """Move the leadership away from `number` if it leads, and let a majority answer for the new leader.

    Who leads then; None when `number` did not lead.
    """
    if survey.leader is None or survey.leader.node.id != number:
        return None
    await operations.hand_over(number, to)
    return await operations.confirm()


async def drain(operations: NodeOperations, number: int, to: int | None, timeout_s: float) -> Drained:
    """Take the node out of service once it can be spared; raises as `spared` does."""
    survey = await spared(operations, number, timeout_s)
    begun = trio.current_time()
    leader = await hand_over(operations, survey, number, to)
    with trio.CancelScope(shield=True):
        killed = await operations.stop(number)
    handed_over = leader is not None
    leader = leader if leader is not None else await operations.confirm()
    return Drained(leader, handed_over, killed, trio.current_time() - begun)


async def back(look: Look, number: int, timeout_s: float) -> Survey:
    """Wait until the node counts again, as long as it gets on within each `timeout_s`.

    Raises `NodeNotBack`.
    """
    reached = -1
    while True:
        survey, found = await readiness.wait_until_counting(look, [number], timeout_s)
        if not found:
            return survey
        held = next((each for each in found if each.lasting), None)
        if held is not None:
            raise NodeNotBack(
                f"node {number} was started and cannot count again: {held.reason}", next_step=held.next
            )
        now = survey.report(number).number("last_index") or 0
        if now <= reached:
            raise NodeNotBack(
                f"node {number} was started and does not count again; it got no further in"
                f" {duration(timeout_s)}: {found[0].reason}",
                next_step=found[0].next,
            )
        reached = now
