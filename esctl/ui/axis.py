"""Where on an axis a time lies, from 0 to 1: in proportion, or with the quiet times drawn narrow.

An election takes milliseconds, and hours may lie before it: in proportion it would be no wider than a hair.
So a quiet time is as wide as its logarithm, and every knot says when it was. Pure. Called by the drawings.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SHORT_S: Final = 0.05
"""Times that are shorter than this are drawn about in proportion."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Knots are times in order, each with its place."""

    knots: Sequence[float]
    places: Sequence[float]

    @property
    def begin_s(self) -> float:
        """The time at place 0."""
        return self.knots[0]

    @property
    def end_s(self) -> float:
        """The time at place 1."""
        return self.knots[-1]

    def place(self, at_s: float) -> float:
        """Of a time; one outside has the place of the nearer end."""
        if at_s <= self.knots[0]:
            return self.places[0]
        if at_s >= self.knots[-1]:
            return self.places[-1]
        after = bisect_right(self.knots, at_s)
        low, high = self.knots[after - 1], self.knots[after]
        begin, end = self.places[after - 1], self.places[after]
        return begin + (end - begin) * (at_s - low) / (high - low)


def axis(times_s: Iterable[float], begin_s: float, end_s: float, *, linear: bool = False) -> Axis:
    """From `begin_s` to `end_s`; what happens at `times_s` is kept apart."""
    end_s = max(end_s, begin_s + 1e-3)
    inside = {at_s for at_s in times_s if begin_s < at_s < end_s}
    knots = sorted({begin_s, end_s} if linear else {begin_s, end_s, *inside})
    widths = [math.log1p((after - before) / SHORT_S) for before, after in pairwise(knots)]
    total, reached = sum(widths), 0.0
    places = [0.0]
    for width in widths:
        reached += width
        places.append(reached / total)
    return Axis(knots, places)
