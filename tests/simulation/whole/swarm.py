"""What kind of world a seed draws: how large, how fast, how harsh. The swarm.

Every seed leaves some faults out altogether, so that rare ones are not always in the shadow of frequent
ones (Groce et al., "Swarm Testing", ISSTA 2012). Drawn once, before anything happens. Called by `world.py`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from esnode import limits
from esnode.config import Dedup, Raft, Retention
from esnode.limits import KIB

from .disk import DiskSpeed
from .streams import Weather

FAULTS: Final[Mapping[str, float]] = {
    "kill": 2,  # the process ends; the kernel closes its connections
    "power": 1.5,  # the machine goes: nobody is told, and what was not synced is torn
    "relapse": 0.5,
    "kill_all": 0.3,
    "power_all": 0.2,
    "isolate": 1.5,
    "split": 1,
    "one_way": 1.5,
    "island": 1,
    "bridge": 0.7,
    "flap": 0.5,
    "stall": 1.5,
    "reset": 2,
    "half_open": 1.5,
    "pause": 2,
    "slow_disk": 1,
    "failed_sync": 0.7,
    "full_disk": 0.4,
    "transfer": 1,
    "wipe": 0.5,
    "old_copy": 0.7,
    "bit_flip": 0.7,
}
"""How often each is chosen, where a seed has it."""

UNTIMED: Final = 0.25
"""The share of worlds with a window that shrinks in which no key expires by time."""
LARGEST: Final = limits.MAX_EVENT_BYTES - KIB
"""Data of the largest event: the rest of it takes less than a KiB."""

SMALL_LIMITS: Final[Mapping[str, tuple[int, ...]]] = {
    "MAX_APPEND_BYTES": (4 * KIB, KIB),
    "MAX_INFLIGHT_APPENDS": (16, 2),
    "MAX_INFLIGHT_BYTES": (64 * KIB, 8 * KIB),
    "MAX_UNAPPLIED_BYTES": (256 * KIB, 32 * KIB),
    "MAX_CACHED_TAIL_BYTES": (16 * KIB, 0),
    "MAX_FETCH_BYTES": (8 * KIB, KIB),
    "MAX_READ_BYTES": (8 * KIB, KIB),
    "SNAPSHOT_CHUNK_BYTES": (4 * KIB, 512),
    "MAX_STEPS_A_ROUND": (16, 1),
    "MAX_SESSION_OUTGOING_BYTES": (16 * KIB, KIB),
    "MAX_SESSION_INFLIGHT": (64, 4),
}
"""Bounds that a small load never reaches, and what they are lowered to in some worlds."""


@dataclass(frozen=True, slots=True)
class Load:
    """What each client does, in means."""

    clients: int
    append_every_s: float
    max_events: int
    max_bytes: int
    """Of an event's data, in single appends and batches."""
    list_events: int
    """In a long list, at most."""
    largest: int
    """Of an event's data, in long lists."""
    repeats: float
    """The share of events that somebody has sent before."""
    read_every_s: float
    subscribers: int
    timeout_s: float
    batch_events: int
    batch_ms: float
    window: int
    sessions: float
    """The share of clients with a producer session."""


@dataclass(frozen=True, slots=True)
class Swarm:
    """One world."""

    nodes: int
    load_s: float
    timers: Raft
    dedup: Dedup
    retention: Retention
    network: Weather
    disk: DiskSpeed
    load: Load
    fault_every_s: float
    faults: Mapping[str, float]
    limits: Mapping[str, float]


def _draw_window(seed: int, source: random.Random, when_full: str) -> Dedup:
    """Some keep every key that there is room for: drawn apart, so that the other worlds stay as they were."""
    # A window that is full for good would let nobody work.
    ttl_ms = source.choice((600_000, 600_000, 20_000, 2_000) if when_full == "shrink" else (4_000, 1_000))
    max_keys = source.choice((2_000_000, 2_000_000, 1_000, 100))
    if when_full == "shrink" and random.Random(f"{seed}:untimed").random() < UNTIMED:
        ttl_ms = 0
    return Dedup.of_keys(max_keys, ttl_ms, when_full)


def draw(seed: int) -> Swarm:
    """The world of `seed`."""
    source = random.Random(f"{seed}:swarm")
    pick = source.choice
    nodes = pick((1, 3, 3, 3, 3, 5))
    scale = pick((1, 1, 1, 2, 3))
    when_full = pick(("shrink", "shrink", "refuse"))
    top_s = pick((0.0005, 0.002, 0.002, 0.02))
    order = random.Random(f"{seed}:order")
    largest = order.choice((1_000, 1_000, 60_000, LARGEST))
    crowded = order.random() < 0.35
    return Swarm(
        nodes=nodes,
        load_s=source.uniform(12, 24) * (0.7 if nodes == 5 else 1),
        timers=Raft(150 * scale, 450 * scale, pick((50, 150)) * scale),
        dedup=_draw_window(seed, source, when_full),
        retention=Retention(
            pick((0, 20_000, 5_000, 100_000)), pick((0, 0, 5_000)), pick((200, 1_000, 3_000))
        ),
        network=Weather(
            (0.0001, top_s), pick((0.0, 0.01, 0.1)), pick((0.0, 0.1, 0.5)), pick((65536, 65536, 4096))
        ),
        disk=DiskSpeed((0.0002, pick((0.001, 0.005, 0.03))), pick((0.0, 0.01)), (0.00005, 0.001)),
        load=Load(
            clients=source.randint(1, 3),
            append_every_s=pick((0.1, 0.2, 0.5)),
            max_events=pick((1, 3, 20)),
            max_bytes=pick((10, 100, 1_000)),
            list_events=100 if crowded else 20,
            largest=largest,
            repeats=pick((0.0, 0.1, 0.3)),
            read_every_s=pick((0.3, 1.0, 5.0)),
            subscribers=pick((0, 1, 1, 2)),
            timeout_s=pick((0.5, 2.0, 5.0, 5.0)),
            batch_events=pick((1, 8, 64)) if not crowded else pick((4, 4, 8)),
            batch_ms=pick((0.0, 1.0, 20.0)),
            window=pick((1, 4, 64)) if not crowded else pick((16, 64, 64)),
            sessions=pick((0.0, 0.5, 1.0)),
        ),
        fault_every_s=pick((0.7, 1.5, 3.0, 3.0)),
        faults={kind: share for kind, share in FAULTS.items() if source.random() < 0.5},
        limits={
            "TICK_MS": pick((20, 50, 100)),
            "FINE_TICK_MS": pick((1, 5, 20, 20)),
            **{name: pick(low) for name, low in SMALL_LIMITS.items() if source.random() < 0.25},
            **_checkpoints(random.Random(f"{seed}:checkpoints")),
            **(_narrow(order, largest) if crowded else {}),
        },
    )


def _narrow(source: random.Random, largest: int) -> Mapping[str, float]:
    """Bounds that clients with many batches under way run into; no batch is larger than any of them."""
    narrow = {"MAX_UNAPPLIED_BYTES": source.choice((32 * KIB, 8 * KIB)), "MAX_SESSION_INFLIGHT": 64}
    return narrow | ({"MAX_SESSION_INFLIGHT_BYTES": 32 * KIB} if largest == 1_000 else {})


def _checkpoints(source: random.Random) -> Mapping[str, float]:
    """How often they are kept; in a quarter of the worlds never."""
    return {
        "CHECKPOINT_ENTRIES": source.choice((limits.CHECKPOINT_ENTRIES, 100, 10, 10)),
        "CHECKPOINT_CHECK_S": source.choice((0.3, 0.05)),
    }
