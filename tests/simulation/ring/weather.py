"""What kind of world with a ring a seed draws: the changes to the ring, the sources, what clients send.

Each group has a world of tier A of its own, but for what all nodes have in common. Everything here is drawn
once, before anything happens.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.simulation.schedule import MS
from tests.simulation.weather import Weather
from tests.simulation.weather import draw as draw_group

VOTERS: Final = 3
MOST_GROUPS: Final = 4
CHANGES: Final = ((2, 4, 3), (2, 1), (2, 1, 2), (3, 2), (4, 1), (2, 3, 4), (3, 4, 2, 3), (2, 4, 1, 2))
"""Numbers of partitions that the ring has, one after the other, beginning with one."""
CALM: Final = 0.15
"""The share of worlds without a fault."""


@dataclass(frozen=True, slots=True)
class Change:
    """From `at_ns` on somebody wants a ring of so many partitions."""

    at_ns: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Sent:
    """At `at_ns`, `client` sends these events, numbers, each with its source.

    `again` are the clients that send the same once more, each so much later. Without any, only the one client
    ever sends them: these must not be stored twice however long that takes.
    """

    at_ns: int
    client: int
    events: tuple[tuple[int, int], ...]
    again: tuple[tuple[int, int], ...]
    ordered: bool


@dataclass(frozen=True, slots=True)
class RingWeather:
    """One world."""

    groups: tuple[Weather, ...]
    changes: tuple[Change, ...]
    sources: int
    clients: int
    told: float
    """The chance of a client to be told of a ring as soon as it is planned."""
    deaf: float
    """The chance of an ack to be lost, where only one client sends an event."""
    struck: float
    """The chance of a leader to be struck when it says something of the ring."""
    sent: tuple[Sent, ...]
    bounds: Mapping[str, int]
    """Bounds of the node that are lower in this world."""
    nearly_level: int

    @property
    def duration_ms(self) -> int:
        """How long faults last."""
        return self.groups[0].duration_ms


def draw(seed: int, minutes: float, stretch: float = 1.0) -> RingWeather:
    """The world of `seed`."""
    source = random.Random(f"{seed}:ring")
    numbers = source.choice(CHANGES)
    base = replace(draw_group(seed, minutes, stretch), voters=VOTERS)
    calm = source.random() < CALM
    groups = tuple(_group(base, source, minutes, stretch, calm) for _ in range(max(numbers)))
    sources, clients = source.choice((3, 12, 60)), source.randint(2, 4)
    bounds = {
        "MAX_ADOPTED_KEYS": source.choice((16, 200, 16_384)),
        "SCANNED_CHUNKS": source.choice((1, 64)),
    }
    return RingWeather(
        groups,
        _changes(source, numbers, base.duration_ms),
        sources,
        clients,
        told=source.choice((0.0, 0.3, 0.8)),
        deaf=source.choice((0.0, 0.3, 0.7)),
        struck=0.0 if calm else source.choice((0.0, 0.3, 0.8)),
        sent=tuple(_sent(source, base, sources, clients)),
        bounds=dict(base.limits) | bounds,
        nearly_level=source.choice((4, 64, 16_384)),
    )


def _group(base: Weather, source: random.Random, minutes: float, stretch: float, calm: bool) -> Weather:
    """Faults, network and disk of its own; settings are those of all."""
    own = draw_group(source.getrandbits(32), minutes, stretch)
    return replace(
        base,
        link=own.link,
        sync_ns=own.sync_ns,
        drift=own.drift,
        aim=own.aim,
        faults_a_minute={} if calm else own.faults_a_minute,
    )


def _changes(source: random.Random, numbers: tuple[int, ...], duration_ms: int) -> tuple[Change, ...]:
    """Some at once after the one before, some a while later."""
    at_ms, changes = source.choice((0.0, 3_000.0, 0.2 * duration_ms)), []
    for number in numbers:
        changes.append(Change(int(at_ms * MS), number))
        at_ms += source.choice((0.0, 1_000.0, duration_ms / len(numbers))) * source.uniform(0.5, 1.0)
    return tuple(changes)


def _sent(source: random.Random, base: Weather, sources: int, clients: int) -> list[Sent]:
    sent: list[Sent] = []
    load, ordered = base.load, source.choice((0.0, 0.3, 0.6))
    alone = source.choice((0.2, 0.5, 1.0))
    a_minute, at_ms, event = max(60.0, load.operations_a_minute), 0.0, 0
    ttl_ms = base.dedup.ttl_ms or 60_000
    while (at_ms := at_ms + source.expovariate(a_minute / 60_000)) < base.duration_ms:
        one_of, client = source.randrange(sources), source.randrange(clients)
        if in_order := source.random() < ordered:
            client = one_of % clients
        count = source.randint(1, load.max_events if source.random() < 0.2 else min(load.max_events, 4))
        of = [
            one_of if in_order or source.random() < 0.7 else source.randrange(sources) for _ in range(count)
        ]
        events = tuple((event + place, each) for place, each in enumerate(of))
        event += count
        again = []
        if source.random() >= alone:
            for _ in range(source.randint(1, 2)):
                latest_ms = source.choice((300, 300, 5_000, min(1.5 * ttl_ms, base.duration_ms)))
                again.append((source.randrange(clients), int(source.uniform(0, latest_ms) * MS)))
        sent.append(Sent(int(at_ms * MS), client, events, tuple(again), in_order))
    return sent
