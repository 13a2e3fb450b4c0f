"""Latencies of a run: from when each event was meant to be sent, and from when it was sent.

The first is what users feel; the second hides every pause of the generator ("coordinated omission", Gil
Tene). While the run lasts only four numbers a batch are kept, so that measuring costs nothing; every
event counts on its own when the histograms are made. Pure. Called by `esctl bench`.
"""

from array import array
from dataclasses import dataclass
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
SIGNIFICANT_DIGITS: Final = 3
_AT_ONCE: Final = 4096
"""Batches that are turned into latencies at once."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds; all None when nothing was acked."""

    p50: float | None
    p99: float | None
    p999: float | None
    max: float | None

    def as_data(self) -> dict[str, float | None]:
        """For the JSON answer."""
        return {"p50": self.p50, "p99": self.p99, "p999": self.p999, "max": self.max}


class Recorder:
    """Takes down what happened to each batch.

    `interval_s` is the time between two events of an open loop, 0 in a closed loop.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._intended = array("d")
        self._sent = array("d")
        self._acked = array("d")
        self._counts = array("q")

    def record(self, intended_s: float, sent_s: float, acked_s: float, count: int) -> None:
        """A batch was acked: when its first event was meant to be sent, when it was sent and acked."""
        self._intended.append(intended_s)
        self._sent.append(sent_s)
        self._acked.append(acked_s)
        self._counts.append(count)

    def acked_between(self, begin_s: float, end_s: float) -> int:
        """How many events were acked in that time."""
        acked, counts = np.asarray(self._acked), np.asarray(self._counts)
        return int(counts[(acked >= begin_s) & (acked < end_s)].sum())

    def most_late_s(self, begin_s: float) -> float:
        """By how much the generator was behind its own plan at worst: it, not the log, was slow then."""
        late = np.asarray(self._sent) - self._last_intended()
        late = late[np.asarray(self._intended) >= begin_s]
        return max(0.0, float(late.max())) if late.size else 0.0

    def percentiles(self, begin_s: float, end_s: float, *, intended: bool) -> Percentiles:
        """Of the events that were meant to be sent in that time: from then on, or from the sending on."""
        chosen = np.asarray(self._intended)
        (inside,) = np.nonzero((chosen >= begin_s) & (chosen < end_s))
        histogram = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)
        for at in range(0, len(inside), _AT_ONCE):
            values, counts = np.unique(
                self._latencies_us(inside[at : at + _AT_ONCE], intended), return_counts=True
            )
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                histogram.record_value(value, count)
        return _percentiles(histogram)

    def _last_intended(self) -> NDArray[np.float64]:
        """When the last event of each batch was meant to be sent: a batch leaves when it is whole."""
        return np.asarray(self._intended) + (np.asarray(self._counts) - 1) * self._interval_s

    def _latencies_us(self, batches: NDArray[np.int64], intended: bool) -> NDArray[np.int64]:
        """The latency of each event of these batches, in whole microseconds."""
        acked, counts = np.asarray(self._acked)[batches], np.asarray(self._counts)[batches]
        if not intended:
            latencies = np.repeat(acked - np.asarray(self._sent)[batches], counts)
        else:
            latencies = np.repeat(acked - np.asarray(self._intended)[batches], counts)
            ends = np.cumsum(counts)
            place = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
            latencies -= place * self._interval_s
        return np.clip(np.rint(latencies * 1e6), LOWEST_US, HIGHEST_US).astype(np.int64)


def _percentiles(histogram: HdrHistogram) -> Percentiles:
    if not histogram.get_total_count():
        return Percentiles(None, None, None, None)

    def at(percent: float) -> float:
        return round(float(histogram.get_value_at_percentile(percent)) / 1000, 3)

    return Percentiles(at(50), at(99), at(99.9), round(histogram.get_max_value() / 1000, 3))
