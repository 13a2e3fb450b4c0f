"""A story as one page of HTML that needs nothing from anywhere: the lanes as SVG, the list, the diagram.

Everything in a log may come from anybody: it goes through `esctl/ui/html/markup.py` and is text. Pure. Called
by `esctl timeline`.
"""

from typing import Final
from xml.etree.ElementTree import Element

from esctl.cli import instant
from esctl.observe.timeline import mermaid
from esctl.observe.timeline.axis import Axis
from esctl.observe.timeline.drawing import ACTIONS, WORDS, axis_of, span
from esctl.observe.timeline.story import Story
from esctl.ui.html import page as html
from esctl.ui.html.markup import add, element

WIDTH: Final = 1000
LEFT: Final = 80
RIGHT: Final = 12
ROW: Final = 26
BAR: Final = 16
LEAST: Final = 1.5
"""Nothing that happened is narrower than this."""
TICK_ROOM: Final = 56
CSS: Final = """
svg .leader { fill: var(--good); } svg .follower { fill: var(--c4); opacity: .45; }
svg .pre-candidate, svg .candidate { fill: var(--c5); }
svg .paused, svg .down { fill: var(--bad); opacity: .55; }
svg .starting { fill: var(--soft); } svg .unknown { fill: none; stroke: var(--rule); }
svg .nobody, svg .fault { fill: var(--bad); }
svg .step, svg .command { fill: var(--c3); } svg .latency { fill: var(--c0); }
i.leader { background: var(--good); } i.follower { background: var(--c4); opacity: .45; }
i.pre-candidate, i.candidate { background: var(--c5); }
i.paused, i.down { background: var(--bad); opacity: .55; }
i.starting { background: var(--soft); } i.nobody, i.fault { background: var(--bad); }
i.step, i.command { background: var(--c3); } i.latency { background: var(--c0); }
i.swatch { height: .7em; } .text { white-space: normal; min-width: 20rem; }
pre { overflow-x: auto; background: var(--card); padding: .75rem; border-radius: .5rem; font-size: .85rem; }
"""


def page(story: Story, title: str, notes: list[str], *, linear: bool = False) -> str:
    """The whole page."""
    body = element("main", element("h1", title))
    about = f"{instant.written(story.begin_s)} and {span(story.end_s - story.begin_s)}"
    add(body, element("p", about, class_="soft"))
    add(body, *(element("p", note, class_="soft") for note in notes))
    along = axis_of(story, linear=linear)
    add(body, _figure(story, along, linear=linear))
    add(body, element("h2", "What happened"), element("div", _list(story), class_="wide"))
    add(body, element("h2", "As a sequence diagram (Mermaid)"), element("pre", mermaid.diagram(story)))
    return html.page(title, body, css=CSS)


def _figure(story: Story, along: Axis, *, linear: bool) -> Element:
    rows: list[tuple[str, list[Element]]] = [
        (f"node {node}", [
            _bar(along, one.begin_s, one.end_s, one.state, f"node {node} {WORDS.get(one.state, one.state)}"
                 + (f" in term {one.term}" if one.term is not None else ""))
            for one in lane.stretches if one.end_s >= story.begin_s
        ])
        for node, lane in story.lanes.items()
    ]  # fmt: skip
    if story.leaderless:
        rows.append(
            (
                "nobody",
                [_bar(along, a, b, "nobody", f"no leader for {span(b - a)}") for a, b in story.leaderless],
            )
        )
    for kind, (name, *_) in ACTIONS.items():
        found = [_bar(along, one.begin_s, one.end_s or story.end_s, kind, one.text)
                 for one in story.happenings if one.kind == kind]  # fmt: skip
        if found:
            rows.append((name, found))
    if story.latency_ms:
        rows.append(("latency", _latency(story, along)))
    bottom = len(rows) * ROW + 8
    drawing = element("svg", role="img", aria_label="What each node was over time")
    drawing.set("viewBox", f"0 0 {WIDTH} {bottom + 30}")
    _ticks(drawing, story, along, bottom)
    for place, (name, bars) in enumerate(rows):
        lane = element("g", *bars)
        lane.set("transform", f"translate(0 {place * ROW + 8})")
        label = element("text", name, x=LEFT - 8, y=place * ROW + 21, text_anchor="end")
        add(drawing, label, lane)
    caption = element(
        "figcaption", "Each node over time" + ("" if linear else "; quiet times are drawn narrow")
    )
    add(caption, _legend(story, {name for name, _ in rows}))
    return element("figure", caption, drawing)


def _legend(story: Story, names: set[str]) -> Element:
    states = dict.fromkeys(s.state for lane in story.lanes.values() for s in lane.stretches)
    shown = [(state, WORDS[state]) for state in states if state in WORDS]
    others = {
        "nobody": ("nobody", "no leader that a majority follows"),
        **{kind: action[:2] for kind, action in ACTIONS.items()},
        "latency": ("latency", "how long clients waited"),
    }
    shown += [(kind, words) for kind, (name, words) in others.items() if name in names]
    swatches = [element("span", element("i", class_=f"swatch {kind}"), words) for kind, words in shown]
    return element("span", *swatches, class_="legend")


def _x(along: Axis, at_s: float) -> float:
    return LEFT + along.place(at_s) * (WIDTH - LEFT - RIGHT)


def _bar(along: Axis, begin_s: float, end_s: float, kind: str, told: str) -> Element:
    begin, end = _x(along, begin_s), _x(along, end_s)
    words = element("title", f"{told}: {instant.written(begin_s)}, {span(max(0.0, end_s - begin_s))}")
    return element(
        "rect", words, x=f"{begin:.1f}", y=0, width=f"{max(LEAST, end - begin):.1f}", height=BAR, class_=kind
    )


def _latency(story: Story, along: Axis) -> list[Element]:
    worst = max(value for _, value in story.latency_ms) or 1.0
    bars = []
    for at_s, value in story.latency_ms:
        height = max(1.0, value / worst * BAR)
        words = element("title", f"clients waited {value:,.0f} ms: {instant.written(at_s)}")
        bars.append(element("rect", words, x=f"{_x(along, at_s):.1f}", y=f"{BAR - height:.1f}", width=LEAST,
                            height=f"{height:.1f}", class_="latency"))  # fmt: skip
    return bars


def _ticks(drawing: Element, story: Story, along: Axis, bottom: float) -> None:
    free = 0.0
    for at_s in [story.begin_s, *(one.begin_s for one in story.happenings)]:
        x = _x(along, at_s)
        begin, anchor = (x, "start") if x < WIDTH - TICK_ROOM else (x - TICK_ROOM, "end")
        if begin < free:
            continue
        add(drawing, element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=4, y2=bottom, class_="rule"))
        text = f"{at_s - story.begin_s:+.1f} s"
        add(drawing, element("text", text, x=f"{x:.1f}", y=bottom + 18, text_anchor=anchor))
        free = begin + TICK_ROOM


def _list(story: Story) -> Element:
    heads = ["after", "for", "what", ""]
    table = element("table", element("tr", *(element("th", head) for head in heads)))
    for one in story.happenings:
        length = "goes on" if one.seconds is None else span(one.seconds) if one.seconds else ""
        after = f"{one.begin_s - story.begin_s:+.3f} s"
        add(table, element(
            "tr",
            element("td", after, class_="number", title=instant.written(one.begin_s)),
            element("td", length, class_="number"),
            element("td", one.kind),
            element("td", one.text, class_="text"),
        ))  # fmt: skip
    return table
