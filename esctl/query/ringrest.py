"""Is the ring at rest: does every partition go by the same one, and is no plan to change it under way?

While sources move, one partition has given them away and another has not taken them yet, and deduplication
keys are in both. What copies the logs one by one may do so only at rest. Judges what a majority of each
partition has confirmed, or what was read from files. Never prints. Called by `esctl backup`.
"""

from collections.abc import Mapping
from typing import Any

from esctl.clusters.state import Cluster
from esctl.errors import RingMoving
from esctl.query.barrier import confirmed_end
from esctl.query.eachpartition import of_each
from esnode.client import connect_node
from esnode.dedup.ownership import Ownership, RingPlan
from esnode.ring import FIRST_VERSION


def unrest(owned: Mapping[int, Ownership]) -> str:
    """What is under way, by what the log of each partition says; empty at rest."""
    plan = owned[0].plan
    if plan is not None and not plan.ended:
        return f"sources are moving from {plan.old_partitions} to {plan.partitions} partitions"
    newest = max(owned.values(), key=lambda one: one.version)
    behind = [
        number for number in range(newest.partitions)
        if number not in owned or owned[number].version != newest.version
    ]  # fmt: skip
    if not behind:
        return ""
    return f"partition {behind[0]} does not go by the ring of version {newest.version} yet, and others do"


async def version_at_rest(cluster: Cluster) -> int:
    """The version of the ring, which a majority of each partition has confirmed.

    If it is the same later, no source has moved between. Raises `RingMoving`, and what `confirmed_end` does.
    """
    owned = await of_each(cluster, lambda partition: _owned(cluster, partition))
    if what := unrest(owned):
        plan = owned[0].plan
        words = f"esctl status --cluster {cluster.name}"
        if plan is not None and not plan.ended:
            way = "grow" if plan.partitions > plan.old_partitions else "shrink"
            words = (
                f"to wait until they have: esctl ring {way} --to {plan.partitions} --cluster {cluster.name}"
            )
        raise RingMoving(f"{what}; nothing was done", next_step=words)
    return max(one.version for one in owned.values())


async def _owned(cluster: Cluster, partition: int | None) -> Ownership:
    """As the leader says that has just been confirmed: it has applied all that was committed before."""
    leader = cluster.node((await confirmed_end(cluster, partition=partition)).leader)
    async with connect_node(leader.client, cluster=cluster.identity, partition=partition) as link:
        return ownership_of((await link.status()).get("ring", {}))


def ownership_of(ring: Mapping[str, Any]) -> Ownership:
    """What a node's status says of the `ring`, as far as it is asked for here."""
    plan = ring.get("plan")
    return Ownership(
        version=int(ring.get("version", FIRST_VERSION)),
        partitions=int(ring.get("partitions", 1)),
        plan=None if plan is None else RingPlan(**plan),
    )
