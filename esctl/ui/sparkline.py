"""A row of figures as one line of small bars, the newest at the right.

Pure. A figure that is not known is a blank; the highest one fills its place, and zero is an empty baseline.
Called by `esctl/observe/top/board.py`.
"""

from collections.abc import Iterable
from typing import Final

BARS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-:=+*#"
"""For a terminal that cannot show the bars."""


def spark(values: Iterable[float | None], width: int, *, unicode: bool = True) -> str:
    """The last `width` figures, padded on the left; all zero is a flat line."""
    shown = list(values)[-width:] if width > 0 else []
    bars = BARS if unicode else ASCII
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_bar(value, top, bars) for value in shown).rjust(width)


def _bar(value: float | None, top: float, bars: str) -> str:
    if value is None:
        return " "
    if top <= 0 or value <= 0:
        return bars[0]
    return bars[min(len(bars) - 1, int(value / top * (len(bars) - 1) + 0.5))]
