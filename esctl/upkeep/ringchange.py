"""Changes how many partitions the ring of a running cluster has: a plan, which the nodes carry out.

More partitions need processes first, node by node. A partition that is taken from the ring keeps its process
and its log, which can be read. Each step can be done again: a node that has the process already is left
alone, and a plan that is under way is waited for. Never prints. Called by `esctl ring grow` and `shrink`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio

from esctl.clusters import state, tomlfile
from esctl.clusters.backends.interface import Backend
from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument
from esctl.query.leader import wait_for_leader
from esctl.ui.formatting import duration
from esnode.client import connect_node
from esnode.dedup.ownership import RingPlan
from esnode.errors import OperationTimeout, RingConflict

STOP_TIMEOUT_S: Final = 5.0
LEADER_TIMEOUT_S: Final = 10.0
LOOK_EVERY_S: Final = 0.05

Told = Callable[[str], None]
"""What is being done, for people."""


async def change(
    cluster: Cluster, partitions: int, backend: Backend, timeout_s: float, told: Told
) -> tuple[RingPlan, Mapping[str, Any]]:
    """Carry it out; the plan, and what the ring's `last_move` tells of it, empty where no node remembers.

    Raises `RingConflict` where another plan is under way, before anything is done; what the backend raises,
    `NoQuorum` and `OperationTimeout`: then it can be called again. `timeout_s` is for each step.
    """
    before = (await _ring_said(cluster)).get("plan")
    if before is not None and not before["ended"] and before["partitions"] != partitions:
        raise RingConflict(
            f"the ring of {cluster.name} is being changed to {before['partitions']} partitions;"
            " nothing was done",
            next_step=f"esctl ring show --cluster {cluster.name}",
        )
    ready = await _add_processes(cluster, partitions, backend, timeout_s, told)
    plan = await _begin(ready, partitions)
    told(f"moving sources from {plan.old_partitions} to {plan.partitions} partitions")
    return plan, await _until_ended(ready, plan, timeout_s)


async def _ring_said(cluster: Cluster) -> Mapping[str, Any]:
    """What the leader of partition 0 says of the ring; raises `NoQuorum` where nobody leads."""
    leader = await wait_for_leader(cluster, LEADER_TIMEOUT_S)
    status = await status_of(cluster.node(leader), 0)
    return {} if status is None else dict(status.get("ring", {}))


async def _add_processes(
    cluster: Cluster, partitions: int, backend: Backend, timeout_s: float, told: Told
) -> Cluster:
    """Let every node have a process for each partition, one node after the other; the cluster then.

    Raises what the backend raises, and `NoQuorum`: then it can be called again.
    """
    if partitions < cluster.partitions:  # of partitions that the ring has lost since
        return cluster
    grown = replace(cluster, partitions=partitions)
    for node in cluster.nodes:
        tomlfile.change(node.config, partial(tomlfile.put, names=["partitions"], value=partitions))
    state.replace(grown)
    for node in cluster.nodes:
        if await status_of(node, partitions - 1) is not None:
            continue
        told(f"restarting node {node.id} with {partitions} partitions")
        await backend.stop(cluster, [node.id], STOP_TIMEOUT_S)
        await backend.start(grown, [node.id], timeout_s)
        for partition in range(cluster.partitions):  # before the next one goes
            await wait_for_leader(grown, timeout_s, partition)
    for partition in range(partitions):
        await wait_for_leader(grown, timeout_s, partition)
    return grown


async def _begin(cluster: Cluster, partitions: int) -> RingPlan:
    """Let partition 0 have the plan; the one that is under way already, or was the last, if it is the same.

    Raises `RingConflict` where another one is.
    """
    said = await _ring_said(cluster)
    before = said.get("plan")
    if before is not None and before["partitions"] == partitions:
        return RingPlan(before["version"], before["old_partitions"], partitions)
    if said["partitions"] == partitions:
        raise InvalidArgument(f"the ring of {cluster.name} has so many partitions already; nothing was done")
    plan = RingPlan(said["version"] + 1, said["partitions"], partitions)
    leader = cluster.node(await wait_for_leader(cluster, LEADER_TIMEOUT_S))
    async with connect_node(leader.client, cluster=cluster.identity, partition=0) as link:
        await link.change_ring(plan)
    return plan


async def _until_ended(cluster: Cluster, plan: RingPlan, timeout_s: float) -> Mapping[str, Any]:
    """Wait for the end of the plan; what the ring's `last_move` tells of it.

    Raises `OperationTimeout`: the nodes go on with it, and it can be waited for again.
    """
    with trio.move_on_after(timeout_s):
        while True:
            said = await _ring_said(cluster)
            now = said.get("plan")
            if now is not None and now["version"] >= plan.version and now["ended"]:
                moved = said.get("last_move", {})
                return moved if moved.get("version") == plan.version else {}
            await trio.sleep(LOOK_EVERY_S)
    raise OperationTimeout(
        f"the ring is not yet of version {plan.version} after {duration(timeout_s)}; the nodes go on with it"
    )
