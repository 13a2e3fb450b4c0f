"""Rows of bars over one axis, as elements that are as wide as their page: a label, and a drawing beside it.

Places along the axis are shares from 0 to 1 and become percentages, so that bars grow with the page and text
does not. The same drawings, with a width and its labels, are a file of SVG. Called by the pages of timelines
and playbooks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from esctl.ui.html import style
from esctl.ui.html.markup import add, clean, element, fragment

ROW: Final = 22
"""The height of a row, in pixels."""
GAP: Final = 3
"""Above and below a bar."""
FILE_WIDTH: Final = 1100
LABEL: Final = 90
"""The width of the labels in a file."""
CURVE_UNITS: Final = 1000
NARROW_LETTER: Final = 0.04
"""A letter of a label takes so much of the axis on a phone, with what is left free beside it."""


@dataclass(frozen=True, slots=True)
class BarRow:
    """One row: its name, and what is drawn in it."""

    name: str
    shapes: Sequence[Element] = field(default_factory=tuple)
    height: int = ROW


def bar(begin: float, end: float, kind: str, told: str) -> Element:
    """From one share of the axis to another; however short it is, it is seen."""
    words = element("title", told)
    return element("rect", words, x=_share(begin), width=_share(max(0.0, end - begin)), y=GAP,
                   height=ROW - 2 * GAP, class_=f"bar {kind}")  # fmt: skip


def column(at: float, height: float, kind: str, told: str, width: float = 0.0) -> Element:
    """A bar that stands on the ground of its row, `height` from 0 to 1."""
    high = max(1.0, height * (ROW - 2 * GAP)) if height else 0.0
    return element("rect", element("title", told), x=_share(at), width=_share(width),
                   y=f"{ROW - GAP - high:.1f}", height=f"{high:.1f}", class_=f"bar {kind}")  # fmt: skip


def curve(points: Sequence[tuple[float, float]], kind: str, told: str, height: int) -> Element:
    """A line through shares of the axis and heights in pixels from the top."""
    way = " ".join(f"{at * CURVE_UNITS:.1f},{top:.1f}" for at, top in points)
    words = element("title", told)
    line = element("polyline", words, points=way, class_=kind, vector_effect="non-scaling-stroke")
    drawing = element("svg", line, x=0, y=0, width="100%", height=height, preserveAspectRatio="none")
    drawing.set("viewBox", f"0 0 {CURVE_UNITS} {height}")
    return drawing


def rule(at: float, kind: str = "rule", told: str = "") -> Element:
    """A line through the whole row."""
    words = element("title", told) if told else None
    return element("line", words, x1=_share(at), x2=_share(at), y1=0, y2="100%", class_=kind)


def level(top: float) -> Element:
    """A line along the whole row, so many pixels from its top."""
    return element("line", x1=0, x2="100%", y1=f"{top:.1f}", y2=f"{top:.1f}", class_="rule")


def drawing(lanes: Sequence[BarRow], ticks: Sequence[tuple[float, str]], title: str) -> Element:
    """All rows with a line at each tick, and the words of the ticks below; a phone gets fewer of these."""
    whole = element("div", class_="lanes", role="img", aria_label=title)
    for lane in lanes:
        add(whole, element("span", lane.name, class_="label"))
        rules = [rule(at) for at, _ in ticks]
        add(whole, element("svg", *rules, *lane.shapes, height=lane.height, width="100%"))
    add(whole, element("span"), _ruler(ticks))
    return whole


def file(lanes: Sequence[BarRow], ticks: Sequence[tuple[float, str]], title: str, css: str) -> str:
    """The same as a file of SVG, in the colours of a light page; `css` holds no text from outside. The title
    may have several lines."""
    high = sum(lane.height for lane in lanes) + (title.count("\n") + 2) * ROW + 8
    whole = element("svg", xmlns="http://www.w3.org/2000/svg", width=FILE_WIDTH, height=high, role="img")
    whole.set("viewBox", f"0 0 {FILE_WIDTH} {high}")
    made = element("style")
    made.text = style.light(css)
    add(whole, element("title", title), made)
    add(whole, element("rect", width="100%", height="100%", class_="ground"))
    head = title.splitlines()
    add(whole, *(element("text", text, x=8, y=16 + ROW * at, class_="title") for at, text in enumerate(head)))
    top = ROW * len(head) + 4
    inner = FILE_WIDTH - LABEL - 16
    for lane in lanes:
        add(whole, element("text", lane.name, x=LABEL - 8, y=top + 15, text_anchor="end"))
        add(whole, element("svg", *(rule(at) for at, _ in ticks), *lane.shapes, x=LABEL, y=top, width=inner,
                           height=lane.height))  # fmt: skip
        top += lane.height
    below = _ruler(ticks)
    for name, value in {"x": LABEL, "y": top, "width": inner}.items():
        below.set(name, str(value))
    add(whole, below)
    return fragment(whole)


def _ruler(ticks: Sequence[tuple[float, str]]) -> Element:
    below = element("svg", height=ROW, width="100%")
    kept, room = -1.0, NARROW_LETTER * max((len(text) for _, text in ticks), default=0)
    last = ticks[-1][0] if ticks else 0.0
    for at, text in ticks:
        is_kept = at == last or (at - kept >= room and last - at >= room)
        anchor = "start" if at < 0.05 else "end" if at > 0.95 else "middle"
        kind = None if is_kept else "roomy"
        add(below, element("text", clean(text), x=_share(at), y=15, text_anchor=anchor, class_=kind))
        kept = at if is_kept else kept
    return below


def _share(value: float) -> str:
    return f"{100 * value:.3f}%"
