"""Which plots a result has: its series by their unit, and what each strike of a failover was made of.

Pure. Called by `page.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element

from esctl.bench.report.plot import COLOURS, PlotAxis, Point, bars, curves
from esctl.bench.result import AnyResult
from esctl.bench.units import reading

SUBJECTS: Final = {"ms": "Latency", "events/s": "Throughput", "MB": "Size"}
"""What a plot of several curves in one unit is about."""
PHASES: Final = ("detect_ms", "elect_ms", "first_commit_ms", "client_ms")
MOST_BARS: Final = 60
_TIMES: Final = ((7200.0, PlotAxis("time", "h", 3600.0)), (600.0, PlotAxis("time", "min", 60.0)))
"""Which unit a time axis has that is at least so many seconds long."""


def plots(result: AnyResult) -> list[Element]:
    """Every plot of one result."""
    across, phased = axis(result), phases(result.detail)
    groups: dict[tuple[str, str, float], dict[str, Sequence[Point]]] = {}
    for name, points in result.series.items():
        if not points or (phased and name in PHASES):
            continue
        read = reading(name)
        subject = SUBJECTS.get(read.unit, "")
        if name.endswith("_rss_bytes"):
            subject = "Memory"  # by itself: a log beside it would press it to the ground
        group = groups.setdefault((subject or read.label, read.unit, read.divisor), {})
        group[read.label if read.label not in group else name] = points
    drawn = []
    for (subject, unit, divisor), group in groups.items():
        for part in _parts(group):
            title = subject if len(part) > 1 else next(iter(part))
            drawn.append(curves(title, part, across, PlotAxis("", unit, divisor)))
    if phased:
        left_out = f", the first {MOST_BARS} of {len(phased)}" if len(phased) > MOST_BARS else ""
        drawn.append(bars(f"From the strike to the next ack, by phase{left_out}", phased[:MOST_BARS], "ms"))
    return drawn


def overlays(results: Mapping[str, AnyResult]) -> list[Element]:
    """The curves that all of these results have, each with those of every result in one plot."""
    first, *others = results.values()
    shared = [name for name, points in first.series.items()
              if points and all(other.series.get(name) for other in others)]  # fmt: skip
    drawn = []
    for name in shared if len(results) <= COLOURS else ():
        read = reading(name)
        by_file = {file: result.series[name] for file, result in results.items()}
        up = PlotAxis("", read.unit, read.divisor)
        drawn.append(curves(read.label, by_file, axis(first), up))
    return drawn


def axis(result: AnyResult) -> PlotAxis:
    """What the first number of each point is: what the settings name, or a time in seconds."""
    named = result.settings.get("x")
    if isinstance(named, str) and named:
        read = reading(named)
        return PlotAxis(read.label, "events/s" if named == "rate" else read.unit, read.divisor)
    times = [point[0] for points in result.series.values() for point in points]
    length = max(times, default=0.0) - min(times, default=0.0)
    return next((axis for least_s, axis in _TIMES if length >= least_s), PlotAxis("time", "s"))


def phases(detail: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The phases of each strike that a failover tells of: a list of maps that hold them, or hold `phases`."""
    for strikes in detail.values():
        found = list(_phases_of(strikes)) if isinstance(strikes, list | tuple) else []
        if found:
            return found
    return []


def _phases_of(strikes: Sequence[Any]) -> Iterator[tuple[str, dict[str, float]]]:
    for number, strike in enumerate(strikes, 1):
        inner = strike.get("phases", strike) if isinstance(strike, Mapping) else None
        if not isinstance(inner, Mapping):
            continue
        known = {reading(name).label: inner[name] for name in PHASES if _is_time(inner.get(name))}
        if known:
            yield f"no {number}", known


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def _parts(group: Mapping[str, Sequence[Point]]) -> Iterator[dict[str, Sequence[Point]]]:
    """No plot has more curves than there are colours."""
    names = list(group)
    for at in range(0, len(names), COLOURS):
        yield {name: group[name] for name in names[at : at + COLOURS]}
