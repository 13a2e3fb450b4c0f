"""Many seeds on several processor cores, and what they add up to.

A run is one process's work for a second or so; nothing is shared. Used by the command line and by the
tests, which play the same seeds in CI.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import world
from .outcome import Outcome
from .ring import world as ring
from .trace import Listener

TIERS = ("A", "B", "R")
MINUTES = {"A": world.MINUTES, "B": 0.0, "R": ring.MINUTES}
"""Of faults, about, where nothing else is said; those of tier B follow from the seed."""


@dataclass(slots=True)
class Summary:
    """What many runs add up to."""

    seeds: int = 0
    simulated_s: float = 0.0
    wall_s: float = 0.0
    jobs: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    @property
    def hours_a_minute(self) -> float:
        """Simulated hours in a minute of one core."""
        return self.simulated_s / 3600 / (self.wall_s / 60) / self.jobs if self.wall_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """For a file, in which pieces of a long run add up; failures by their seeds."""
        return {
            "seeds": self.seeds,
            "simulated_s": self.simulated_s,
            "core_s": self.wall_s * self.jobs,
            "counts": dict(sorted(self.counts.items())),
            "failed": {outcome.seed: str(outcome.violation) for outcome in self.failed},
        }

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.seeds += 1
        self.simulated_s += outcome.simulated_s
        self.counts += outcome.counts
        if outcome.violation is not None:
            self.failed.append(outcome)


def play(
    tier: str,
    seed: int,
    *,
    minutes: float | None = None,
    stretch: float = 1.0,
    listener: Listener | None = None,
) -> Outcome:
    """One run of one tier."""
    minutes = MINUTES[tier] if minutes is None else minutes
    if tier == "A":
        return world.run(seed, minutes=minutes, stretch=stretch, listener=listener)
    if tier == "R":
        return ring.run(seed, minutes=minutes, stretch=stretch, listener=listener)
    from .whole import world as whole  # trio is not needed for the others

    return whole.run(seed, listener=listener)


def play_all(
    tier: str,
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    minutes: float | None = None,
    stretch: float = 1.0,
    progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """All of them; `progress` is called after each."""
    summary = Summary(jobs=jobs)
    begun = time.monotonic()
    for outcome in _outcomes(partial(play, tier, minutes=minutes, stretch=stretch), seeds, jobs):
        summary.add(outcome)
        summary.wall_s = time.monotonic() - begun
        progress(summary)
    return summary


def _outcomes(run: Callable[[int], Outcome], seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds)


def together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two pieces of a long run."""
    return {
        "seeds": one["seeds"] + other["seeds"],
        "simulated_s": one["simulated_s"] + other["simulated_s"],
        "core_s": one["core_s"] + other["core_s"],
        "counts": dict(sorted((Counter(one["counts"]) + Counter(other["counts"])).items())),
        "failed": one["failed"] | other["failed"],
    }


def as_text(summary: Mapping[str, Any]) -> str:
    """The summary as a table, for a terminal and for docs/testing.md."""
    hours = summary["simulated_s"] / 3600
    rows: dict[str, int | float] = {
        "seeds": summary["seeds"],
        "violations": len(summary["failed"]),
        "simulated hours": round(hours, 1),
        "simulated hours a minute of a core": round(hours / (summary["core_s"] / 60), 1),
    }
    rows |= summary["counts"]
    return "\n".join(f"{name:<36}{value:>14,}" for name, value in rows.items())
