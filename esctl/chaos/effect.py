"""Whether a fault hits: judged by its effect on the nodes, not by their having accepted the request.

Pure. A node that is cut off from its leader must have stopped hearing it, a leader without a majority must
have stopped leading, a struck link or disk must have counted something. What has had no occasion to hit is
unknown, and said so. Called by `esctl fault` with a look at each node, again and again for a moment.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NotRequired, TypedDict

from esctl.clusters.backends.interface import RunState
from esctl.faults.nodeorders import Order
from esctl.faults.partitionshapes import Partition
from esctl.ui.formatting import duration
from esctl.ui.values import Count, NodeId

HEARD_MARGIN_MS: Final = 100
"""What was on its way when the fault was set, and the time that a look takes."""
SETTLED_MS: Final = 400
"""Two heartbeats and more: before that, silence says nothing."""
JUMP_MARGIN_MS: Final = 500
"""What a clock that was set may be away from where it should be."""
STEPS_DOWN_MS: Final = 2_000
"""By then a leader that no majority answers has given up."""

_HIT: Final = {
    "block": "messages lost",
    "drop": "messages lost",
    "duplicate": "messages sent twice",
    "reorder": "messages overtaken",
    "delay": "messages delayed",
    "rate": "messages slowed down",
    "reset": "connections broken",
    "stall": "messages held back",
    "disk-slow": "commits delayed",
    "disk-fail": "writes refused",
    "disk-full": "writes refused",
}


class EffectVerdict(enum.StrEnum):
    """What is known of a fault's effect."""

    APPLIED = "applied"
    NO_EFFECT = "no effect"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EffectLook:
    """One node, looked at once. `status` is None when it gives no answer."""

    node: int
    state: RunState
    status: Mapping[str, Any] | None
    hits: Mapping[str, int] = field(default_factory=dict)
    """By the id of the fault, of those that are active on the node."""
    clock_off_ms: tuple[int, int] | None = None
    """How far its wall clock is ahead of this machine's: between these two."""


class NodeEffectData(TypedDict):
    """What one node shows."""

    id: NodeId
    effect: EffectVerdict
    evidence: str
    hits: Count
    partition: NotRequired[Count]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one node shows. While `open` the next look may show more; `idle`: it had no occasion to."""

    node: int
    verdict: EffectVerdict
    evidence: str
    hits: int = 0
    open: bool = False
    idle: bool = False

    def as_data(self, partition: int | None = None) -> NodeEffectData:
        """For the JSON answer; it says which of several partitions that were struck."""
        data: NodeEffectData = {
            "id": self.node,
            "effect": self.verdict,
            "evidence": self.evidence,
            "hits": self.hits,
        }
        if partition is not None:
            data["partition"] = partition
        return data


Judge = Callable[[Mapping[int, EffectLook], int], list[Effect]]
"""From a look at each node, and the milliseconds since the faults were set."""
RingJudge = Callable[[int | None, Mapping[int, EffectLook], int], list[Effect]]
"""The same of one partition, whose number is said where there are several."""


def of_all(effects: Iterable[Effect]) -> EffectVerdict:
    """Applied when each part is that had an occasion; one part without effect spoils it."""
    parts = list(effects)
    told = {effect.verdict for effect in parts if not effect.idle}
    for verdict in (EffectVerdict.NO_EFFECT, EffectVerdict.UNKNOWN):
        if verdict in told:
            return verdict
    return EffectVerdict.APPLIED if told else EffectVerdict.UNKNOWN


def of_partition(
    cut: Partition,
    orders: Sequence[Order],
    leader: int | None,
    looks: Mapping[int, EffectLook],
    elapsed_ms: int,
) -> list[Effect]:
    """What each node that a cut touches shows. `leader` led when it was made."""
    counted = {node: _hits(orders, looks[node]) for node in {order.node for order in orders}}
    effects = []
    for node in sorted(counted):
        look = looks[node]
        if look.status is None:
            effects.append(Effect(node, EffectVerdict.UNKNOWN, _silent(look), open=True))
        elif leader is not None and (leader, node) in cut.cuts:
            effects.append(_without_leader(look, leader, counted[node], elapsed_ms))
        elif node == leader and not cut.can_lead(node):
            effects.append(_deposed(look, counted[node], elapsed_ms))
        else:
            partners = {b for a, b in cut.cuts if a == node} | {a for a, b in cut.cuts if b == node}
            effects.append(_counted(node, counted[node], [counted[other] for other in partners]))
    return effects


def of_orders(
    orders: Sequence[Order], looks: Mapping[int, EffectLook], pids: Mapping[int, int] | None = None
) -> list[Effect]:
    """What each node with a struck link or a sick disk shows.

    `pids`: the processes that were told, by node, where others are started when they end.
    """
    effects = []
    for node in sorted({order.node for order in orders}):
        look = looks[node]
        own = [order for order in orders if order.node == node]
        fatal = any(order.kind in ("disk-fail", "disk-full") for order in own)
        hits = _hits(own, look)
        if fatal and look.state is RunState.DOWN:
            what = "the node has ended, as one does whose disk refuses a write"
            effects.append(Effect(node, EffectVerdict.APPLIED, what, 1))
        elif fatal and _another(look, pids):
            what = "its process has ended, as one does whose disk refuses a write, and was started again"
            effects.append(Effect(node, EffectVerdict.APPLIED, what, 1))
        elif look.status is None:
            effects.append(Effect(node, EffectVerdict.UNKNOWN, _silent(look), open=True))
        elif missing := [order.id for order in own if order.id not in look.hits]:
            effects.append(Effect(node, EffectVerdict.NO_EFFECT, f"{missing[0]} is not active there", hits))
        elif idle := [order for order in own if not look.hits[order.id]]:
            evidence = "nothing was written" if idle[0].kind.startswith("disk") else _untouched(idle[0])
            effects.append(Effect(node, EffectVerdict.UNKNOWN, evidence, hits, open=True, idle=True))
        else:
            evidence = ", ".join(_hit(look.hits[order.id], order.kind) for order in own)
            effects.append(Effect(node, EffectVerdict.APPLIED, evidence, hits))
    return effects


def of_replicas(
    nodes: Sequence[int], looks: Mapping[int, EffectLook], pids: Mapping[int, int]
) -> list[Effect]:
    """What nodes show whose process for one partition was killed; `pids` are those that it had."""
    return [_of_replica(looks[node], pids) for node in nodes]


def of_processes(nodes: Sequence[int], wanted: RunState, looks: Mapping[int, EffectLook]) -> list[Effect]:
    """What nodes show that were killed or paused."""
    return [_of_process(node, wanted, looks[node]) for node in nodes]


def of_clock(order: Order, before: EffectLook, looks: Mapping[int, EffectLook]) -> list[Effect]:
    """What the clock of a node shows that was set forward or back, or goes faster or slower."""
    look = looks[order.node]
    if look.status is None:
        return [Effect(order.node, EffectVerdict.UNKNOWN, _silent(look), open=True)]
    if order.id not in look.hits:
        return [Effect(order.node, EffectVerdict.NO_EFFECT, f"{order.id} is not active there")]
    if look.clock_off_ms is None or before.clock_off_ms is None:
        return [Effect(order.node, EffectVerdict.UNKNOWN, "its status does not say what time it is")]
    # Both are known within the time that a question takes, and so is their difference.
    low = look.clock_off_ms[0] - before.clock_off_ms[1]
    high = look.clock_off_ms[1] - before.clock_off_ms[0]
    wanted = order.parameters.get("by_ms", order.parameters.get("permille", 0))
    moved = low > 0 if wanted > 0 else high < 0
    at_its_place = order.kind != "clock-jump" or low - JUMP_MARGIN_MS <= wanted <= high + JUMP_MARGIN_MS
    hits = look.hits[order.id]
    if moved and at_its_place:
        return [Effect(order.node, EffectVerdict.APPLIED, f"its clock is {clock_text(low, high)}", hits)]
    if order.kind == "clock-drift":
        return [Effect(order.node, EffectVerdict.UNKNOWN, "it is too early to say", hits, open=True)]
    evidence = f"its clock is {clock_text(low, high)}"
    return [Effect(order.node, EffectVerdict.NO_EFFECT, evidence, hits, open=True)]


def clock_text(low_ms: int, high_ms: int) -> str:
    """How far a clock has moved, for people."""
    nearest = 0 if low_ms <= 0 <= high_ms else min(low_ms, high_ms, key=abs)
    if not nearest:
        return "where it was"
    return f"{duration(abs(nearest) / 1000)} {'ahead of' if nearest > 0 else 'behind'} where it was"


def _of_process(node: int, wanted: RunState, look: EffectLook) -> Effect:
    if look.state is wanted and look.status is None:
        return Effect(node, EffectVerdict.APPLIED, f"its process is {wanted}, and it gives no answer", 1)
    if look.state is wanted:
        return Effect(node, EffectVerdict.UNKNOWN, f"its process is {wanted}, and it has answered", open=True)
    return Effect(node, EffectVerdict.NO_EFFECT, f"its process is {look.state}", open=True)


def _of_replica(look: EffectLook, pids: Mapping[int, int]) -> Effect:
    if look.status is None:
        what = "its process was killed, and no other one answers yet"
        return Effect(look.node, EffectVerdict.APPLIED, what, 1, open=True)
    if _another(look, pids):
        what = f"its process was killed; its supervisor has started another one (pid {look.status['pid']})"
        return Effect(look.node, EffectVerdict.APPLIED, what, 1)
    what = f"its process {look.status['pid']} still answers"
    return Effect(look.node, EffectVerdict.NO_EFFECT, what, open=True)


def _another(look: EffectLook, pids: Mapping[int, int] | None) -> bool:
    """Does another process answer than the one that was told?"""
    before = (pids or {}).get(look.node)
    return before is not None and look.status is not None and int(look.status["pid"]) != before


def _without_leader(look: EffectLook, leader: int, hits: int, elapsed_ms: int) -> Effect:
    status = look.status or {}
    node, role, follows = look.node, status["role"], status["leader"]
    if role == "leader":
        return Effect(node, EffectVerdict.APPLIED, f"it leads now, in term {status['term']}", hits)
    if follows not in (None, leader):
        return Effect(node, EffectVerdict.APPLIED, f"it follows node {follows} now", hits)
    silence_ms = int(status["silence_ms"])
    silent = silence_ms < 0 or silence_ms >= elapsed_ms - HEARD_MARGIN_MS
    if silent and elapsed_ms >= SETTLED_MS:
        return Effect(
            node, EffectVerdict.APPLIED, f"it has not heard node {leader} for {silence_ms} ms", hits
        )
    if elapsed_ms < SETTLED_MS:
        return Effect(node, EffectVerdict.UNKNOWN, "it is too early to say", hits, open=True)
    evidence = f"it heard from node {leader} {silence_ms} ms ago, {elapsed_ms} ms after the cut"
    return Effect(node, EffectVerdict.NO_EFFECT, evidence, hits, open=True)


def _deposed(look: EffectLook, hits: int, elapsed_ms: int) -> Effect:
    if (look.status or {})["role"] != "leader":
        lost = f"; {_hit(hits, 'block')}" if hits else ""
        return Effect(look.node, EffectVerdict.APPLIED, f"it leads no longer{lost}", hits)
    verdict = EffectVerdict.UNKNOWN if elapsed_ms < STEPS_DOWN_MS else EffectVerdict.NO_EFFECT
    return Effect(look.node, verdict, f"it still leads {elapsed_ms} ms after the cut", hits, open=True)


def _counted(node: int, hits: int, others: Sequence[int]) -> Effect:
    if hits:
        return Effect(node, EffectVerdict.APPLIED, _hit(hits, "block"), hits)
    if others and all(others):
        return Effect(node, EffectVerdict.APPLIED, "what was sent to it is lost at the other end")
    what = "nothing was sent over what is cut"
    if any(others):
        what = "what was sent to it is lost at the other end; on other links nothing was sent"
    return Effect(node, EffectVerdict.UNKNOWN, what, open=True, idle=True)


def _hit(hits: int, kind: str) -> str:
    """`1 message lost`."""
    what, _, how = _HIT[kind].partition(" ")
    return f"{hits:,} {what.removesuffix('s') if hits == 1 else what} {how}"


def _untouched(order: Order) -> str:
    if order.kind == "reorder":
        return "no message was overtaken yet"
    share = order.parameters.get("permille", 1000)
    return "nothing was sent" if share == 1000 else "no message was struck yet"


def _hits(orders: Iterable[Order], look: EffectLook) -> int:
    return sum(look.hits.get(order.id, 0) for order in orders if order.node == look.node)


def _silent(look: EffectLook) -> str:
    return "it gives no answer" if look.state is RunState.RUNNING else f"it is {look.state}"
