"""How far a figure varies by itself: the band outside which a change between two measurements counts.

There are few runs, so the band is based on their ranges and not on a bootstrap: with three values a bootstrap
of medians has ten outcomes and only reproduces the range. Pure. Called by `esctl/bench/comparison.py`.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import median, quantiles
from typing import Final

FEWEST_RUNS: Final = 3
"""With fewer on either side the spread says next to nothing."""
FACTORS: Final = {3: 2.0, 4: 1.2, 5: 1.0, 6: 0.8, 7: 0.7, 8: 0.6, 9: 0.55, 10: 0.5}
"""By the number of runs on the side with fewer: how many times the mean range of both sides the band is.

Lord's range test (1947), for medians, its factors found by simulation: one figure in 100 of two equal systems
is called worse under normal, log-normal and Laplace noise and with outliers, one in 50 at most when three
runs in ten are slow (`tests/esctl/bench/test_noise.py`). The price: of three runs, a change must be five
standard deviations of a run to be seen nearly always; of five, three and a half.
"""
NOTCH: Final = 2.2
"""Of more runs than that, such as the strikes of a failover, the quartiles tell more than the range.

A side's part of the band is then this times its interquartile range over the root of its runs: the notch of
McGill, Tukey and Larsen (1978), whose 1.57 calls up to three equal figures in 100 worse with so few runs.
"""
TAIL_RUNS: Final = 20
"""With so many on both sides their worst runs are judged too."""
CHANCE: Final = 0.005
"""How often chance may bring a tail that is called longer."""
TOLERANCE_PERCENT: Final = 5.0
"""No band is narrower: the runs of one file share one hour of one machine and hide how hours differ."""
COARSE_PERCENT: Final = 25.0
"""Where the runs are too few for a band: what is beyond this is a change, what is within it nobody knows."""
COARSE_TAIL_PERCENT: Final = 100.0
"""The same for tails, which move more by themselves."""


class NoiseSource(enum.StrEnum):
    """Where a band comes from."""

    RUNS = "runs"
    """From how the runs of both sides differ among themselves."""
    TOLERANCE = "tolerance"
    """They differ less than what is tolerated anyway."""
    GIVEN = "given"
    """Unknown, there are too few runs; whoever asks has said what to take for none."""
    COARSE = "coarse"
    """Unknown, there are too few runs: a change within it is not seen."""


@dataclass(frozen=True, slots=True)
class Band:
    """A change of up to `width`, in the unit of the figure, is none."""

    width: float
    source: NoiseSource


def band(
    base: Sequence[float],
    other: Sequence[float],
    tolerance_percent: float | None = None,
    *,
    coarse_percent: float = COARSE_PERCENT,
) -> Band:
    """The band around the median of `base`; both have at least one value, each of one run.

    `tolerance_percent` takes the place of `TOLERANCE_PERCENT`, and of `coarse_percent` too.
    """
    runs = min(len(base), len(other))
    if runs > max(FACTORS):
        moved = NOTCH * (_notch(base) + _notch(other))
    else:
        moved = FACTORS[max(runs, FEWEST_RUNS)] * (_range(base) + _range(other)) / 2
    known = runs >= FEWEST_RUNS
    usual = TOLERANCE_PERCENT if known else coarse_percent
    tolerated = abs(median(base)) * (usual if tolerance_percent is None else tolerance_percent) / 100
    if not known:
        source = NoiseSource.COARSE if tolerance_percent is None else NoiseSource.GIVEN
        return Band(max(moved, tolerated), source)
    return Band(moved, NoiseSource.RUNS) if moved > tolerated else Band(tolerated, NoiseSource.TOLERANCE)


def is_higher_at_the_top(values: Sequence[float], rest: Sequence[float], tolerance_percent: float) -> bool:
    """Whether more of `values` lie above all of `rest`, and above what is tolerated, than chance explains.

    The exceedance test: of equal sources, the `k` highest of all values come from one side as often as
    the others could be dealt without them. It asks nothing of how the noise is distributed.
    """
    highest = max(rest)
    above = sum(value > highest + abs(highest) * tolerance_percent / 100 for value in values)
    together = len(values) + len(rest)
    return comb(together - above, len(rest)) <= CHANCE * comb(together, len(rest))


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _notch(values: Sequence[float]) -> float:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / sqrt(len(values))
