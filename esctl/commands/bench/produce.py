"""`esctl bench produce`: events into the log, in a closed loop or at a fixed rate.

The load, its events and its latencies are in `esctl/bench`.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from esctl.cli.invocation import Invocation
from esctl.commands.bench import options, screens
from esctl.ui.answer import Answer, Chart, Fields, Value, View
from esctl.ui.formatting import duration

if TYPE_CHECKING:
    from esctl.bench.machine import ClusterData, MachineData
    from esctl.bench.runner import Load, TrialPlan
    from esctl.bench.trial import Trial
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import (
        ProduceDetail,
        ProduceMeasured,
        ProduceResult,
        UnmeasuredAnswer,
    )

GENERATOR_SAMPLE: Final = 20_000


@dataclass(slots=True)
class ProduceMeasurement:
    """What there is so far."""

    loads: list["Load"] = field(default_factory=list)
    """Of the runs that have begun."""
    trials: list["Trial"] = field(default_factory=list)
    """The runs that have ended."""


def produce(
    run: Invocation,
    seconds: options.Seconds = 10.0,
    rate: options.Rate = 0.0,
    size: options.Size = 100,
    batch: options.Batch = 64,
    window: options.Window = 64,
    warmup: options.Warmup = 2.0,
    runs: options.Runs = 1,
    session: options.Session = False,
    plot: options.Plot = False,
    save: options.Save = None,
) -> "Answer[ProduceMeasured | UnmeasuredAnswer]":
    """Append generated events as fast as possible or at a fixed rate, and measure throughput and latency

    The events stay in the log: use a temporary cluster (`esctl cluster up bench`)"""
    from esctl.bench import machine
    from esctl.bench.runner import TrialPlan

    screens.check_place(save)
    cluster = run.cluster()
    plan = TrialPlan(seconds, warmup, rate, batch, window)
    cost_us = generator_cost_us(size, plan.events_a_batch)  # raises for a size that no event has
    where = machine.surroundings()
    measured = ProduceMeasurement()

    def answer() -> "Answer[ProduceMeasured | UnmeasuredAnswer]":
        if not measured.trials:
            return screens.without_figures(measured.loads)
        result = result_of(
            measured.trials,
            where,
            machine.cluster_facts(cluster),
            session=session,
            generator_us=cost_us,
        )
        return screens.with_file(run, answer_of(result, measured.loads, plot=plot), result, save)

    run.on_interrupt(answer, "run it again; it makes new events each time")
    try:
        run.trio(lambda: _measure_all(run, cluster, plan, size, runs, session, measured))
    finally:
        if measured.loads:
            run.terminal.note(screens.added(measured.loads, cluster))
    return answer()


async def _measure_all(
    run: Invocation,
    cluster: "Cluster",
    plan: "TrialPlan",
    size: int,
    runs: int,
    session: bool,
    measured: ProduceMeasurement,
) -> None:
    from esctl.bench.generator import Generator, sources_of
    from esctl.bench.trial import check_ready, connecting, run_trial
    from esctl.bench.usage import looking_at
    from esctl.commands.bench.progress import watching
    from esctl.query.ringsurvey import ring_of

    sources = sources_of(await ring_of(cluster))
    await check_ready(cluster)
    for number in range(1, runs + 1):
        title = "measuring" if runs == 1 else f"run {number} of {runs}"
        generator = Generator(secrets.token_hex(8), size, plan.events_a_batch, sources)
        async with watching(run, title, plan.warmup_s + plan.seconds) as watch:

            def begin(load: "Load", watch: Callable[["Load"], None] = watch) -> None:
                measured.loads.append(load)
                watch(load)

            async with connecting(cluster, plan, session=session) as log:
                trial = await run_trial(log, looking_at(cluster), generator, plan, begin)
        measured.trials.append(trial)


def generator_cost_us(size: int, batch: int) -> float:
    """What making one event costs the client, in microseconds of processor time: a part of every figure."""
    from esctl.bench.generator import Generator

    generator = Generator(secrets.token_hex(8), size, batch)
    begun = time.process_time()
    while generator.made < GENERATOR_SAMPLE:
        generator.next_batch()
    return (time.process_time() - begun) / generator.made * 1e6


def result_of(
    trials: Sequence["Trial"],
    machine: "MachineData",
    cluster: "ClusterData",
    *,
    session: bool,
    generator_us: float,
) -> "ProduceResult":
    """The document of the runs that have ended, one at least."""
    from esctl.bench import trial
    from esctl.bench.result import Result

    plan = trials[0].plan
    runs = [one.figures() for one in trials]
    detail: ProduceDetail = {
        "rate_reached": trial.rate_reached(runs, plan.rate, plan.seconds),
        "latency_from": "the intended send time" if plan.rate else "the sending (closed loop)",
        "generator_us_per_event": round(generator_us, 3),
        **trial.detail_of(trials),
        "nodes": trials[-1].after.as_data(),
    }
    return Result(
        kind="produce",
        settings=trial.settings_of(plan, trials[0].size_bytes, session=session),
        machine=machine,
        cluster=cluster,
        runs=runs,
        series=trial.one_after_another([trial.series_of(one.load, plan) for one in trials], plan.seconds),
        detail=detail,
    )


def answer_of(
    result: "ProduceResult", loads: Sequence["Load"], *, plot: bool = False
) -> "Answer[ProduceMeasured]":
    """The figures of the runs."""
    errors = screens.troubles(loads)
    views = _views(result)
    if plot:
        latency = Chart("p99", {"p99": result.series["p99_ms"]}, "seconds", "ms", from_zero=True, height=6)
        views = [screens.throughput(result, "acked"), latency, *views]  # the figures stay on the screen
    return screens.ended(result, errors, views)


def _views(result: "ProduceResult") -> list[View]:
    rate = result.settings["rate_per_s"]
    loop = f"at {rate:,.0f} asked" if rate else "closed loop"
    latencies = screens.latency_rows(result, "from the sending (raw)", "raw_")
    if rate:
        latencies = [*screens.latency_rows(result, "from the intended time"), *latencies]
    return [
        screens.events_per_s(result, f"acked, {loop}"),
        screens.latency_table(latencies),
        *screens.without_ack(result),
        Fields([*_counts(result), *screens.where(result)]),
        *screens.overload(result),
    ]


def _counts(result: "ProduceResult") -> list[tuple[str, Value]]:
    figures, settings = result.figures, result.settings
    made_us = result.detail["generator_us_per_event"]
    session = ", in a producer session" if settings["producer_session"] else ""
    batches = f"{settings['events_a_batch']} a batch, {settings['window']} batches under way"
    sent = f"{settings['size_bytes']} bytes, {batches}{session}"
    return [
        ("acked", screens.outcome(figures)),
        ("events", f"{sent}: {figures['payload_mb_per_s'] or 0:.1f} MB/s"),
        ("measured", f"{duration(settings['seconds'])} after {duration(settings['warmup_s'])} of warm-up"),
        ("processor", screens.cost(figures)),
        ("client", f"on this machine; {made_us:.2f} µs of it to make an event"),
        ("memory", screens.memory(figures)),
    ]  # fmt: skip
