"""A span of time as playbooks write it: `500ms`, `30s`, `3m`; a whole number of milliseconds that knows this.

It counts and compares as a number and reads as people type it, so that it can stand in an expression and on
a command line alike. Pure. Called by the grammar, the reader and the inputs.
"""

from esctl.errors import InvalidArgument
from esctl.faults import nodeorders


class Duration(int):
    """Milliseconds; `str()` is `30s`, the way in which a command line takes it."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Raises `InvalidArgument`. A unit is wanted: a bare number leaves open whether it counts seconds."""
        if text.strip()[-1:].isdigit():
            raise InvalidArgument(f"{text!r} has no unit: write {text.strip()}s, {text.strip()}ms or 2m")
        return cls(nodeorders.milliseconds(text))

    def __str__(self) -> str:
        for unit, size in (("m", 60_000), ("s", 1000)):
            if self and self % size == 0:
                return f"{int(self) // size}{unit}"
        return f"{int(self)}ms"

    def __repr__(self) -> str:
        return f"Duration({int(self)})"
