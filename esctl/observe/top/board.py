"""The first page of `esctl top`: the cluster, its nodes, and what fits of their curves; and the last lines.

Pure: views from a state and a size. A narrow terminal gets the columns that matter most, a high one more
curves. Decides nothing about the cluster. Called by `pages.py` and `esctl top`.
"""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

from esctl.clusters.backends.interface import RunState
from esctl.observe.top import curves
from esctl.observe.top.answers import TopAnswer, TopRow
from esctl.observe.top.keys import hints
from esctl.observe.top.rates import Track, now
from esctl.observe.top.state import BoardState
from esctl.query.survey import Report, Survey
from esctl.ui.answer import Cell, Line, Table, Tone, Value, View
from esctl.ui.formatting import duration, leaders_named, megabytes
from esctl.ui.sparkline import spark

_Figure = Literal["id", "role", "events_per_s", "lag_events", "next_offset", "rss_bytes", "cpu_percent"]
WIDE: Final = 120
"""From so many columns on there is room for everything about a node."""
NARROW: Final = 72
"""Below that there is room for the log only."""
OTHER_LINES: Final = 6
"""What the page takes beside its nodes, faults, curves and last lines."""
MOST_FAULTS: Final = 3
GAP: Final = 3
"""What a column of a table takes beside its text."""
LEAST_SPARK: Final = 6
MOST_SPARK: Final = 60


def body(shown: BoardState, width: int, height: int) -> list[View]:
    """The cluster, its nodes, what is broken on purpose, and curves in what room `height` leaves."""
    views: list[View] = [*head(shown), Line(""), _nodes(shown, width), Line("")]
    if not shown.faults:
        views.append(Line("no faults are active", Tone.DIM))
    views += [Line(text, Tone.BROKEN) for text in shown.faults[:MOST_FAULTS]]
    if len(shown.faults) > MOST_FAULTS:
        views.append(Line(f"and {len(shown.faults) - MOST_FAULTS} more: esctl fault ls", Tone.BROKEN))
    taken = (
        OTHER_LINES
        + shown.several
        + len(shown.survey.reports)
        + max(1, min(len(shown.faults), MOST_FAULTS + 1))
    )
    room = height - taken - len(foot(shown, width))
    return [*views, *curves.grid(curves.of_cluster(shown.rates, width), width, room)]


def head(shown: BoardState) -> list[View]:
    """How the cluster is, in two lines: red when one more node takes the majority away."""
    survey, rates = shown.survey, shown.rates
    figures = [
        curves.told("appends: p50", rates.append_p50_ms, "ms"),
        curves.told("p99", rates.append_p99_ms, "ms"),
        curves.told("confirmed read", rates.read_ms, "ms"),
    ]
    parts = [(f"   {text}", Tone.NORMAL) for text in figures]
    where = survey.cluster.name if survey.partition is None else f"partition {survey.partition}"
    return [
        *_ring(shown),
        Line(f"{where}: {survey.state_text}, term {survey.term}", tone_of(survey)),
        Line(curves.told("events/s", rates.events_per_s), Tone.STRONG, parts),
    ]


def _ring(shown: BoardState) -> list[Line]:
    """All partitions in a line, where there are several: as bad as the worst of them."""
    ring = shown.ring
    if ring is None:
        return []
    rate = _sum(now(shown.rates_of(one.partition).events_per_s) for one in ring.partitions)
    told = "" if rate is None else f"{rate:,.0f} events/s in all; "
    leaders = leaders_named([one["leader"] for one in ring.leaders()])
    return [Line(f"{ring.cluster.name}: {told}{leaders}", tone_of(ring.worst))]


def _sum(figures: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def tone_of(survey: Survey) -> Tone:
    """Green while as many may fail as ever; red when no majority is left, or would be with one node less.

    One node, or two, never have a margin: that is no news.
    """
    usual = len(survey.cluster.nodes) - survey.cluster.quorum
    if not survey.serves or survey.may_fail <= 0 < usual:
        return Tone.BAD
    return Tone.GOOD if survey.may_fail == usual > 0 else Tone.WARN


def foot(shown: BoardState, width: int) -> list[View]:
    """What was done, or is asked, and the keys."""
    if shown.question:
        asked = [Line(text, Tone.STRONG) for text in broken(shown.question, width)]
        return [*asked, Line(shown.choice, Tone.ACCENT)]
    tone = Tone.WARN if shown.trouble else Tone.NORMAL
    keys: list[tuple[str, Tone]] = []
    for key, word in hints(shown.page, broken=bool(shown.faults), several=shown.several):
        keys += [("  " if keys else "", Tone.DIM), (key, Tone.ACCENT), (f" {word}", Tone.DIM)]
    return [*(Line(text, tone) for text in broken(shown.message, width)), Line("", more=keys)]


def broken(text: str, width: int) -> list[str]:
    """The text in lines that fit, each of its own lines anew: what is asked must not be cut."""
    return [part for line in text.splitlines() for part in textwrap.wrap(line, max(1, width)) or [""]]


def record(shown: BoardState) -> TopAnswer:
    """The same figures for programs."""
    survey, rates = shown.survey, shown.rates
    data: TopAnswer = {
        "cluster": survey.cluster.name,
        "leader": survey.leader.node.id if survey.leader is not None else None,
        "term": survey.term or None,
        "quorum": survey.quorum_data(),
        "events_per_s": _rounded(now(rates.events_per_s)),
        "append_p50_ms": now(rates.append_p50_ms),
        "append_p99_ms": now(rates.append_p99_ms),
        "read_ms": _rounded(now(rates.read_ms), 2),
        "faults": list(shown.faults),
        "nodes": [_node_record(shown, report) for report in survey.reports],
    }
    if shown.ring is not None and survey.partition is not None:
        data["partition"] = survey.partition
        data["partitions"] = [
            {**one, "events_per_s": _rounded(now(shown.rates_of(one["id"]).events_per_s))}
            for one in shown.ring.leaders()
        ]
    return data


def partitions(shown: BoardState) -> Table:
    """A row for each of several partitions."""
    rows: list[list[Value]] = [
        [
            str(one["id"]),
            Cell(f"node {one['leader']}", Tone.GOOD) if one["leader"] else Cell("none", Tone.BAD),
            _figure(now(shown.rates_of(one["id"]).events_per_s)),
        ]
        for one in (shown.ring.leaders() if shown.ring is not None else ())
    ]
    return Table(["partition", "leader", "events/s"], rows)


def plain(shown: BoardState, time: str) -> list[list[str]]:
    """The same figures in cells, a row a node, each with the time in front."""
    rows = []
    for one in record(shown)["nodes"]:
        names: Sequence[_Figure] = get_args(_Figure)
        rows.append([time, *("-" if one[name] is None else str(one[name]) for name in names)])
    return rows


def _nodes(shown: BoardState, width: int) -> Table:
    """The nodes, the selected one marked, with a sparkline in what room is left."""
    plain = figures(shown, width)
    marks = [">" if report.node.id == shown.selected else " " for report in shown.survey.reports]
    tones = [Tone.STRONG if mark == ">" else Tone.NORMAL for mark in marks]
    taken = sum(
        GAP + max(len(column), *(len(_text(row[place])) for row in plain.rows))
        for place, column in enumerate(plain.columns)
    )
    room = max(LEAST_SPARK, min(MOST_SPARK, width - taken - 3 * GAP))
    rows = [
        [
            Cell(f"{mark} {_text(row[0])}", tone),
            *row[1:],
            spark(shown.rates.track(report.node.id).events_per_s, room, unicode=shown.unicode),
        ]
        for mark, tone, row, report in zip(marks, tones, plain.rows, shown.survey.reports, strict=True)
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
        role(shown.survey, report),
        _figure(now(track.events_per_s)),
        Cell(lag, Tone.WARN) if lag and lag > (now(track.events_per_s) or 0) else lag,
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


def role(survey: Survey, report: Report) -> Cell:
    """In a word, with its tone."""
    if report.status is None:
        paused = report.process.state_of(survey.partition) is RunState.PAUSED
        running = report.process.state is RunState.RUNNING
        word = "paused" if paused else "silent" if running else "down"
        return Cell(word, Tone.PAUSED if paused else Tone.BAD)
    if report.leads:
        return Cell("leader", Tone.GOOD) if report == survey.leader else Cell("outvoted", Tone.WARN)
    if report.rejoining:
        return Cell("rejoins", Tone.WARN)
    role = str(report.status["role"])
    return Cell(role.removeprefix("pre-"), Tone.NORMAL if role == "follower" else Tone.WARN)


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
