"""Makes a failing schedule shorter, and keeps it failing.

Delta debugging (Zeller and Hildebrandt, 2002): leave out ever smaller pieces, and go on with whatever still
fails. In the end no single part can be left out. Pure but for the question. Called by `esctl fault storm`.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(
    parts: Sequence[T],
    fails: Callable[[Sequence[T]], bool],
    progress: Callable[[int], None] = lambda _left: None,
) -> list[T]:
    """Fewer parts, in their order, that still fail; those given fail. Empty where it fails without any."""
    left = list(parts)
    pieces = 2
    while left:
        size = -(-len(left) // pieces)
        for begin in range(0, len(left), size):
            rest = left[:begin] + left[begin + size :]
            if fails(rest):
                left, pieces = rest, max(2, pieces - 1)
                progress(len(left))
                break
        else:
            if size == 1:
                break
            pieces = min(len(left), 2 * pieces)
    return left
