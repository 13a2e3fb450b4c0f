"""How texts and tables write sizes, spans of time, figures, numbers of things and lists of nodes.

Pure. Called by the commands, by what observes a cluster, by what asks it and by what draws.
"""

from collections.abc import Iterable
from typing import Final

_UNITS: Final = (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1))


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


def megabytes(size_bytes: int | None) -> str | None:
    """For people."""
    return None if size_bytes is None else f"{size_bytes / 1e6:.0f} MB"


def duration(seconds: float | None) -> str | None:
    """The two largest units, for people: a table has to fit in 80 columns."""
    if seconds is None:
        return None
    whole = int(seconds)
    for unit, size, smaller, smaller_size in _UNITS:
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller_size:02}{smaller}"
    return f"{whole}s"


def span(milliseconds: int | None) -> str | None:
    """A time that may be short, with its tenths of a second."""
    if milliseconds is None:
        return None
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, rest = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
