"""Rates from one look after another: events a second, processor time, latency, and what came before.

Pure. Time is that of the node itself (`uptime_s`), so a look that took longer changes no rate; a node that
was restarted or silent between two looks has no rate for that time. Called by `esctl top`.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from esctl.query.survey import Survey

KEPT: Final = 240
"""So many figures of each kind are kept; a wide terminal shows about as many."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One node at one moment of its own life."""

    uptime_s: float
    next_offset: int
    cpu_s: float
    append_us: Mapping[int, int] = field(default_factory=dict)
    """How many batches it has acked within so many microseconds, and not within the bound before."""

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> "Sample":
        """From what the node says of itself."""
        uptime_s, cpu_s = float(status.get("uptime_s") or 0.0), float(status.get("cpu_s") or 0.0)
        acked = {int(bound_us): int(count) for bound_us, count in status.get("append_us") or ()}
        return cls(uptime_s, int(status["next_offset"]), cpu_s, acked)


@dataclass(slots=True)
class Track:
    """What one node has done lately; a figure that is not known is None."""

    last: Sample | None = None
    events_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    cpu_percent: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    lag_events: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    acked_us: Counter[int] = field(default_factory=Counter)
    """The batches of the last look alone, by how long their acks took."""

    def add(self, sample: Sample | None, lag_events: int | None) -> None:
        """One look more; None for a node that does not answer."""
        before, self.last = self.last, sample
        self.acked_us = Counter()
        events: float | None = None
        cpu: float | None = None
        if before is not None and sample is not None and sample.uptime_s > before.uptime_s:
            passed_s = sample.uptime_s - before.uptime_s
            # A node that rejoins begins its log anew: what it has then lost is no rate.
            gained = sample.next_offset - before.next_offset
            events = gained / passed_s if gained >= 0 else None
            cpu = max(0.0, 100 * (sample.cpu_s - before.cpu_s) / passed_s)
            self.acked_us = Counter(sample.append_us)
            self.acked_us.subtract(before.append_us)
        self.events_per_s.append(events)
        self.cpu_percent.append(cpu)
        self.lag_events.append(lag_events)


@dataclass(frozen=True, slots=True)
class LeaderChange:
    """Another node leads than at the look before, or the same one in another term."""

    at_s: float
    leader: int
    term: int


@dataclass(slots=True)
class Rates:
    """What all nodes have done lately, and how long appends and a confirmed read took."""

    tracks: dict[int, Track] = field(default_factory=dict)
    at_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """When each look was, in seconds of a clock that never goes back."""
    changes: deque[LeaderChange] = field(default_factory=lambda: deque(maxlen=KEPT))
    append_p50_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    append_p99_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Of the batches that were acked since the look before: from when the leader took one in to its ack."""
    read_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    events_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Of the cluster: of the node that leads, or of the fastest one while nobody does."""

    _led: tuple[int, int] | None = None
    """The term and the node that led at the last look that saw a leader."""

    def add(self, survey: Survey, read_ms: float | None, at_s: float) -> None:
        """One look more, at `at_s`; `read_ms` is None when no majority answered."""
        self.at_s.append(at_s)
        for report in survey.reports:
            sample = Sample.of(report.status) if report.status is not None else None
            self.track(report.node.id).add(sample, survey.behind(report, "next_offset"))
        self.read_ms.append(read_ms)
        self.events_per_s.append(self._of_cluster(survey))
        acked_us = sum((track.acked_us for track in self.tracks.values()), Counter[int]())
        self.append_p50_ms.append(percentile_ms(acked_us, 0.5))
        self.append_p99_ms.append(percentile_ms(acked_us, 0.99))
        if survey.leader is not None:
            led = (survey.leader.number("term") or 0, survey.leader.node.id)
            if self._led is not None and led != self._led:
                self.changes.append(LeaderChange(at_s, led[1], led[0]))
            self._led = led

    def track(self, number: int) -> Track:
        """That of one node."""
        return self.tracks.setdefault(number, Track())

    def _of_cluster(self, survey: Survey) -> float | None:
        if survey.leader is not None:
            return now(self.track(survey.leader.node.id).events_per_s)
        known = [rate for r in survey.up if (rate := now(self.track(r.node.id).events_per_s)) is not None]
        return max(known, default=None)


def now(figures: Iterable[float | None]) -> float | None:
    """The newest one."""
    known = list(figures)
    return known[-1] if known else None


def percentile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """The bound, in milliseconds, within which at least this share of them was; None of none."""
    due = math.ceil(share * sum(counts.values()))
    for bound_us, count in sorted(counts.items()) if due else ():
        due -= count
        if due <= 0:
            return bound_us / 1000
    return None
