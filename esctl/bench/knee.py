"""Which rate to measure next: up until the bound breaks, then between the last good and the first bad one.

The knee is the highest rate that was within the bound and below every one that was not: one lucky
measurement above a broken one does not count. Pure. Called by `esctl bench sweep`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_STEPS_UP: Final = 40
CLOSE: Final = 1.03
"""Two rates of which one is less than 3 % above the other are one."""


@dataclass(frozen=True, slots=True)
class KneeStep:
    """A rate that was measured."""

    rate: float
    good: bool
    """The log kept up, and the latency was within the bound."""


class Search:
    """Asks for rates one by one: `next_rate`, measure it, `took`, and so on until there is none.

    Up along `rates`, or from `first` by `factor` to `highest` at most, while they are good; then `refine`
    times at the geometric mean of the knee and the first bad rate above it.
    """

    def __init__(
        self,
        rates: Sequence[float] = (),
        *,
        first: float = 0.0,
        factor: float = 2.0,
        highest: float = math.inf,
        refine: int = 3,
    ) -> None:
        assert rates or (first > 0 and factor > 1)
        self.steps: list[KneeStep] = []
        upwards = (rounded(first * factor**n) for n in range(MAX_STEPS_UP))
        self._rates = sorted(rates) or [rate for rate in upwards if rate <= highest]
        self._refine_left = refine

    @property
    def broken(self) -> float | None:
        """The lowest rate that was not good."""
        return min((step.rate for step in self.steps if not step.good), default=None)

    @property
    def knee(self) -> float | None:
        """The highest good rate below it; None when no rate was good there."""
        broken = self.broken
        return max(
            (step.rate for step in self.steps if step.good and (broken is None or step.rate < broken)),
            default=None,
        )

    def took(self, rate: float, *, good: bool) -> None:
        """What came of `rate`."""
        self.steps.append(KneeStep(rate, good))

    def next_rate(self) -> float | None:
        """What to measure next; None when the search is over."""
        knee, broken = self.knee, self.broken
        if broken is None:
            return next((rate for rate in self._rates if knee is None or rate > knee), None)
        if knee is None or self._refine_left == 0:
            return None
        middle = rounded(math.sqrt(knee * broken))
        if middle < knee * CLOSE or broken < middle * CLOSE:
            return None
        self._refine_left -= 1
        return middle


def rounded(rate: float) -> float:
    """To three digits: 84,853 is 84,900."""
    digits = math.floor(math.log10(rate)) - 2
    return float(round(rate, -digits)) if digits > 0 else float(round(rate, max(0, -digits)))
