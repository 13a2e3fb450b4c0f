"""What all measurements show alike: latencies, cost, where it was measured, and what is left behind.

Turns a `Result` into views; measures nothing. Called by the other modules of `esctl/commands/bench`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from esctl.cli import filesuffix
from esctl.cli.invocation import Invocation
from esctl.errors import Inconclusive, InvalidArgument, MachineRefused
from esctl.exits import Exit
from esctl.ui.answer import Answer, Chart, Line, Table, Tone, Trouble, Value, View

if TYPE_CHECKING:
    from esctl.bench.result import AnyResult, Figures, Measurement, Result
    from esctl.bench.runner import Load
    from esctl.bench.trial import LoadSettings, RateDetail
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import UnmeasuredAnswer

A = TypeVar("A", bound=Mapping[str, object])
S = TypeVar("S", bound="LoadSettings")
D = TypeVar("D", bound="RateDetail")
THROW_AWAY: Final = "bench"
"""The name that is suggested for a cluster of which nothing is to be kept."""
PERCENTILES: Final = ("p50", "p99", "p999", "max")


# --- figures ---------------------------------------------------------------------------------------


def latency_table(rows: "Sequence[tuple[str, Figures, str]]") -> Table:
    """A row for each (name, figures, prefix of the figures)."""
    columns = ["latency in ms", "p50", "p99", "p99.9", "max"]
    drawn: list[list[Value]] = [
        [name, *(figures.get(f"{prefix}{percentile}_ms") for percentile in PERCENTILES)]
        for name, figures, prefix in rows
    ]
    return Table(columns, drawn)


def latency_rows(result: "AnyResult", name: str, prefix: str = "") -> "list[tuple[str, Figures, str]]":
    """The median, and with several runs the lowest and the highest of each figure."""
    if len(result.runs) == 1:
        return [(name, result.figures, prefix)]
    low, high = result.extremes
    return [
        (f"{name}, median", result.figures, prefix),
        ("  lowest run", low, prefix),
        ("  highest run", high, prefix),
    ]


def events_per_s(result: "AnyResult", what: str) -> Line:
    """The first line: how many events a second; of several runs the median, and the range."""
    figures = result.figures
    text = f"{figures['events_per_s'] or 0:,.0f} events/s {what}"
    if len(result.runs) > 1:
        low, high = result.extremes
        ends = f"{low['events_per_s'] or 0:,.0f} to {high['events_per_s'] or 0:,.0f}"
        text += f" ({len(result.runs)} runs: {ends})"
    return Line(text, Tone.STRONG)


def milliseconds(value: float | None) -> str:
    """For a sentence."""
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def outcome(figures: "Figures", *, also: str = "") -> str:
    """What became of the events; `also` names a further count."""
    names = ["failed", "unknown", *([also] if also else [])]
    return ", ".join(
        [f"{figures['acked'] or 0:,.0f}", *(f"{name} {figures[name] or 0:,.0f}" for name in names)]
    )


def cost(figures: "Figures", roles: Sequence[str] = ("leader", "follower", "nodes", "client")) -> str | None:
    """Processor time of an event, by who spends it."""
    parts = [
        f"{role} {value:.2f}"
        for role in roles
        if (value := figures.get(f"{role}_cpu_us_per_event")) is not None
    ]
    return f"{', '.join(parts)} µs an event" if parts else None


def memory(figures: "Figures") -> str | None:
    """Resident memory, in MB."""
    parts = [
        f"{role} {value / 1e6:.0f} MB"
        for role in ("leader", "follower", "node")
        if (value := figures.get(f"{role}_rss_bytes")) is not None
    ]
    return ", ".join(parts) if parts else None


def where(result: "AnyResult") -> list[tuple[str, Value]]:
    """The cluster and the machine, a line each."""
    cluster, machine = result.cluster, result.machine
    nodes = "one node" if cluster["nodes"] == 1 else f"{cluster['nodes']} nodes"
    if "partitions" in cluster:
        nodes += f", {cluster['partitions']} partitions"
    busy = machine.get("load_average")
    return [
        ("cluster", f"{nodes}, {cluster['storage']}, {cluster['durability']}"),
        (
            "machine",
            f"{machine['cpus']} CPUs, {machine['cpu'] or machine['machine']}, Python {machine['python']}"
            + (f", load {busy:g} before" if busy is not None else ""),
        ),
    ]


def throughput(result: "AnyResult", what: str) -> Chart:
    """The events second by second, drawn; `what` became of them."""
    points = result.series.get("events_per_s", ())
    return Chart(f"events {what} a second", {"events/s": points}, "seconds", from_zero=True, height=6)


def without_ack(result: "AnyResult") -> list[View]:
    """What is in no percentile, if anything: events without an ack, the warm-up's too."""
    missing = sum(int((run["failed"] or 0) + (run["unknown"] or 0)) for run in result.runs)
    if not missing:
        return []
    return [Line(f"{missing:,} events got no ack, and are in no latency", Tone.WARN)]


def overload(result: "Result[LoadSettings, RateDetail]") -> list[View]:
    """That the log did not take what was asked of it, if so: what the figures are those of then."""
    if result.detail["rate_reached"] is not False:
        return []
    rate = result.settings["rate_per_s"]
    return [Line(f"the log did not keep up with {rate:,.0f} events/s: this is an overload", Tone.WARN)]


def ended(
    result: "Result[S, D]", errors: Sequence[Trouble], views: Sequence[View]
) -> "Answer[Measurement[S, D]]":
    """How a measurement ends: with what went wrong, or inconclusive where it is that of an overload."""
    if not errors and not any(run["events_per_s"] for run in result.runs):
        nothing = Inconclusive(
            "no event was acked, so there is nothing to measure", next_step="esctl status health"
        )
        return Answer(result.to_json(), views, [Trouble.of(nothing)], Exit.INCONCLUSIVE)
    if result.detail["rate_reached"] is not False:
        return Answer(result.to_json(), views, errors, Exit.ERROR if errors else Exit.OK)
    rate, slowest = result.settings["rate_per_s"], min(run["events_per_s"] or 0.0 for run in result.runs)
    error = Inconclusive(
        f"the rate was not reached: {slowest:,.0f} of {rate:,.0f} events/s; the latencies are an overload's",
        next_step="take a lower --rate; to find the highest that holds: esctl bench sweep",
    )
    every = [*errors, Trouble.of(error)]
    return Answer(result.to_json(), views, every, Exit.ERROR if errors else Exit.INCONCLUSIVE)


# --- what is left behind -----------------------------------------------------------------------------


def added(loads: Sequence["Load"], cluster: "Cluster") -> str:
    """What the command leaves in the log, in one line."""
    return left_in_the_log(sum(load.acked for load in loads), sum(load.unknown for load in loads), cluster)


def left_in_the_log(acked: int, unknown: int, cluster: "Cluster") -> str:
    """So many events for certain and so many perhaps, and what to do about it."""
    more = f", and up to {unknown:,} more," if unknown else ""
    text = f"{acked:,} generated events{more} stay in {cluster.name}"
    if cluster.name == THROW_AWAY:
        return f"{text}; next: esctl cluster destroy {THROW_AWAY}"
    return f"{text}; for a throw-away cluster: esctl cluster up {THROW_AWAY}"


def without_figures(loads: Sequence["Load"]) -> "Answer[UnmeasuredAnswer]":
    """After Ctrl-C in the first run: what was acked."""
    if not loads:
        return Answer()
    acked = sum(load.acked for load in loads)
    data: UnmeasuredAnswer = {
        "acked_in_all": acked,
        "failed": sum(load.failed for load in loads),
        "unknown": sum(load.unknown for load in loads),
    }
    return Answer(data, [Line(f"{acked:,} events were acked; there are no figures")])


def check_name(save: Path | None) -> None:
    """Refuse a name that ends as no result does."""
    if save is not None:
        filesuffix.form_of(save, {".json": "a result"})


def check_place(save: Path | None) -> None:
    """Refuse, before anything is measured, a file that cannot be written afterwards."""
    from esctl.bench import result  # loaded late: most of `bench` does without

    if save is None:
        return
    check_name(save)
    if save.is_dir():
        raise InvalidArgument(f"{save} is a directory", next_step=f"--save {save / 'result.json'}")
    result.check_place(save)


def with_file(run: Invocation, answer: Answer[A], result: "AnyResult", save: Path | None) -> Answer[A]:
    """The answer, once its result is written; what was measured is shown also where that fails."""
    from esctl.bench.result import save as write

    if save is None:
        return answer
    try:
        write(result, save)
    except MachineRefused as error:
        code = answer.exit_code or Exit.ERROR
        return replace(answer, errors=(*answer.errors, Trouble.of(error)), exit_code=code)
    run.terminal.note(f"the result is in {save}")
    return answer


def troubles(loads: Sequence["Load"]) -> list[Trouble]:
    """Why events got no ack; or that none did."""
    from esnode.errors import OperationTimeout, declared

    counts: dict[str, int] = {}
    for load in loads:
        for code, count in load.errors.items():
            counts[code] = counts.get(code, 0) + count
    errors = [
        Trouble(code, f"{count:,} events got no ack: {declared()[code].title}", "",
                declared()[code].next_step)
        for code, count in sorted(counts.items())
    ]  # fmt: skip
    if not errors and any(not load.acked for load in loads):
        late = OperationTimeout("nothing was acked", next_step="esctl status health")
        errors.append(Trouble.of(late))
    return errors
