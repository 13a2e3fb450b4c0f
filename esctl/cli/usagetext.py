"""What is wrong with a command line, in plain words where the library speaks of its own types.

Called by `main.py` for what a person has typed, and by `playbook/commandline.py` for what a playbook holds.
"""

import re
from typing import Final

import typer

_PLAIN: Final = (
    (re.compile(r"is not a valid int(?: range)?\."), "is not a whole number."),
    (re.compile(r"is not a valid float(?: range)?\."), "is not a number."),
    (re.compile(r"is not in the range x>=(\S+)\."), r"is too low: the lowest is \1."),
    (re.compile(r"is not in the range (\S+)<=x<=(\S+)\."), r"is out of range: it goes from \1 to \2."),
)
_WHOLE: Final = re.compile(r"(?<![\w.])(-?\d+)\.0(?!\w|\.\d)")
"""A number with a decimal point that it does not need."""


def usage_text(error: typer.TyperException) -> str:
    """The error's message, on one line; empty if a group has shown its help instead."""
    text = " ".join(error.format_message().split())
    for theirs, ours in _PLAIN:
        text = theirs.sub(ours, text)
    return _WHOLE.sub(r"\1", text)
