"""A rolling restart: one node at a time, those that are down first, the leader last.

Before each step the others must count (`readiness.py`) and a majority must answer a read; after it the node
itself must. The leader hands over before its turn, so that there is no election. A step once begun is seen
through, also after Ctrl-C: no node is left down. Never prints. Called by `esctl cluster restart`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from esctl.query.survey import Survey
from esctl.upkeep import drain
from esctl.upkeep.operations import NodeOperations

if TYPE_CHECKING:
    from esctl.upkeep.answers import RestartStepData


@dataclass(frozen=True, slots=True)
class RestartStep:
    """One node restarted."""

    id: int
    pid: int
    led: bool
    """It led before its turn."""
    leader: int | None
    """Who leads afterwards."""
    killed: bool
    """It did not end when asked to."""
    seconds: float
    """From the guard's yes until the node had caught up."""

    def as_data(self) -> "RestartStepData":
        """For the JSON answer."""
        return {
            "id": self.id,
            "pid": self.pid,
            "led": self.led,
            "leader": self.leader,
            "killed": self.killed,
            "seconds": round(self.seconds, 3),
        }


def order_of(survey: Survey) -> list[int]:
    """The nodes that are down, then the followers, then the leader; each by number."""
    leader = survey.leader
    down = [report.node.id for report in survey.down]
    last = [leader.node.id] if leader is not None else []
    return [*down, *(n.id for n in survey.cluster.nodes if n.id not in (*down, *last)), *last]


async def restart(
    operations: NodeOperations, order: Sequence[int], timeout_s: float, done: Callable[[RestartStep], None]
) -> None:
    """Restart the nodes in this order; whoever leads when its turn comes has the last turn.

    `timeout_s` bounds each wait. `done` is told of each step. Raises `TooFewNodes` before a step, and
    `NodeNotBack` after one, what the backend raises, and `trio.Cancelled` between two steps only.
    """
    left = list(order)
    while left:
        number = await _next(operations, left)
        survey = await drain.spared(operations, number, timeout_s)
        with trio.CancelScope(shield=True):
            step = await _restart(operations, number, survey, timeout_s)
        left.remove(number)
        done(step)
        await trio.lowlevel.checkpoint()


async def _next(operations: NodeOperations, left: Sequence[int]) -> int:
    leader = (await operations.look()).leader
    waiting = [number for number in left if leader is None or number != leader.node.id]
    return (waiting or left)[0]


async def _restart(operations: NodeOperations, number: int, survey: Survey, timeout_s: float) -> RestartStep:
    begun = trio.current_time()
    led = await drain.hand_over(operations, survey, number) is not None
    killed = await operations.stop(number)
    pid = await operations.start(number)
    after = await drain.back(operations.look, number, timeout_s)
    leader = after.leader.node.id if after.leader is not None else None
    return RestartStep(number, pid, led, leader, killed, trio.current_time() - begun)
