"""The picture that `esctl top` shows: what fits in so many columns and lines.

Pure: views from a state and a size. A narrow terminal gets the columns that matter most, a high one a curve
as well. Decides nothing about the cluster. Called by `esctl top`.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from esctl.clusters.backends.interface import RunState
from esctl.observe.top.answers import TopAnswer, TopRow
from esctl.observe.top.rates import Rates, Track, now
from esctl.query.survey import Report, Survey
from esctl.ui.answer import Cell, Chart, Line, Table, Tone, Value, View
from esctl.ui.formatting import duration, megabytes
from esctl.ui.sparkline import spark

_Figure = Literal["id", "role", "events_per_s", "lag_events", "next_offset", "rss_bytes", "cpu_percent"]
WIDE: Final = 120
"""From so many columns on there is room for everything about a node."""
NARROW: Final = 72
"""Below that there is room for the log only."""
LEAST_CURVE: Final = 6
MOST_CURVE: Final = 14
"""Lines of a curve within its frame."""
FRAME: Final = 5
"""Lines that a curve takes beside that."""
OTHER_LINES: Final = 13
"""What the picture takes beside its nodes, faults and curves."""
MOST_FAULTS: Final = 3
GAP: Final = 3
"""What a column of a table takes beside its text."""
LEAST_SPARK: Final = 6
MOST_SPARK: Final = 60


@dataclass(slots=True)
class BoardState:
    """What there is to show: the last look, what came before it, and what the operator is doing."""

    survey: Survey
    rates: Rates
    selected: int
    faults: Sequence[str] = ()
    """What is broken on purpose, a line each."""
    question: str = ""
    """What is about to be done; empty unless an answer is waited for."""
    message: str = ""
    """What the last key came to."""
    trouble: bool = False
    """Is the message a bad one?"""
    unicode: bool = True
    """Can the terminal show the bars of a sparkline?"""


def body(shown: BoardState, width: int, height: int) -> list[View]:
    """The upper part: the cluster, its nodes, what is broken on purpose."""
    survey, rates = shown.survey, shown.rates
    served = survey.may_fail >= 0 and survey.leader is not None
    tone = (Tone.WARN if survey.down else Tone.GOOD) if served else Tone.BAD
    line = max(10, min(80, width - 34))
    views: list[View] = [
        Line(f"{survey.cluster.name}: {survey.state_text}, term {survey.term}", tone),
        Line(_series(shown, "events/s", rates.events_per_s, "", line)),
        Line(_series(shown, "read", rates.read_ms, "ms", line)),
        Line(""),
        _nodes(shown, width),
        Line(""),
    ]
    if not shown.faults:
        views.append(Line("no faults are active", Tone.DIM))
    views += [Line(text, Tone.WARN) for text in shown.faults[:MOST_FAULTS]]
    if len(shown.faults) > MOST_FAULTS:
        views.append(Line(f"and {len(shown.faults) - MOST_FAULTS} more: esctl fault ls", Tone.WARN))
    return [*views, *_curves(shown, height)]


def foot(shown: BoardState, width: int) -> list[View]:
    """The lower part: what was done, or is asked, and the keys."""
    if shown.question:
        asked = [Line(text, Tone.STRONG) for text in _broken(shown.question, width)]
        return [*asked, Line("y does it, any other key does not", Tone.ACCENT)]
    tone = Tone.WARN if shown.trouble else Tone.NORMAL
    said = [Line(text, tone) for text in _broken(shown.message, width)]
    return [*said, Line("arrows select  p pause/resume  t transfer  f fault/heal  q quit", Tone.DIM)]


def _broken(text: str, width: int) -> list[str]:
    """The text in lines that fit, each of its own lines anew: what is asked must not be cut."""
    return [part for line in text.splitlines() for part in textwrap.wrap(line, max(1, width))]


def record(shown: BoardState) -> TopAnswer:
    """The same figures for programs."""
    survey, rates = shown.survey, shown.rates
    return {
        "cluster": survey.cluster.name,
        "leader": survey.leader.node.id if survey.leader is not None else None,
        "term": survey.term or None,
        "quorum": survey.quorum_data(),
        "events_per_s": _rounded(now(rates.events_per_s)),
        "read_ms": _rounded(now(rates.read_ms), 2),
        "faults": list(shown.faults),
        "nodes": [_node_record(shown, report) for report in survey.reports],
    }


def plain(shown: BoardState, time: str) -> list[list[str]]:
    """The same figures in cells, a row a node, each with the time in front."""
    rows = []
    for one in record(shown)["nodes"]:
        names: Sequence[_Figure] = get_args(_Figure)
        rows.append([time, *("-" if one[name] is None else str(one[name]) for name in names)])
    return rows


def _series(shown: BoardState, name: str, known: Iterable[float | None], unit: str, width: int) -> str:
    """The name, the newest figure, and a sparkline of those before it."""
    figures = list(known)
    value = figures[-1] if figures else None
    text = "-" if value is None else f"{value:,.1f} {unit}" if unit else f"{value:,.0f}"
    return f"{name:<9} {text:>12}  {spark(figures, width, unicode=shown.unicode)}"


def _nodes(shown: BoardState, width: int) -> Table:
    """The nodes, the selected one marked, with a sparkline in what room is left."""
    plain = figures(shown, width)
    marks = [">" if report.node.id == shown.selected else " " for report in shown.survey.reports]
    taken = sum(
        GAP + max(len(column), *(len(_text(row[place])) for row in plain.rows))
        for place, column in enumerate(plain.columns)
    )
    room = max(LEAST_SPARK, min(MOST_SPARK, width - taken - 3 * GAP))
    rows = [
        [
            f"{mark} {_text(row[0])}",
            *row[1:],
            spark(shown.rates.track(report.node.id).events_per_s, room, unicode=shown.unicode),
        ]
        for mark, row, report in zip(marks, plain.rows, shown.survey.reports, strict=True)
    ]
    return Table([*plain.columns, "lately"], rows)


def figures(shown: BoardState, width: int) -> Table:
    """The nodes without what only a screen needs, in the columns that fit."""
    columns = ["node", "role", "events/s", "lag", "next", "memory", "cpu"]
    columns += ["term", "applied", "up for", "process"]
    count = 5 if width < NARROW else 7 if width < WIDE else len(columns)
    rows = [_row(shown, report)[:count] for report in shown.survey.reports]
    return Table(columns[:count], rows)


def _row(shown: BoardState, report: Report) -> list[Value]:
    track = shown.rates.track(report.node.id)
    lag = shown.survey.behind(report, "next_offset")
    return [
        report.node.id,
        _role(shown.survey, report),
        _figure(now(track.events_per_s)),
        Cell(lag, Tone.WARN) if lag else lag,
        report.number("next_offset"),
        megabytes(report.number("rss_bytes") or report.process.rss_bytes),
        _percent(track),
        report.number("term"),
        report.number("applied_index"),
        duration(report.process.uptime_s),
        str(report.process.pid) if report.process.pid else None,
    ]


def _text(value: Value) -> str:
    """As the terminal shows it."""
    inner = value.value if isinstance(value, Cell) else value
    return "-" if inner is None else f"{inner:,}" if isinstance(inner, int) else str(inner)


def _role(survey: Survey, report: Report) -> Cell:
    if report.status is None:
        paused = report.process.state is RunState.PAUSED
        running = report.process.state is RunState.RUNNING
        return Cell(
            "paused" if paused else "silent" if running else "down", Tone.WARN if paused else Tone.BAD
        )
    if report.leads:
        return Cell("leader", Tone.GOOD) if report == survey.leader else Cell("outvoted", Tone.WARN)
    if report.rejoining:
        return Cell("rejoins", Tone.WARN)
    role = str(report.status["role"])
    return Cell(role.removeprefix("pre-"), Tone.NORMAL if role == "follower" else Tone.WARN)


def _curves(shown: BoardState, height: int) -> list[View]:
    """Events a second, and below it how long a read took, where there is room for curves."""
    left = height - OTHER_LINES - len(shown.survey.reports) - min(len(shown.faults), MOST_FAULTS + 1)
    count = min(2, left // (LEAST_CURVE + FRAME))
    if count <= 0:
        return []
    lines = min(MOST_CURVE, left // count - FRAME)
    rates = shown.rates
    series = {"events/s": (rates.events_per_s, ""), "a confirmed read": (rates.read_ms, "ms")}
    charts: list[View] = []
    for title, (known, unit) in list(series.items())[:count]:
        first = 1 - len(known)
        points = [(float(first + at), value) for at, value in enumerate(known) if value is not None]
        curve = {title: points}
        charts.append(Chart(title, curve, "the latest looks", unit, from_zero=True, height=lines))
    return charts


def _figure(value: float | None) -> Value:
    return None if value is None else round(value)


def _percent(track: Track) -> str | None:
    value = now(track.cpu_percent)
    return None if value is None else f"{value:.0f} %"


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)


def _node_record(shown: BoardState, report: Report) -> TopRow:
    track = shown.rates.track(report.node.id)
    return {
        "id": report.node.id,
        "up": report.up,
        "state": report.process.state,
        "role": (report.status or {}).get("role"),
        "events_per_s": _rounded(now(track.events_per_s)),
        "lag_events": shown.survey.behind(report, "next_offset"),
        "next_offset": report.number("next_offset"),
        "rss_bytes": report.number("rss_bytes") or report.process.rss_bytes,
        "cpu_percent": _rounded(now(track.cpu_percent)),
        "faults": [fault["id"] for fault in report.faults],
    }
