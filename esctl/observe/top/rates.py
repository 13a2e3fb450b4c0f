"""Rates from one look after another: events a second, processor time, and what came before.

Pure. Time is that of the node itself (`uptime_s`), so a look that took longer changes no rate; a node that
was restarted or silent between two looks has no rate for that time. Called by `esctl top`.
"""

from collections import deque
from collections.abc import Mapping
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

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> "Sample":
        """From what the node says of itself."""
        uptime_s, cpu_s = float(status.get("uptime_s") or 0.0), float(status.get("cpu_s") or 0.0)
        return cls(uptime_s, int(status["next_offset"]), cpu_s)


@dataclass(slots=True)
class Track:
    """What one node has done lately; a figure that is not known is None."""

    last: Sample | None = None
    events_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    cpu_percent: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    lag_events: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, sample: Sample | None, lag_events: int | None) -> None:
        """One look more; None for a node that does not answer."""
        before, self.last = self.last, sample
        events: float | None = None
        cpu: float | None = None
        if before is not None and sample is not None and sample.uptime_s > before.uptime_s:
            passed_s = sample.uptime_s - before.uptime_s
            # A node that rejoins begins its log anew: what it has then lost is no rate.
            gained = sample.next_offset - before.next_offset
            events = gained / passed_s if gained >= 0 else None
            cpu = max(0.0, 100 * (sample.cpu_s - before.cpu_s) / passed_s)
        self.events_per_s.append(events)
        self.cpu_percent.append(cpu)
        self.lag_events.append(lag_events)


@dataclass(slots=True)
class Rates:
    """What all nodes have done lately, and how long a confirmed read took."""

    tracks: dict[int, Track] = field(default_factory=dict)
    read_ms: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    events_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Of the cluster: of the node that leads, or of the fastest one while nobody does."""

    def add(self, survey: Survey, read_ms: float | None) -> None:
        """One look more; `read_ms` is None when no majority answered."""
        for report in survey.reports:
            sample = Sample.of(report.status) if report.status is not None else None
            self.track(report.node.id).add(sample, survey.behind(report, "next_offset"))
        self.read_ms.append(read_ms)
        self.events_per_s.append(self._of_cluster(survey))

    def track(self, number: int) -> Track:
        """That of one node."""
        return self.tracks.setdefault(number, Track())

    def _of_cluster(self, survey: Survey) -> float | None:
        if survey.leader is not None:
            return now(self.track(survey.leader.node.id).events_per_s)
        known = [rate for r in survey.up if (rate := now(self.track(r.node.id).events_per_s)) is not None]
        return max(known, default=None)


def now(figures: deque[float | None]) -> float | None:
    """The newest one."""
    return figures[-1] if figures else None
