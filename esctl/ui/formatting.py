"""How texts and tables write sizes, spans of time, figures, numbers of things and lists of nodes.

Pure. Called by the commands, by what observes a cluster, by what asks it and by what draws.
"""

from collections.abc import Iterable, Sequence
from typing import Final, overload

_UNITS: Final = (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1))


def number(value: float | None) -> str:
    """Four digits, or all of a whole part with more of them, grouped; a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def short(value: float) -> str:
    """As it is written on an axis: 450,000 is 450k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):,.4g}{letter}"
    return number(value)


def quantity(count: int, thing: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def nodes_named(numbers: Iterable[int]) -> str:
    """`node 2`, `nodes 1, 2`."""
    listed = sorted(numbers)
    return f"node{'' if len(listed) == 1 else 's'} {', '.join(map(str, listed))}"


def partitions_named(numbers: Iterable[int]) -> str:
    """`partition 2`, or `partitions 0, 4-7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"partition{'s' * (sum(map(len, runs)) > 1)} {', '.join(parts)}"


def leaders_named(leaders: Sequence[int | None]) -> str:
    """Who leads what; `leaders` are nodes, by partition. Of the only partition, its number is not said."""
    if len(leaders) == 1:
        return f"node {leaders[0]} leads" if leaders[0] is not None else "nobody leads"
    led: dict[int | None, list[int]] = {}
    for partition, leader in enumerate(leaders):
        led.setdefault(leader, []).append(partition)
    known = sorted(node for node in led if node is not None)
    parts = [f"node {node} leads {partitions_named(led[node])}" for node in known]
    return "; ".join([*parts, *([f"nobody leads {partitions_named(led[None])}"] if None in led else [])])


def megabytes(size_bytes: int | None) -> str | None:
    """For people."""
    return None if size_bytes is None else f"{size_bytes / 1e6:.0f} MB"


@overload
def duration(seconds: float) -> str: ...
@overload
def duration(seconds: float | None) -> str | None: ...
def duration(seconds: float | None) -> str | None:
    """For people, in the two largest units: `310 ms`, `5.2 s`, `2 min 5 s`, `1 h 30 min`; None stays None."""
    if seconds is None:
        return None
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if round(seconds, 3) < 1:
        return f"{seconds * 1000:.3g} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    unit, size, smaller, smaller_size = next(each for each in _UNITS if whole >= each[1])
    rest = whole % size // smaller_size
    return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"


def typed(milliseconds: float) -> str:
    """Exactly, as an option takes it: `500ms`, `30s`, `1h30m`."""
    if milliseconds < 0:
        return f"-{typed(-milliseconds)}"
    if 0 < milliseconds < 1000:
        return f"{milliseconds:g}ms"
    whole_s, rest_ms = divmod(round(milliseconds, 3), 1000)
    left, text = int(whole_s), ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" * bool(count)
    seconds = f"{left + rest_ms / 1000:.6f}".rstrip("0").rstrip(".")
    return text if text and seconds == "0" else f"{text}{seconds}s"
