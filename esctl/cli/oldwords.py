"""The commands and options that had other words in the version before, and what they are called now.

The old words go on working for this version; a line with them is told the new ones. To be emptied with the
next version. Called by `main.py` for what is typed, and by the playbooks for what is written in them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from esctl.ui.duration import Duration

OLD_TO_NEW: Final = {
    "health": "status health",
    "check": "status metrics",
    "context": "config context",
    "trace": "event trace",
    "dedup explain": "event dedup",
    "dedup stats": "dedup",
    "debug bundle": "bundle",
    "bundle --into": "bundle --save",
    "timeline --into": "timeline --save",
    "export --to": "export --save",
    "backup create --into": "backup create --save",
    "backup create --file": "backup create --save",
    "bench report --out": "bench report --save",
    "playbook report --into": "playbook report --save",
    "playbook report -f": "playbook report --format",
    "bench produce --seconds": "bench produce --duration",
    "bench e2e --seconds": "bench e2e --duration",
    "bench sweep --seconds": "bench sweep --duration",
    "bench soak --minutes": "bench soak --duration",
    "bench failover --strike": "bench failover --kind",
    "fault freeze --for": "fault freeze --lease",
    "bench start --seconds": "bench start --duration",
}
"""The old words after `esctl`, and the new ones; words that end with an option are about that option."""

UNITS: Final = {"bench soak --minutes": "m"}
"""The unit of a number after an old option, where the new one would take it for another."""


def current(words: Sequence[str]) -> tuple[list[str], str]:
    """The words after `esctl` as they are called now, and a note for who typed old ones, or ""."""
    line, notes = list(words), []
    for old, new in OLD_TO_NEW.items():
        last = old.split()[-1]
        by_option = last.startswith("-")
        now = _with_option(line, old, new.split()[-1]) if by_option else _with_path(line, old, new)
        if now != line:
            line = now
            notes.append(f"`esctl {old}` is now `esctl {new}`")
    return line, _note(notes)


def current_arguments(path: Sequence[str], given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The arguments of a playbook's step by the names that the options of its command have now, and a note.

    `path` names the command, such as `backup create`. Where both names are given, the old one stays as it is.
    """
    named, notes = dict(given), []
    for old, new in OLD_TO_NEW.items():
        *words, option = old.split()
        was, now = argument_of(option), argument_of(new.split()[-1])
        if option.startswith("--") and words == list(path) and was in named and now not in named:
            if old in UNITS and isinstance(named[was], int | float) and not isinstance(named[was], Duration):
                named[was] = f"{named[was]}{UNITS[old]}"
            named = {now if name == was else name: value for name, value in named.items()}
            notes.append(f"`{was}` of `{' '.join(path)}` is now `{now}`")
    return named, _note(notes)


def argument_of(option: str) -> str:
    """What an option is called in a playbook's step: `--one-way` is `one_way`."""
    return option.removeprefix("--").replace("-", "_")


def _note(notes: Sequence[str]) -> str:
    return "; ".join([*notes, "the old words work in this version only"]) if notes else ""


def _with_path(line: list[str], old: str, new: str) -> list[str]:
    length = len(old.split())
    return [*new.split(), *line[length:]] if line[:length] == old.split() else line


def _with_option(line: list[str], option: str, new: str) -> list[str]:
    *path, old = option.split()
    if line[: len(path)] != path:
        return line
    end = line.index("--") if "--" in line else len(line)
    renamed = list[str]()
    for word in line[:end]:
        if renamed[-1:] == [new] and line[len(renamed) - 1] == old:
            renamed.append(_with_unit(word, option))
        elif word == old or word.startswith(f"{old}="):
            _, sign, value = word.partition("=")
            renamed.append(new + sign + _with_unit(value, option))
        else:
            renamed.append(word)
    return [*renamed, *line[end:]]


def _with_unit(value: str, option: str) -> str:
    return value + UNITS.get(option, "") if value[-1:].isdigit() else value
