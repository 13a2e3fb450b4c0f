"""Which columns of a table stay whole on a narrow terminal, so that no name and no time is broken in two.

Pure: texts and a width. Knows nothing of rich; `terminal.py` draws what is decided here.
"""

from collections.abc import Sequence
from typing import Final

SHORT: Final = 12
"""A column whose longest text has so many characters is not broken, even between words."""
LEAST: Final = 12
"""What each other column keeps, in characters."""
GAP: Final = 2
"""The narrowest gap between two columns."""
WIDE_GAP: Final = 3
"""The gap where there is room."""


def needed(rows: Sequence[Sequence[str]]) -> int:
    """The characters that a line takes when nothing is broken."""
    return sum(max(map(len, column)) + WIDE_GAP for column in zip(*rows, strict=True))


def fitting(rows: Sequence[Sequence[str]], solid: Sequence[bool], width: int) -> int:
    """How many columns, from the left, can be read within `width` characters: two at least.

    `solid` says which are never broken.
    """
    used = 0
    for place, column in enumerate(zip(*rows, strict=True)):
        long = max(map(len, column))
        used += GAP + (long if solid[place] else min(LEAST, long))
        if used - GAP > width and place > 1:
            return place
    return len(rows[0])


def whole(rows: Sequence[Sequence[str]], width: int) -> set[int]:
    """The columns, by position, that are not to be broken within `width` characters: short ones, and those
    whose every text is one word, from the left, as long as each other column keeps `LEAST`.

    `rows` begins with the headings.
    """
    longest = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    one_word = [not any(" " in text for text in column) for column in zip(*rows[1:], strict=True)]
    room = width - sum(min(LEAST, long) + GAP for long in longest)
    kept: set[int] = set()
    for place, long in enumerate(longest):
        more = max(0, long - LEAST)
        if more <= room and (long <= SHORT or one_word[place]):
            kept.add(place)
            room -= more
    return kept
