"""A circle as lines of text, each character of it the mark of what owns the most of that part.

Begins at the top and goes clockwise, as a clock does. Characters are twice as high as they are wide, so the
circle is twice as many columns wide as it has lines. Pure: lines of parts with tones. Called by
`esctl ring show`.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from esctl.ui.answer import Tone

Line = list[tuple[str, Tone]]
MARKS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/"
TONES: Final = (Tone.GOOD, Tone.WARN, Tone.ACCENT, Tone.BROKEN, Tone.PAUSED, Tone.BAD)
INNER: Final = 0.66
"""Where the band begins, as a part of the radius."""
HEIGHT: Final = 11


def tone_of(owner: int) -> Tone:
    """The colour of an owner, in the circle and beside it."""
    return TONES[owner % len(TONES)]


def draw(ends: Sequence[float], owners: Sequence[int], inside: Sequence[str]) -> list[Line]:
    """The lines. Part `i` goes from the end before it to `ends[i]`, from 0 to 1, and `owners[i]` owns it.

    What is past the last end belongs to the first owner. `inside` is written in the middle.
    """
    width = 2 * HEIGHT
    each = 1 / (math.pi * HEIGHT)  # about as much of the circle as a character shows
    lines: list[Line] = []
    first = (HEIGHT - len(inside)) // 2
    for y in range(HEIGHT):
        cells = [
            _cell(ends, owners, (x + 0.5) / HEIGHT - 1, (y + 0.5) * 2 / HEIGHT - 1, each)
            for x in range(width)
        ]
        if 0 <= y - first < len(inside):
            text = inside[y - first]
            at = (width - len(text)) // 2
            cells[at : at + len(text)] = [(letter, Tone.NORMAL) for letter in text]
        runs = groupby(cells, key=lambda cell: cell[1])
        lines.append([("".join(mark for mark, _ in run), tone) for tone, run in runs])
    return lines


def _cell(ends: Sequence[float], owners: Sequence[int], x: float, y: float, each: float) -> tuple[str, Tone]:
    if not INNER <= math.hypot(x, y) <= 1:
        return " ", Tone.NORMAL
    place = math.atan2(x, -y) / (2 * math.pi) % 1
    owner = _most(ends, owners, max(0.0, place - each / 2), min(1.0, place + each / 2))
    return MARKS[owner % len(MARKS)], tone_of(owner)


def _most(ends: Sequence[float], owners: Sequence[int], begin: float, end: float) -> int:
    """Who owns the most between two places."""
    owned: dict[int, float] = {}
    at, place = begin, bisect_left(ends, begin)
    while at < end:
        until = min(end, ends[place]) if place < len(ends) else end
        owner = owners[place % len(owners)]
        owned[owner] = owned.get(owner, 0.0) + until - at
        at, place = until, place + 1
    return max(owned, key=lambda owner: (owned[owner], -owner))
