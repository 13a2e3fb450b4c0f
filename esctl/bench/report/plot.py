"""Plots in SVG: curves over a number, bars of parts, and changes with their noise bands.

A plot has no colours of its own: its parts have classes, and the page's style gives them colours for light
and dark. A curve with more points than a screen has keeps the highest and the lowest of each stretch, so
that no spike is lost. Pure. Called by `esctl/bench/report/page.py`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from xml.etree.ElementTree import Element

from esctl.ui.formatting import number, short
from esctl.ui.html.markup import add, element
from esctl.ui.scale import Scale, decades, linear, span, wants_decades

WIDTH: Final = 560
HEIGHT: Final = 250
LEFT: Final = 68
RIGHT: Final = 14
TOP: Final = 10
BOTTOM: Final = 42
STRETCHES: Final = 280
"""A curve is thinned to two points in each."""
DOTTED: Final = 40
"""A curve with no more points than this shows where they are."""
COLOURS: Final = 6
BAR: Final = 18
LOW, HIGH = 0.5, 1.5
"""Ratios beyond these are arrows at the end of the axis: one of 40 would press all others together."""
LETTER: Final = 10.5
"""The width of a letter on a phone, about, where text is larger."""
MOST_NAME: Final = 300
"""A name that is wider is cut, and whole in its title."""

Point = Sequence[float]


@dataclass(frozen=True, slots=True)
class PlotAxis:
    """What is written along an axis: `72 ms` is 72,000,000 over a `divisor` of a million, in `unit`."""

    label: str
    unit: str = ""
    divisor: float = 1.0

    @property
    def title(self) -> str:
        """The label with its unit."""
        return f"{self.label} in {self.unit}" if self.unit and self.label else self.label or self.unit


def curves(title: str, series: Mapping[str, Sequence[Point]], x: PlotAxis, y: PlotAxis) -> Element:
    """A figure with a curve for each of `series`, by its label."""
    thinned = {name: [(at / x.divisor, value / y.divisor) for at, value in thin(points)]
               for name, points in series.items()}  # fmt: skip
    heights = [value for points in thinned.values() for _, value in points]
    choose = decades if wants_decades(heights) and y.unit == "ms" else _from_zero
    up = choose(heights, HEIGHT - BOTTOM, TOP)
    across = span([at for points in thinned.values() for at, _ in points], LEFT, WIDTH - RIGHT)
    drawing = _drawing(HEIGHT, title)
    _rules(drawing, up, HEIGHT - BOTTOM, across)
    add(drawing, _text(x.title, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"))
    for place, (name, points) in enumerate(thinned.items()):
        places = [(_at(across.place(at)), _at(up.place(value))) for at, value in points]
        way = " ".join(f"{left},{top}" for left, top in places)
        line = element("polyline", element("title", name), points=way, class_=f"line{place % COLOURS}")
        dots = _dots(name, points, places, x, y) if len(points) <= DOTTED else ()
        add(drawing, line, element("g", *dots, class_=f"fill{place % COLOURS}"))
        if up.decades:
            low = [at for at, value in points if value <= 0]
            add(drawing, *(_text("↓", across.place(at), HEIGHT - BOTTOM - 2, "middle") for at in low))
    told = f"{title}, {y.unit}" if y.unit else title
    return _figure(told + (" (logarithmic)" if up.decades else ""), list(series), drawing)


def bars(title: str, rows: Sequence[tuple[str, Mapping[str, float]]], unit: str) -> Element:
    """A figure with a horizontal bar for each row, made of its parts end to end."""
    parts = list(dict.fromkeys(name for _, row in rows for name in row))
    bottom = TOP + len(rows) * BAR
    across = linear([sum(row.values()) for _, row in rows], LEFT, WIDTH - RIGHT, from_zero=True)
    drawing = _drawing(bottom + BOTTOM, title)
    _ticks_across(drawing, across, bottom)
    add(drawing, _text(unit, (LEFT + WIDTH - RIGHT) / 2, bottom + BOTTOM - 6, "middle"))
    for place, (name, row) in enumerate(rows):
        top, reached = TOP + place * BAR, 0.0
        add(drawing, _text(name, LEFT - 6, top + BAR - 4, "end"))
        for part, value in row.items():
            begin, reached = reached, reached + value
            width = across.place(reached) - across.place(begin)
            told = element("title", f"{name}: {part} {number(value)} {unit}")
            add(drawing, element("rect", told, x=_at(across.place(begin)), y=top + 2, width=_at(width),
                                 height=BAR - 4, class_=f"fill{parts.index(part) % COLOURS}"))  # fmt: skip
    return _figure(title, parts, drawing, filled=True)


def changes(title: str, rows: Sequence[tuple[str, float, float | None, str]]) -> Element:
    """A figure with a row for each `name, ratio, band in percent, class`: the ratio in its band."""
    bottom = TOP + len(rows) * (BAR + 6)
    reach = [1 + side * (band or 0) / 100 for _, _, band, _ in rows for side in (-1, 1)]
    left = min(MOST_NAME, LETTER * max((len(name) for name, *_ in rows), default=0)) + 12
    ends = [min(HIGH, max(LOW, value)) for value in (*reach, *(ratio for _, ratio, _, _ in rows), 0.9, 1.1)]
    across = linear(ends, left, WIDTH - RIGHT)
    drawing = _drawing(bottom + BOTTOM, title)
    _ticks_across(drawing, across, bottom)
    add(drawing, _text("the other's figure over the base's", (left + WIDTH - RIGHT) / 2,
                       bottom + BOTTOM - 6, "middle"))  # fmt: skip
    for place, (name, ratio, band, kind) in enumerate(rows):
        middle = TOP + place * (BAR + 6) + BAR / 2 + 3
        add(drawing, _name(name, left - 8, middle + 4))
        if band is not None:
            begin, end = across.place(1 - band / 100), across.place(1 + band / 100)
            add(drawing, element("rect", x=_at(begin), y=_at(middle - BAR / 2), width=_at(end - begin),
                                 height=BAR, class_="band"))  # fmt: skip
        told = element("title", f"{name}: {ratio:.3f}" + (f", band ±{band:.1f}%" if band else ""))
        if across.low <= ratio <= across.high:
            at = _at(across.place(ratio))
            add(drawing, element("circle", told, cx=at, cy=_at(middle), r=5, class_=kind))
        else:
            add(drawing, *_outside(ratio, across, middle, kind, told))
    return _figure(title, [], drawing)


def _outside(ratio: float, across: Scale, middle: float, kind: str, told: Element) -> list[Element]:
    """An arrow at the end of the axis that the ratio is beyond, and how much it is."""
    at, way = (across.end, -1) if ratio > across.high else (across.begin, 1)
    corners = [(at, middle), (at + 9 * way, middle - 6), (at + 9 * way, middle + 6)]
    points = " ".join(f"{_at(x)},{_at(y)}" for x, y in corners)
    words = _text(f"{number(ratio)} ×", at + 14 * way, middle + 4, "end" if way < 0 else "start")
    return [element("polygon", told, points=points, class_=kind), words]


def _name(name: str, x: float, y: float) -> Element:
    most = int(MOST_NAME / LETTER)
    shown = _text(name if len(name) <= most else f"{name[: most - 1]}…", x, y, "end")
    if len(name) > most:
        add(shown, element("title", name))
    return shown


def thin(points: Sequence[Point]) -> list[tuple[float, float]]:
    """In the order of their first number; of more than a screen shows, each stretch's lowest and highest."""
    ordered = sorted((float(point[0]), float(point[1])) for point in points)
    if len(ordered) <= 2 * STRETCHES:
        return ordered
    low, high = ordered[0][0], ordered[-1][0]
    scale = linear((low, high), 0, STRETCHES)
    kept = [ordered[0]]
    for _, stretch in groupby(ordered, key=lambda point: int(scale.place(point[0]))):
        group = list(stretch)
        lowest, highest = min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])
        kept += sorted({lowest, highest} - {kept[-1]})
    return kept if kept[-1] == ordered[-1] else [*kept, ordered[-1]]


def _from_zero(values: Sequence[float], begin: float, end: float) -> Scale:
    return linear(values, begin, end, from_zero=True)


def _dots(
    name: str,
    points: Sequence[tuple[float, float]],
    places: Sequence[tuple[str, str]],
    x: PlotAxis,
    y: PlotAxis,
) -> Iterator[Element]:
    """Where the points of a curve are, and what they are for whoever points at them."""
    for (left, top), (at, value) in zip(places, points, strict=True):
        words = f"{name}: {number(value)} {y.unit} at {number(at)} {x.unit}"
        yield element("circle", element("title", words), cx=left, cy=top, r=3)


def _rules(drawing: Element, up: Scale, bottom: float, across: Scale) -> None:
    for tick in up.ticks:
        y = _at(up.place(tick))
        add(drawing, element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="rule"))
        add(drawing, _text(short(tick), LEFT - 6, float(y) + 4, "end"))
    for tick in across.ticks:
        add(drawing, _text(short(tick), across.place(tick), bottom + 16, "middle"))


def _ticks_across(drawing: Element, across: Scale, bottom: float) -> None:
    for tick in across.ticks:
        x = _at(across.place(tick))
        add(drawing, element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="rule"))
        add(drawing, _text(short(tick), float(x), bottom + 16, "middle"))


def _drawing(height: float, title: str) -> Element:
    drawing = element("svg", role="img", aria_label=title)
    drawing.set("viewBox", f"0 0 {WIDTH} {_at(height)}")
    return drawing


def _text(words: str, x: float, y: float, anchor: str) -> Element:
    return element("text", words, x=_at(x), y=_at(y), text_anchor=anchor)


def _figure(title: str, names: Sequence[str], drawing: Element, *, filled: bool = False) -> Element:
    """The drawing under its title, with a legend where it has several things to tell apart."""
    caption = element("figcaption", title)
    if len(names) > 1 or (names and filled):
        legend = element("span", class_="legend")
        for place, name in enumerate(names):
            kind = f"swatch fill{place % COLOURS}" if filled else f"swatch line{place % COLOURS}"
            add(legend, element("span", element("i", class_=kind), name))
        add(caption, legend)
    return element("figure", caption, drawing)


def _at(value: float) -> str:
    """A place in the drawing, to a tenth."""
    assert math.isfinite(value)
    return f"{value:.1f}".removesuffix(".0")
