"""What a cluster and a node have done lately, as curves over the seconds before now.

Pure: charts from rates. An election is a line through each of them. Called by `board.py` and `node.py`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from esctl.observe.top.rates import Rates, now
from esctl.ui.answer import Beside, Chart, View
from esctl.ui.formatting import number
from esctl.ui.scale import wants_decades

FRAME: Final = 3
"""Lines that a curve takes beside its own."""
LEAST: Final = 4
MOST: Final = 16
"""Lines of a curve."""
LOOKS: Final = 60
"""So many looks are shown, or twice as many where there is room."""
WIDE: Final = 120
"""From so many columns on there is."""
HALF: Final = 72
"""From so many columns on two charts are beside each other."""

Figures = Iterable[float | None]


def grid(charts: Sequence[Chart], width: int, lines: int) -> list[View]:
    """As many of them, the first ones, as can be read within so many lines: two beside each other if
    possible."""
    beside = 2 if width >= HALF else 1
    rows = min(math.ceil(len(charts) / beside), lines // (LEAST + FRAME))
    if rows <= 0:
        return []
    height = min(MOST, lines // rows - FRAME)
    sized = [replace(chart, height=height) for chart in charts[: rows * beside]]
    if beside == 1:
        return list(sized)
    return [Beside([[chart] for chart in sized[at : at + beside]]) for at in range(0, len(sized), beside)]


def of_cluster(rates: Rates, width: int) -> list[Chart]:
    """Events a second, how long appends took, how far each node is behind, how long a read took."""
    lags = {f"node {one}": track.lag_events for one, track in sorted(rates.tracks.items())}
    appends = {
        told("p50", rates.append_p50_ms, "ms"): rates.append_p50_ms,
        told("p99", rates.append_p99_ms, "ms"): rates.append_p99_ms,
    }
    read = told("confirmed read", rates.read_ms, "ms")
    return [
        _chart(rates, width, told("events/s", rates.events_per_s), {"events/s": rates.events_per_s}),
        _chart(rates, width, "appends", appends),
        _chart(rates, width, "events behind the leader", lags),
        _chart(rates, width, read, {read: rates.read_ms}),
    ]


def of_node(rates: Rates, node: int, width: int) -> list[Chart]:
    """Events a second, processor time, and how far it is behind."""
    track = rates.track(node)
    return [
        _chart(rates, width, told("events/s", track.events_per_s), {"": track.events_per_s}),
        _chart(rates, width, told("processor", track.cpu_percent, "%"), {"": track.cpu_percent}),
        _chart(rates, width, told("events behind", track.lag_events), {"": track.lag_events}),
    ]


def told(name: str, figures: Figures, unit: str = "") -> str:
    """The name with the newest figure."""
    newest = now(figures)
    if newest is None:
        return f"{name} -"
    text = f"{newest:,.0f}" if abs(newest) >= 100 else number(round(newest, 1))
    return f"{name} {text}{f' {unit}' if unit else ''}"


def _chart(rates: Rates, width: int, title: str, series: Mapping[str, Figures]) -> Chart:
    looks = LOOKS * (2 if width >= WIDE else 1)
    end_s = rates.at_s[-1] if rates.at_s else 0.0
    times = [at_s - end_s for at_s in rates.at_s][-looks:]
    curves = {
        name: [
            (at_s, math.nan if value is None else value)
            for at_s, value in zip(times, list(known)[-looks:], strict=False)
        ]
        for name, known in series.items()
    }
    values = [value for points in curves.values() for _, value in points if math.isfinite(value)]
    is_time = any(name.endswith("ms") for name in series)
    begin_s = min(times[0] if len(times) == looks else -_step_s(times) * looks, -1.0) if times else -1.0
    return Chart(
        title,
        curves,
        "",
        from_zero=True,
        log=is_time and wants_decades(values),
        x_unit=" s",
        between=(begin_s, 0.0),
        marks=[
            (change.at_s - end_s, f"node {change.leader}")
            for change in rates.changes
            if change.at_s - end_s >= begin_s
        ],
        filled=len(series) == 1,
    )


def _step_s(times: Sequence[float]) -> float:
    """The usual time between two looks."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0
