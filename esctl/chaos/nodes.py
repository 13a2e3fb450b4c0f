"""Sends faults to the nodes, watches and heals them: the part of `esctl fault` that talks to nodes.

All or none: if a node refuses its fault, those of the others are healed again. A node that does not answer
has not refused: its fault is reported as unknown. Where the links are real, a cut is made in them,
and no node is told. Never prints. Called by `esctl fault`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from esctl.chaos.effect import Effect, EffectLook, Judge
from esctl.clusters.state import Cluster, Node
from esctl.faults import linkcuts
from esctl.faults.nodeorders import FaultData, Order, belongs
from esctl.query import survey as surveys
from esctl.query.survey import Report, Survey
from esnode.client import NodeLink, connect_node
from esnode.config import load
from esnode.errors import CallerError, EventStreamError, FaultsNotAllowed

ORDER_S: Final = 5.0
"""An order that was taken and not answered in time would be reported as one that was not."""
WATCH_S: Final = 3.0
"""How long an effect is waited for."""
LOOK_EVERY_S: Final = 0.1
CALM_MS: Final = 500
"""A follower that heard its leader so lately is connected again."""


@dataclass(frozen=True, slots=True)
class Healed:
    """What was ended, by node, and which nodes gave no answer."""

    ended: Mapping[int, Sequence[FaultData]]
    silent: Sequence[int]
    recovered: bool
    """All nodes that answer follow one leader again."""


@dataclass(slots=True)
class _Told:
    """What came of the orders."""

    reached: list[int] = field(default_factory=list)
    refusals: list[tuple[int, EventStreamError]] = field(default_factory=list)


async def set_all(cluster: Cluster, orders: Sequence[Order], lease_ms: int) -> list[int]:
    """Give every node its orders at the same time; the nodes that were reached.

    Raises what a node refuses them with, after the others' are healed again: `FaultsNotAllowed`,
    `InvalidRequest`. Raises the last `Unreachable` when no node was reached. Real links may raise
    `NetworkRefused` and `NoEffect`; nothing is cut then.
    """
    if linkcuts.links_of(cluster) is not None and any(order.kind == "block" for order in orders):
        return await _cut_links(cluster, orders, lease_ms)
    told, lost = _Told(), list[EventStreamError]()

    async def tell(node: Node) -> None:
        try:
            async with connect_node(node.client, cluster=cluster.identity, timeout_s=ORDER_S) as link:
                for order in orders:
                    if order.node == node.id:
                        await _set(link, order, lease_ms)
            told.reached.append(node.id)
        except (CallerError, FaultsNotAllowed) as error:
            told.refusals.append((node.id, error))
        except EventStreamError as error:
            lost.append(error)

    struck = {order.node for order in orders}
    await _each(tell, [node for node in cluster.nodes if node.id in struck])
    if told.refusals:
        await heal(cluster, {order.id for order in orders})
        raise _refused(cluster, *min(told.refusals, key=lambda refusal: refusal[0]))
    if not told.reached:
        raise lost[-1]
    return sorted(told.reached)


async def _cut_links(cluster: Cluster, orders: Sequence[Order], lease_ms: int) -> list[int]:
    """Cut the real links that the orders are about, and tell the nodes the rest."""
    closed = [node.id for node in cluster.nodes if not load(node.config).faults.allowed]
    if closed:
        raise not_allowed(cluster, closed)
    fault = orders[0].id.partition(".")[0]

    def cut() -> None:
        links = linkcuts.begin(cluster, fault, linkcuts.cuts_of(orders), lease_ms)
        linkcuts.strike(cluster, links)
        linkcuts.prove(cluster, links)

    await trio.to_thread.run_sync(cut)
    rest = [order for order in orders if order.kind != "block"]
    if rest:
        try:
            await set_all(cluster, rest, lease_ms)
        except EventStreamError:
            await trio.to_thread.run_sync(linkcuts.heal, cluster, [fault])
            raise
    return sorted({order.node for order in orders})


async def watch(
    cluster: Cluster, judge: Judge, lease_ms: int, *, for_leader: bool
) -> tuple[list[Effect], Survey]:
    """Look until every effect is decided, or the time or the lease is over; and the last look.

    `for_leader`: and until some node leads, since one can.
    """
    begun = trio.current_time()
    until = begun + min(WATCH_S, 0.9 * lease_ms / 1000)
    while True:
        elapsed_ms = round((trio.current_time() - begun) * 1000)
        survey = await surveys.ask(cluster)
        effects = judge({report.node.id: look_of(report) for report in survey.reports}, elapsed_ms)
        decided = not any(effect.open for effect in effects)
        if (decided and (survey.leader or not for_leader)) or trio.current_time() > until:
            return effects, survey
        await trio.sleep(LOOK_EVERY_S)  # nothing tells when a message is lost


async def active(cluster: Cluster) -> tuple[dict[int, list[FaultData]], Survey]:
    """The faults of each node that answers or that a cut touches."""
    survey = await surveys.ask(cluster)
    return {report.node.id: report.faults for report in survey.reports if report.up or report.faults}, survey


async def heal(cluster: Cluster, ids: Collection[str] = ()) -> Healed:
    """End the faults that belong to these ids, or all, wherever a node answers; look until it shows.

    Raises `NetworkRefused` where links are real and cannot be mended.
    """
    ended: dict[int, list[FaultData]] = {}
    for links in await trio.to_thread.run_sync(linkcuts.heal, cluster, ids):
        for number, told in links.pictures().items():
            ended.setdefault(number, []).extend(told)
    silent: list[int] = []

    async def tell(node: Node) -> None:
        try:
            async with connect_node(node.client, cluster=cluster.identity, timeout_s=ORDER_S) as link:
                for fault in await link.faults():
                    if not ids or any(belongs(fault["id"], to) for to in ids):
                        told: Any = await link.heal_fault(fault["id"])  # in the node's own words
                        ended.setdefault(node.id, []).extend(told)
        except FaultsNotAllowed:
            return  # it has none
        except EventStreamError:
            silent.append(node.id)

    await _each(tell, cluster.nodes)
    return Healed(ended, sorted(silent), await _recovered(cluster) if ended else True)


async def _recovered(cluster: Cluster) -> bool:
    with trio.move_on_after(WATCH_S):
        while True:
            survey = await surveys.ask(cluster)
            if _is_calm(survey):
                return True
            await trio.sleep(LOOK_EVERY_S)  # nothing tells when a cluster recovers
    return False


def _is_calm(survey: Survey) -> bool:
    """Do all that answer follow one leader, and hear it?"""
    leaders = {report.status["leader"] for report in survey.up if report.status is not None}
    heard = (0 <= int((report.status or {})["silence_ms"]) <= CALM_MS for report in survey.up)
    return len(leaders) == 1 and None not in leaders and all(heard)


async def _set(link: NodeLink, order: Order, lease_ms: int) -> None:
    await link.set_fault(
        order.id,
        order.kind,
        lease_ms,
        peers=order.peers,
        direction=order.direction,
        parameters=order.parameters,
    )


async def _each(work: Callable[[Node], Awaitable[None]], nodes: Collection[Node]) -> None:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(work, node)


def _refused(cluster: Cluster, number: int, error: EventStreamError) -> EventStreamError:
    """The same error, with the node that gave it and what helps in this cluster."""
    text = f"node {number} refuses: {error}; nothing was done"
    if isinstance(error, FaultsNotAllowed):
        return not_allowed(cluster, [number])
    return type(error)(text, next_step=f"esctl status --cluster {cluster.name}")


def check_allowed(cluster: Cluster, survey: Survey) -> None:
    """Raises `FaultsNotAllowed` when a node that answers allows none."""
    closed = [report.node.id for report in survey.up if not (report.status or {}).get("faults_allowed")]
    if closed:
        raise not_allowed(cluster, closed)


def not_allowed(cluster: Cluster, numbers: Sequence[int]) -> FaultsNotAllowed:
    """The error for nodes that were started without faults allowed."""
    names = ", ".join(map(str, numbers))
    which = (
        f"node {names} of {cluster.name} was"
        if len(numbers) == 1
        else f"nodes {names} of {cluster.name} were"
    )
    where = cluster.node(numbers[0]).config.parent
    return FaultsNotAllowed(
        f"{which} started without `[faults] allowed = true`; nothing was done",
        next_step=f"esctl cluster up NAME --faults, for another cluster; for this one, set it in the files"
        f" node-*.toml of {where}, then: esctl cluster restart --rolling --cluster {cluster.name}",
    )


def look_of(report: Report) -> EffectLook:
    """What an effect is judged by."""
    hits = {fault["id"]: int(fault["hits"]) for fault in report.faults}
    return EffectLook(report.node.id, report.process.state, report.status, hits, report.clock_off_ms)
