"""Latencies of a run: from when each event was meant to be sent, and from when it was sent.

The first is what users feel; the second hides every pause of the generator ("coordinated omission", Gil
Tene). While the run lasts only five numbers a batch are kept, so that measuring costs nothing; every
event counts on its own when the histograms are made. Pure. Called by `esctl bench`.
"""

import math
from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
SIGNIFICANT_DIGITS: Final = 3
SERIES_STEP_S: Final = 1.0
"""Between two points of a series."""
NO_OFFSET: Final = -1
"""Of a batch whose place in the log nobody knows, such as a duplicate that only a session remembers."""
_AT_ONCE: Final = 4096
"""Batches that are turned into latencies at once."""

Point = tuple[float, float]


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

    def as_figures(self, prefix: str = "") -> dict[str, float | None]:
        """For a `Result`: `p50_ms` and so on, or `raw_p50_ms` with `raw_` for the prefix."""
        return {f"{prefix}{name}_ms": value for name, value in self.as_data().items()}


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
        self._last_offsets = array("q")
        self._partitions = array("q")

    def record(
        self,
        intended_s: float,
        sent_s: float,
        acked_s: float,
        count: int,
        last_offset: int = NO_OFFSET,
        partition: int = 0,
    ) -> None:
        """A batch was acked: when its first event was meant to be sent, when it was sent and acked, and the
        offset of its last event, in which partition."""
        self._intended.append(intended_s)
        self._sent.append(sent_s)
        self._acked.append(acked_s)
        self._counts.append(count)
        self._last_offsets.append(last_offset)
        self._partitions.append(partition)

    @property
    def events(self) -> int:
        """How many events were recorded."""
        return sum(self._counts)

    @property
    def last_offsets(self) -> NDArray[np.int64]:
        """The offset of the last event of each batch, in the order of the acks."""
        return np.array(self._last_offsets, dtype=np.int64)

    @property
    def partitions(self) -> NDArray[np.int64]:
        """The partition of each batch, in the order of the acks."""
        return np.array(self._partitions, dtype=np.int64)

    def ended_at(self, ends_s: NDArray[np.float64]) -> "Recorder":
        """The same batches with other ends than their acks, in the same order; NaN leaves a batch out."""
        other = Recorder(self._interval_s)
        for place in np.nonzero(~np.isnan(ends_s))[0].tolist():
            other.record(
                self._intended[place],
                self._sent[place],
                float(ends_s[place]),
                self._counts[place],
                self._last_offsets[place],
                self._partitions[place],
            )
        return other

    def acked_between(self, begin_s: float, end_s: float) -> int:
        """How many events were acked in that time."""
        acked, counts = np.asarray(self._acked), np.asarray(self._counts)
        return int(counts[(acked >= begin_s) & (acked < end_s)].sum())

    def meant_between(self, begin_s: float, end_s: float) -> int:
        """How many of the events that were acked, at whatever time, were meant to be sent in that time."""
        counts = np.asarray(self._counts)
        return int(counts[self._meant_between(begin_s, end_s)].sum())

    def percentiles(self, begin_s: float, end_s: float, *, intended: bool) -> Percentiles:
        """Of the events that were meant to be sent in that time: from then on, or from the sending on."""
        return percentiles_of(self.histogram(begin_s, end_s, intended=intended))

    def histogram(
        self, begin_s: float = -math.inf, end_s: float = math.inf, *, intended: bool
    ) -> HdrHistogram:
        """The same whole, in microseconds; histograms can be added up."""
        inside = self._meant_between(begin_s, end_s)
        histogram = new_histogram()
        for at in range(0, len(inside), _AT_ONCE):
            values, counts = np.unique(
                self._latencies_us(inside[at : at + _AT_ONCE], intended), return_counts=True
            )
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                histogram.record_value(value, count)
        return histogram

    def throughput_series(self, begin_s: float, end_s: float, step_s: float = SERIES_STEP_S) -> list[Point]:
        """For each `step_s` from `begin_s`: the events acked, a second."""
        acked, counts = np.asarray(self._acked), np.asarray(self._counts)
        edges = _edges(begin_s, end_s, step_s)
        inside = acked < end_s  # numpy's last bin would take in its end
        acks, _ = np.histogram(acked[inside], edges, weights=counts[inside])
        rates = (acks / np.diff(edges)).tolist()
        return [
            (round(at - begin_s, 3), round(rate, 1)) for at, rate in zip(edges.tolist(), rates, strict=False)
        ]

    def latency_series(self, begin_s: float, end_s: float, percent: float, *, intended: bool) -> list[Point]:
        """For each second from `begin_s`: the percentile, in ms, of the events meant to be sent in it."""
        points: list[Point] = []
        for begin, end in pairwise(_edges(begin_s, end_s, SERIES_STEP_S).tolist()):
            inside = self._meant_between(begin, end)
            if inside.size:
                latencies = self._latencies_us(inside, intended)
                value = float(np.percentile(latencies, percent, method="higher"))
                points.append((round(begin - begin_s, 3), round(value / 1000, 3)))
        return points

    def _meant_between(self, begin_s: float, end_s: float) -> NDArray[np.int64]:
        meant = np.asarray(self._intended)
        (inside,) = np.nonzero((meant >= begin_s) & (meant < end_s))
        return inside

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


def percentiles_of(histogram: HdrHistogram) -> Percentiles:
    """In milliseconds, of a histogram in microseconds."""
    if not histogram.get_total_count():
        return Percentiles(None, None, None, None)

    at = histogram.get_percentile_to_value_dict([50, 99, 99.9])  # in one walk over all its counters
    p50, p99, p999 = (round(float(at[percent]) / 1000, 3) for percent in (50, 99, 99.9))
    return Percentiles(p50, p99, p999, round(histogram.get_max_value() / 1000, 3))


def new_histogram() -> HdrHistogram:
    """An empty one, to add others to."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)


def _edges(begin_s: float, end_s: float, step_s: float) -> NDArray[np.float64]:
    """Where the steps of a series begin, and where the last one ends; a rest under half a step is added to
    the one before."""
    steps = max(1, round((end_s - begin_s) / step_s))
    edges = begin_s + step_s * np.arange(steps + 1, dtype=np.float64)
    edges[-1] = end_s
    return edges
