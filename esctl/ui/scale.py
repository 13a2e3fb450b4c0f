"""Where a number lies on an axis, and which numbers are written beside it.

Pure. Called by what draws charts, on the terminal and on pages.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MOST_TICKS: Final = 6
LEAST_SPAN: Final = 1e-9
"""Values closer to each other than this, in whatever unit or as a share of themselves, are drawn as one."""
HARDLY: Final = 0.02
SPREAD_FOR_DECADES: Final = 50.0
"""With more than so much between the smallest and the largest, decades say more than a linear axis."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From values `low` to `high` onto `begin` to `end`, in the units of the drawing."""

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]
    decades: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies; what is outside lies at the nearer end."""
        low, high = self.low, self.high
        if self.decades:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.begin + min(1.0, max(0.0, share)) * (self.end - self.begin)


def linear(
    values: Iterable[float],
    begin: float,
    end: float,
    *,
    from_zero: bool = False,
    most_ticks: int = MOST_TICKS,
) -> Scale:
    """A scale that holds all `values`; its ends are ticks, of which it has about `most_ticks`."""
    found = list(values)
    low, high = min(found, default=0.0), max(found, default=1.0)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    largest = max(abs(low), abs(high))
    if high - low < LEAST_SPAN * max(1.0, largest):
        high = low + max(1.0, largest)
    step = _step((high - low) / (max(2, most_ticks) - 1))
    first, last = math.floor(low / step), math.ceil(high / step - LEAST_SPAN)
    ticks = tuple(number * step for number in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], begin, end, ticks)


def span(values: Iterable[float], begin: float, end: float, *, most_ticks: int = MOST_TICKS) -> Scale:
    """A scale that ends where the values end, as a time does; a tick that hardly is outside is at the end."""
    found = list(values)
    low, high = min(found, default=0.0), max(found, default=1.0)
    slack = HARDLY * (high - low)
    whole = linear((low + slack, high - slack), begin, end, most_ticks=most_ticks)
    ticks = tuple(tick for tick in whole.ticks if low - slack <= tick <= high + slack)
    return Scale(low, high, begin, end, ticks)


def decades(values: Iterable[float], begin: float, end: float, *, most_ticks: int = MOST_TICKS) -> Scale:
    """A logarithmic scale over whole decades; what is zero or below lies at its low end."""
    above = [value for value in values if value > LEAST_SPAN]
    low = math.floor(math.log10(min(above, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(above, default=1.0))))
    every = math.ceil((high - low) / (max(2, most_ticks) - 1))
    ticks = tuple(10.0**power for power in range(low, high + 1, every))
    return Scale(10.0**low, 10.0**high, begin, end, ticks, decades=True)


def wants_decades(values: Iterable[float]) -> bool:
    """Whether a linear axis would press most of them to the ground."""
    above = [value for value in values if value > LEAST_SPAN]
    return bool(above) and max(above) > SPREAD_FOR_DECADES * min(above)


def _step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - LEAST_SPAN))
