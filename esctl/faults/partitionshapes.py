"""The shapes of a partition, computed from the voters and the leader: who cannot say anything to whom.

Pure. Decides what each shape cuts and what that means: with whom each node can still exchange messages, and
whether it could lead. A shape that would cut nothing is refused. Light: the command line needs it for its
help. Called by `esctl fault partition`.
"""

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypedDict, assert_never

from esctl.errors import InvalidArgument
from esctl.ui.values import Count, NodeId
from esnode.errors import NoQuorum

Cut = tuple[int, int]
"""What the first sends does not reach the second."""


class Shape(enum.StrEnum):
    """How the nodes are parted."""

    ISOLATE_LEADER = "isolate-leader"
    ISOLATE = "isolate"
    HALVES = "halves"
    MINORITY = "minority"
    MAJORITY = "majority"
    RING = "ring"
    BRIDGE = "bridge"
    ONE_WAY = "one-way"


MEANINGS: Final = {
    Shape.ISOLATE_LEADER: "cuts the leader off from all other nodes",
    Shape.ISOLATE: "cuts NODE off from all other nodes",
    Shape.HALVES: "separates the nodes with the lower numbers from the others; with an odd number of "
    "nodes the lower side has one more",
    Shape.MINORITY: "separates a minority that includes the leader from the other nodes",
    Shape.MAJORITY: "separates a majority that includes the leader from the other nodes",
    Shape.RING: "each node reaches only its two neighbours; needs 5 nodes",
    Shape.BRIDGE: "makes two sides that cannot reach each other; NODE reaches both",
    Shape.ONE_WAY: "NODE receives from all other nodes, but none receives from NODE; by default, "
    "NODE is the leader",
}
_NEEDS_LEADER: Final = frozenset({Shape.ISOLATE_LEADER, Shape.MINORITY, Shape.MAJORITY})
_TAKES_NO_NODE: Final = _NEEDS_LEADER | {Shape.HALVES, Shape.RING}


class PartitionQuorum(TypedDict):
    """Whether any node can lead."""

    needed: Count
    total: Count
    kept: bool


class SideData(TypedDict):
    """Nodes that reach the same nodes, and whether that is a majority."""

    nodes: list[NodeId]
    reach: list[NodeId]
    quorum: bool


class PartitionData(TypedDict):
    """Who no longer hears whom, and what becomes of the quorum; without a `shape`, links were named."""

    shape: Shape | None
    cuts: list[tuple[NodeId, NodeId]]
    quorum: PartitionQuorum
    sides: list[SideData]


@dataclass(frozen=True, slots=True)
class Partition:
    """A shape on given voters. `down` are those that do not run: they make no quorum anyway."""

    shape: Shape | None
    """None for links that were named one by one."""
    voters: tuple[int, ...]
    cuts: frozenset[Cut]
    down: frozenset[int] = frozenset()

    @property
    def needed(self) -> int:
        """How many make a majority."""
        return len(self.voters) // 2 + 1

    def reach(self, node: int) -> tuple[int, ...]:
        """The running nodes that `node` can exchange messages with, itself included."""
        cut = self.cuts
        others = [v for v in self.voters if v not in self.down and v != node]
        return tuple(sorted([node, *(v for v in others if not {(node, v), (v, node)} & cut)]))

    def can_lead(self, node: int) -> bool:
        """Does a majority answer it?"""
        return node not in self.down and len(self.reach(node)) >= self.needed

    @property
    def keeps_quorum(self) -> bool:
        """Can any node lead?"""
        return any(self.can_lead(node) for node in self.voters)

    def sides(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Nodes that reach the same nodes, and whom they reach; the running ones."""
        found: dict[tuple[int, ...], list[int]] = {}
        for node in self.voters:
            if node not in self.down:
                found.setdefault(self.reach(node), []).append(node)
        return [(tuple(nodes), reach) for reach, nodes in found.items()]

    def outcome(self, reach: Sequence[int]) -> str:
        """What the quorum would be on that side, for people."""
        verdict = "a quorum" if len(reach) >= self.needed else "no quorum: nothing is acked"
        return f"{len(reach)} of {len(self.voters)}, {self.needed} needed: {verdict}"

    def as_data(self) -> PartitionData:
        """For the JSON answer."""
        return {
            "shape": self.shape,
            "cuts": sorted(self.cuts),
            "quorum": {"needed": self.needed, "total": len(self.voters), "kept": self.keeps_quorum},
            "sides": [
                {"nodes": list(nodes), "reach": list(reach), "quorum": len(reach) >= self.needed}
                for nodes, reach in self.sides()
            ],
        }


def partition(
    shape: Shape,
    voters: Iterable[int],
    leader: int | None,
    node: int | None = None,
    down: Collection[int] = (),
) -> Partition:
    """The cuts of a shape. Raises `NoQuorum` where it needs a leader, `InvalidArgument` where it makes no
    sense with these nodes."""
    numbers = tuple(sorted(voters))
    _check(shape, numbers, leader, node)
    chosen = node if node is not None else leader
    cuts = _cuts(shape, numbers, leader, chosen, bridge=node)
    return Partition(shape, numbers, frozenset(cuts), frozenset(down))


def about_leader(shape: Shape, node: int | None) -> bool:
    """Does the shape depend on who leads?"""
    return shape in _NEEDS_LEADER or (shape is Shape.ONE_WAY and node is None)


def _check(shape: Shape, voters: tuple[int, ...], leader: int | None, node: int | None) -> None:
    why, helps = "", "esctl fault partition --help"
    least = 5 if shape is Shape.RING else 3
    if shape in _TAKES_NO_NODE and node is not None:
        why = f"{shape} takes no node"
    elif shape is Shape.ISOLATE and node is None:
        why, helps = "isolate wants a node", "esctl fault partition isolate 2"
    elif node is not None and node not in voters:
        why = f"node {node} does not vote; the voters are {listed(voters)}"
    elif len(voters) < least:
        why = f"{shape} wants {least} nodes at least, and there are {len(voters)}"
        helps = f"esctl cluster up NAME --faults --nodes {least}"
    if why:
        raise InvalidArgument(f"{why}; nothing was done", next_step=helps)
    if leader is None and about_leader(shape, node):
        raise NoQuorum(f"{shape} is about the leader, and nobody leads; nothing was done")


def _cuts(
    shape: Shape, voters: tuple[int, ...], leader: int | None, chosen: int | None, bridge: int | None
) -> Iterable[Cut]:
    others = tuple(v for v in voters if v != leader)
    minority = len(voters) // 2
    match shape:
        case Shape.ISOLATE_LEADER | Shape.ISOLATE:
            assert chosen is not None
            return between([chosen], [v for v in voters if v != chosen])
        case Shape.HALVES:
            return between(voters[: minority + 1], voters[minority + 1 :])
        case Shape.MINORITY:
            assert leader is not None
            return between([leader, *others[: minority - 1]], others[minority - 1 :])
        case Shape.MAJORITY:
            assert leader is not None
            return between([leader, *others[:minority]], others[minority:])
        case Shape.RING:
            ring = {frozenset(pair) for pair in zip(voters, (*voters[1:], voters[0]), strict=True)}
            apart = [pair for pair in combinations(voters, 2) if frozenset(pair) not in ring]
            return [cut for a, b in apart for cut in between([a], [b])]
        case Shape.BRIDGE:
            middle = bridge if bridge is not None else others[0]
            ends = [v for v in voters if v != middle]
            return between(ends[: len(ends) // 2], ends[len(ends) // 2 :])
        case Shape.ONE_WAY:
            assert chosen is not None
            return [(chosen, v) for v in voters if v != chosen]
        case _:
            assert_never(shape)


def between(some: Iterable[int], others: Iterable[int]) -> list[Cut]:
    """Both ways between two sides."""
    theirs = list(others)
    return [cut for a in some for b in theirs for cut in ((a, b), (b, a))]


def listed(nodes: Iterable[int]) -> str:
    """`1, 3`."""
    return ", ".join(map(str, nodes))
