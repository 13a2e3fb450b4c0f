"""Draws a `Chart` as lines of text: curves over an axis, with what is written beside it.

With dots each curve is a line of braille in a colour of its own; without them each is drawn in a letter of
its own, since dots alone would not tell which is which. A value that has no place on a logarithmic axis is
an arrow at its lower end. Pure: lines of parts with tones. Called by `esctl/ui/terminal.py`.
"""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Final

from esctl.ui.answer import Chart, Tone
from esctl.ui.formatting import short
from esctl.ui.scale import Scale, decades, span
from esctl.ui.swimlanes import Line, ruler

TONES: Final = (Tone.GOOD, Tone.WARN, Tone.ACCENT, Tone.BROKEN, Tone.PAUSED, Tone.BAD)
LETTERS: Final = ("o", "*", "+", "x", "~", "#")
MIN_WIDTH: Final = 30
"""Narrower than this there is nothing to see: the lines are too long then, and no number is cut."""
COLUMNS_A_TICK: Final = 8
ROWS_A_TICK: Final = 2
HEADROOM: Final = 1.05
BELOW: Final = "↓"
MARK: Final = "▲"
_BRAILLE: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a character, by row and column."""


class Canvas:
    """Characters of 2 by 4 dots, or of one letter; what is drawn last in one has its colour."""

    def __init__(self, columns: int, rows: int, *, dots: bool) -> None:
        self.columns, self.rows = columns, rows
        self.wide, self.high = (2 * columns, 4 * rows) if dots else (columns, rows)
        self._dots = dots
        self._bits: dict[tuple[int, int], int] = {}
        self._looks: dict[tuple[int, int], tuple[str, Tone]] = {}

    def dot(self, x: int, y: int, letter: str, tone: Tone) -> None:
        """One dot of a curve; what lies outside is not drawn."""
        if not (0 <= x < self.wide and 0 <= y < self.high):
            return
        cell = (x // 2, y // 4) if self._dots else (x, y)
        if self._dots:
            self._bits[cell] = self._bits.get(cell, 0) | _BRAILLE[y % 4][x % 2]
            letter = chr(0x2800 + self._bits[cell])
        self._looks[cell] = letter, tone

    def line(self, begin: tuple[int, int], end: tuple[int, int], letter: str, tone: Tone) -> None:
        """Dots from one to the other, both drawn."""
        steps = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
        for step in range(steps + 1):
            share = step / steps
            x = round(begin[0] + share * (end[0] - begin[0]))
            self.dot(x, round(begin[1] + share * (end[1] - begin[1])), letter, tone)

    def write(self, column: int, row: int, text: str, tone: Tone, *, over: bool = False) -> None:
        """A text in characters that are free, or over what is there."""
        for place, each in enumerate(text, column):
            inside = 0 <= place < self.columns and 0 <= row < self.rows
            if inside and (over or (place, row) not in self._looks):
                self._looks[place, row] = each, tone

    def is_free(self, column: int, row: int, count: int) -> bool:
        """Are so many characters still empty?"""
        return not any((place, row) in self._looks for place in range(column, column + count))

    def parts(self, row: int) -> Line:
        """A row, what has one tone in one part."""
        looks = [self._looks.get((column, row), (" ", Tone.NORMAL)) for column in range(self.columns)]
        return [("".join(each for each, _ in group), tone) for tone, group in groupby(looks, lambda c: c[1])]


def draw(chart: Chart, width: int, *, dots: bool) -> list[Line]:
    """The chart within `width` columns; without a point only its frame, where its axis is given."""
    points = [point for curve in chart.curves.values() for point in curve if math.isfinite(point[1])]
    shown = [y for _, y in points if y > 0 or not chart.log]
    if not shown and chart.between is None:
        return []
    width = max(MIN_WIDTH, width)
    up = _heights(chart, shown or [1.0])
    labels = {tick: short(tick) for tick in up.ticks}
    margin = max(map(len, labels.values())) + 1
    canvas = Canvas(width - margin - 1, chart.height, dots=dots)
    times = chart.between or [x for x, _ in points]
    across = span(times, 0, 1, most_ticks=max(2, canvas.columns // COLUMNS_A_TICK))
    _curves(chart, canvas, across, up)
    if chart.bound is not None:
        canvas.write(0, _row(canvas, up, chart.bound), "╌" * canvas.columns, Tone.WARN)
    marks = [(int(across.place(x) * (canvas.columns - 1)), text) for x, text in chart.marks]
    for column, text in marks:
        for row in range(canvas.rows):
            canvas.write(column, row, "┊", Tone.WARN)
        beside = column + 1 if column + len(text) < canvas.columns else column - len(text)
        room = [row for row in range(canvas.rows) if canvas.is_free(beside, row, len(text))]
        canvas.write(beside, min(room, default=0), text, Tone.WARN, over=True)
    heights = {_row(canvas, up, tick): text for tick, text in labels.items()}
    frame: list[Line] = [
        [(f"{heights.get(row, ''):>{margin}}{'┤' if row in heights else '│'}", Tone.DIM), *canvas.parts(row)]
        for row in range(canvas.rows)
    ]
    ticks = [(across.place(tick), f"{short(tick)}{chart.x_unit}") for tick in across.ticks]
    below = _marked(ruler(ticks, margin, canvas.columns, begin="└", tick="┬"), margin, marks)
    return [*_head(chart, width, dots=dots), *frame, *below]


def rows(chart: Chart) -> list[list[float | None]]:
    """A row for each x: x, then each curve's value there, None where it has none."""
    places = [dict(points) for points in chart.curves.values()]
    at = sorted({x for place in places for x in place})
    return [[x, *(place.get(x) for place in places)] for x in at]


def _heights(chart: Chart, values: Sequence[float]) -> Scale:
    """From where to where the vertical axis goes; its top is row 0."""
    known = [*values, chart.bound] if chart.bound is not None else values
    most_ticks = max(2, chart.height // ROWS_A_TICK)
    if chart.log:
        return decades(known, 1, 0, most_ticks=most_ticks)
    low, high = min(known), max(known)
    if chart.from_zero:
        low, high = min(low, 0.0), HEADROOM * high if high > 0 else 1.0
    if low == high:
        low, high = low - 1, high + 1
    return span((low, high), 1, 0, most_ticks=most_ticks)


def _row(canvas: Canvas, up: Scale, value: float) -> int:
    return round(up.place(value) * (canvas.high - 1)) * canvas.rows // canvas.high


def _curves(chart: Chart, canvas: Canvas, across: Scale, up: Scale) -> None:
    """Each in its letter or colour; a value that is no number breaks its line in two."""
    for number, curve in enumerate(chart.curves.values()):
        letter, tone = LETTERS[number % len(LETTERS)], TONES[number % len(TONES)]
        places: list[tuple[int, int] | None] = []
        for x, y in curve:
            column = round(across.place(x) * (canvas.wide - 1))
            if not math.isfinite(y):
                places.append(None)
            elif chart.log and y <= 0:
                places.append(None)
                canvas.write(column * canvas.columns // canvas.wide, canvas.rows - 1, BELOW, tone, over=True)
            else:
                places.append((column, round(up.place(y) * (canvas.high - 1))))
        _line(canvas, places, letter, tone, filled=chart.filled)


def _line(
    canvas: Canvas, places: Sequence[tuple[int, int] | None], letter: str, tone: Tone, *, filled: bool
) -> None:
    for place in places:
        if place is not None:
            canvas.dot(*place, letter, tone)
    for before, after in pairwise(places):
        if before is None or after is None:
            continue
        canvas.line(before, after, letter, tone)
        for column in range(before[0], after[0] + 1) if filled else ():
            share = (column - before[0]) / max(1, after[0] - before[0])
            top = round(before[1] + share * (after[1] - before[1]))
            canvas.line((column, top), (column, canvas.high - 1), letter, tone)


def _head(chart: Chart, width: int, *, dots: bool) -> list[Line]:
    """What it shows, and which curve is which, in as many lines as that takes."""
    unit = f" in {chart.unit}" if chart.unit else ""
    title = f"{chart.title}{unit} over {chart.x}" if chart.x else f"{chart.title}{unit}"
    lines: list[Line] = [[(title, Tone.STRONG)]]
    used = len(title)
    for number, name in enumerate(chart.curves) if len(chart.curves) > 1 else ():
        look = "──" if dots else LETTERS[number % len(LETTERS)] * 2
        if used + len(name) + 5 > width:
            lines.append([])
            used = 0
        gap = "  " if lines[-1] else ""
        lines[-1] += [(f"{gap}{look}", TONES[number % len(TONES)]), (f" {name}", Tone.NORMAL)]
        used += len(gap) + len(look) + 1 + len(name)
    return lines


def _marked(below: list[Line], margin: int, marks: Sequence[tuple[int, str]]) -> list[Line]:
    """The rule with an arrow under each mark."""
    if not marks or not below:
        return below
    ((text, tone),), *rest = below
    places = {margin + 1 + column for column, _ in marks}
    looks = [(MARK, Tone.WARN) if place in places else (each, tone) for place, each in enumerate(text)]
    rule = [("".join(each for each, _ in group), look) for look, group in groupby(looks, lambda c: c[1])]
    return [rule, *rest]
