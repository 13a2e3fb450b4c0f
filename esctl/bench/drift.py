"""Whether something stays where it is: memory and latency over the hours.

A straight line is laid through the points after the settling time (least squares). What counts is by how
much the line rises over the observed time, as a share of the mean: a slope per hour, extrapolated from three
minutes, would give false alarms. Pure. Called by `esctl bench soak`.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from esctl.bench.latency import Point

SETTLING_S: Final = 120.0
"""Tables and caches fill up in the beginning."""
FEWEST_POINTS: Final = 5
FLAT_SHARE: Final = 0.02
"""Memory that rose by less than this is flat."""
STEADY_SHARE: Final = 0.20
"""Latency that rose by less than this is steady: it moves more from minute to minute than memory does."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The line: `per_hour` in the unit of the points, over `span_s` seconds."""

    mean: float
    per_hour: float
    span_s: float

    @property
    def share(self) -> float:
        """By how much it rose over the span, as a share of the mean; negative when it fell."""
        return self.per_hour * self.span_s / 3600 / self.mean if self.mean else 0.0


def trend(points: Sequence[Point], settling_s: float = SETTLING_S) -> Trend | None:
    """Of the points after `settling_s`; None when there are too few of them."""
    settled = [(x, y) for x, y in points if x > settling_s]
    if len(settled) < FEWEST_POINTS:
        return None
    xs, ys = [x for x, _ in settled], [y for _, y in settled]
    slope, _ = statistics.linear_regression(xs, ys)
    return Trend(statistics.fmean(ys), slope * 3600, xs[-1] - xs[0])


def needed_s(interval_s: float) -> float:
    """How long to watch at least, with a point each `interval_s`."""
    return SETTLING_S + FEWEST_POINTS * interval_s
