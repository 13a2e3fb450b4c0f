"""One page of HTML about measurements: figures, plots, settings and machines, and how they compare.

Everything in the results may come from anybody: it goes through `esctl/ui/html/markup.py` and is text.
Results of one kind are compared with the first of that kind. Pure. Called by `esctl bench report`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element

from esctl.bench.comparison import Change, Comparison, FigureVerdict, caveats, compare
from esctl.bench.noise import NoiseSource
from esctl.bench.report import choice, plot
from esctl.bench.result import AnyResult
from esctl.bench.units import reading
from esctl.ui.formatting import number
from esctl.ui.html import page as html
from esctl.ui.html.markup import add, element

MOST_ITEMS: Final = 100
"""Of a list in the details, so many are shown."""
MOST_DEEP: Final = 8
FEW_BYTES: Final = 100_000
"""Such as the size of an event: no megabytes."""


def page(results: Mapping[str, AnyResult], written_at: str) -> str:
    """The whole page about `results`, each by the name of its file."""
    body = element("main", element("h1", "Measurements of EventStreamCore"))
    add(body, element("p", f"{_counted(len(results), 'result')}, page written {written_at}", class_="soft"))
    kinds: dict[str, dict[str, AnyResult]] = {}
    for file, result in results.items():
        kinds.setdefault(result.kind, {})[file] = result
    several = {kind: members for kind, members in kinds.items() if len(members) > 1}
    add(body, _contents(results, list(several)))
    for place, (kind, members) in enumerate(several.items()):
        add(body, _side_by_side(f"compared-{place}", kind, members))
    for place, (file, result) in enumerate(results.items()):
        add(body, _one(f"result-{place}", file, result))
    return html.page(f"Bench: {', '.join(results)}", body)


def _contents(results: Mapping[str, AnyResult], compared: Sequence[str]) -> Element:
    links = [element("li", element("a", f"{kind}: results side by side", href=f"#compared-{place}"))
             for place, kind in enumerate(compared)]  # fmt: skip
    links += [element("li", element("a", f"{result.kind}: {file}", href=f"#result-{place}"))
              for place, (file, result) in enumerate(results.items())]  # fmt: skip
    return element("nav", element("ul", *links))


# --- one result ---------------------------------------------------------------------------------


def _one(anchor: str, file: str, result: AnyResult) -> Element:
    section = element("section", element("h2", f"{result.kind}: {file}"), id=anchor)
    about = f"{_counted(len(result.runs), 'run')}, taken {result.taken_at}"
    add(section, element("p", about, class_="soft"))
    add(section, element("div", _figures(result), class_="wide"))
    drawn = choice.plots(result)
    if drawn:
        add(section, element("h3", "Over the run" if "x" not in result.settings else "Curves"))
        add(section, element("div", *drawn, class_="plots"))
    told = {"Settings": result.settings, "Cluster": result.cluster, "Machine": result.machine}
    columns = [element("div", element("h3", title), _facts(facts)) for title, facts in told.items()]
    add(section, element("div", *columns, class_="facts"))
    if result.detail:
        add(section, element("details", element("summary", "Details"), _facts(result.detail)))
    return section


def _figures(result: AnyResult) -> Element:
    """The median of each figure; with several runs, the lowest and the highest too."""
    several = len(result.runs) > 1
    heads = ["figure", "median", "lowest", "highest", "unit"] if several else ["figure", "value", "unit"]
    table = _table(heads, {1, 2, 3} if several else {1})
    low, high = result.extremes
    for name, middle in result.figures.items():
        read = reading(name)
        values = [middle, low[name], high[name]] if several else [middle]
        cells = [element("td", _number(value, read.divisor), class_="number") for value in values]
        add(table, element("tr", element("td", read.label, title=name), *cells, element("td", read.unit)))
    return table


def _facts(facts: Mapping[str, Any], depth: int = 0) -> Element:
    listed = element("dl")
    for name, value in facts.items():
        label = reading(name).label if _is_number(value) else name.replace("_", " ")
        add(listed, element("dt", label, title=name), element("dd", _fact(name, value, depth)))
    return listed


def _fact(name: str, value: Any, depth: int) -> Element | str:
    """A value as a person reads it; what is nested too deep is only named."""
    if isinstance(value, Mapping | list | tuple) and not value:
        return "none"
    if isinstance(value, Mapping):
        return _facts(value, depth + 1) if depth < MOST_DEEP else "(more)"
    if isinstance(value, list | tuple):
        if depth >= MOST_DEEP:
            return "(more)"
        items = [element("li", _fact("", item, depth + 1)) for item in value[:MOST_ITEMS]]
        more = len(value) - MOST_ITEMS
        return element("ul", *items, element("li", f"and {more:,} more") if more > 0 else None)
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not _is_number(value):
        return str(value)
    read = reading(name)
    if name.endswith("_bytes") and abs(value) < FEW_BYTES:
        return f"{number(value)} bytes"
    return f"{_number(value, read.divisor)} {read.unit}".strip()


# --- several results ----------------------------------------------------------------------------


def _side_by_side(anchor: str, kind: str, members: Mapping[str, AnyResult]) -> Element:
    """Every result of a kind against the first one, and their curves in the same plots."""
    (base_file, base), *others = members.items()
    section = element("section", element("h2", f"{kind}: results side by side"), id=anchor)
    for file, other in others:
        compared = compare(base, other)
        add(section, element("h3", f"{file} against {base_file}"))
        add(section, element("p", _summary(compared), class_=compared.verdict))
        add(section, *(element("p", f"warning: {text}", class_="warning") for text in caveats(compared)))
        table = element("div", _changes(compared), class_="wide")
        add(section, element("div", table, _ratios(compared), class_="plots"))
    overlaid = choice.overlays(members)
    if overlaid:
        add(section, element("h3", "The same curve of each"), element("div", *overlaid, class_="plots"))
    return section


def _summary(compared: Comparison) -> str:
    counts = [(verdict, len(compared.names(verdict))) for verdict in FigureVerdict]
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    return f"{compared.verdict}: {told}"


def _changes(compared: Comparison) -> Element:
    table = _table(["figure", "verdict", "base", "other", "unit", "ratio", "band"], {2, 3, 5, 6})
    for change in compared.changes:
        read = reading(change.name)
        cells = [
            element("td", change.verdict, class_=change.verdict),
            element("td", _number(change.base, read.divisor), class_="number"),
            element("td", _number(change.other, read.divisor), class_="number"),
            element("td", read.unit),
            element("td", f"{change.ratio:.3f}" if change.ratio is not None else "-", class_="number"),
            element("td", _band(change), class_="number"),
        ]
        add(table, element("tr", element("td", _label(change), title=change.name), *cells))
    return table


def _label(change: Change) -> str:
    return reading(change.name).label + change.title.removeprefix(change.name)


def _band(change: Change) -> str:
    if change.band is None:
        return "-"
    coarse = " coarse" if change.band.source is NoiseSource.COARSE else ""
    percent = change.band_percent
    return f"±{number(change.band.width)}{coarse}" if percent is None else f"±{percent:.1f}%{coarse}"


def _ratios(compared: Comparison) -> Element | None:
    rows = [
        (f"{_label(change)} {reading(change.name).unit}", change.ratio, change.band_percent,
         str(change.verdict))
        for change in compared.changes
        if change.ratio is not None and change.verdict is not FigureVerdict.TOLD
    ]  # fmt: skip
    return (
        plot.changes("Ratio, and in grey the band that a figure moves in by itself", rows) if rows else None
    )


# --- small things -------------------------------------------------------------------------------


def _table(heads: Sequence[str], numbers: set[int]) -> Element:
    cells = [element("th", head, class_="number" if at in numbers else None) for at, head in enumerate(heads)]
    return element("table", element("tr", *cells))


def _number(value: float | None, divisor: float) -> str:
    return number(value / divisor) if value is not None else "-"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
