"""One probe event on its way from a client to every node's applied log, as seen from here.

The event goes the way of any other. Meanwhile each node is asked for its status again and again, so a step is
known to lie between two questions: after the one was asked that did not show it yet, before the answer that
did. Nothing finer can be seen from outside, and nothing finer is said. Never prints. Called by
`esctl event trace`.
"""

import math
import secrets
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

import trio

from esctl.clusters.state import Cluster, Node
from esctl.query.barrier import reason_of
from esctl.query.ringsurvey import source_of
from esctl.ui.values import NodeId
from esnode.client import connect, connect_node
from esnode.errors import EventStreamError, NotLeader
from esnode.events import make_batch
from esnode.raft.entry import Entry

SOURCE: Final = "esctl/trace"
TYPE: Final = "esctl.trace.probe"
FIRST_LOOK_S: Final = 2.0
"""A node that has not answered by then is left out."""
PATIENCE_S: Final = 3.0
"""So long after the ack the last node may take to apply it."""
POSITIONS: Final = ("last_index", "durable_index", "commit_index", "applied_index")


@dataclass(frozen=True, slots=True)
class ProbeLook:
    """One status: its positions, sampled by the node some time between `asked_s` and `heard_s`."""

    asked_s: float
    heard_s: float
    positions: dict[str, int]


class ProbeStepData(TypedDict):
    """Something that happened to a probe, between two times in milliseconds from the sending."""

    step: str
    node: NodeId | None
    after_ms: float | None
    before_ms: float


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """Something that happened after `after_ms` and before `before_ms`, counted from the sending.

    `after_ms` is minus infinity where the first look showed it already.
    """

    name: str
    node: int | None
    after_ms: float
    before_ms: float

    def as_data(self) -> ProbeStepData:
        """For the JSON answer."""
        after_ms = None if math.isinf(self.after_ms) else round(self.after_ms, 3)
        return {
            "step": self.name,
            "node": self.node,
            "after_ms": after_ms,
            "before_ms": round(self.before_ms, 3),
        }


@dataclass(slots=True)
class Watched:
    """What was seen of one node."""

    node: int
    looks: list[ProbeLook] = field(default_factory=list)
    why: str = ""
    """Why it was not watched to the end."""

    def step(self, name: str, position: str, index: int, sent_s: float) -> ProbeStep | None:
        """When the position reached `index`; None when it was not seen to."""
        before: ProbeLook | None = None
        for look in self.looks:
            if look.positions.get(position, -1) >= index:
                after_ms = -math.inf if before is None else (before.asked_s - sent_s) * 1000
                return ProbeStep(name, self.node, after_ms, (look.heard_s - sent_s) * 1000)
            before = look
        return None

    def has_applied(self, index: int) -> bool:
        """Was it seen to?"""
        return bool(self.looks) and self.looks[-1].positions["applied_index"] >= index

    @property
    def round_trip_ms(self) -> float | None:
        """How long a question takes, in the middle."""
        times = [(look.heard_s - look.asked_s) * 1000 for look in self.looks]
        return statistics.median(times) if times else None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The whole way of one event."""

    event: dict[str, Any]
    offset: int
    entry: Entry
    leader: int
    connected_ms: float
    """From nothing to the first answer of the leader."""
    acked_ms: float
    steps: Sequence[ProbeStep]
    watched: Sequence[Watched]


async def probe(cluster: Cluster, partition: int | None = None) -> ProbeResult:
    """Send one event, with several partitions to one of them, and watch it. Raises what `append` does."""
    event = {"source": await source_of(cluster, partition, SOURCE), "id": secrets.token_hex(8), "type": TYPE}
    watched = [Watched(node.id) for node in cluster.nodes]
    looked = trio.lowlevel.ParkingLot()

    async def wait_until(holds: Callable[[Watched], bool], timeout_s: float) -> None:
        with trio.move_on_after(timeout_s):
            while not all(one.why or holds(one) for one in watched):
                await looked.park()

    async with trio.open_nursery() as nursery:
        for node, one in zip(cluster.nodes, watched, strict=True):
            nursery.start_soon(_watch, cluster, node, one, looked, partition)
        await wait_until(lambda one: bool(one.looks), FIRST_LOOK_S)
        sent = await _send(cluster, event, partition)
        await wait_until(lambda one: one.has_applied(sent.entry.index), PATIENCE_S)
        nursery.cancel_scope.cancel()
    return _probe_result(event, sent, watched)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The sending, on trio's clock."""

    begun_s: float
    connected_s: float
    handed_s: float
    left_s: float
    acked_s: float
    leader: int
    offset: int
    entry: Entry


async def _send(cluster: Cluster, event: dict[str, Any], partition: int | None) -> _Sent:
    left: list[float] = []
    begun_s = trio.current_time()
    async with connect(cluster.addresses, cluster=cluster.identity, partition=partition) as log:
        await log.explain(event["source"], event["id"])
        connected_s = trio.current_time()
        batch = make_batch([event])
        handed_s = trio.current_time()
        ack = await log.append_batch(batch, on_sent=lambda: left.append(trio.current_time()))
        acked_s = trio.current_time()
        leader, offset = log.leader_id, ack.ranges[0].base_offset
    if leader is None:
        raise NotLeader(
            "the leader was lost right after the ack: the event is in the log, and was not watched"
        )
    address = cluster.node(leader).client
    async with connect_node(address, cluster=cluster.identity, partition=partition) as link:
        (stored,) = (await link.read_page(offset, 1, linearizable=True)).batches
    return _Sent(begun_s, connected_s, handed_s, left[0], acked_s, leader, offset, stored.entry)


async def _watch(
    cluster: Cluster,
    node: Node,
    watched: Watched,
    looked: trio.lowlevel.ParkingLot,
    partition: int | None,
) -> None:
    """Ask one node again and again, as fast as it answers."""
    identity = cluster.identity
    link_to = connect_node(node.client, cluster=identity, partition=partition, timeout_s=FIRST_LOOK_S)
    try:
        async with link_to as link:
            while True:
                asked_s = trio.current_time()
                status = await link.status()
                positions = {name: int(status[name]) for name in POSITIONS}
                watched.looks.append(ProbeLook(asked_s, trio.current_time(), positions))
                looked.unpark_all()
    except EventStreamError as error:
        watched.why = reason_of(error)
        looked.unpark_all()


def _probe_result(event: dict[str, Any], sent: _Sent, watched: Sequence[Watched]) -> ProbeResult:
    """The steps, in the order in which they were over."""
    origin_s, index = sent.handed_s, sent.entry.index

    def ms(at_s: float) -> float:
        return (at_s - origin_s) * 1000

    found = [
        ProbeStep("sent", None, ms(sent.left_s), ms(sent.left_s)),
        ProbeStep("acked", None, ms(sent.acked_s), ms(sent.acked_s)),
    ]
    for one in watched:
        names = {"durable": "durable_index", "applied": "applied_index"}
        if one.node == sent.leader:
            names = {"appended": "last_index", "committed": "commit_index", **names}
        steps = [one.step(name, position, index, origin_s) for name, position in names.items()]
        found += [step for step in steps if step is not None]
    return ProbeResult(
        event=event,
        offset=sent.offset,
        entry=sent.entry,
        leader=sent.leader,
        connected_ms=(sent.connected_s - sent.begun_s) * 1000,
        acked_ms=ms(sent.acked_s),
        steps=sorted(found, key=lambda step: (step.before_ms, step.after_ms)),
        watched=watched,
    )
