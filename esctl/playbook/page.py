"""One page of HTML about a run of a playbook: the verdict, the latency over time with the steps on the same
axis, the steps, the guards, the audit.

Every text may come from anybody: it goes through `esctl/ui/html/markup.py` and is text. The page loads
nothing. Pure. Called by `esctl playbook report`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element

from esctl.bench.report.plot import TOP, WIDTH, thin
from esctl.playbook.report import audit_lines, clock, load_lines, seconds_in
from esctl.ui.formatting import number
from esctl.ui.html import page as html
from esctl.ui.html.markup import add, element
from esctl.ui.scale import Scale, decades, linear, span, wants_decades

_LEFT: Final = 110
_RIGHT: Final = 14
_PLOT: Final = 190
"""Height of the curves."""
_LANE: Final = 18
"""Height of one step's bar."""
_AXIS: Final = 36
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
        lines = (line.removeprefix("- ") for line in audit_lines(run["audit"]))
        add(body, element("h2", "Audit"), element("ul", *(element("li", line) for line in lines)))
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
        "took": f"{run['seconds']:.1f} s",
        **{f"input {name}": str(value) for name, value in run["inputs"].items()},
    }
    listed = element("dl")
    for name, value in facts.items():
        add(listed, element("dt", name), element("dd", value))
    return listed


def _steps(run: Mapping[str, Any]) -> Element:
    heads = ("step", "state", "at", "took", "what it did, and why", "undo")
    table = element("table", element("tr", *(element("th", head) for head in heads)))
    for step in run["steps"]:
        told = [str(text) for text in (step["title"], *step["commands"], step["why"]) if text]
        begun = seconds_in(run, step["begun"]) if step["begun"] is not None else "-"
        took = f"{step['seconds']:.1f} s" if step["seconds"] is not None else "-"
        cells = [
            element("td", step["step"]),
            element("td", step["state"], class_=_TONES.get(step["state"])),
            element("td", begun, class_="number"),
            element("td", took, class_="number"),
            element("td", *(element("div", text) for text in told)),
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
    ends = [step["begun"] - begun + (step["seconds"] or 0.0) for step in steps]
    times = [at for points in curves.values() for at, _ in points]
    across = span([0.0, *ends, *times], _LEFT, WIDTH - _RIGHT)
    top = TOP + (_PLOT + 12 if curves else 0)
    bottom = top + len(steps) * _LANE
    drawing = element("svg", role="img", aria_label="timeline")
    drawing.set("viewBox", f"0 0 {WIDTH} {bottom + _AXIS}")
    for tick in across.ticks:
        x = f"{across.place(tick):.1f}"
        add(drawing, element("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="rule"))
        add(drawing, _text(number(tick), float(x), bottom + 14, "middle"))
    add(drawing, _text("seconds", (_LEFT + WIDTH - _RIGHT) / 2, bottom + 30, "middle"))
    for step in steps:  # under the curves: what was broken while they did that
        if step["kind"] == "fault":
            add(drawing, _mark(step, begun, across, bottom))
    if curves:
        _draw_curves(drawing, curves, across)
    for place, step in enumerate(steps):
        add(drawing, *_bar(step, begun, across, top + place * _LANE))
    names = [name for name in _SERIES.values() if name in curves]
    legend = element("span", class_="legend")
    for place, name in enumerate(names):
        add(legend, element("span", element("i", class_=f"swatch line{place}"), f"{name}, ms"))
    return element("figure", element("figcaption", "Latency of the load, and the steps", legend), drawing)


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


def _draw_curves(
    drawing: Element, curves: Mapping[str, Sequence[tuple[float, float]]], across: Scale
) -> None:
    heights = [value for points in curves.values() for _, value in points]
    make = decades if wants_decades(heights) else linear
    up = make(heights, TOP + _PLOT, TOP)
    for tick in up.ticks:
        y = up.place(tick)
        add(
            drawing, element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="rule")
        )
        add(drawing, _text(f"{number(tick)} ms", _LEFT - 6, y + 4, "end"))
    for place, (name, points) in enumerate(curves.items()):
        way = " ".join(f"{across.place(at):.1f},{up.place(value):.1f}" for at, value in points)
        add(drawing, element("polyline", element("title", name), points=way, class_=f"line{place}"))


def _bar(step: Mapping[str, Any], begun: float, across: Scale, top: float) -> list[Element]:
    start = step["begun"] - begun
    seconds = step["seconds"] or 0.0
    left, right = across.place(start), across.place(start + seconds)
    told = element("title", f"{step['step']}: {step['state']}, {seconds:.1f} s")
    kind = _CLASSES.get("fault" if step["kind"] == "fault" else step["state"], "band")
    bar = element(
        "rect", told, x=f"{left:.1f}", y=f"{top + 3:.1f}", width=f"{max(2.0, right - left):.1f}",
        height=_LANE - 6, class_=kind,
    )  # fmt: skip
    return [_text(str(step["step"])[:16], _LEFT - 6, top + _LANE - 5, "end"), bar]


def _mark(step: Mapping[str, Any], begun: float, across: Scale, bottom: float) -> Element:
    """A line through everything where a fault was set."""
    x = f"{across.place(step['begun'] - begun):.1f}"
    told = element("title", f"{step['step']}: {'; '.join(step['commands'])}")
    return element("line", told, x1=x, x2=x, y1=TOP, y2=bottom, class_="line1", stroke_dasharray="4 3")


def _text(words: str, x: float, y: float, anchor: str) -> Element:
    return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
