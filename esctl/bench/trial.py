"""One trial: a load on a cluster, from the warm-up to the last ack, with what it cost.

Decides when usage is taken: at the first and at the last moment of the measured time, so that warm-up and
drain are in no figure. Never prints. Called by `esctl bench produce` and `sweep`, and by `delivery.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict

import trio

from esctl.bench import usage
from esctl.bench.generator import Generator
from esctl.bench.latency import Point
from esctl.bench.runner import Load, TrialPlan
from esctl.bench.usage import Look, Usage
from esctl.clusters.state import Cluster
from esctl.events.producer import Appender
from esctl.query.barrier import confirmed_end
from esctl.query.eachpartition import of_each
from esctl.ui.values import Seconds
from esnode.client import connect
from esnode.client.log import Connecting

KEPT_UP: Final = 0.99
"""With less than this share of the asked rate acked, the figures are those of an overload."""
NOT_BEHIND_S: Final = 0.1
"""Of a short run this much may be missing: a hiccup in its last moments is no overload."""


class LoadSettings(TypedDict):
    """What one must do the same to compare; a rate of 0 is a closed loop."""

    loop: Literal["open", "closed"]
    rate_per_s: float
    size_bytes: int
    batch: int
    events_a_batch: int
    window: int
    warmup_s: float
    seconds: Seconds
    producer_session: bool


class RateDetail(TypedDict):
    """Whether the log took what was asked of it; null in a closed loop, which asks for no rate."""

    rate_reached: bool | None


class LoadsDetail(TypedDict):
    """What happened besides, warm-up and drain included: of each run, in order."""

    acked_in_all: list[int]
    errors_by_code: list[dict[str, int]]
    generator_late_ms: list[float]
    window_full_ms: list[float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A load that has ended, and everybody's usage at the beginning and at the end of the measured time."""

    load: Load
    plan: TrialPlan
    size_bytes: int
    before: Usage
    after: Usage

    def figures(self) -> dict[str, float | None]:
        """All of the measured time."""
        events = self.load.recorder.acked_between(self.before.at_s, self.after.at_s)
        return {
            **figures_of(self.load, self.plan, self.size_bytes),
            **usage.cost(self.before, self.after, events),
            **usage.memory(self.after),
        }


async def check_ready(cluster: Cluster) -> None:
    """That somebody leads, each partition: nobody shall wait for the end of a load that no node takes.

    Raises `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    await of_each(cluster, lambda partition: confirmed_end(cluster, partition=partition))


def connecting(cluster: Cluster, plan: TrialPlan, *, session: bool = False) -> Connecting:
    """A connection to the cluster that has room for the plan's window."""
    return connect(cluster.addresses, cluster=cluster.identity, window=plan.window, producer_session=session)


async def run_trial(
    log: Appender,
    look: Look,
    generator: Generator,
    plan: TrialPlan,
    begun: Callable[[Load], None] = lambda _load: None,
) -> Trial:
    """Run a load. `begun` is handed it when it starts."""
    async with trio.open_nursery() as nursery:
        load = Load(log, generator, plan)
        begun(load)
        await nursery.start(load.run)
        before, after = await usage_around(look, load)
    return Trial(load, plan, generator.size, before, after)


async def usage_around(look: Look, load: Load) -> tuple[Usage, Usage]:
    """At the beginning and at the end of the measured time of a load that has started."""
    await trio.sleep_until(load.begun_s)
    before = await look()
    await trio.sleep_until(load.ended_s)
    return before, await look()


def figures_of(load: Load, plan: TrialPlan, size_bytes: int) -> dict[str, float | None]:
    """What a load that has ended shows of the log.

    In a closed loop there is no intended time: the latencies from it are those from the sending. At a rate,
    `unfinished` events were due in the measured time and had no ack at the end of the drain. `failed` and
    `unknown` count the warm-up too.
    """
    begin_s, end_s = load.begun_s, load.ended_s
    acked = load.recorder.acked_between(begin_s, end_s)
    raw = load.recorder.percentiles(begin_s, end_s, intended=False)
    corrected = load.recorder.percentiles(begin_s, end_s, intended=True) if plan.rate else raw
    return {
        "events_per_s": round(acked / plan.seconds, 1),
        "payload_mb_per_s": round(acked * size_bytes / plan.seconds / 1e6, 3),
        **corrected.as_figures(),
        **raw.as_figures("raw_"),
        "acked": acked,
        "failed": load.failed,
        "unknown": load.unknown,
        "unfinished": load.due - load.recorder.meant_between(begin_s, end_s) if plan.rate else 0,
    }


def settings_of(plan: TrialPlan, size: int, *, session: bool) -> LoadSettings:
    """What one must do the same to compare."""
    return {
        "loop": "open" if plan.rate else "closed",
        "rate_per_s": plan.rate,
        "size_bytes": size,
        "batch": plan.batch,
        "events_a_batch": plan.events_a_batch,
        "window": plan.window,
        "warmup_s": plan.warmup_s,
        "seconds": plan.seconds,
        "producer_session": session,
    }


def series_of(load: Load, plan: TrialPlan) -> dict[str, list[Point]]:
    """Second by second: what was acked, and the 99th percentile."""
    begin_s, end_s = load.begun_s, load.ended_s
    meant = bool(plan.rate)
    return {
        "events_per_s": load.recorder.throughput_series(begin_s, end_s),
        "p99_ms": load.recorder.latency_series(begin_s, end_s, 99, intended=meant),
    }


def detail_of(trials: Sequence[Trial]) -> LoadsDetail:
    """What happened besides, warm-up and drain included."""
    loads = [trial.load for trial in trials]
    return {
        "acked_in_all": [load.acked for load in loads],
        "errors_by_code": [load.errors for load in loads],
        "generator_late_ms": [round(load.most_late_s * 1000, 3) for load in loads],
        "window_full_ms": [round(load.most_held_back_s * 1000, 3) for load in loads],
    }


def kept_up(figures: Mapping[str, float | None], rate: float, seconds: float) -> bool:
    """Whether the log took what was asked of it, in the time that was measured."""
    missing_s = seconds * (1 - (figures["events_per_s"] or 0.0) / rate)
    return missing_s <= max((1 - KEPT_UP) * seconds, NOT_BEHIND_S)


def rate_reached(runs: Sequence[Mapping[str, float | None]], rate: float, seconds: float) -> bool | None:
    """Whether each of `runs` kept up; None in a closed loop, which asks for no rate."""
    return all(kept_up(run, rate, seconds) for run in runs) if rate else None


def one_after_another(series: list[dict[str, list[Point]]], seconds: float) -> dict[str, list[Point]]:
    """The curves of several runs on one axis, without the pauses between the runs."""
    joined: dict[str, list[Point]] = {}
    for number, curves in enumerate(series):
        for name, points in curves.items():
            joined.setdefault(name, []).extend((round(x + number * seconds, 3), y) for x, y in points)
    return joined
