"""What each node is told to break: the orders that a partition, a struck link or a sick disk come down to.

Pure. One command has one id on all nodes; where it needs several faults on one node, their ids begin with it
and a dot: it is healed as one. A cut is ordered at both of its ends: a node that restarts has forgotten
its own. Also reads leases, shares, rates and links as people type them. Called by `esctl fault`.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, Literal, NotRequired, TypedDict

from esctl.errors import InvalidArgument
from esctl.faults.partitionshapes import Cut, between, listed
from esctl.ui.duration import milliseconds
from esctl.ui.formatting import typed
from esctl.ui.values import Count, NodeId
from esnode import limits
from esnode.faults import PARAMETERS, Kind

MIN_JUMP_MS: Final = 1_000
"""A smaller jump could not be told from the time that a question takes."""
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")
_SCALE: Final = {"": 1, "k": 1_000, "m": 1_000_000}


Direction = Literal["in", "out", "both"]


class OrderData(TypedDict):
    """A fault that a node is told to have."""

    node: NodeId
    id: str
    kind: str
    peers: list[NodeId]
    direction: Direction | None
    parameters: dict[str, int]


class FaultData(TypedDict):
    """A fault that a node has, in its own words; a `direction` of none is empty."""

    id: str
    kind: str
    peers: list[NodeId]
    direction: Literal["in", "out", "both", ""]
    parameters: dict[str, int]
    lease_ms: int
    left_ms: int
    hits: int
    partition: NotRequired[Count]
    """Whose process has it, where a node has several."""


class NodeFaultData(FaultData):
    """A fault, and which node has it."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Order:
    """One fault on one node, in the words of the protocol."""

    node: int
    id: str
    kind: str
    peers: tuple[int, ...] = ()
    direction: Direction = "both"
    parameters: Mapping[str, int] = field(default_factory=dict)

    def as_data(self) -> OrderData:
        """For the JSON answer."""
        return {
            "node": self.node,
            "id": self.id,
            "kind": self.kind,
            "peers": list(self.peers),
            "direction": self.direction if self.peers else None,
            "parameters": dict(self.parameters),
        }


def block(cuts: Collection[Cut], fault: str) -> list[Order]:
    """The orders that make the cuts."""
    found = []
    for node in sorted({node for cut in cuts for node in cut}):
        out = {b for a, b in cuts if a == node}
        back = {a for a, b in cuts if b == node}
        ways: dict[Direction, set[int]] = {"both": out & back, "out": out - back, "in": back - out}
        for direction, peers in ways.items():
            if peers:
                name = fault if direction == "both" else f"{fault}.{direction}"
                found.append(Order(node, name, "block", tuple(sorted(peers)), direction))
    return found


def on_links(cuts: Collection[Cut], fault: str, kinds: Mapping[str, Mapping[str, int]]) -> list[Order]:
    """The orders that strike what is sent over these links, with each of the kinds."""
    found = []
    for node in sorted({a for a, _ in cuts}):
        peers = tuple(sorted(b for a, b in cuts if a == node))
        for kind, parameters in kinds.items():
            name = fault if len(kinds) == 1 else f"{fault}.{kind}"
            found.append(Order(node, name, kind, peers, "out", parameters))
    return found


def belongs(fault: str, to: str) -> bool:
    """Is the fault a part of what the id `to` names?"""
    return fault == to or fault.startswith(f"{to}.")


def links_of(text: str, voters: Iterable[int], *, one_way: bool) -> list[Cut]:
    """`all`, `2` (every link of node 2) or `1-3`; `one_way`: only what the first sends to the second."""
    numbers = sorted(voters)
    if text == "all":
        return [cut for a, b in combinations(numbers, 2) for cut in between([a], [b])]
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise _unusable(f"{text!r} is no link: write 1-3, 2 for all links of node 2, or all")
    first = int(match[1])
    others = [int(match[2])] if match[2] else [n for n in numbers if n != first]
    for number in (first, *others):
        if number not in numbers:
            raise _unusable(f"there is no node {number}; there are {listed(numbers)}")
    if first in others:
        raise _unusable(f"node {first} has no link to itself")
    return [(first, other) for other in others] if one_way else between([first], others)


def kinds_of(
    shares: Mapping[str, str | None],
    delay: str | None,
    jitter: str | None,
    rate: str | None,
    *,
    stall: bool,
    hold: str | None = None,
) -> dict[str, dict[str, int]]:
    """The kinds of faults that the options of `esctl fault net` ask for, with their parameters."""
    kinds: dict[str, dict[str, int]] = {}
    if hold is not None and shares.get("reorder") is None:
        raise _unusable("--hold is for how long --reorder holds a message back")
    if delay is not None or jitter is not None:
        kinds["delay"] = {"delay_ms": delay_of(delay or "0ms"), "jitter_ms": delay_of(jitter or "0ms")}
    for kind, share in shares.items():
        if share is not None:
            kinds[kind] = {"permille": permille(share)}
    if hold is not None:
        kinds["reorder"]["hold_ms"] = delay_of(hold)
    if rate is not None:
        kinds["rate"] = {"bytes_per_s": bytes_per_s(rate)}
    if stall:
        kinds["stall"] = {}
    if not kinds:
        options = "--delay, --jitter, --drop, --duplicate, --reorder, --rate, --reset or --stall"
        raise _unusable(f"say what becomes of the messages: {options}")
    return kinds


def lease_of(text: str) -> int:
    """A lease in milliseconds, within what a node takes."""
    lease_ms = _milliseconds(text)
    if not limits.MIN_FAULT_LEASE_MS <= lease_ms <= limits.MAX_FAULT_LEASE_MS:
        low, high = limits.MIN_FAULT_LEASE_MS, limits.MAX_FAULT_LEASE_MS // 60_000
        raise _unusable(f"a lease of {text} is not from {low}ms to {high}m")
    return lease_ms


def delay_of(text: str) -> int:
    """A delay in milliseconds, within what a node takes."""
    delay_ms = _milliseconds(text)
    if delay_ms > limits.MAX_FAULT_DELAY_MS:
        raise _unusable(f"a delay of {text} is over {typed(limits.MAX_FAULT_DELAY_MS)}")
    return delay_ms


def shift_ms(text: str, plain: str = "s") -> int:
    """`+2h` or `-50ms` in milliseconds; a number alone counts the unit `plain`."""
    word = text.strip()
    return _milliseconds(word.lstrip("+-"), plain) * (-1 if word.startswith("-") else 1)


def jump_of(text: str) -> int:
    """`+2h` or `-30m` in milliseconds, within what a node takes."""
    by_ms = shift_ms(text)
    if not MIN_JUMP_MS <= abs(by_ms) <= limits.MAX_FAULT_JUMP_MS:
        days = limits.MAX_FAULT_JUMP_MS // 86_400_000
        raise _unusable(f"a jump of {text} is not from {typed(MIN_JUMP_MS)} to {days}d, forward or back")
    return by_ms


def drift_of(rate: int) -> int:
    """Milliseconds a second, within what a node takes."""
    span = PARAMETERS[Kind.DRIFT]["permille"]
    if not rate or not span.low <= rate <= span.high:
        raise _unusable(f"a drift of {rate}ms a second is not from {span.low}ms to {span.high}ms, or none")
    return rate


def permille(text: str) -> int:
    """`5%` or `0.05`."""
    try:
        share = float(text.removesuffix("%")) * (10 if text.endswith("%") else 1000)
    except ValueError:
        share = -1
    if not 0.5 < share <= 1000:  # no infinity, and nothing that is no number
        raise _unusable(f"{text!r} is no share: write 5% or 0.05; from 0.1% to 100%")
    return round(share)


def bytes_per_s(text: str) -> int:
    """`50k`, `2M`; a bare number is bytes a second."""
    match = _RATE.fullmatch(text.strip())
    if match is None or not (rate := round(float(match[1]) * _SCALE[match[2].lower()])):
        raise _unusable(f"{text!r} is no rate: write 50k or 2M, in bytes a second")
    return rate


def _milliseconds(text: str, plain: str = "s") -> int:
    try:
        return round(milliseconds(text, plain))
    except InvalidArgument as error:
        raise _unusable(str(error)) from None


def _unusable(why: str) -> InvalidArgument:
    return InvalidArgument(f"{why}; nothing was done")
