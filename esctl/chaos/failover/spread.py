"""Many measurements of one thing in four numbers: min, median, p99 and max. Pure.

Called by `esctl bench failover` and the torture tests.
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """`p99` is the smallest value that 99 of 100 do not exceed: of fewer than 100 values, the largest."""

    count: int
    min: float
    median: float
    p99: float
    max: float


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Of those that are known; None when none is."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    p99 = known[math.ceil(0.99 * len(known)) - 1]
    return Spread(len(known), known[0], statistics.median(known), p99, known[-1])
