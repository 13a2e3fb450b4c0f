"""`esctl bench soak`: a load for minutes or hours; whether memory stays flat and latency where it was."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.commands.bench import options, screens
from esctl.errors import Drifted, Finding, Inconclusive, MachineRefused
from esctl.exits import exit_of
from esctl.ui.answer import Answer, Chart, Fields, Line, Tone, Trouble, View
from esctl.ui.formatting import duration, typed
from esctl.ui.terminal import Output, Terminal

if TYPE_CHECKING:
    from esctl.bench.endurance import Endurance, Interval
    from esctl.bench.machine import MachineData
    from esctl.bench.runner import Load
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import SoakMeasured, SoakResult, UnmeasuredAnswer

WIDTHS: Final = (7, 9, 7, 8, 8, 7)
"""Of the columns before the memory of the nodes."""
NODE_WIDTH: Final = 7


def soak(
    run: Invocation,
    seconds: Annotated[
        float,
        duration_option("--duration", "Duration of the measurement", low_s=0.6, high_s=options.LONGEST_S),
    ] = 600.0,
    rate: options.Rate = 20_000.0,
    interval: Annotated[
        float,
        duration_option("--interval", "Time between two samples", low_s=0.2, high_s=3600),
    ] = 30.0,
    size: options.Size = 100,
    batch: options.Batch = 64,
    window: options.Window = 64,
    warmup: options.Warmup = 2.0,
    save: options.Save = None,
) -> "Answer[SoakMeasured | UnmeasuredAnswer]":
    """Append at a fixed rate for minutes or hours, and watch memory and latency; Ctrl-C ends it with
    the figures so far

    The events stay in the log: use a temporary cluster (`esctl cluster up bench`)"""
    from esctl.bench import machine
    from esctl.bench.endurance import Endurance
    from esctl.bench.generator import Generator, sources_of
    from esctl.bench.runner import TrialPlan
    from esctl.query.ringsurvey import ring_of

    screens.check_place(save)
    cluster = run.cluster()
    plan = TrialPlan(seconds, warmup, rate, batch, window)
    sources = sources_of(run.trio(lambda: ring_of(cluster)))
    generator = Generator(secrets.token_hex(8), size, plan.events_a_batch, sources)
    soaked = Soaked(
        cluster,
        Endurance(generator, plan, interval, [node.id for node in cluster.nodes]),
        machine.surroundings(),
        save,
        run.terminal,
    )

    def answer() -> "Answer[SoakMeasured | UnmeasuredAnswer]":
        if not soaked.endurance.intervals:
            return screens.without_figures(soaked.loads)
        result = soaked.result()
        return screens.with_file(run, answer_of(soaked.endurance, result, run.terminal.output), result, save)

    run.on_interrupt(answer, "run it again; it makes new events each time")
    try:
        run.trio(lambda: _measure(run, soaked))
    finally:
        if soaked.loads:
            run.terminal.note(screens.added(soaked.loads, cluster))
    return answer()


async def _measure(run: Invocation, soaked: "Soaked") -> None:
    from esctl.bench.trial import check_ready, connecting
    from esctl.bench.usage import looking_at
    from esctl.commands.bench.progress import watching

    endurance, cluster = soaked.endurance, soaked.cluster
    await check_ready(cluster)
    seconds = endurance.plan.warmup_s + endurance.plan.seconds
    async with (
        connecting(cluster, endurance.plan) as log,
        watching(run, "soaking", seconds) as watch,
    ):
        print_row(run.terminal, headings(endurance.nodes), Tone.STRONG)
        await endurance.run(log, looking_at(cluster), watch, soaked.looked)


@dataclass(slots=True)
class Soaked:
    """What is measured, where, and where it is told meanwhile."""

    cluster: "Cluster"
    endurance: "Endurance"
    machine: "MachineData"
    save: Path | None
    terminal: Terminal

    @property
    def loads(self) -> "list[Load]":
        """The load, once it has begun."""
        return [self.endurance.load] if self.endurance.load is not None else []

    def looked(self, interval: "Interval") -> None:
        """An interval is over: a row of it, and the file, so that a soak that is killed leaves something."""
        from esctl.bench.result import save

        row = plain_row(interval) if self.terminal.output is Output.PLAIN else shown_row(interval)
        print_row(self.terminal, row)
        if self.save is not None:
            try:
                save(self.result(), self.save)
            except MachineRefused as error:
                self.terminal.warn(str(error))
                self.save = None  # said once; at the end it is tried again

    def result(self) -> "SoakResult":
        """The document of the intervals that are over, one at least."""
        from esctl.bench import machine
        from esctl.bench.result import Result
        from esctl.bench.trial import rate_reached, settings_of

        endurance = self.endurance
        figures = endurance.figures()
        return Result(
            kind="soak",
            settings={
                **settings_of(endurance.plan, endurance.generator.size, session=False),
                "interval_s": endurance.interval_s,
            },
            machine=self.machine,
            cluster=machine.cluster_facts(self.cluster),
            runs=[figures],
            series=endurance.series(),
            detail={
                "rate_reached": rate_reached([figures], endurance.plan.rate, endurance.intervals[-1].at_s),
                "memory_flat": memory_is_flat(endurance),
                "latency_steady": latency_is_steady(endurance),
                "intervals": [one.as_data() for one in endurance.intervals],
                "errors_by_code": endurance.load.errors if endurance.load is not None else {},
            },
        )


# --- rows while it runs ------------------------------------------------------------------------------


def headings(nodes: Sequence[int]) -> list[str]:
    """Of the table that grows."""
    return ["time", "events/s", "p50 ms", "p99 ms", "max ms", "log MB", *(f"n{node} MB" for node in nodes)]


def shown_row(interval: "Interval") -> list[str]:
    """One interval for people."""
    latencies, sizes = interval.latencies, (interval.log_bytes, *interval.rss_bytes.values())
    return [
        duration(interval.at_s) or "-",
        f"{interval.events_per_s:,.0f}",
        *("-" if v is None else f"{v:,.2f}" for v in (latencies.p50, latencies.p99, latencies.max)),
        *("-" if v is None else f"{v / 1e6:,.0f}" for v in sizes),
    ]


def plain_row(interval: "Interval") -> list[str]:
    """One interval for programs."""
    latencies = interval.latencies
    values = [interval.at_s, interval.events_per_s, latencies.p50, latencies.p99, latencies.max,
              interval.log_bytes, *interval.rss_bytes.values()]  # fmt: skip
    return ["-" if value is None else str(value) for value in values]


def print_row(terminal: Terminal, cells: list[str], tone: Tone = Tone.NORMAL) -> None:
    """A row of a table that grows; as plain text without headings, under `-o json` nothing."""
    if terminal.output is Output.TABLE:
        widths = [*WIDTHS, *[NODE_WIDTH] * len(cells)]
        text = " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=False))
        terminal.toned([(text, tone)])
    elif terminal.output is Output.PLAIN and tone is Tone.NORMAL:
        terminal.record({}, *cells)
    terminal.flush()


# --- the answer --------------------------------------------------------------------------------------


def memory_is_flat(endurance: "Endurance") -> bool | None:
    """None when nobody can tell yet."""
    from esctl.bench.drift import FLAT_SHARE

    trends = [trend for trend in endurance.memory_trends().values() if trend is not None]
    return all(trend.share <= FLAT_SHARE for trend in trends) if trends else None


def latency_is_steady(endurance: "Endurance") -> bool | None:
    """None when nobody can tell yet."""
    from esctl.bench.drift import STEADY_SHARE

    trend = endurance.latency_trend()
    return trend.share <= STEADY_SHARE if trend is not None else None


def answer_of(endurance: "Endurance", result: "SoakResult", output: Output) -> "Answer[SoakMeasured]":
    """The curves, and whether they are level."""
    charts = _charts(endurance) if output is Output.TABLE else ()
    caveats = [*screens.without_ack(result), *screens.overload(result)]
    views = [*charts, _facts(result), *caveats, *verdicts(endurance)]
    answer = screens.ended(
        result, screens.troubles([endurance.load] if endurance.load is not None else []), views
    )
    error = _unlevel(endurance, result)
    if error is None:
        return answer
    # Under an overload whatever waits grows: that it does is told, and is not what the soak ends with.
    code = answer.exit_code or exit_of(error)
    return replace(answer, errors=(*answer.errors, Trouble.of(error)), exit_code=code)


def _unlevel(endurance: "Endurance", result: "SoakResult") -> Finding | None:
    """What rose, if anything did, or what nobody can tell."""
    grew, drifted = result.detail["memory_flat"] is False, result.detail["latency_steady"] is False
    if grew and not drifted and (keys := endurance.filling()) is not None:
        return Inconclusive(
            f"memory grew while the deduplication window was filling, from {keys[0]:,} to {keys[1]:,} keys",
            next_step="esctl bench soak, until the window is full; esctl dedup",
        )
    rising = ["memory grew"] * grew + ["latency drifted"] * drifted
    if rising:
        return Drifted(f"{' and '.join(rising)} after the first two minutes")
    silent = [node for node, rss_bytes in endurance.intervals[-1].rss_bytes.items() if rss_bytes is None]
    if silent:
        return Inconclusive(
            f"node {silent[0]} did not answer at the end: what became of its memory is unknown"
        )
    if result.detail["memory_flat"] is None or result.detail["latency_steady"] is None:
        needed = _needed(endurance)
        return Inconclusive(
            "too short to tell whether memory is flat and latency steady",
            next_step=f"esctl bench soak --duration {needed}, or more",
        )
    return None


def _needed(endurance: "Endurance") -> str:
    """The shortest duration that tells, as the option takes it, in whole seconds."""
    from esctl.bench.drift import needed_s

    return typed(1000 * math.ceil(needed_s(endurance.interval_s)))


def verdicts(endurance: "Endurance") -> list[View]:
    """Memory and latency, a line each."""
    flat, steady = memory_is_flat(endurance), latency_is_steady(endurance)
    median = endurance.latency_trend()
    if flat is None or steady is None or median is None:
        needed = _needed(endurance)
        text = f"too short to tell whether memory is flat: take --duration {needed} or more"
        return [Line(text, Tone.WARN)]
    nodes = ", ".join(
        f"node {node} {trend.per_hour:+,.1f} ({trend.share:+.1%})"
        for node, trend in endurance.memory_trends().items()
        if trend is not None
    )
    change = f"p50 {median.mean:,.1f} ms, {median.per_hour:+,.1f} ms/hour ({median.share:+.1%})"
    views: list[View] = [
        Line(f"memory {'is flat' if flat else 'grows'}, MB/hour: {nodes}", Tone.GOOD if flat else Tone.BAD),
        Line(f"latency {'is steady' if steady else 'drifts'}: {change}", Tone.GOOD if steady else Tone.BAD),
    ]
    watched = f"least squares over {duration(median.span_s)}; in brackets what it came to"
    return [*views, Line(watched, Tone.DIM)]


def _charts(endurance: "Endurance") -> list[View]:
    series = endurance.series()

    def by_minute(name: str, divisor: float = 1.0) -> list[tuple[float, float]]:
        return [(x / 60, y / divisor) for x, y in series[name]]

    if len(endurance.intervals) < 3:
        return []
    memory = {f"node {node}": by_minute(f"node_{node}_rss_bytes", 1e6) for node in endurance.nodes}
    latency = {"p50": by_minute("p50_ms"), "p99": by_minute("p99_ms")}
    return [
        Chart("latency", latency, "minutes", "ms", from_zero=True, height=6),
        Chart("memory", memory, "minutes", "MB", from_zero=True, height=6),
    ]


def _facts(result: "SoakResult") -> Fields:
    figures = result.figures
    percentiles = ", ".join(
        f"{name} {screens.milliseconds(figures[f'{key}_ms'])}"
        for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))
    )
    return Fields(
        [
            ("acked", f"{screens.outcome(figures)}: {figures['events_per_s'] or 0:,.0f} events/s"),
            ("latency", f"{percentiles} ms"),
            ("processor", screens.cost(figures)),
            *screens.where(result),
        ]
    )  # fmt: skip
