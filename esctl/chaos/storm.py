"""A storm: faults at random, drawn from a seed, so that it can be shown before, kept, and raised again.

Pure. A schedule is a function of the seed, the voters and the settings. Decides that never more nodes are
struck at a time than a cluster can spare, counting a while for each to come back, unless that is asked for.
Clocks count for nothing, since nothing depends on them. Called by `esctl fault storm`.
"""

import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from esctl.errors import InvalidArgument, InvalidStorm
from esctl.faults.orders import Order, block, on_links
from esctl.faults.shapes import between
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


@dataclass(frozen=True, slots=True)
class Gust:
    """One fault of a storm, on all links of a node, its disk, its clock, or its process."""

    at_ms: int
    for_ms: int
    kind: str
    node: int
    parameters: Mapping[str, int] = field(default_factory=dict, hash=False)

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

    def as_data(self) -> dict[str, Any]:
        """For files and the JSON answer."""
        return {
            "at_ms": self.at_ms,
            "for_ms": self.for_ms,
            "kind": self.kind,
            "node": self.node,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class Storm:
    """A schedule."""

    seed: int
    voters: tuple[int, ...]
    duration_ms: int
    gusts: tuple[Gust, ...]

    @property
    def spare(self) -> int:
        """How many nodes the cluster can do without."""
        return (len(self.voters) - 1) // 2

    @property
    def worst(self) -> int:
        """How many nodes it has to do without at the worst moment."""
        return max((len(struck_at(self.gusts, gust.at_ms)) for gust in self.gusts), default=0)

    @property
    def keeps_quorum(self) -> bool:
        """Is there always a majority that nothing strikes?"""
        return self.worst <= self.spare

    def only(self, gusts: Collection[Gust]) -> "Storm":
        """The same with these gusts alone."""
        kept = tuple(sorted(gusts, key=lambda gust: gust.at_ms))
        return Storm(self.seed, self.voters, self.duration_ms, kept)

    def as_data(self) -> dict[str, Any]:
        """For files and the JSON answer."""
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "voters": list(self.voters),
            "duration_ms": self.duration_ms,
            "gusts": [gust.as_data() for gust in self.gusts],
        }


def draw(
    seed: int,
    voters: Iterable[int],
    duration_ms: int,
    kinds: Sequence[str] = KINDS,
    per_10_s: int = 5,
    *,
    allow_quorum_loss: bool = False,
) -> Storm:
    """The storm of a seed: `per_10_s` faults in ten seconds on average, fewer where they have to wait."""
    numbers = tuple(sorted(voters))
    spare = len(numbers) if allow_quorum_loss else (len(numbers) - 1) // 2
    source = random.Random(seed)
    gusts: list[Gust] = []
    at_ms, due_ms = 0, 0
    while True:
        due_ms += round(source.expovariate(per_10_s / 10_000))
        for_ms, kind = source.randint(SHORTEST_MS, LONGEST_MS), source.choice(list(kinds))
        node = source.choice(numbers)
        parameters = {name: source.randint(*span) for name, span in SPANS[kind].items()}
        at_ms = _free_at(gusts, node, kind, max(at_ms, due_ms), spare)
        if at_ms + SHORTEST_MS > duration_ms:
            return Storm(seed, numbers, duration_ms, tuple(gusts))
        for_ms = min(for_ms, duration_ms - at_ms)
        gusts.append(Gust(at_ms, for_ms, kind, node, _nonzero(parameters)))


def struck_at(gusts: Iterable[Gust], at_ms: int) -> set[int]:
    """The nodes that the cluster has to do without at that moment."""
    return {gust.node for gust in gusts if gust.weighs and gust.at_ms <= at_ms < gust.whole_again_ms}


def read(text: str) -> Storm:
    """What `as_data` wrote; raises `InvalidStorm` that says what is wrong."""
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise InvalidStorm(f"its schema is {document['schema']!r}, not {SCHEMA!r}")
        voters = tuple(int(voter) for voter in document["voters"])
        gusts = tuple(_gust(one, voters) for one in document["gusts"])
        return Storm(int(document["seed"]), voters, int(document["duration_ms"]), gusts)
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


def _gust(data: Mapping[str, Any], voters: Sequence[int]) -> Gust:
    parameters = {str(name): int(value) for name, value in data["parameters"].items()}
    gust = Gust(int(data["at_ms"]), int(data["for_ms"]), str(data["kind"]), int(data["node"]), parameters)
    if gust.kind not in KINDS or gust.node not in voters or gust.at_ms < 0 or gust.for_ms < SHORTEST_MS:
        raise ValueError(f"{gust} cannot be raised")
    return gust


def _free_at(gusts: Iterable[Gust], node: int, kind: str, at_ms: int, spare: int) -> int:
    """When that may be done to the node: `at_ms`, or later.

    A node that is down or paused cannot be told anything, and so it is left alone then.
    """
    active = [gust for gust in gusts if gust.weighs and gust.whole_again_ms > at_ms]
    while True:
        ahead = [gust for gust in active if gust.node == node and {gust.kind, kind} & set(ON_PROCESSES)]
        others = [gust for gust in active if gust.node != node and kind not in CLOCK_KINDS]
        if len({gust.node for gust in others}) >= spare:
            ahead += others
        if not ahead:
            return at_ms
        at_ms = min(gust.whole_again_ms for gust in ahead)
        active = [gust for gust in active if gust.whole_again_ms > at_ms]


def _nonzero(parameters: Mapping[str, int]) -> dict[str, int]:
    """A clock that is set by nothing is no fault."""
    return {
        name: value or 1 if name in ("by_ms", "permille") else value for name, value in parameters.items()
    }
