"""A story as one page of HTML that needs nothing from anywhere: outages, lanes, list, diagram.

The lanes are a file of SVG as well. Everything in a log may come from anybody: it goes through
`esctl/ui/html/markup.py` and is text. Pure. Called by `esctl timeline`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final
from xml.etree.ElementTree import Element

from esctl.cli import timearguments
from esctl.observe.timeline import mermaid, sequence
from esctl.observe.timeline.drawing import ACTIONS, WORDS, axis_of, ticks_of
from esctl.observe.timeline.lanes import Stretch
from esctl.observe.timeline.outages import outages, summary, time_of_day
from esctl.observe.timeline.story import Story
from esctl.ui.axis import Axis
from esctl.ui.formatting import duration
from esctl.ui.html import lanes
from esctl.ui.html import page as html
from esctl.ui.html.lanes import BarRow
from esctl.ui.html.markup import add, element

TICK_ROOM: Final = 0.14
"""What a time of day takes of the axis of a wide page."""
_COLOURS: Final = {
    "leader": "good", "follower": "follows", "pre-candidate": "asking", "candidate": "asking",
    "paused": "paused", "down": "down", "starting": "soft", "nobody": "bad", "fault": "fault", "step": "c0",
    "command": "c0", "latency": "c1", "acked": "c2",
}  # fmt: skip
"""The colour of each sort of bar, by the name that the style has for it."""
CSS: Final = "".join(
    f"svg .{kind} {{ fill: var(--{name}); stroke: var(--{name}); }}\n"
    f"i.{kind} {{ background: var(--{name}); }}\n"
    for kind, name in _COLOURS.items()
) + """
svg .follower { stroke: none; } svg .pre-candidate { opacity: .6; } i.pre-candidate { opacity: .6; }
svg .unknown { fill: none; stroke: var(--rule); } svg .latency, svg .acked { stroke: none; }
i.swatch { height: .7em; }
svg .ground { fill: var(--ground); } svg .title { font-weight: 600; fill: var(--text); }
.outages { border-left: .3rem solid var(--bad); padding-left: .75rem; margin: 1rem 0; }
.outages.none { border-color: var(--good); }
pre { overflow-x: auto; background: var(--card); padding: .75rem; border-radius: .5rem; font-size: .85rem; }
"""  # fmt: skip
FILE_CSS: Final = (
    CSS
    + """
svg { font: 13px system-ui, sans-serif; } svg text { fill: var(--soft); } svg .bar { stroke-width: 1.5px; }
svg .rule { stroke: var(--rule); }
"""
)


def page(story: Story, title: str, notes: list[str], *, linear: bool = False) -> str:
    """The whole page."""
    body = element("main", element("h1", title))
    add(body, element("p", _about(story), class_="soft"), _outages(story))
    add(body, *(element("p", note, class_="soft") for note in notes))
    along = axis_of(story, linear=linear)
    add(body, _figure(story, along, linear=linear))
    add(body, element("h2", "What happened"), element("div", _list(story), class_="wide"))
    add(body, element("h2", "Who told whom"), sequence.drawing(story))
    source = element("details", element("summary", "The same as a Mermaid diagram"))
    add(source, element("pre", mermaid.diagram(story)))
    add(body, source)
    return html.page(title, body, css=CSS + sequence.css(story))


def picture(story: Story, title: str, *, linear: bool = False) -> str:
    """The lanes alone, as a file of SVG."""
    along = axis_of(story, linear=linear)
    head = f"{title}: {_about(story)}\n{summary(story)}"
    return lanes.file(_lanes(story, along), ticks_of(story, along, TICK_ROOM), head, FILE_CSS)


def _about(story: Story) -> str:
    begin, end = (timearguments.written(at_s)[:19].replace("T", " ") for at_s in (story.begin_s, story.end_s))
    end = end[11:] if end[:10] == begin[:10] else end
    return f"{begin} to {end} UTC, {duration(story.end_s - story.begin_s)}"


def _outages(story: Story) -> Element:
    told = element("div", element("p", element("strong", summary(story))))
    told.set("class", "outages" if story.leaderless else "outages none")
    rows = [
        element("li", f"{time_of_day(one.begin_s, story)}, for {duration(one.seconds)}: {one.why}")
        for one in outages(story)
    ]
    add(told, element("ol", *rows) if rows else None)
    return told


def _figure(story: Story, along: Axis, *, linear: bool) -> Element:
    rows = _lanes(story, along)
    quiet = "" if linear else "; quiet times are drawn narrow"
    caption = element("figcaption", f"Each node over time, in UTC{quiet}", _legend(story, rows))
    drawn = lanes.drawing(rows, ticks_of(story, along, TICK_ROOM), "What each node was over time")
    return element("figure", caption, drawn)


def _lanes(story: Story, along: Axis) -> list[BarRow]:
    rows = [
        BarRow(
            f"node {node}",
            [
                _bar(story, along, one.begin_s, one.end_s, one.state, _state(node, one))
                for one in lane.stretches
                if one.end_s >= story.begin_s
            ],
        )
        for node, lane in story.lanes.items()
    ]
    if story.leaderless:
        gaps = [_bar(story, along, a, b, "nobody", "no leader that a majority follows")
                for a, b in story.leaderless]  # fmt: skip
        rows.append(BarRow("nobody", gaps))
    for kind, (name, *_) in ACTIONS.items():
        found = [
            _bar(story, along, one.begin_s, story.end_s if one.end_s is None else one.end_s, kind, one.text)
            for one in story.happenings
            if one.kind == kind
        ]
        if found:
            rows.append(BarRow(name, found))
    if story.acked_per_s:
        rates = _columns(story, along, story.acked_per_s, "acked", "events acked a second")
        rows.append(BarRow("acked/s", rates))
    if story.latency_ms:
        waits = _columns(story, along, story.latency_ms, "latency", "ms that clients waited")
        rows.append(BarRow("latency", waits))
    return rows


def _state(node: int, stretch: Stretch) -> str:
    term = f" in term {stretch.term}" if stretch.term is not None else ""
    return f"node {node} {WORDS.get(stretch.state, stretch.state)}{term}"


def _legend(story: Story, rows: Sequence[BarRow]) -> Element:
    names = {lane.name for lane in rows}
    states = dict.fromkeys(s.state for lane in story.lanes.values() for s in lane.stretches)
    shown = [(state, WORDS[state]) for state in states if state in WORDS]
    others = {
        "nobody": ("nobody", "no leader that a majority follows"),
        **{kind: action[:2] for kind, action in ACTIONS.items()},
        "acked": ("acked/s", f"events acked a second, at most {_most(story.acked_per_s)}"),
        "latency": ("latency", f"how long clients waited, at most {_most(story.latency_ms)} ms"),
    }
    shown += [(kind, words) for kind, (name, words) in others.items() if name in names]
    swatches = [element("span", element("i", class_=f"swatch {kind}"), words) for kind, words in shown]
    return element("span", *swatches, class_="legend")


def _most(samples: Sequence[tuple[float, float]]) -> str:
    return f"{max((value for _, value in samples), default=0):,.0f}"


def _bar(story: Story, along: Axis, begin_s: float, end_s: float, kind: str, told: str) -> Element:
    words = f"{told}: {time_of_day(begin_s, story)}, {duration(max(0.0, end_s - begin_s))}"
    return lanes.bar(along.place(begin_s), along.place(end_s), kind, words)


def _columns(
    story: Story, along: Axis, samples: Sequence[tuple[float, float]], kind: str, unit: str
) -> list[Element]:
    """Each sample until the next one, as high as it is of the highest."""
    most = max(value for _, value in samples) or 1.0
    found = []
    for (at_s, value), (after_s, _) in pairwise([*samples, (story.end_s, 0.0)]):
        begin, end = along.place(at_s), along.place(max(at_s, after_s))
        told = f"{value:,.0f} {unit}: {time_of_day(at_s, story)}"
        found.append(lanes.column(begin, value / most, kind, told, end - begin))
    return found


def _list(story: Story) -> Element:
    heads = ["time", "for", "what", ""]
    table = element("table", element("tr", *(element("th", head) for head in heads)), class_="list")
    for one in story.happenings:
        length = "goes on" if one.seconds is None else duration(one.seconds) if one.seconds else ""
        at = time_of_day(one.begin_s, story)
        add(table, element(
            "tr",
            element("td", at, class_="number", title=timearguments.written(one.begin_s)),
            element("td", length, class_="number"),
            element("td", one.kind),
            element("td", one.text, class_="text"),
        ))  # fmt: skip
    return table
