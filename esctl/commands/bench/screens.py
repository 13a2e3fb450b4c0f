"""What all measurements show alike: latencies, cost, where it was measured, and what is left behind.

Turns a `Result` into views; measures nothing. Called by the other modules of `esctl/commands/bench`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esctl.answer import Answer, Chart, Line, Table, Tone, Trouble, Value, View
from esctl.errors import InputUnreadable, InvalidArgument
from esctl.exits import Exit
from esctl.invocation import Invocation

if TYPE_CHECKING:
    from esctl.load.result import Result
    from esctl.load.runner import Load
    from esctl.state import Cluster

THROW_AWAY: Final = "bench"
"""The name that is suggested for a cluster of which nothing is to be kept."""
PERCENTILES: Final = ("p50", "p99", "p999", "max")

Figures = Mapping[str, float | None]


# --- figures ---------------------------------------------------------------------------------------


def latency_table(rows: Sequence[tuple[str, Figures, str]]) -> Table:
    """A row for each (name, figures, prefix of the figures)."""
    columns = ["latency in ms", "p50", "p99", "p99.9", "max"]
    drawn: list[list[Value]] = [
        [name, *(figures.get(f"{prefix}{percentile}_ms") for percentile in PERCENTILES)]
        for name, figures, prefix in rows
    ]
    return Table(columns, drawn)


def latency_rows(result: "Result", name: str, prefix: str = "") -> list[tuple[str, Figures, str]]:
    """The median, and with several runs the lowest and the highest of each figure."""
    if len(result.runs) == 1:
        return [(name, result.figures, prefix)]
    low, high = extremes(result)
    return [
        (f"{name}, median", result.figures, prefix),
        ("  lowest run", low, prefix),
        ("  highest run", high, prefix),
    ]


def extremes(result: "Result") -> tuple[Figures, Figures]:
    """The lowest and the highest value that any run has, of each figure."""
    lowest: dict[str, float | None] = {}
    highest: dict[str, float | None] = {}
    for name in result.figures:
        known = [value for run in result.runs if (value := run.get(name)) is not None]
        lowest[name] = min(known, default=None)
        highest[name] = max(known, default=None)
    return lowest, highest


def events_per_s(result: "Result", what: str) -> Line:
    """The first line: how many events a second; of several runs the median, and the range."""
    figures = result.figures
    text = f"{figures['events_per_s'] or 0:,.0f} events/s {what}"
    if len(result.runs) > 1:
        low, high = extremes(result)
        ends = f"{low['events_per_s'] or 0:,.0f} to {high['events_per_s'] or 0:,.0f}"
        text += f" ({len(result.runs)} runs: {ends})"
    return Line(text, Tone.STRONG)


def milliseconds(value: float | None) -> str:
    """For a sentence."""
    return "-" if value is None else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def outcome(figures: Figures, *, also: str = "") -> str:
    """What became of the events; `also` names a further count."""
    names = ["failed", "unknown", *([also] if also else [])]
    return ", ".join(
        [f"{figures['acked'] or 0:,.0f}", *(f"{name} {figures[name] or 0:,.0f}" for name in names)]
    )


def cost(figures: Figures, roles: Sequence[str] = ("leader", "follower", "client")) -> str | None:
    """Processor time of an event, by who spends it."""
    parts = [
        f"{role} {value:.2f}"
        for role in roles
        if (value := figures.get(f"{role}_cpu_us_per_event")) is not None
    ]
    return f"{', '.join(parts)} µs an event" if parts else None


def memory(figures: Figures) -> str | None:
    """Resident memory, in MB."""
    parts = [
        f"{role} {value / 1e6:.0f} MB"
        for role in ("leader", "follower")
        if (value := figures.get(f"{role}_rss_bytes")) is not None
    ]
    return ", ".join(parts) if parts else None


def where(result: "Result") -> list[tuple[str, Value]]:
    """The cluster and the machine, a line each."""
    cluster, machine = result.cluster, result.machine
    nodes = "one node" if cluster["nodes"] == 1 else f"{cluster['nodes']} nodes"
    busy = machine.get("load_average")
    return [
        ("cluster", f"{nodes}, {cluster['storage']}, {cluster['durability']}"),
        (
            "machine",
            f"{machine['cpus']} CPUs, {machine['cpu'] or machine['machine']}, Python {machine['python']}"
            + (f", load {busy:g} before" if busy is not None else ""),
        ),
    ]


def curves(result: "Result") -> list[View]:
    """The series of a run second by second, drawn."""
    throughput, latency = result.series.get("events_per_s", ()), result.series.get("p99_ms", ())
    return [
        Chart("events acked a second", {"events/s": list(throughput)}, "seconds", from_zero=True, height=6),
        Chart("p99", {"p99": list(latency)}, "seconds", "ms", height=6),
    ]


def overload(result: "Result") -> list[View]:
    """That the log did not take what was asked of it, if so: what the figures are those of then."""
    from esctl.load.trial import kept_up

    rate = result.settings["rate_per_s"]
    if not rate or kept_up(result.figures, rate):
        return []
    return [Line(f"the log did not keep up with {rate:,.0f} events/s: this is an overload", Tone.WARN)]


# --- what is left behind -----------------------------------------------------------------------------


def added(loads: Sequence["Load"], cluster: "Cluster") -> str:
    """What the command leaves in the log, in one line."""
    acked, lost_sight_of = sum(load.acked for load in loads), sum(load.unknown for load in loads)
    unknown = f", and up to {lost_sight_of:,} more" if lost_sight_of else ""
    text = f"{acked:,} generated events{unknown} are in the log of {cluster.name} now, for good"
    if cluster.name == THROW_AWAY:
        return f"{text}; next, when done: esctl cluster destroy {THROW_AWAY}"
    return f"{text}; for a throw-away one: esctl cluster up {THROW_AWAY}"


def without_figures(loads: Sequence["Load"]) -> Answer:
    """After Ctrl-C in the first run: what was acked."""
    if not loads:
        return Answer()
    acked = sum(load.acked for load in loads)
    data = {
        "acked_in_all": acked,
        "failed": sum(load.failed for load in loads),
        "unknown": sum(load.unknown for load in loads),
    }
    return Answer(data, [Line(f"{acked:,} events were acked; there are no figures")])


def check_place(save: Path | None) -> None:
    """Refuse, before anything is measured, a file that cannot be written afterwards."""
    if save is None:
        return
    if save.is_dir():
        raise InvalidArgument(f"{save} is a directory", next_step=f"--save {save / 'result.json'}")
    try:
        save.parent.mkdir(parents=True, exist_ok=True)
        with save.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise InputUnreadable(f"cannot write {save}: {error.strerror}") from error


def with_file(run: Invocation, answer: Answer, result: "Result", save: Path | None) -> Answer:
    """The answer, once its result is written; what was measured is shown also where that fails."""
    from esctl.load.result import save as write

    if save is None:
        return answer
    try:
        write(result, save)
    except InputUnreadable as error:
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
        late = OperationTimeout("nothing was acked", next_step="esctl health")
        errors.append(Trouble.of(late))
    return errors
