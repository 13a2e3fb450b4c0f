"""One page of HTML about a run of a playbook: the verdict, the latency over time with the steps on the same
axis, the steps, the guards, the exactly-once check.

Every text may come from anybody: it goes through `esctl/ui/html/markup.py` and is text. The page loads
nothing. Pure. Called by `esctl playbook report`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final
from xml.etree.ElementTree import Element

from esctl.bench.report.plot import thin
from esctl.playbook import nodechoice
from esctl.playbook.report import clock, exactly_once_lines, load_lines, seconds_in
from esctl.ui.axis import Axis, axis
from esctl.ui.formatting import duration, number
from esctl.ui.html import page as html
from esctl.ui.html.lanes import BarRow, bar, curve, drawing, level, rule
from esctl.ui.html.markup import add, element
from esctl.ui.scale import decades, linear, span, wants_decades

LONG: Final = 0.5
"""A step that takes more of the run than this is drawn narrow."""
TICK_ROOM: Final = 0.09
_PLOT: Final = 220
"""Height of the curves, in pixels."""
_ROOM: Final = 8
"""Above and below them: half a line of what is written beside."""
_SERIES: Final = {"p50_ms": "p50", "p99_ms": "p99", "max_ms": "longest"}
_CLASSES: Final = {"passed": "same", "failed": "worse", "inconclusive": "worse", "fault": "fill1"}
_TONES: Final = {"pass": "better", "fail": "worse", "passed": "better", "failed": "worse"}


def page(run: Mapping[str, Any]) -> str:
    """The whole page about the document of a run with its samples."""
    title = str(run["playbook"]["title"])
    body = element("main", element("h1", title), _verdict(run), _about(run))
    if run["left"]:
        add(body, element("h2", "Not undone"), element("p", "Type this, in this order:"))
        add(body, element("ol", *(element("li", element("code", line)) for line in run["left"])))
    add(body, element("h2", "Timeline"), timeline(run))
    add(body, element("h2", "Steps"), element("div", _steps(run), class_="wide"))
    if run["audit"]:
        lines = (line.removeprefix("- ") for line in exactly_once_lines(run["audit"]))
        add(body, element("h2", "Exactly once"), element("ul", *(element("li", line) for line in lines)))
    if run["guards"]:
        add(body, element("h2", "Guards"), *(_guard(run, guard) for guard in run["guards"]))
    if run["loads"]:
        lines = (line for load in run["loads"] for line in load_lines(load))
        add(body, element("h2", "Load"), element("ul", *(element("li", line) for line in lines)))
    return html.page(f"{title}: {run['verdict'] or run['state']}", body)


def _verdict(run: Mapping[str, Any]) -> Element:
    verdict = str(run["verdict"] or run["state"])
    clean = "" if run["clean"] else "; the clean-up is not complete"
    word = element("span", verdict, class_=_TONES.get(verdict, "warning"))
    return element("p", word, f": {run['why']}{clean}")


def _about(run: Mapping[str, Any]) -> Element:
    book = run["playbook"]
    facts = {
        "run": run["run"] + (" (a rehearsal)" if run["rehearsal"] else ""),
        "playbook": f"{book['id']} {book['version']}",
        "cluster": run["cluster"],
        "begun": clock(run["begun"]),
        "took": duration(run["seconds"]),
        **{f"input {name}": value for name, value in nodechoice.told(run["inputs"], run["chosen"]).items()},
    }
    listed = element("dl")
    for name, value in facts.items():
        add(listed, element("dt", name), element("dd", value))
    return listed


def _steps(run: Mapping[str, Any]) -> Element:
    heads = ("step", "state", "at", "took", "what it did, and why", "undo")
    table = element("table", element("tr", *(element("th", head) for head in heads)), class_="list")
    for step in run["steps"]:
        told = [str(text) for text in (step["title"], *step["commands"], step["why"]) if text]
        begun = seconds_in(run, step["begun"]) if step["begun"] is not None else "-"
        took = duration(step["seconds"]) if step["seconds"] is not None else "-"
        cells = [
            element("td", step["step"]),
            element("td", step["state"], class_=_TONES.get(step["state"])),
            element("td", begun, class_="number"),
            element("td", took, class_="number"),
            element("td", *(element("div", text) for text in told), class_="text"),
            element("td", "" if step["undo"] == "none" else f"{step['undo']} {step['undo_why']}".strip()),
        ]
        add(table, element("tr", *cells))
    return table


def _guard(run: Mapping[str, Any], guard: Mapping[str, Any]) -> Element:
    changes = [
        element("li", f"{seconds_in(run, one['at'])}: {one['state']} {one['text']}".rstrip())
        for one in guard["history"]
    ]
    return element("div", element("p", element("code", guard["expr"])), element("ul", *changes))


# --- the timeline --------------------------------------------------------------------------------


def timeline(run: Mapping[str, Any]) -> Element:
    """The load's latency over the seconds of the run, and below it a bar for each step, on the same axis."""
    begun = float(run["begun"])
    steps = [step for step in run["steps"] if step["begun"] is not None]
    curves = _curves(run, begun)
    along, narrow = _axis(steps, curves, begun)
    ticks = _ticks(along, steps, begun, narrow=narrow)
    marks = [  # under the curves: what was broken while they did that
        rule(along.place(step["begun"] - begun), "line1 mark", f"{step['step']}: {_typed(step)}")
        for step in steps
        if step["kind"] == "fault"
    ]
    rows = [BarRow(str(step["step"]), [*marks, _bar(step, begun, along)]) for step in steps]
    drawn = drawing(rows, ticks, "The steps over the run")
    plot = _plot(curves, along, marks, [at for at, _ in ticks]) if curves else None
    return element("figure", _caption(curves, narrow=narrow), plot, drawn)


def _typed(step: Mapping[str, Any]) -> str:
    return "; ".join(step["commands"])


def _axis(
    steps: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[tuple[float, float]]], begun: float
) -> tuple[Axis, bool]:
    """Over the seconds of the run. A step that took most of it is drawn narrow, or it would squeeze what
    happened in the others; whether one is."""
    bounds = [step["begun"] - begun + part for step in steps for part in (0.0, step["seconds"] or 0.0)]
    times = [at for points in curves.values() for at, _ in points]
    knots = sorted({0.0, *bounds, *(times[:1]), *(times[-1:])})
    end = max([*knots, *times])
    longest = max((after - before for before, after in pairwise(knots)), default=0.0)
    narrow = longest > LONG * end
    return axis(knots, 0.0, end, linear=not narrow), narrow


def _ticks(
    along: Axis, steps: Sequence[Mapping[str, Any]], begun: float, *, narrow: bool
) -> list[tuple[float, str]]:
    """Whole seconds; on an axis with narrow parts, the seconds at which steps began."""
    if narrow:
        times = sorted({0.0, along.end_s, *(step["begun"] - begun for step in steps)})
        kept: list[tuple[float, str]] = []
        for at in times:
            place = along.place(at)
            if not kept or place - kept[-1][0] >= TICK_ROOM:
                kept.append((place, f"{at:.1f} s"))
        return kept
    return [(along.place(tick), f"{number(tick)} s") for tick in span((0.0, along.end_s), 0, 1).ticks]


def _caption(curves: Mapping[str, Any], *, narrow: bool) -> Element:
    words = "Latency of the load, and the steps" if curves else "The steps"
    legend = element("span", class_="legend")
    for place, name in enumerate(name for name in _SERIES.values() if name in curves):
        add(legend, element("span", element("i", class_=f"swatch line{place}"), f"{name}, ms"))
    return element("figcaption", words + ("; long steps are drawn narrow" if narrow else ""), legend)


def _curves(run: Mapping[str, Any], begun: float) -> dict[str, list[tuple[float, float]]]:
    """By name, (seconds, ms); a sample without an ack has no point."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, label in _SERIES.items():
        points = [
            (float(sample["at"]) - begun, float(sample[name]))
            for load in run["loads"]
            for sample in load.get("samples", ())
            if sample.get(name) is not None
        ]
        if points:
            found[label] = thin(points)
    return found


def _plot(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    along: Axis,
    marks: Sequence[Element],
    ticks: Sequence[float],
) -> Element:
    """The curves with what is written beside them, as wide as the lanes below."""
    heights = [value for points in curves.values() for _, value in points]
    make = decades if wants_decades(heights) else linear
    up = make(heights, _PLOT - _ROOM, _ROOM)
    levels = [level(up.place(tick)) for tick in up.ticks]
    ways = [
        curve([(along.place(at), up.place(value)) for at, value in points], f"line{place}", name, _PLOT)
        for place, (name, points) in enumerate(curves.items())
    ]
    words = [
        element("text", f"{number(tick)} ms", x="100%", y=f"{up.place(tick) + 4:.1f}", text_anchor="end")
        for tick in up.ticks
    ]
    beside = element("svg", *words, width="100%", height=_PLOT)
    rules = [rule(at) for at in ticks]
    plot = element("svg", *rules, *levels, *marks, *ways, width="100%", height=_PLOT)
    return element("div", element("span", beside, class_="label"), plot, class_="lanes plot")


def _bar(step: Mapping[str, Any], begun: float, along: Axis) -> Element:
    start, seconds = step["begun"] - begun, step["seconds"] or 0.0
    kind = _CLASSES.get("fault" if step["kind"] == "fault" else step["state"], "band")
    told = f"{step['step']}: {step['state']}, {duration(seconds)}"
    return bar(along.place(start), along.place(start + seconds), kind, told)
