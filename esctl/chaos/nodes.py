"""Sends faults to the nodes, watches and heals them: the part of `esctl fault` that talks to nodes.

All or none: if a node refuses its fault, those of the others are healed again. A node that does not answer
has not refused: its fault is reported as unknown. Where the links are real, a cut is made in them,
and no node is told. Never prints. Called by `esctl fault`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from esctl.chaos.effect import Effect, EffectLook, RingJudge
from esctl.clusters.state import Cluster, Node
from esctl.faults import linkcuts
from esctl.faults.nodeorders import FaultData, Order, belongs
from esctl.query import ringsurvey
from esctl.query.ringsurvey import RingSurvey
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


async def set_all(
    cluster: Cluster, orders: Sequence[Order], lease_ms: int, only: int | None = None
) -> list[int]:
    """Give every node its orders at the same time; the nodes that were reached.

    Where a node has several partitions, its processes for all of them get the orders, or for `only` one.
    Links are real for all partitions at once, so those of one are cut by its processes.

    Raises what a node refuses them with, after the others' are healed again: `FaultsNotAllowed`,
    `InvalidRequest`. Raises the last `Unreachable` when no node was reached. Real links may raise
    `NetworkRefused` and `NoEffect`; nothing is cut then.
    """
    real = only is None and linkcuts.links_of(cluster) is not None
    if real and any(order.kind == "block" for order in orders):
        return await _cut_links(cluster, orders, lease_ms)
    told, lost = _Told(), list[EventStreamError]()

    async def tell(node: Node, partition: int | None) -> None:
        try:
            async with _link(cluster, node, partition) as link:
                for order in orders:
                    if order.node == node.id:
                        await _set(link, order, lease_ms)
            told.reached.append(node.id)
        except (CallerError, FaultsNotAllowed) as error:
            told.refusals.append((node.id, error))
        except EventStreamError as error:
            lost.append(error)

    struck = {order.node for order in orders}
    await _each(cluster, tell, [node for node in cluster.nodes if node.id in struck], only)
    if told.refusals:
        await heal(cluster, {order.id for order in orders}, only)
        raise _refused(cluster, *min(told.refusals, key=lambda refusal: refusal[0]))
    if not told.reached:
        raise lost[-1]
    return sorted(set(told.reached))


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
    cluster: Cluster, judge: RingJudge, lease_ms: int, *, for_leader: bool, only: int | None = None
) -> tuple[list[list[Effect]], RingSurvey]:
    """Look until every effect is decided, or the time or the lease is over; and the last look.

    The effects are those on each partition, or on `only` one. `for_leader`: and until some node leads each,
    since one can.
    """
    begun = trio.current_time()
    until = begun + min(WATCH_S, 0.9 * lease_ms / 1000)
    while True:
        elapsed_ms = round((trio.current_time() - begun) * 1000)
        ring = await ringsurvey.ask(cluster, only=only)
        effects = [
            judge(
                survey.partition,
                {report.node.id: look_of(report, survey.partition) for report in survey.reports},
                elapsed_ms,
            )
            for survey in ring.partitions
        ]
        decided = not any(effect.open for of_one in effects for effect in of_one)
        led = all(survey.leader is not None for survey in ring.partitions)
        if (decided and (led or not for_leader)) or trio.current_time() > until:
            return effects, ring
        await trio.sleep(LOOK_EVERY_S)  # nothing tells when a message is lost


async def active(cluster: Cluster) -> tuple[dict[int, list[FaultData]], RingSurvey]:
    """The faults of each node that answers or that a cut touches.

    Those of one of its several partitions say which; a link that is cut for all of them is said once.
    """
    ring = await ringsurvey.ask(cluster)
    found: dict[int, list[FaultData]] = {}
    for survey in ring.partitions:
        for report in survey.reports:
            if report.up or report.faults:
                theirs = found.setdefault(report.node.id, [])
                theirs += [_with_partition(fault, survey.partition) for fault in report.own_faults]
    for report in ring.partitions[0].reports:
        found.get(report.node.id, []).extend(report.link_cuts)
    return found, ring


async def heal(cluster: Cluster, ids: Collection[str] = (), only: int | None = None) -> Healed:
    """End the faults that belong to these ids, or all, wherever a node answers; look until it shows.

    Of `only` one of several partitions, if one is named: then no real link is mended, which is all of
    theirs. Raises `NetworkRefused` where links are real and cannot be mended.
    """
    ended: dict[int, list[FaultData]] = {}
    for links in await trio.to_thread.run_sync(linkcuts.heal, cluster, ids) if only is None else ():
        for number, told in links.pictures().items():
            ended.setdefault(number, []).extend(told)
    silent = set[int]()

    async def tell(node: Node, partition: int | None) -> None:
        try:
            async with _link(cluster, node, partition) as link:
                for fault in await link.faults():
                    if not ids or any(belongs(fault["id"], to) for to in ids):
                        told: Any = await link.heal_fault(fault["id"])  # in the node's own words
                        theirs = ended.setdefault(node.id, [])
                        theirs += [_with_partition(one, partition) for one in told]
        except FaultsNotAllowed:
            return  # it has none
        except EventStreamError:
            silent.add(node.id)

    await _each(cluster, tell, cluster.nodes, only)
    return Healed(ended, sorted(silent), await _recovered(cluster) if ended else True)


def _with_partition(fault: FaultData, partition: int | None) -> FaultData:
    return fault if partition is None else {**fault, "partition": partition}


async def _recovered(cluster: Cluster) -> bool:
    with trio.move_on_after(WATCH_S):
        while True:
            ring = await ringsurvey.ask(cluster)
            if all(_is_calm(survey) for survey in ring.partitions):
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


def _link(cluster: Cluster, node: Node, partition: int | None) -> NodeLink:
    return connect_node(node.client, cluster=cluster.identity, partition=partition, timeout_s=ORDER_S)


async def _each(
    cluster: Cluster,
    work: Callable[[Node, int | None], Awaitable[None]],
    nodes: Collection[Node],
    only: int | None,
) -> None:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            for partition in ringsurvey.numbers(cluster, only):
                nursery.start_soon(work, node, partition)


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


def look_of(report: Report, partition: int | None = None) -> EffectLook:
    """What an effect is judged by; with several partitions, on one of them."""
    hits = {fault["id"]: int(fault["hits"]) for fault in report.faults}
    state = report.process.state_of(partition)
    return EffectLook(report.node.id, state, report.status, hits, report.clock_off_ms)
