"""The commands of `esctl`, found by their names, and whether a line can be typed.

A line is parsed as it would be, and nothing is run. So a command that is not there, an option that is
misspelt and a number out of its range are found when a playbook is linted, not at night. The one place where
playbooks load commands. Called by the linter, by `parameters.py`, by `impact.py` and by runs.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import typer

from esctl.cli import arguments, commandtable
from esctl.cli.commandtable import ROW_BY_NAME, ROWS, load
from esctl.cli.invocation import SHARED_WORDS
from esctl.cli.usagetext import usage_text

SET_BY_THE_RUN: Final = tuple(
    word for name, words in SHARED_WORDS.items() if name != "no_color" for word in words
)
"""Which cluster it is about and how it answers is for the run to say."""
CONSENT: Final = arguments.words_of(arguments.Yes)[0]


def find(words: Sequence[str]) -> Any:
    """The click command that a line of these words would run; None where there is none."""
    command, _ = commandtable.find(words)
    return None if hasattr(command, "commands") else command


def members(group: str) -> Mapping[str, Any]:
    """The commands of a group, by name."""
    found: Mapping[str, Any] = load(ROW_BY_NAME[group]).commands
    return found


def flaw_of(words: Sequence[str]) -> str:
    """Why this cannot be typed after `esctl`; empty when it can."""
    own = [word for word in words if word.partition("=")[0] in SET_BY_THE_RUN]
    if own:
        return f"{own[0]} is set by the run: leave it out"
    command, path = commandtable.find(words)
    if command is None:
        return f"there is no command `esctl {words[0]}`{_near(words[0], [row.name for row in ROWS])}"
    rest = list(words[len(path) :])
    if members := getattr(command, "commands", None):
        said = rest[0] if rest else ""
        also = _near(said, list(members)) or f"; there are: {', '.join(members)}"
        return f"there is no command `{' '.join(['esctl', *path, said]).strip()}`{also}"
    return _unparsed(command, path, rest)


def consenting(words: Sequence[str]) -> list[str]:
    """The same command, told not to ask, if it is one that may ask."""
    asks = any(CONSENT in parameter.opts for parameter in getattr(find(words), "params", ()))
    at = len(commandtable.find(words)[1])  # behind the command's name
    return [*words[:at], CONSENT, *words[at:]] if asks and CONSENT not in words else list(words)


def _unparsed(command: Any, path: Sequence[str], rest: list[str]) -> str:
    try:
        command.make_context(path[-1], rest)
    except typer.TyperException as error:
        return f"`esctl {' '.join(path)}`: {usage_text(error)}"
    except typer.Exit:
        return f"`esctl {' '.join(path)}` would only show its help"
    return ""


def _near(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
