"""Moments that belong together as one happening: a fault on three nodes, a restart, a hand-over, a repair.

Each function looks at one sort of thing. An end that the logs do not have is None. Pure. Called by
`story.py`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypedDict

from esctl.cli import timearguments
from esctl.clusters.nodelog import whole
from esctl.observe.timeline.elections import Election
from esctl.observe.timeline.lanes import DOWN, STARTING, UNKNOWN, Lane, Stretch
from esctl.observe.timeline.moments import Moment, MomentKind
from esctl.ui.formatting import nodes_named
from esctl.ui.values import NodeId

TOGETHER_S: Final = 5.0
"""What several nodes say alike within this was one thing."""


HappeningKind = Literal[
    "attempt", "command", "cut", "down", "election", "failure", "fault", "move", "pause", "repair", "restart",
    "snapshot", "start", "step", "step-down", "switch", "transfer", "trouble",
]  # fmt: skip


class HappeningData(TypedDict):
    """Something that took its time, on some nodes."""

    kind: HappeningKind
    text: str
    nodes: list[NodeId]
    begin: str
    after_s: Annotated[float, "From the beginning of the timeline, in seconds"]
    ms: Annotated[float | None, "How long it took; null has no end in the logs"]
    details: Annotated[dict[str, object], "By the kind of the happening"]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that took its time, on some nodes. Times in seconds since 1970."""

    begin_s: float
    end_s: float | None
    """The same as the beginning for what has no length; None for what has no end in the logs."""
    kind: HappeningKind
    text: str
    nodes: tuple[int, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.end_s is None else self.end_s - self.begin_s

    def as_data(self, origin_s: float) -> HappeningData:
        """For the JSON answer."""
        return {
            "kind": self.kind,
            "text": self.text,
            "nodes": list(self.nodes),
            "begin": timearguments.written(self.begin_s),
            "after_s": round(self.begin_s - origin_s, 6),
            "ms": None if self.end_s is None else round((self.end_s - self.begin_s) * 1000, 3),
            "details": dict(self.details),
        }


# --- processes ------------------------------------------------------------------------------------


def processes(moments: Sequence[Moment], every: Mapping[int, Lane], end_s: float) -> list[Happening]:
    """Starts, and the times in which nodes were down."""
    found = []
    for lane in every.values():
        for place, stretch in enumerate(lane.stretches):
            before = lane.stretches[place - 1] if place else None
            if stretch.state == DOWN and (before is not None or _last_words(lane, stretch, moments)):
                found.append(_down(lane, stretch, moments, end_s))
            elif (
                stretch.state == STARTING
                and place < 2
                and (before is None or before.state in (DOWN, UNKNOWN))
            ):
                found.append(Happening(stretch.begin_s, stretch.end_s, "start", "starts", (lane.node,)))
    return _together(found)


def _down(lane: Lane, stretch: Stretch, moments: Sequence[Moment], end_s: float) -> Happening:
    death = next((one for one in lane.deaths if one.at_s == stretch.begin_s), None)
    failed = next(
        (one.text for one in _last_words(lane, stretch, moments) if one.kind is MomentKind.FAILED), ""
    )
    over = next((one for one in lane.stretches if one.begin_s >= stretch.end_s and one.state != DOWN), None)
    details: dict[str, Any] = {"said": death is None}
    if death is not None:
        how = "ends without a word" if death.known else "ends without a word, some time after this"
    else:
        how = failed or "stops"
    ready = over.end_s if over is not None and over.state == STARTING else stretch.end_s
    if over is None:
        return Happening(stretch.begin_s, None, "failure" if failed else "down", how, (lane.node,), details)
    text = f"{how}, and is started again"
    return Happening(stretch.begin_s, ready, "failure" if failed else "restart", text, (lane.node,), details)


def _last_words(lane: Lane, stretch: Stretch, moments: Sequence[Moment]) -> list[Moment]:
    """What the node itself said of its end."""
    kinds = (MomentKind.STOPPED, MomentKind.FAILED)
    return [
        one for one in moments
        if one.node == lane.node and one.at_s == stretch.begin_s and one.kind in kinds
    ]  # fmt: skip


def _together(found: Iterable[Happening]) -> list[Happening]:
    """What several nodes did alike at about the same time is one happening; each begins with its nodes."""
    groups: list[list[Happening]] = []
    for one in sorted(found, key=lambda happening: happening.begin_s):
        group = next((g for g in reversed(groups) if _alike(g[0], one) and not _has(g, one.nodes)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return [_joined(group) for group in groups]


def _alike(one: Happening, other: Happening) -> bool:
    return (one.kind, one.text) == (other.kind, other.text) and other.begin_s - one.begin_s <= TOGETHER_S


def _has(group: Sequence[Happening], nodes: tuple[int, ...]) -> bool:
    return any(set(one.nodes) & set(nodes) for one in group)


def _joined(group: Sequence[Happening]) -> Happening:
    nodes = tuple(sorted({node for one in group for node in one.nodes}))
    text = group[0].text if len(nodes) == 1 else _plural(group[0].text)
    return Happening(
        group[0].begin_s, _last(one.end_s for one in group), group[0].kind,
        f"{nodes_named(nodes)} {text}", nodes,
        group[0].details if len(group) == 1 else {},
    )  # fmt: skip


def _plural(text: str) -> str:
    """What one node does, of several: `starts` is `start`, and `stops, and is` is `stop, and are`."""
    first = re.split(r"[ ,]", text, maxsplit=1)[0]
    many = {"is": "are", "has": "have"}.get(first, first.removesuffix("s"))
    return f"{many}{text.removeprefix(first)}".replace(", and is ", ", and are ")


def _last(ends: Iterable[float | None]) -> float | None:
    """The latest; None where one has no end."""
    found = list(ends)
    known = [one for one in found if one is not None]
    return max(known) if len(known) == len(found) else None


# --- faults ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Fault:
    """What one node said of its part of a fault."""

    set: Moment
    over: Moment | None = None
    ended_s: float | None = None
    how: str = ""


def faults(moments: Sequence[Moment], every: Mapping[int, Lane]) -> list[Happening]:
    """Each fault over all its nodes: from the first that had it to the last that was rid of it."""
    parts: dict[str, list[_Fault]] = {}
    active: dict[tuple[int, str], _Fault] = {}
    for moment in moments:
        if moment.node is None or moment.kind not in (MomentKind.FAULT, MomentKind.FAULT_OVER):
            continue
        key = moment.node, moment.word("fault")
        if moment.kind is MomentKind.FAULT and key not in active:
            active[key] = _Fault(moment)
            parts.setdefault(key[1].partition(".")[0], []).append(active[key])
        elif moment.kind is MomentKind.FAULT_OVER and (part := active.pop(key, None)) is not None:
            part.over, part.ended_s, part.how = moment, moment.at_s, moment.text
    for (node, _), part in active.items():
        part.ended_s = _process_end(every.get(node), part.set.at_s)
        part.how = "its node ended" if part.ended_s is not None else ""
    return [_fault(fault, members) for fault, members in parts.items()]


def _process_end(lane: Lane | None, after_s: float) -> float | None:
    """A fault ends with the process that has it."""
    if lane is None:
        return None
    return next(
        (s.begin_s for s in lane.stretches if s.state in (DOWN, STARTING) and s.begin_s > after_s), None
    )


def _fault(fault: str, parts: Sequence[_Fault]) -> Happening:
    nodes = tuple(sorted({one.set.node for one in parts if one.set.node is not None}))
    kinds = list(dict.fromkeys(_what(one.set) for one in parts))
    hits = [whole(one.over.details.get("hits")) or 0 for one in parts if one.over is not None]
    how = " and ".join(dict.fromkeys(one.how for one in parts if one.how))
    end_s = _last(one.ended_s for one in parts)
    told = f"; {how}" if end_s is not None and how else "; not over" if end_s is None else ""
    struck = f", {sum(hits):,} hit{'s' if sum(hits) != 1 else ''}" if hits else ""
    text = f"fault {fault}: {', '.join(kinds)} at {nodes_named(nodes)}{told}{struck}"
    details = {
        "fault": fault,
        "how": how or None,
        "hits": sum(hits),
        "parts": [dict(p.set.details) for p in parts],
    }
    return Happening(min(one.set.at_s for one in parts), end_s, "fault", text, nodes, details)


def _what(moment: Moment) -> str:
    """What a fault does, without whom it does it to: that differs from node to node."""
    parameters = moment.details.get("parameters")
    words = parameters.items() if isinstance(parameters, Mapping) else ()
    told = "".join(f" {name}={value}" for name, value in words if value)
    return f"{moment.word('kind') or 'unknown'}{told}"


# --- hand-overs, snapshots, repairs, steps --------------------------------------------------------


def transfers(moments: Sequence[Moment], won: Sequence[Election]) -> list[Happening]:
    """Each hand-over, until the other leads or it is given up."""
    found = []
    for place, moment in enumerate(moments):
        if moment.kind is not MomentKind.TRANSFER or moment.node is None:
            continue
        over = next(
            (
                one
                for one in moments[place + 1 :]
                if one.at_s <= moment.at_s + TOGETHER_S
                and one.node == moment.node
                and one.kind
                in (MomentKind.TRANSFERRED, MomentKind.TRANSFER, MomentKind.STOPPED, MomentKind.FAILED)
            ),
            None,
        )
        next_led = next(
            (one for one in won if moment.at_s <= one.elected_s <= moment.at_s + TOGETHER_S), None
        )
        text, end_s = f"node {moment.node} {moment.text}", None
        taker = None
        if over is not None and over.kind is MomentKind.TRANSFERRED:
            text, end_s, taker = f"{text}: {over.text}", over.at_s, over.number("to")
        elif next_led is not None:
            text, end_s = f"{text}: node {next_led.leader} has taken over", next_led.elected_s
            taker = next_led.leader
        elif over is not None:
            text, end_s = f"{text}, and nobody has taken over", over.at_s
        found.append(
            Happening(
                moment.at_s, end_s, "transfer", text, (moment.node,), {"to": moment.number("to") or taker}
            )
        )
    return found


def snapshots(moments: Sequence[Moment]) -> list[Happening]:
    """Each snapshot from when it left to when it was taken, or only the one of these that was seen."""
    found = []
    sent: dict[int, Moment] = {}
    for moment in moments:
        if moment.kind is MomentKind.SNAPSHOT and (peer := moment.number("peer")) is not None:
            sent[peer] = moment
        elif moment.kind is MomentKind.INSTALLED and moment.node is not None:
            found.append(_snapshot(moment.node, sent.pop(moment.node, None), moment))
    return [*found, *(_snapshot(peer, left, None) for peer, left in sent.items())]


def _snapshot(to: int, left: Moment | None, taken: Moment | None) -> Happening:
    seen = left or taken
    assert seen is not None
    sender = left.node if left is not None else None
    text = (
        f"node {to} {taken.text}"
        if taken is not None
        else f"node {to} is sent a snapshot, and has not taken it"
    )
    by = f", sent by node {sender}" if sender is not None else ""
    nodes = tuple(sorted({to} if sender is None else {to, sender}))
    end_s = taken.at_s if taken is not None else None
    return Happening(seen.at_s, end_s, "snapshot", f"{text}{by}", nodes, {"from": sender, "to": to})


def repairs(moments: Sequence[Moment]) -> list[Happening]:
    """Nodes that rejoin, until they have; a copy that is trusted needs no more."""
    found: list[Happening] = []
    begun: dict[int, Moment] = {}
    for moment in moments:
        node = moment.node
        if node is None:
            continue
        if moment.kind is MomentKind.REPAIR and "put_aside" not in moment.details:
            found.append(Happening(moment.at_s, moment.at_s, "repair", f"node {node} {moment.text}", (node,)))
        elif moment.kind is MomentKind.REPAIR:
            begun.setdefault(node, moment)
        elif moment.kind is MomentKind.REPAIRED:
            left = begun.pop(node, moment)
            text = f"node {node} {left.text}" if left is not moment else f"node {node} {moment.text}"
            found.append(Happening(left.at_s, moment.at_s, "repair", text, (node,)))
    for node, left in begun.items():
        found.append(Happening(left.at_s, None, "repair", f"node {node} {left.text}", (node,)))
    return found


def moves(moments: Sequence[Moment]) -> list[Happening]:
    """Each plan for the ring until its end, whoever drove it; and each switch of the partition to a ring."""
    found: list[Happening] = []
    begun: dict[int | None, Moment] = {}
    for moment in moments:
        version = moment.number("version")
        if moment.node is None:
            continue
        if moment.kind is MomentKind.MOVE:
            begun.setdefault(version, moment)
        elif moment.kind is MomentKind.MOVED:
            first = begun.pop(version, moment)
            text = f"{first.text}: {moment.text}" if first is not moment else moment.text
            nodes = tuple(sorted({node for one in (first, moment) if (node := one.node) is not None}))
            details = {**first.details, **moment.details}
            found.append(Happening(first.at_s, moment.at_s, "move", text, nodes, details))
    for first in begun.values():
        nodes = (first.node,) if first.node is not None else ()
        found.append(Happening(first.at_s, None, "move", first.text, nodes, dict(first.details)))
    return [*found, *_switches(moments)]


def _switches(moments: Sequence[Moment]) -> list[Happening]:
    """One for all nodes: that some apply it later says nothing of the ring."""
    first: dict[int | None, Moment] = {}
    nodes: dict[int | None, set[int]] = {}
    for moment in moments:
        if moment.kind is MomentKind.SWITCHED and moment.node is not None:
            version = moment.number("version")
            first.setdefault(version, moment)
            nodes.setdefault(version, set()).add(moment.node)
    return [
        Happening(one.at_s, one.at_s, "switch", one.text, tuple(sorted(nodes[version])), dict(one.details))
        for version, one in first.items()
    ]


def steps(moments: Sequence[Moment]) -> list[Happening]:
    """The steps of a playbook, each until its end."""
    return _spoken(moments, "step", MomentKind.STEP, MomentKind.STEP_OVER)


def commands(moments: Sequence[Moment]) -> list[Happening]:
    """What operators typed, until it was done."""
    return _spoken(moments, "command", MomentKind.COMMAND, MomentKind.COMMAND_OVER)


def _spoken(
    moments: Sequence[Moment], kind: Literal["step", "command"], begins: MomentKind, ends: MomentKind
) -> list[Happening]:
    """Pairs of moments of the same `step`: what began, and how it ended. An end alone is told as it is."""
    found: list[Happening] = []
    begun: dict[str, Moment] = {}
    for moment in moments:
        name = moment.word("step")
        if moment.kind is begins:
            begun.setdefault(name, moment)
        elif moment.kind is ends:
            left = begun.pop(name, moment)
            text = f"{left.text}: {moment.text}" if left is not moment else moment.text
            details = {**left.details, **moment.details}
            found.append(Happening(left.at_s, moment.at_s, kind, text, (), details))
    return [
        *found,
        *(Happening(one.at_s, None, kind, one.text, (), dict(one.details)) for one in begun.values()),
    ]


def plain(moments: Sequence[Moment]) -> Iterator[Happening]:
    """What is told as it is."""
    cuts = [one for one in moments if one.kind is MomentKind.CUT and one.node is not None]
    yield from _together(
        Happening(one.at_s, one.at_s, "cut", one.text, (one.node,)) for one in cuts if one.node is not None
    )
    for one in moments:
        if one.kind is MomentKind.TROUBLE:
            where = f"node {one.node}: " if one.node is not None else ""
            nodes = (one.node,) if one.node is not None else ()
            yield Happening(one.at_s, one.at_s, "trouble", f"{where}{one.text}", nodes, dict(one.details))
