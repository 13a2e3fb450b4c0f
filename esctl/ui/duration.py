"""A span of time as people type it: `500ms`, `30s`, `10m`, `1h30m`; the one place that reads it.

`Duration` is one that playbooks hold: it counts and compares as a number and reads as people type it, so that
it can stand in an expression and on a command line alike. Pure. Called by the options of commands, by what
reads orders for faults and moments in the past, and by playbooks.
"""

import re
from typing import Final

from esctl.errors import InvalidArgument
from esctl.ui.formatting import typed

UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "min": 60_000, "s": 1000, "ms": 1}
"""The units, from the largest to the smallest; each may be followed by smaller ones."""
LONGEST_MS: Final = 1e12
"""30 years."""
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
FORM: Final = "".join(f"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "(?:min|m(?!s))", "s", "ms"))
"""A regular expression; it also matches the empty text."""
_PARTS: Final = re.compile(rf"({_NUMBER})([a-z]+)")


def with_units(text: str) -> float | None:
    """Milliseconds; None where the text is no duration, or has no unit, or is longer than 30 years."""
    word = text.strip()
    if not word or re.fullmatch(FORM, word) is None:
        return None
    milliseconds = sum(float(number) * UNITS_MS[unit] for number, unit in _PARTS.findall(word))
    return milliseconds if milliseconds <= LONGEST_MS else None


def milliseconds(text: str, plain: str = "s") -> float:
    """Milliseconds. A number alone counts the unit `plain`. Raises `InvalidArgument`."""
    word = text.strip()
    found = with_units(f"{word}{plain}" if re.fullmatch(_NUMBER, word) else word)
    if found is None:
        raise InvalidArgument(f"{text!r} is no duration: write 500ms, 30s, 10m or 1h30m")
    return found


class Duration(int):
    """Milliseconds; `str()` is `30s`, the way in which a command line takes it."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Raises `InvalidArgument`. A unit is wanted: a bare number leaves open whether it counts seconds."""
        word = text.strip()
        if word[-1:].isdigit():
            raise InvalidArgument(f"{text!r} has no unit: write {word}s, {word}ms or {word}m")
        return cls(round(milliseconds(word)))

    def __str__(self) -> str:
        return typed(int(self))

    def __repr__(self) -> str:
        return f"Duration({int(self)})"
