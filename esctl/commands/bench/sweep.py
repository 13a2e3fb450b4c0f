"""`esctl bench sweep`: one rate after the other, until the latency bound breaks: where the knee is."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.commands.bench import options, screens
from esctl.errors import Inconclusive, InvalidArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Chart, Fields, Line, Table, Tone, Trouble, Value, View

if TYPE_CHECKING:
    from esctl.bench.knee import Search
    from esctl.bench.machine import ClusterData, MachineData
    from esctl.bench.result import Figures
    from esctl.bench.runner import Load
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import (
        SweepMeasured,
        SweepResult,
        SweepSettings,
        SweepStepData,
        SweepVerdict,
        UnmeasuredAnswer,
    )

MAX_RATES: Final = 40
UNFINISHED: Final = 0.01
"""The percentiles know only what was acked: with more than this left over they tell nothing."""
EXAMPLE: Final = "--rates 10000,20000,40000"
WITHIN: Final = "within"
NEVER: Final = ("failed", "unknown", "unfinished")


@dataclass(frozen=True, slots=True)
class SweepStep:
    """One rate, measured."""

    rate: float
    figures: "Figures"
    verdict: "SweepVerdict"
    """`within`, or what broke."""

    @property
    def good(self) -> bool:
        """Within the bound."""
        return self.verdict == WITHIN

    def as_data(self) -> "SweepStepData":
        """For the JSON answer. The names of figures are put together, so that no type can hold them."""
        return cast("SweepStepData", {"rate": self.rate, "verdict": self.verdict, **self.figures})


@dataclass(slots=True)
class Sweep:
    """What is asked, and what there is so far."""

    run: Invocation
    cluster: "Cluster"
    bound_ms: float
    settings: "SweepSettings"
    runs: int
    search: "Search"
    steps: list[SweepStep] = field(default_factory=list)
    loads: list["Load"] = field(default_factory=list)


Highest = Annotated[
    float,
    typer.Option(
        "--to",
        metavar="N",
        min=1,
        show_default=False,
        help="Highest rate, in events per second; by default, no limit",
    ),
]
Factor = Annotated[
    float,
    typer.Option("--factor", metavar="F", min=1.05, max=100, help="Factor from one rate to the next"),
]
Rates = Annotated[
    str | None,
    typer.Option("--rates", metavar="N,N,...", help="Measure these rates instead of searching"),
]
Refine = Annotated[
    int,
    typer.Option(
        "--refine",
        metavar="N",
        min=0,
        max=20,
        help="How often to halve the interval between the last good rate and the first bad one",
    ),
]


def sweep(
    run: Invocation,
    p99: Annotated[
        float,
        duration_option("--p99", "Limit for the 99th percentile of the latency", low_s=0.000_01, plain="ms"),
    ] = 0.01,
    first: Annotated[
        float,
        typer.Option(
            "--from", metavar="N", min=1, max=options.HIGHEST_RATE, help="First rate, in events per second"
        ),
    ] = 10_000.0,
    highest: Highest = options.HIGHEST_RATE,
    factor: Factor = 2.0,
    rates: Rates = None,
    refine: Refine = 3,
    seconds: options.Seconds = 5.0,
    runs: options.Runs = 1,
    size: options.Size = 100,
    batch: options.Batch = 64,
    window: options.Window = 64,
    warmup: options.Warmup = 1.0,
    save: options.Save = None,
) -> "Answer[SweepMeasured | UnmeasuredAnswer]":
    """Find the highest rate at which the latency stays within its limit and the log keeps up

    The events stay in the log: use a temporary cluster (`esctl cluster up bench`)"""
    from esctl.bench import machine
    from esctl.bench.generator import Generator
    from esctl.bench.knee import Search

    listed, bound_ms = rates_of(rates), round(p99 * 1000, 6)
    screens.check_place(save)
    cluster = run.cluster()
    Generator("0" * 16, size, batch)  # raises for a size or a batch that cannot be
    where = machine.surroundings()
    settings: SweepSettings = {
        "x": "events/s asked", "bound_p99_ms": bound_ms, "seconds": seconds, "warmup_s": warmup,
        "size_bytes": size, "batch": batch, "window": window, "runs_a_rate": runs, "refine": refine,
        "rates": list(listed) or None,
        "from": None if listed else first, "to": None if listed else highest,
        "factor": None if listed else factor,
    }  # fmt: skip
    if not listed and first > highest:
        raise InvalidArgument(f"--from {first:g} is above --to {highest:g}", next_step=EXAMPLE)
    search = Search(listed, first=first, factor=factor, highest=highest, refine=refine)
    swept = Sweep(run, cluster, bound_ms, settings, runs, search)

    def answer() -> "Answer[SweepMeasured | UnmeasuredAnswer]":
        return _end(swept, where, machine.cluster_facts(cluster), save)

    run.on_interrupt(answer, "run it again; it makes new events each time")
    try:
        run.trio(lambda: _measure_all(swept))
    finally:
        if swept.loads:
            run.terminal.note(screens.added(swept.loads, cluster))
    return answer()


def rates_of(text: str | None) -> list[float]:
    """The rates of a list such as `10000,20000`, from the lowest up; raises `InvalidArgument`."""
    if text is None:
        return []
    try:
        listed = sorted({float(word) for word in text.split(",")})
    except ValueError as error:
        raise InvalidArgument(
            f"--rates {text}: rates are numbers with commas between them",
            next_step=EXAMPLE,
        ) from error
    if len(listed) > MAX_RATES or not all(1 <= rate <= options.HIGHEST_RATE for rate in listed):
        raise InvalidArgument(
            f"--rates {text}: 1 to {MAX_RATES} rates from 1 to {options.HIGHEST_RATE:,.0f} events/s can be"
            " measured",
            next_step=EXAMPLE,
        )
    return listed


async def _measure_all(swept: Sweep) -> None:
    from esctl.bench.trial import check_ready

    await check_ready(swept.cluster)
    while (rate := swept.search.next_rate()) is not None:
        figures = [await _measure(swept, rate) for _ in range(swept.runs)]
        medians = of_runs(figures)
        step = SweepStep(rate, medians, verdict_on(medians, rate * swept.settings["seconds"], swept.bound_ms))
        swept.steps.append(step)
        swept.search.took(rate, good=step.good)
        p50, p99 = (screens.milliseconds(medians[name]) for name in ("p50_ms", "p99_ms"))
        swept.run.terminal.note(f"{rate:>9,.0f} events/s: p50 {p50}, p99 {p99} ms, {step.verdict}")


async def _measure(swept: Sweep, rate: float) -> "Figures":
    from esctl.bench.generator import Generator, sources_of
    from esctl.bench.runner import TrialPlan
    from esctl.bench.trial import connecting, run_trial
    from esctl.bench.usage import looking_at
    from esctl.commands.bench.progress import watching
    from esctl.query.ringsurvey import ring_of

    settings = swept.settings
    plan = TrialPlan(settings["seconds"], settings["warmup_s"], rate, settings["batch"], settings["window"])
    sources = sources_of(await ring_of(swept.cluster))
    generator = Generator(secrets.token_hex(8), settings["size_bytes"], plan.events_a_batch, sources)
    title = f"{rate:,.0f} asked"
    async with watching(swept.run, title, plan.warmup_s + plan.seconds) as watch:

        def begun(load: "Load") -> None:
            swept.loads.append(load)
            watch(load)

        async with connecting(swept.cluster, plan) as log:
            trial = await run_trial(log, looking_at(swept.cluster), generator, plan, begun)
    return trial.figures()


def of_runs(runs: "Sequence[Figures]") -> "Figures":
    """The medians at one rate; of what should never be, such as failures, the worst run."""
    from esctl.bench.result import median

    return {
        name: max(run[name] or 0 for run in runs) if name in NEVER else median(run[name] for run in runs)
        for name in runs[0]
    }


def verdict_on(figures: "Figures", due: float, bound_ms: float) -> "SweepVerdict":
    """Whether a rate at which `due` events were to be sent holds, and if not, why."""
    p99 = figures["p99_ms"]
    if p99 is None:
        return "nothing acked"
    if figures["failed"]:
        return "failures"
    if (figures["unfinished"] or 0) > UNFINISHED * due:
        return "behind"
    return WITHIN if p99 <= bound_ms else "p99 over"


# --- the answer --------------------------------------------------------------------------------------


def _end(
    swept: Sweep, machine: "MachineData", cluster: "ClusterData", save: Path | None
) -> "Answer[SweepMeasured | UnmeasuredAnswer]":
    if not swept.steps:
        return screens.without_figures(swept.loads)
    result = result_of(swept.settings, swept.steps, swept.search, machine, cluster)
    answer = answer_of(result, swept.cluster.name, swept.bound_ms, swept.loads)
    return screens.with_file(swept.run, answer, result, save)


def result_of(
    settings: "SweepSettings",
    steps: Sequence[SweepStep],
    search: "Search",
    machine: "MachineData",
    cluster: "ClusterData",
) -> "SweepResult":
    """The document: its figures are those of the knee, its curves those of all rates."""
    from esctl.bench.result import Result

    by_rate = sorted(steps, key=lambda step: step.rate)
    knee = next((step for step in by_rate if step.rate == search.knee), None)
    found: dict[str, float | None] = {"knee_events_per_s": None if knee is None else knee.rate}
    if knee is not None:
        found |= {f"knee_{name}": value for name, value in knee.figures.items() if name in KNEE_FIGURES}
    return Result(
        kind="sweep",
        settings=settings,
        machine=machine,
        cluster=cluster,
        runs=[found],
        series={
            name: [(step.rate, value) for step in by_rate if (value := step.figures[name]) is not None]
            for name in ("p50_ms", "p99_ms", "p999_ms", "events_per_s")
        },
        detail={
            "knee": search.knee,
            "broken": search.broken,
            "steps": [step.as_data() for step in by_rate],
        },
    )


KNEE_FIGURES: Final = (
    "p50_ms", "p99_ms", "p999_ms", "nodes_cpu_us_per_event",
    "leader_cpu_us_per_event", "follower_cpu_us_per_event", "client_cpu_us_per_event",
)  # fmt: skip


def answer_of(
    result: "SweepResult", cluster: str, bound_ms: float, loads: Sequence["Load"]
) -> "Answer[SweepMeasured]":
    """The rates, the curve and the knee."""
    errors: list[Trouble] = []
    if result.detail["knee"] is None:
        errors.append(_no_knee(result, cluster, bound_ms, loads))
    views: list[View] = [_table(result), Fields(screens.where(result)), _curve(result), _verdict(result)]
    return Answer(result.to_json(), views, errors, Exit.INCONCLUSIVE if errors else Exit.OK)


def _no_knee(result: "SweepResult", cluster: str, bound_ms: float, loads: Sequence["Load"]) -> Trouble:
    broken = result.detail["broken"]
    assert broken is not None, "the first rate was within the bound, or it was not"
    why = result.detail["steps"][0]["verdict"]
    lower = max(1.0, broken / 10)
    error = Inconclusive(
        f"already {broken:,.0f} events/s broke the bound of {bound_ms:g} ms ({why})",
        next_step=f"esctl bench sweep --from {lower:g} --cluster {cluster}; or a wider --p99",
    )
    causes = screens.troubles(loads)
    return Trouble(error.code, str(error), causes[0].message if causes else error.title, error.next_step)


def _table(result: "SweepResult") -> Table:
    several = "partitions" in result.cluster
    columns = ["asked/s", "acked/s", "p50 ms", "p99 ms", "p99.9 ms"]
    columns += ["nodes µs" if several else "leader µs", "verdict"]
    rows: list[list[Value]] = [
        [
            round(step["rate"]),
            round(step["events_per_s"]),
            step["p50_ms"],
            step["p99_ms"],
            step["p999_ms"],
            step.get("nodes_cpu_us_per_event") if several else step["leader_cpu_us_per_event"],
            Cell(step["verdict"], Tone.GOOD if step["verdict"] == WITHIN else Tone.WARN),
        ]
        for step in result.detail["steps"]
    ]
    return Table(columns, rows)


def _curve(result: "SweepResult") -> Chart:
    return Chart(
        "latency",
        {"p50": result.series["p50_ms"], "p99": result.series["p99_ms"]},
        "events/s asked",
        "ms",
        log=True,
        bound=result.settings["bound_p99_ms"],
    )


def _verdict(result: "SweepResult") -> View:
    knee, broken, bound = result.detail["knee"], result.detail["broken"], result.settings["bound_p99_ms"]
    if knee is None:
        return Line(f"no rate was within a p99 of {bound:g} ms", Tone.WARN)
    p99 = screens.milliseconds(result.figures["knee_p99_ms"])
    text = f"the knee: {knee:,.0f} events/s, p99 {p99} ms within {bound:g} ms"
    ended = f"; broken at {broken:,.0f}" if broken is not None else "; none broke it: ask for more"
    return Line(text + ended, Tone.STRONG)
