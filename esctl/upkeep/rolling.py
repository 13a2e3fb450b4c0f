"""A rolling restart: one node at a time, those that are down first, the leader last.

Before each step the others must count (`readiness.py`) and a majority must answer a read; after it the node
itself must; with several partitions, in each of them. A leader hands over before its turn, so that there is
no election, and who leads the most partitions has the last turn. A step once begun is seen
through, also after Ctrl-C: no node is left down. Never prints. Called by `esctl cluster restart`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from esctl.query.ringsurvey import RingSurvey
from esctl.upkeep import drain
from esctl.upkeep.operations import NodeOperations

if TYPE_CHECKING:
    from esctl.upkeep.answers import RestartStepData


@dataclass(frozen=True, slots=True)
class RestartStep:
    """One node restarted."""

    id: int
    pid: int
    led: Sequence[int]
    """The partitions that it led before its turn."""
    leaders: Sequence[int | None]
    """Who leads each partition afterwards."""
    killed: bool
    """It did not end when asked to."""
    seconds: float
    """From the guard's yes until the node had caught up."""

    def as_data(self) -> "RestartStepData":
        """For the JSON answer."""
        data: RestartStepData = {
            "id": self.id,
            "pid": self.pid,
            "led": bool(self.led),
            "leader": self.leaders[0] if len(self.leaders) == 1 else None,
            "killed": self.killed,
            "seconds": round(self.seconds, 3),
        }
        if len(self.leaders) > 1:
            data["led_partitions"] = list(self.led)
        return data


def order_of(ring: RingSurvey) -> list[int]:
    """The nodes that are down, then the others: the fewer partitions a node leads, the earlier; by number."""
    down = list(ring.down)
    others = [node.id for node in ring.cluster.nodes if node.id not in down]
    return [*down, *_fewest_first(ring, others)]


def _fewest_first(ring: RingSurvey, numbers: Sequence[int]) -> list[int]:
    return sorted(numbers, key=lambda number: len(drain.led_by(ring, number)))


async def restart(
    operations: NodeOperations, order: Sequence[int], timeout_s: float, done: Callable[[RestartStep], None]
) -> None:
    """Restart the nodes in this order; whoever leads when its turn comes lets those that do not go first.

    `timeout_s` bounds each wait. `done` is told of each step. Raises `TooFewNodes` before a step, and
    `NodeNotBack` after one, what the backend raises, and `trio.Cancelled` between two steps only.
    """
    left = list(order)
    while left:
        number = await _next(operations, left)
        ring = await drain.spared(operations, number, timeout_s)
        with trio.CancelScope(shield=True):
            step = await _restart(operations, number, ring, timeout_s)
        left.remove(number)
        done(step)
        await trio.lowlevel.checkpoint()


async def _next(operations: NodeOperations, left: Sequence[int]) -> int:
    return _fewest_first(await operations.look(), left)[0]


async def _restart(
    operations: NodeOperations, number: int, ring: RingSurvey, timeout_s: float
) -> RestartStep:
    begun = trio.current_time()
    led = (await drain.hand_over(operations, ring, number)).led
    killed = await operations.stop(number)
    pid = await operations.start(number)
    after = await drain.back(operations.look, number, timeout_s)
    leaders = [each["leader"] for each in after.leaders()]
    return RestartStep(number, pid, led, leaders, killed, trio.current_time() - begun)
