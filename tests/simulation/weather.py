"""What kind of world a seed draws: sizes, timers, rates. The swarm.

Each seed has its own, and many a rate in it is zero, so that rare things are not always drowned by
frequent ones (Groce et al., "Swarm Testing", 2012). Everything here is drawn once, before anything happens.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from esnode.config import Dedup, Raft

FAULTS_A_MINUTE: Final[Mapping[str, float]] = {
    "crash": 2.0,  # the process ends; its peers hear of it
    "power_cut": 1.0,  # the machine goes: nobody hears of it, what is not synced is torn
    "crash_at": 1.5,  # at a boundary: before or after a sync, with messages unsent, ...
    "crash_all": 0.3,
    "pause": 2.0,
    "isolate": 1.5,
    "one_way": 1.5,  # can send, cannot hear, or the other way round
    "split": 1.0,
    "bridge": 0.7,  # two nodes do not see each other, a third sees both
    "flap": 0.5,
    "clog": 1.5,  # one link becomes slow
    "reset": 2.0,  # a connection breaks; what was in flight is lost
    "slow_disk": 1.0,
    "failed_sync": 0.7,
    "full_disk": 0.4,
    "clock_jump": 1.0,
    "transfer": 1.0,
    "hunt": 1.5,  # whoever is elected is struck, several times in a row
    "cut_prefix": 3.0,
    "wipe": 0.3,
    "old_copy": 0.3,
    "bit_flip": 0.3,
    "silent_loss": 2.0,  # messages to one node are lost, the connection stays, and the prefix may be cut
}
"""Every kind of fault, and how often a seed that has it at full strength sees it."""

SMALL_LIMITS: Final[Mapping[str, tuple[int, ...]]] = {
    "MAX_APPEND_BYTES": (4_096, 512),
    "MAX_INFLIGHT_APPENDS": (16, 4, 2, 1),
    "MAX_INFLIGHT_BYTES": (65_536, 4_096),
    "MAX_UNAPPLIED_BYTES": (65_536, 16_384),
    "MAX_FETCH_BYTES": (8_192, 512),
}
"""Bounds that a small load never reaches, and what they are lowered to in some worlds."""

SICK_DISKS: Final[Mapping[str, float]] = {
    "wipe": 4.0, "old_copy": 4.0, "bit_flip": 4.0, "isolate": 3.0, "power_cut": 3.0, "slow_disk": 3.0,
}  # fmt: skip
"""What a cluster sees in which one disk after the other goes bad, so that somebody always rejoins."""


@dataclass(frozen=True, slots=True)
class Link:
    """How messages between nodes travel; one way takes `delay_ns`, or ten times as long now and then."""

    delay_ns: tuple[int, int]
    straggles: float
    drops: float
    duplicates: float
    in_order: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What clients do."""

    clients: int
    operations_a_minute: float
    max_events: int
    repeats: float
    """The share of events that were sent before, by this client or another."""
    reads: float
    sessions: float
    """The share of batches that go through a producer session."""
    bursts_a_minute: float
    """How often many operations come all at once."""
    attempt_ms: int
    give_up_ms: int
    loses: float
    """The chance of a request or an answer to get lost."""


UNTIMED: Final = 0.15
"""The share of worlds with a window that shrinks in which no key expires by time."""


@dataclass(frozen=True, slots=True)
class Weather:
    """One world. Times in simulated time."""

    voters: int
    duration_ms: int
    timers: Raft
    tick_ms: int
    dedup: Dedup
    cache_bytes: int
    link: Link
    sync_ns: tuple[int, int]
    drift: float
    """How much faster or slower than true a node's clock may go."""
    load: Load
    aim: float
    """The share of faults that befall whoever leads."""
    faults_a_minute: Mapping[str, float]
    limits: Mapping[str, int]
    """Bounds of the node that are lower in this world."""

    @property
    def forgets(self) -> bool:
        """Whether keys may be forgotten before the end."""
        return 0 < self.dedup.ttl_ms < 4 * self.duration_ms or self.dedup.max_keys < 1_000_000


def checkpoint_every_ms(seed: int) -> int:
    """How often nodes keep checkpoints in the world of `seed`; 0: never."""
    return random.Random(f"{seed}:checkpoints").choice((0, 500, 5_000, 30_000, 120_000))


def _draw_window(seed: int) -> tuple[float, dict[str, int]]:
    """How often messages are lost in silence, and which bounds are low: drawn apart, as checkpoints are."""
    source = random.Random(f"{seed}:window")
    low = source.random() < 0.3
    limits = {name: source.choice(values) for name, values in SMALL_LIMITS.items() if source.random() < 0.7}
    return FAULTS_A_MINUTE["silent_loss"] * source.choice((0.0, 0.5, 1.0, 2.0)), limits if low else {}


def _draw_dedup(seed: int, source: random.Random) -> Dedup:
    """In some worlds no key expires by time: drawn apart, so that the others stay as they were."""
    ttl_ms = source.choice((600_000, 600_000, 60_000, 5_000))
    max_keys = source.choice((2_000_000, 2_000_000, 5_000, 300))
    when_full = source.choice(("shrink", "shrink", "refuse"))
    if when_full == "shrink" and random.Random(f"{seed}:untimed").random() < UNTIMED:
        ttl_ms = 0
    return Dedup.of_keys(max_keys, ttl_ms, when_full)


def draw(seed: int, minutes: float, stretch: float = 1.0) -> Weather:
    """The world of `seed`, with faults for about `minutes`; `stretch`: the same in so many times the time.

    What depends on time (keys, sessions, checkpoints, timers) then has time between the faults.
    """
    source = random.Random(f"{seed}:weather")
    scale = source.choice((1, 1, 2, 4))
    timers = Raft(
        heartbeat_ms=150 * scale, election_ms=450 * scale, jitter_ms=source.choice((50, 150)) * scale
    )
    strength = source.choice((0.3, 1.0, 1.0, 2.0))
    rates = {
        kind: rate * strength * source.choice((0.0, 0.0, 0.5, 1.0, 2.0))
        for kind, rate in FAULTS_A_MINUTE.items()
        if kind != "silent_loss"
    }
    if source.random() < 0.2:
        rates |= SICK_DISKS
    rates["silent_loss"], limits = _draw_window(seed)
    slow = source.random() < 0.3
    return Weather(
        voters=source.choice((1, 3, 3, 3, 3, 5, 5)),
        duration_ms=int(60_000 * minutes * stretch * source.choice((0.5, 1, 1, 1.5))),
        timers=timers,
        tick_ms=source.choice((50, 100, 100, 100)),
        dedup=_draw_dedup(seed, source),
        cache_bytes=source.choice((1 << 24, 4_000, 0)),
        link=Link(
            delay_ns=(50_000, source.choice((300_000, 2_000_000, 30_000_000))),
            straggles=source.choice((0.0, 0.0, 0.01, 0.1)),
            drops=source.choice((0.0, 0.0, 0.005, 0.05)),
            duplicates=source.choice((0.0, 0.0, 0.01, 0.1)),
            in_order=source.random() < 0.6,
        ),
        sync_ns=(200_000, 30_000_000 if slow else 3_000_000),
        drift=source.choice((0.0, 0.001, 0.05)),
        load=Load(
            clients=source.randint(1, 4),
            operations_a_minute=source.choice((10, 20, 60, 200)) / stretch,
            max_events=source.choice((1, 4, 4, 64, 400)),
            repeats=source.choice((0.0, 0.1, 0.3)),
            reads=source.choice((0.0, 0.1, 0.3)),
            sessions=source.choice((0.0, 0.2, 0.5)),
            bursts_a_minute=source.choice((0.0, 0.0, 1.0, 4.0)) / stretch,
            attempt_ms=source.choice((300, 1_000, 3_000)),
            give_up_ms=source.choice((2_000, 20_000)),
            loses=source.choice((0.0, 0.02, 0.1)),
        ),
        aim=source.choice((0.0, 0.3, 0.7)),
        faults_a_minute={kind: rate / stretch for kind, rate in rates.items() if rate},
        limits=limits,
    )
