"""How one node leaves and comes back: spared first, the leadership handed over, back when it counts again.

The steps that a rolling restart, a drain and a replacement share. With several partitions a node is drained
when it leads none of them. Decides when each step is over. Never prints.
Called by the rest of this package and by `esctl node drain`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from esctl.errors import NodeNotBack
from esctl.query import leaderplacement
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Survey
from esctl.ui.formatting import duration, partitions_named
from esctl.upkeep import readiness
from esctl.upkeep.operations import NodeOperations
from esctl.upkeep.readiness import Look
from esnode.errors import NoQuorum, NotLeader, TransferPending

ROUNDS: Final = 5
"""How often a node is asked to hand over what it leads: elections may make it the leader again."""


@dataclass(frozen=True, slots=True)
class Drained:
    """A node that was taken out of service."""

    leaders: Sequence[int]
    """Who leads each partition afterwards, as a majority has confirmed."""
    handed_over: Sequence[int]
    """The partitions that it led before."""
    killed: bool
    """It did not end when asked to."""
    seconds: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """What a node led, and who leads now."""

    led: Sequence[int] = ()
    """Partitions."""
    leaders: Sequence[int] = ()
    """By partition, as a majority has confirmed; empty where nothing was handed over."""


async def spared(operations: NodeOperations, number: int, timeout_s: float) -> RingSurvey:
    """Wait until the cluster can do without the node, and a majority answers a read.

    Raises `TooFewNodes`, and what `NodeOperations.confirm` raises; nothing was done then.
    """
    ring = await readiness.wait_until_spared(operations.look, number, timeout_s)
    await operations.confirm()
    return ring


def led_by(ring: RingSurvey, number: int) -> list[Survey]:
    """The partitions that a node leads."""
    leaders = [(survey, survey.leader) for survey in ring.partitions]
    return [survey for survey, leader in leaders if leader is not None and leader.node.id == number]


async def hand_over(
    operations: NodeOperations, ring: RingSurvey, number: int, to: int | None = None
) -> HandOver:
    """Move the leadership of each partition away from `number`, and let a majority answer for the new ones.

    Each goes to `to`, or to the node that leads it otherwise, or to the best follower. What was asked for is
    not undone by the nodes that keep leaders spread; what another node hands back meanwhile is moved again.
    Raises `NoQuorum` where the node gets a leadership back again and again.
    """
    led = led_by(ring, number)
    before = [survey.partition or 0 for survey in led]
    leaders: Sequence[int] = ()
    for _ in range(ROUNDS if led else 0):
        for survey in led:
            try:
                await operations.hand_over(number, to or _taker(survey, number), survey.partition)
            except (NotLeader, TransferPending):
                if survey.partition is None:
                    raise
                continue  # it is being handed over already
        leaders = await operations.confirm()
        left = [partition for partition, leader in enumerate(leaders) if leader == number]
        if not left:
            return HandOver(before, leaders)
        led = led_by(await operations.look(), number)
    if led and ring.cluster.partitions > 1:
        raise NoQuorum(
            f"node {number} still leads {partitions_named(survey.partition or 0 for survey in led)}, although"
            f" it has handed over {ROUNDS} times; it was not stopped",
            next_step=f"esctl leader show --cluster {ring.cluster.name}",
        )
    return HandOver(before, leaders)


def _taker(survey: Survey, number: int) -> int | None:
    """The node that leads the partition otherwise, if it can; None leaves it to the leader."""
    wanted = leaderplacement.preferred(survey.leader)
    return wanted if wanted != number and wanted in survey.counted else None


async def drain(operations: NodeOperations, number: int, to: int | None, timeout_s: float) -> Drained:
    """Take the node out of service once it can be spared; raises as `spared` and `hand_over` do."""
    ring = await spared(operations, number, timeout_s)
    begun = trio.current_time()
    done = await hand_over(operations, ring, number, to)
    with trio.CancelScope(shield=True):
        killed = await operations.stop(number)
    # With several partitions, a leadership may have come back to it in the last moment: its stop moved that.
    several = ring.cluster.partitions > 1
    leaders = await operations.confirm() if several or not done.leaders else done.leaders
    return Drained(leaders, done.led, killed, trio.current_time() - begun)


async def back(look: Look, number: int, timeout_s: float) -> RingSurvey:
    """Wait until the node counts again, as long as it gets on within each `timeout_s`.

    Raises `NodeNotBack`.
    """
    reached: dict[int | None, int] = {}
    while True:
        ring, found = await readiness.wait_until_counting(look, [number], timeout_s)
        if not found:
            return ring
        held = next((each for each in found if each.lasting), None)
        if held is not None:
            raise NodeNotBack(
                f"node {number} was started and cannot count again: {held.reason}", next_step=held.next
            )
        now = {one.partition: one.report(number).number("last_index") or 0 for one in ring.partitions}
        if any(now[partition] <= reached.get(partition, -1) for partition in readiness.lacking(ring, number)):
            raise NodeNotBack(
                f"node {number} was started and does not count again; it got no further in"
                f" {duration(timeout_s)}: {found[0].reason}",
                next_step=found[0].next,
            )
        reached = now
