"""What a measurement cost: processor time and memory of the client and of each node, at two moments.

Processor time an event is the figure that survives a busy machine: what else runs there lengthens the wall
clock and not this. Asks the nodes; a node that does not answer has no figures. Never prints. Called by the
other modules of `esctl/bench`.
"""

import functools
import operator
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict, TypeVar

import trio

from esctl.clusters.state import Cluster
from esctl.query import ringsurvey
from esctl.query.survey import Report
from esctl.ui.values import NodeId

N = TypeVar("N", int, float)


class NodeUseData(TypedDict):
    """What one node used in all, as it says itself; null is not known. With several partitions, `leads` means
    some of them."""

    id: NodeId
    leads: bool
    cpu_s: float | None
    rss_bytes: int | None
    storage_bytes: int | None
    live_keys: int | None


@dataclass(frozen=True, slots=True)
class NodeUse:
    """One node, as it says itself; None for what nobody could tell."""

    id: int
    leads: bool
    cpu_s: float | None
    rss_bytes: int | None
    storage_bytes: int | None
    live_keys: int | None = None
    """Events that its deduplication window remembers."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Everybody at `at_s` on trio's clock."""

    at_s: float
    client_cpu_s: float
    nodes: tuple[NodeUse, ...]
    partitions: int = 1

    @property
    def leader(self) -> NodeUse | None:
        """The node that says that it leads; None when none or several do, as with several partitions."""
        if self.partitions > 1:
            return None
        leaders = [node for node in self.nodes if node.leads]
        return leaders[0] if len(leaders) == 1 else None

    def as_data(self) -> list[NodeUseData]:
        """A map for each node."""
        return [
            {
                "id": node.id,
                "leads": node.leads,
                "cpu_s": node.cpu_s,
                "rss_bytes": node.rss_bytes,
                "storage_bytes": node.storage_bytes,
                "live_keys": node.live_keys,
            }
            for node in self.nodes
        ]


async def take(cluster: Cluster) -> Usage:
    """Ask all nodes at once."""
    found = await ringsurvey.ask(cluster)
    each = [[_use(report) for report in survey.reports] for survey in found.partitions]
    nodes = tuple(_together(uses) for uses in zip(*each, strict=True))
    return Usage(trio.current_time(), time.process_time(), nodes, len(each))


Look = Callable[[], Awaitable[Usage]]
"""Takes the usage of everybody now."""


def looking_at(cluster: Cluster) -> Look:
    """`take`, of this cluster."""
    return partial(take, cluster)


def memory(usage: Usage) -> dict[str, float | None]:
    """The resident memory of the leader and of the largest follower.

    With several partitions, only that of the largest node is known: each leads some of them.
    """
    leader = usage.leader
    followers = [node.rss_bytes for node in usage.nodes if node is not leader]
    found: dict[str, float | None] = {
        "leader_rss_bytes": leader.rss_bytes if leader is not None else None,
        "follower_rss_bytes": _largest(followers) if leader is not None else None,
    }
    if usage.partitions > 1:
        found["node_rss_bytes"] = _largest(node.rss_bytes for node in usage.nodes)
    return found


def cost(before: Usage, after: Usage, events: int) -> dict[str, float | None]:
    """Processor time in microseconds for each of `events`, which came between the two moments.

    The nodes' are None where another one led at the end, and where a node was started anew. With several
    partitions, there is only a figure of all nodes together.
    """
    leader = after.leader
    stayed = leader is not None and before.leader is not None and before.leader.id == leader.id
    spent = {node.id: _spent(node, before) if stayed else None for node in after.nodes}
    followers = [spent[node.id] for node in after.nodes if node is not leader]
    found = {
        "leader_cpu_us_per_event": _each(spent[leader.id], events) if leader is not None else None,
        "follower_cpu_us_per_event": _each(_largest(followers), events),
        "client_cpu_us_per_event": client_cost(before, after, events),
    }
    if after.partitions > 1:
        found["nodes_cpu_us_per_event"] = cost_of_all(before, after, events)
    return found


def client_cost(before: Usage, after: Usage, events: int) -> float | None:
    """Processor time in microseconds for each of `events`, of this process."""
    return _each(after.client_cpu_s - before.client_cpu_s, events)


def cost_of(node_id: int, before: Usage, after: Usage, events: int) -> float | None:
    """Processor time in microseconds for each of `events`, of one node whatever its role."""
    (node,) = [one for one in after.nodes if one.id == node_id]
    return _each(_spent(node, before), events)


def cost_of_all(before: Usage, after: Usage, events: int) -> float | None:
    """The same of all nodes together."""
    return _each(_sum([_spent(node, before) for node in after.nodes]), events)


def memory_of(node_id: int, after: Usage) -> int | None:
    """The resident memory of one node."""
    return next(one.rss_bytes for one in after.nodes if one.id == node_id)


def _use(report: Report) -> NodeUse:
    status = report.status or {}
    cpu_s = status.get("cpu_s")
    return NodeUse(
        report.node.id,
        report.leads,
        float(cpu_s) if isinstance(cpu_s, int | float) else None,
        report.number("rss_bytes") or report.process.rss_bytes,
        status.get("storage_bytes"),
        status.get("dedup", {}).get("live_keys"),
    )


def _together(uses: Sequence[NodeUse]) -> NodeUse:
    """What the processes of a node use, one for each partition; not known where one of them is silent."""
    if len(uses) == 1:
        return uses[0]
    return NodeUse(
        uses[0].id,
        any(use.leads for use in uses),
        _sum([use.cpu_s for use in uses]),
        _sum([use.rss_bytes for use in uses]),
        _sum([use.storage_bytes for use in uses]),
        _sum([use.live_keys for use in uses]),
    )


def _sum(values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return functools.reduce(operator.add, known) if len(known) == len(values) else None


def _spent(node: NodeUse, before: Usage) -> float | None:
    """Seconds; None where the node was not heard, or counts anew."""
    (earlier,) = [one.cpu_s for one in before.nodes if one.id == node.id]
    if node.cpu_s is None or earlier is None or node.cpu_s < earlier:
        return None
    return node.cpu_s - earlier


def _each(spent_s: float | None, events: int) -> float | None:
    return round(spent_s / events * 1e6, 3) if spent_s is not None and events > 0 else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
