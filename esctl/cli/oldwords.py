"""The commands that had other words in the version before, and what they are called now.

The old words go on working for this version; a line with them is told the new ones. To be emptied with the
next version. Called by `main.py` for what is typed, and by the playbooks for what is written in them.
"""

from collections.abc import Sequence
from typing import Final

OLD_TO_NEW: Final = {
    "health": "status health",
    "check": "status metrics",
    "context": "config context",
    "trace": "event trace",
    "dedup explain": "event dedup",
    "dedup stats": "dedup",
    "debug bundle": "bundle",
}
"""The old words after `esctl`, and the new ones."""


def current(words: Sequence[str]) -> tuple[list[str], str]:
    """The words after `esctl` as they are called now, and a note for who typed old ones, or ""."""
    for old, new in OLD_TO_NEW.items():
        length = len(old.split())
        if list(words[:length]) == old.split():
            note = f"`esctl {old}` is now `esctl {new}`; the old words work in this version only"
            return [*new.split(), *words[length:]], note
    return list(words), ""
