"""`esctl status metrics`: single figures of a cluster for monitors.

Ends with the exit codes of `esctl`, but for `--format nagios`, which wants its own: 0 ok, 1 warning, 2
critical, 3 unknown. A scrape (`--format prometheus`) has worked when it has figures, good or bad: 0.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypedDict

import typer

from esctl.cli.invocation import Invocation
from esctl.errors import InvalidArgument, PastThreshold
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Cell, Table, Tone, Trouble, Value
from esctl.ui.terminal import Output, Terminal
from esctl.ui.values import ClusterName
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esctl.observe.diagnosis.situation import Situation
    from esctl.observe.monitoring.probes import Probe, ProbeReading, ReadingData, StateWord

ALL: Final = "all"
_TONES: Final = (Tone.GOOD, Tone.WARN, Tone.BAD, Tone.DIM)


class MetricsAnswer(TypedDict):
    """Single figures, and the worst of their states."""

    cluster: ClusterName
    state: "StateWord"
    checks: "list[ReadingData]"


def metrics(
    run: Invocation,
    probe: Annotated[
        Literal["quorum", "leader", "lag", "disk", "faults", "window", "memory", "all"],
        typer.Argument(help="Figure to read"),
    ] = "all",
    warn: Annotated[
        float | None,
        typer.Option(
            "--warn",
            metavar="X",
            help="Warning threshold: an upper limit, or a lower limit for quorum and disk",
        ),
    ] = None,
    crit: Annotated[
        float | None,
        typer.Option(
            "--crit",
            metavar="Y",
            help="Critical threshold: an upper limit, or a lower limit for quorum and disk",
        ),
    ] = None,
    form: Annotated[
        Literal["nagios", "prometheus", "json"] | None,
        typer.Option(
            "--format", help="Output format for a monitoring system (nagios uses its own exit codes, 0 to 3)"
        ),
    ] = None,
) -> Answer[MetricsAnswer] | None:
    """Print figures for monitoring: spare nodes, read latency, lag, disk space, faults, window, memory"""
    if form == "json":
        run.terminal.output = Output.JSON
    if form != "nagios":
        wanted = _wanted(probe, warn, crit)
        seen = _look(run)
        return _answer(run, seen, _read(wanted, seen), form, everything=probe == ALL)
    from esctl.observe.monitoring import nagios
    from esctl.observe.monitoring.probes import ProbeState, worst

    try:
        wanted = _wanted(probe, warn, crit)
        seen = _look(run)
    except EventStreamError as error:
        _raw(nagios.unknown(f"{error}; next: {error.next_step}"))
        raise typer.Exit(ProbeState.UNKNOWN) from error
    readings = _read(wanted, seen)
    _raw(nagios.line(readings))
    if worst(readings):
        raise typer.Exit(worst(readings))
    return None


def _wanted(name: str, warn: float | None, crit: float | None) -> list["Probe"]:
    """The probes with their thresholds; raises `InvalidArgument`."""
    from esctl.observe.monitoring.probes import PROBES

    chosen = [probe for probe in PROBES if name in (ALL, probe.name)]
    if warn is None and crit is None:
        return chosen
    if name == ALL:
        raise InvalidArgument(
            "--warn and --crit are for one figure, and all have different ones",
            next_step="esctl status metrics lag --warn 1000 --crit 10000",
        )
    (probe,) = chosen
    # A threshold that is given alone moves the other one out of its way.
    wanted = replace(
        probe,
        warn=warn if warn is not None else _bound(probe, crit, probe.warn),
        crit=crit if crit is not None else _bound(probe, warn, probe.crit, outer=True),
    )
    if (wanted.warn < wanted.crit) if probe.falling else (wanted.warn > wanted.crit):
        way = "below" if probe.falling else "above"
        raise InvalidArgument(
            f"critical is worse than a warning: for {name} --warn {wanted.warn:g} must not be {way} --crit"
            f" {wanted.crit:g}",
            next_step="esctl status metrics --help",
        )
    return [wanted]


def _bound(probe: "Probe", given: float | None, own: float, *, outer: bool = False) -> float:
    """The probe's own threshold, or the given one where that lies beyond it."""
    assert given is not None
    upwards = outer is not probe.falling
    return max(own, given) if upwards else min(own, given)


def _look(run: Invocation) -> "Sequence[Situation]":
    from esctl.observe.diagnosis import collect  # loaded late: it brings trio and the client

    cluster = run.cluster()
    return run.trio(lambda: collect.gather_all(cluster))


def _read(wanted: list["Probe"], seen: "Sequence[Situation]") -> list["ProbeReading"]:
    from esctl.observe.monitoring.probes import read_all

    return [read_all(probe, seen) for probe in wanted]


def _answer(
    run: Invocation,
    every: "Sequence[Situation]",
    readings: list["ProbeReading"],
    form: str | None,
    *,
    everything: bool,
) -> Answer[MetricsAnswer] | None:
    from esctl.observe.monitoring import exposition
    from esctl.observe.monitoring.probes import ProbeState, worst

    if form == "prometheus":
        lines = exposition.exposition(every, readings) if everything else exposition.checks(every, readings)
        _raw(*lines)
        return None
    name, state = every[0].survey.cluster.name, worst(readings)
    data: MetricsAnswer = {
        "cluster": name,
        "state": state.word,
        "checks": [one.as_data(several=len(every) > 1) for one in readings],
    }
    rows: list[list[Value]] = [
        [one.probe.name, Cell(one.state.word, _TONES[one.state]), one.value, one.probe.unit, one.text]
        for one in readings
    ]
    views = [Table(["figure", "state", "value", "", "what"], rows)]
    if not any(seen.survey.up for seen in every):
        return Answer(data, views, [every[0].survey.nobody], Exit.UNREACHABLE)
    if state is ProbeState.OK:
        return Answer(data, views)
    bad = [one for one in readings if one.state is not ProbeState.OK]
    what = f"{len(bad)} of {len(readings)} figures of {name} are not well" if everything else bad[0].text
    cause = "; ".join(f"{one.probe.name} is {one.state.word}: {one.text}" for one in bad)
    trouble = Trouble(PastThreshold.code, what, cause, f"esctl why --cluster {name}")
    return Answer(data, views, [trouble], exit_of(PastThreshold))


def _raw(*lines: str) -> None:
    """Print what another program reads, as it is."""
    terminal = Terminal(Output.PLAIN)
    for line in lines:
        terminal.record({}, line)
    terminal.flush()
