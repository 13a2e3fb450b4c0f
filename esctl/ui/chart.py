"""Draws a `Chart` as lines of text.

The only module that knows uniplot, and it loads it only when something is drawn. With colours each curve is
a line of braille dots in a colour of its own; without them each is drawn in a letter of its own, since dots
alone would not tell which is which. Prints nothing. Called by `esctl/ui/terminal.py`.
"""

import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Final

from esctl.ui.answer import Chart

COLORS: Final = ("green", "yellow", "cyan", "magenta", "blue", "red")
LETTERS: Final = ("o", "*", "+", "x", "~", "#")
HEADROOM: Final = 1.05
MIN_WIDTH: Final = 40
"""Narrower than this there is nothing to see: the lines are too long then, and no number is cut."""


def draw(chart: Chart, width: int, *, color: bool) -> str:
    """The chart within `width` columns, with the escape sequences of its colours; empty without a point."""
    curves = {name: _drawable(chart, points) for name, points in chart.curves.items()}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return ""
    from uniplot import plot_to_string  # loaded late: it brings numpy

    points = [point for curve in curves.values() for point in curve]
    low, high = _heights(chart, [y for _, y in points])
    text: str = plot_to_string(
        xs=[[x for x, _ in curve] for curve in curves.values()],
        ys=[[y for _, y in curve] for curve in curves.values()],
        lines=True,
        y_as_log=chart.log,
        y_min=low,
        y_max=high,
        width=max(MIN_WIDTH, width),
        height=chart.height,
        line_length_hard_cap=max(MIN_WIDTH, width),
        character_set="braille" if color else "ascii",
        force_ascii_characters=_enough(LETTERS, len(curves)),
        color=_enough(COLORS, len(curves)) if color else False,
        y_gridlines=[] if chart.bound is None else [chart.bound],
        x_gridlines=[],
        legend_labels=list(curves) if len(curves) > 1 else None,
        title=f"{chart.title} over {chart.x}",
        y_unit=f" {chart.unit}" if chart.unit else "",
    )
    return text


def rows(chart: Chart) -> list[list[float | None]]:
    """A row for each x: x, then each curve's value there, None where it has none."""
    places = [dict(points) for points in chart.curves.values()]
    at = sorted({x for place in places for x in place})
    return [[x, *(place.get(x) for place in places)] for x in at]


def _enough(looks: Sequence[str], count: int) -> list[str]:
    """One for each curve, from the beginning again when there are more curves."""
    return list(islice(cycle(looks), count))


def _heights(chart: Chart, values: list[float]) -> tuple[float, float]:
    """From where to where the vertical axis goes."""
    if chart.bound is not None:
        values = [*values, chart.bound]
    low, high = min(values), max(values) * HEADROOM
    if chart.log:  # from a whole decade on, and two of them at least: the labels are round then
        low = 10.0 ** math.floor(math.log10(low))
        return low, max(high, low * 100)
    if chart.from_zero:
        return min(0.0, low), high if high > 0 else 1.0
    return (low, high) if low < high else (low - 1, high + 1)


def _drawable(chart: Chart, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that have a place on the axes."""
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not chart.log)]
