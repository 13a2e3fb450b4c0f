"""A load for minutes or hours, looked at each interval: throughput, latency, memory and the log's size.

What was recorded is cut off at each interval, so that the client's own memory stays flat too; one histogram
holds the whole. Never prints. Called by `esctl bench soak`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, TypedDict

import trio
from hdrh.histogram import HdrHistogram

from esctl.bench import drift, usage
from esctl.bench.drift import Trend
from esctl.bench.generator import Generator
from esctl.bench.latency import Percentiles, Point, Recorder, new_histogram, percentiles_of
from esctl.bench.runner import Load, TrialPlan
from esctl.bench.usage import Look, Usage
from esctl.events.producer import Appender
from esctl.ui.values import Milliseconds, Seconds

MB: Final = 1e6
FULL: Final = 1.005
"""A window that grows by less than this is full: it forgets a generation and fills up again."""


class IntervalData(TypedDict):
    """One interval; null is not known. Latencies are null when nothing was acked in it."""

    at_s: Seconds
    events_per_s: float
    p50_ms: Milliseconds | None
    p99_ms: Milliseconds | None
    p999_ms: Milliseconds | None
    max_ms: Milliseconds | None
    rss_bytes: Annotated[dict[str, int | None], "By node"]
    log_bytes: Annotated[int | None, "On the leader's disk"]
    live_keys: Annotated[int | None, "What the leader's deduplication window remembers"]


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval, which ended `at_s` after the begin of the measured time."""

    at_s: float
    events: int
    events_per_s: float
    latencies: Percentiles
    rss_bytes: Mapping[int, int | None]
    """By node."""
    log_bytes: int | None
    """On the leader's disk."""
    live_keys: int | None
    """What the leader's deduplication window remembers."""

    def as_data(self) -> IntervalData:
        """For the JSON answer."""
        return {
            "at_s": self.at_s,
            "events_per_s": self.events_per_s,
            "p50_ms": self.latencies.p50,
            "p99_ms": self.latencies.p99,
            "p999_ms": self.latencies.p999,
            "max_ms": self.latencies.max,
            "rss_bytes": {str(node): rss for node, rss in self.rss_bytes.items()},
            "log_bytes": self.log_bytes,
            "live_keys": self.live_keys,
        }


@dataclass(slots=True)
class Endurance:
    """A load, and its intervals so far."""

    generator: Generator
    plan: TrialPlan
    interval_s: float
    nodes: Sequence[int]
    """Their numbers."""
    intervals: list[Interval] = field(default_factory=list)
    load: Load | None = None
    first: Usage | None = None
    last: Usage | None = None
    unfinished: int | None = None
    """Events that were due and had no ack at the end of the drain; None before that, and in a closed loop."""
    _histogram: HdrHistogram = field(default_factory=new_histogram)
    _meant: int = 0
    """Events that were acked and were meant to be sent in the measured time."""

    async def run(
        self,
        log: Appender,
        look: Look,
        begun: Callable[[Load], None],
        looked: Callable[[Interval], None],
    ) -> None:
        """Run to the end; `looked` hears of each interval when it is over."""
        async with trio.open_nursery() as nursery:
            self.load = load = Load(log, self.generator, self.plan)
            begun(load)
            await nursery.start(load.run)
            await trio.sleep_until(load.begun_s)
            load.cut()
            self.first = await look()
            before_s = load.begun_s
            while before_s < load.ended_s:
                await trio.sleep_until(min(before_s + self.interval_s, load.ended_s))
                before_s = await self._look(load, look, before_s)
                looked(self.intervals[-1])
        self._take(load.cut(), load)  # acked after the end, and waited for the longest
        self.unfinished = load.due - self._meant if self.plan.rate else None

    def _take(self, recorder: Recorder, load: Load) -> HdrHistogram:
        """Count what was recorded; the latencies of what was meant to be sent in the measured time."""
        histogram = recorder.histogram(load.begun_s, load.ended_s, intended=bool(self.plan.rate))
        self._histogram.add(histogram)
        self._meant += recorder.meant_between(load.begun_s, load.ended_s)
        return histogram

    async def _look(self, load: Load, look: Look, before_s: float) -> float:
        """Take down what has come since `before_s`; when that was."""
        now_s = trio.current_time()
        recorder = load.cut()
        histogram = self._take(recorder, load)
        self.last = seen = await look()
        leader = seen.leader
        self.intervals.append(
            Interval(
                at_s=round(now_s - load.begun_s, 3),
                events=recorder.events,
                events_per_s=round(recorder.events / (now_s - before_s), 1),
                latencies=percentiles_of(histogram),
                rss_bytes={node.id: node.rss_bytes for node in seen.nodes},
                log_bytes=leader.storage_bytes if leader is not None else None,
                live_keys=leader.live_keys if leader is not None else None,
            )
        )
        return now_s

    # --- what it shows, after an interval at least ---------------------------------------------------

    def figures(self) -> dict[str, float | None]:
        """Of all intervals together."""
        assert self.first is not None
        assert self.last is not None
        assert self.load is not None
        events = sum(interval.events for interval in self.intervals)
        return {
            "events_per_s": round(events / self.intervals[-1].at_s, 1),
            **percentiles_of(self._histogram).as_figures(),
            "acked": events,
            "failed": self.load.failed,
            "unknown": self.load.unknown,
            "unfinished": self.unfinished,
            **usage.cost(self.first, self.last, events),
            **usage.memory(self.last),
            **{f"node_{node}_mb_per_hour": _per_hour(one) for node, one in self.memory_trends().items()},
            "p50_ms_per_hour": _per_hour(self.latency_trend()),
        }

    def series(self) -> dict[str, list[Point]]:
        """A point an interval."""
        curves: dict[str, list[Point]] = {
            "events_per_s": [(one.at_s, one.events_per_s) for one in self.intervals],
            "p50_ms": [(one.at_s, v) for one in self.intervals if (v := one.latencies.p50) is not None],
            "p99_ms": [(one.at_s, v) for one in self.intervals if (v := one.latencies.p99) is not None],
            "log_bytes": [(one.at_s, v) for one in self.intervals if (v := one.log_bytes) is not None],
        }
        for node in self.nodes:
            curves[f"node_{node}_rss_bytes"] = [
                (one.at_s, rss) for one in self.intervals if (rss := one.rss_bytes[node]) is not None
            ]
        return curves

    def memory_trends(self) -> dict[int, Trend | None]:
        """Of each node, in MB; None where there is not enough to tell."""
        curves = self.series()
        return {
            node: drift.trend([(x, rss / MB) for x, rss in curves[f"node_{node}_rss_bytes"]])
            for node in self.nodes
        }

    def latency_trend(self) -> Trend | None:
        """Of the median, in ms: the higher percentiles move too much by themselves."""
        return drift.trend(self.series()["p50_ms"])

    def filling(self) -> tuple[int, int] | None:
        """The live keys after the settling time and at the end, if they still became more."""
        keys = [one.live_keys for one in self.intervals if one.at_s > drift.SETTLING_S]
        known = [count for count in keys if count is not None]
        return (known[0], known[-1]) if known and known[-1] > known[0] * FULL else None


def _per_hour(trend: Trend | None) -> float | None:
    return None if trend is None else round(trend.per_hour, 3)
