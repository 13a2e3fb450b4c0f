"""Carries out the plan for the ring: a task of the node that leads partition 0.

Asks the leaders of all partitions what their logs say, and does what `steps.py` says is next, until the plan
has ended. Remembers nothing: after a crash the next leader of partition 0 begins where the logs stand. Each
step names what it follows, so a node that wrongly believes to lead does no harm. A new cluster that is set
to several partitions gets its first plan here. Started by `__main__`, beside the node.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import trio

from esnode.client.nodelink import NodeLink, connect_node
from esnode.config import Config
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, RingSwitch
from esnode.errors import CallerError, EventStreamError, NotLeader, OperatorError, PeerError, first_of
from esnode.growth.steps import Copy, End, Standing, Step, Switch, next_steps
from esnode.loop.view import View
from esnode.ring import FIRST_VERSION

log = logging.getLogger(__name__)

RETRY_S: Final = 0.1
"""After a step has failed, or a partition has no leader: as long as an election takes."""

Connect = Callable[..., NodeLink]


class RingMover:
    """Looks after the ring while this node leads partition 0."""

    def __init__(self, config: Config, view: View, connect: Connect = connect_node) -> None:
        self._config = config
        self._view = view
        self._addresses = [str(member.client) for member in config.members]
        self._connect = connect
        self._switched: list[float] = []
        """When partitions were told to switch, and when they had."""

    async def run(self) -> None:
        """Carry out every plan, for ever."""
        while True:
            while (plan := self._due()) is None:
                await self._view.wait_changed()
            try:
                await self._carry_out(plan)
            except* (CallerError, OperatorError, PeerError) as group:
                reason = first_of(group)
                log.info("ring_step_failed", extra={"version": plan.version, "reason": str(reason)})
                await trio.sleep(RETRY_S)

    def _due(self) -> RingPlan | None:
        """The plan that this node is to carry out; None: there is none, or it does not lead."""
        plan = self._view.ownership.plan
        if not self._view.leads or (plan is not None and plan.ended):
            return None
        if plan is None and self._config.partitions > 1 and not self._view.next_offset:
            return RingPlan(FIRST_VERSION + 1, 1, self._config.partitions)
        return plan

    async def _carry_out(self, plan: RingPlan) -> None:
        begun, self._switched = trio.current_time(), []
        log.info("ring_plan_begun", extra={"version": plan.version, "partitions": plan.partitions})
        async with AsyncExitStack() as opened:
            leaders = await self._leaders(plan, opened)
            await self._say(leaders[0], plan)
            while self._view.leads:
                told = {number: await link.status() for number, link in leaders.items()}
                standings = {number: _standing(status, plan) for number, status in told.items()}
                steps = next_steps(plan, standings)
                if steps == [End()]:
                    moved_keys = sum(status["ring"]["moved_keys"] for status in told.values())
                    move = {"version": plan.version, "moved_keys": moved_keys, **self._times(begun)}
                    self._view.last_move = move
                    await self._say(leaders[0], replace(plan, ended=True))
                    log.info("ring_plan_ended", extra=move)
                    return
                await self._take(plan, steps, leaders)

    def _times(self, begun: float) -> dict[str, int]:
        """How long the plan took, and moving sources waited; both since this node has driven it."""
        waited_s = self._switched[-1] - self._switched[0] if self._switched else 0.0
        took_s = trio.current_time() - begun
        return {"took_ms": round(1000 * took_s), "waited_ms": round(1000 * waited_s)}

    async def _take(self, plan: RingPlan, steps: Sequence[Step], leaders: Mapping[int, NodeLink]) -> None:
        """All of them at once."""
        async with trio.open_nursery() as nursery:
            for step in steps:
                if isinstance(step, Copy):
                    nursery.start_soon(self._copy, plan, step, leaders)
                elif isinstance(step, Switch):
                    nursery.start_soon(self._switch, plan, leaders[step.partition])

    async def _switch(self, plan: RingPlan, leader: NodeLink) -> None:
        self._switched.append(trio.current_time())
        await self._say(leader, RingSwitch(plan.version, plan.partitions))
        self._switched.append(trio.current_time())

    async def _copy(self, plan: RingPlan, step: Copy, leaders: Mapping[int, NodeLink]) -> None:
        """Let the new owner adopt what the old one has, up to where its log ended when this began."""
        old, new = leaders[step.old_owner], leaders[step.new_owner]
        goal, offset = (await old.status())["next_offset"], step.from_offset
        while True:
            found = await old.moving_keys(offset, plan.partitions, step.new_owner)
            adoption = Adoption(plan.version, step.old_owner, offset, found.end_offset, found.floor)
            await self._say(new, adoption, found.keys)
            offset = found.end_offset
            if offset >= goal:
                return

    async def _say(self, leader: NodeLink, change: RingChange, keys: bytes = b"") -> None:
        await leader.change_ring(change, keys)

    async def _leaders(self, plan: RingPlan, opened: AsyncExitStack) -> dict[int, NodeLink]:
        """A connection to the leader of each partition; raises `NotLeader` where nobody leads one."""
        numbers = range(max(plan.old_partitions, plan.partitions))
        return {number: await self._leader(number, opened) for number in numbers}

    async def _leader(self, partition: int, opened: AsyncExitStack) -> NodeLink:
        for address in self._addresses:
            try:
                link = await opened.enter_async_context(
                    self._connect(address, cluster=self._config.cluster, partition=partition)
                )
                status = await link.status()
            except EventStreamError:
                continue
            if status["role"] == "leader":
                return link
        raise NotLeader(f"nobody leads partition {partition}")


def _standing(status: Mapping[str, Any], plan: RingPlan) -> Standing:
    ring = status["ring"]
    adopting = ring["adopting"] if ring["adopting_for"] == plan.version else {}
    return Standing(
        ring["version"],
        ring["since_offset"],
        status["next_offset"],
        {int(owner): up_to for owner, up_to in adopting.items()},
    )
