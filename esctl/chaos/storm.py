"""A storm: random faults, drawn from a seed, so that it can be shown first, saved, and repeated.

Pure. A schedule is a function of the seed, the voters and the settings. Decides that never more nodes are
struck at a time than a cluster can spare, counting a while for each to come back, unless that is asked for.
Clocks count for nothing, since nothing depends on them. Called by `esctl fault storm`.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NotRequired, TypedDict

from esctl.errors import InvalidArgument, InvalidStorm
from esctl.faults.nodeorders import Order, block, on_links
from esctl.faults.partitionshapes import between
from esctl.ui.values import Count, NodeId
from esnode.faults import CLOCK_KINDS

SCHEMA: Final = "esctl.storm/v1"
SHORTEST_MS: Final = 300
LONGEST_MS: Final = 3_000
BACK_AFTER_MS: Final = 1_000
"""How long a node may need to be one of those that make a quorum again."""
STARTED_AFTER_MS: Final = 5_000
"""The same of one that has to be started."""
SPANS: Final[Mapping[str, Mapping[str, tuple[int, int]]]] = {
    "isolate": {},
    "one-way": {},
    "delay": {"delay_ms": (10, 300), "jitter_ms": (0, 200)},
    "drop": {"permille": (20, 500)},
    "duplicate": {"permille": (50, 1000)},
    "reorder": {"permille": (50, 500), "hold_ms": (20, 400)},
    "rate": {"bytes_per_s": (5_000, 500_000)},
    "reset": {"permille": (5, 100)},
    "stall": {},
    "kill": {},
    "pause": {},
    "disk-slow": {"delay_ms": (10, 300), "jitter_ms": (0, 100)},
    "clock-jump": {"by_ms": (-86_400_000, 86_400_000)},
    "clock-drift": {"permille": (-500, 500)},
}
"""What a storm is made of, and how strong each may be."""
KINDS: Final = tuple(SPANS)
ON_PROCESSES: Final = ("kill", "pause")
_ON_NODES: Final = ("disk-slow", *CLOCK_KINDS)


class ScheduledFaultData(TypedDict):
    """When a storm strikes which node, how, and for how long."""

    at_ms: Count
    for_ms: Count
    kind: str
    node: NodeId
    parameters: dict[str, int]
    partition: NotRequired[Annotated[Count, "Only the node's process for this one of several partitions"]]


_Schedule = TypedDict("_Schedule", {"gusts": list[ScheduledFaultData]})  # noqa: UP013  # an old word, for old files


class StormData(_Schedule):
    """A schedule, as `--save` writes it."""

    schema: Literal["esctl.storm/v1"]
    seed: Count
    voters: list[NodeId]
    duration_ms: Count


@dataclass(frozen=True, slots=True)
class ScheduledFault:
    """One fault of a storm, on all links of a node, its disk, its clock, or its process."""

    at_ms: int
    for_ms: int
    kind: str
    node: int
    parameters: Mapping[str, int] = field(default_factory=dict, hash=False)
    partition: int | None = None
    """Of several: only the node's process for this one; None for the whole node."""

    @property
    def where(self) -> str:
        """What it strikes, for people."""
        return f"node {self.node}" + ("" if self.partition is None else f", partition {self.partition}")

    @property
    def weighs(self) -> bool:
        """Does the cluster have to do without the node meanwhile?"""
        return self.kind not in CLOCK_KINDS

    @property
    def whole_again_ms(self) -> int:
        """When the node is one of the others again."""
        return self.at_ms + self.for_ms + (STARTED_AFTER_MS if self.kind == "kill" else BACK_AFTER_MS)

    @property
    def how(self) -> str:
        """Its strength, for people."""
        return " ".join(f"{name}={value}" for name, value in self.parameters.items())

    def orders(self, voters: Iterable[int], fault: str) -> list[Order]:
        """What the nodes are told; nothing for one on a process."""
        others = [voter for voter in voters if voter != self.node]
        if self.kind in ON_PROCESSES:
            return []
        if self.kind in _ON_NODES:
            return [Order(self.node, fault, self.kind, parameters=self.parameters)]
        if self.kind == "isolate":
            return block(between([self.node], others), fault)
        if self.kind == "one-way":
            return block([(self.node, other) for other in others], fault)
        return on_links(between([self.node], others), fault, {self.kind: self.parameters})

    def as_data(self) -> ScheduledFaultData:
        """For files and the JSON answer."""
        data: ScheduledFaultData = {
            "at_ms": self.at_ms,
            "for_ms": self.for_ms,
            "kind": self.kind,
            "node": self.node,
            "parameters": dict(self.parameters),
        }
        if self.partition is not None:
            data["partition"] = self.partition
        return data


@dataclass(frozen=True, slots=True)
class Storm:
    """A schedule."""

    seed: int
    voters: tuple[int, ...]
    duration_ms: int
    schedule: tuple[ScheduledFault, ...]

    @property
    def spare(self) -> int:
        """How many nodes the cluster can do without."""
        return (len(self.voters) - 1) // 2

    @property
    def worst(self) -> int:
        """How many nodes it has to do without at the worst moment."""
        return max((len(struck_at(self.schedule, fault.at_ms)) for fault in self.schedule), default=0)

    @property
    def keeps_quorum(self) -> bool:
        """Is there always a majority that nothing strikes?"""
        return self.worst <= self.spare

    def as_data(self) -> StormData:
        """For files and the JSON answer."""
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "voters": list(self.voters),
            "duration_ms": self.duration_ms,
            "gusts": [fault.as_data() for fault in self.schedule],
        }


def draw(
    seed: int,
    voters: Iterable[int],
    duration_ms: int,
    kinds: Sequence[str] = KINDS,
    per_10_s: int = 5,
    partitions: int = 1,
    *,
    allow_quorum_loss: bool = False,
) -> Storm:
    """The storm of a seed: `per_10_s` faults in ten seconds on average, fewer where they have to wait.

    With several partitions, half of them strike a whole node, and half its process for one partition.
    """
    numbers = tuple(sorted(voters))
    spare = len(numbers) if allow_quorum_loss else (len(numbers) - 1) // 2
    source = random.Random(seed)
    schedule: list[ScheduledFault] = []
    at_ms, due_ms = 0, 0
    while True:
        due_ms += round(source.expovariate(per_10_s / 10_000))
        for_ms, kind = source.randint(SHORTEST_MS, LONGEST_MS), source.choice(list(kinds))
        node = source.choice(numbers)
        only = source.choice([None, source.randrange(partitions)]) if partitions > 1 else None
        parameters = {name: source.randint(*span) for name, span in SPANS[kind].items()}
        at_ms = _free_at(schedule, node, kind, max(at_ms, due_ms), spare)
        if at_ms + SHORTEST_MS > duration_ms:
            return Storm(seed, numbers, duration_ms, tuple(schedule))
        for_ms = min(for_ms, duration_ms - at_ms)
        schedule.append(ScheduledFault(at_ms, for_ms, kind, node, _nonzero(parameters), only))


def struck_at(schedule: Iterable[ScheduledFault], at_ms: int) -> set[int]:
    """The nodes that the cluster has to do without at that moment."""
    return {fault.node for fault in schedule if fault.weighs and fault.at_ms <= at_ms < fault.whole_again_ms}


def read(text: str) -> Storm:
    """What `as_data` wrote; raises `InvalidStorm` that says what is wrong."""
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise InvalidStorm(f"its schema is {document['schema']!r}, not {SCHEMA!r}")
        voters = tuple(int(voter) for voter in document["voters"])
        schedule = tuple(_read_fault(one, voters) for one in document["gusts"])
        return Storm(int(document["seed"]), voters, int(document["duration_ms"]), schedule)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidStorm(f"it is no schedule: {type(error).__name__}: {error}") from error


def kinds_of(text: str | None) -> tuple[str, ...]:
    """`kill,pause,delay`; all of them when it is not said."""
    if text is None:
        return KINDS
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in KINDS]
    if unknown or not words:
        what = f"{unknown[0]!r} is no part of a storm" if unknown else "a storm is made of something"
        raise InvalidArgument(f"{what}; there are {', '.join(KINDS)}; nothing was done")
    return tuple(kind for kind in KINDS if kind in words)


def _read_fault(data: Mapping[str, Any], voters: Sequence[int]) -> ScheduledFault:
    parameters = {str(name): int(value) for name, value in data["parameters"].items()}
    only = int(data["partition"]) if "partition" in data else None
    fault = ScheduledFault(
        int(data["at_ms"]), int(data["for_ms"]), str(data["kind"]), int(data["node"]), parameters, only
    )
    if fault.kind not in KINDS or fault.node not in voters or fault.at_ms < 0 or fault.for_ms < SHORTEST_MS:
        raise ValueError(f"{fault.kind} of node {fault.node} at {fault.at_ms} ms cannot be set")
    return fault


def _free_at(schedule: Iterable[ScheduledFault], node: int, kind: str, at_ms: int, spare: int) -> int:
    """When that may be done to the node: `at_ms`, or later.

    A node that is down or paused cannot be told anything, and so it is left alone then.
    """
    active = [fault for fault in schedule if fault.weighs and fault.whole_again_ms > at_ms]
    while True:
        ahead = [fault for fault in active if fault.node == node and {fault.kind, kind} & set(ON_PROCESSES)]
        others = [fault for fault in active if fault.node != node and kind not in CLOCK_KINDS]
        if len({fault.node for fault in others}) >= spare:
            ahead += others
        if not ahead:
            return at_ms
        at_ms = min(fault.whole_again_ms for fault in ahead)
        active = [fault for fault in active if fault.whole_again_ms > at_ms]


def _nonzero(parameters: Mapping[str, int]) -> dict[str, int]:
    """A clock that is set by nothing is no fault."""
    return {
        name: value or 1 if name in ("by_ms", "permille") else value for name, value in parameters.items()
    }
