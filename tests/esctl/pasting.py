"""Whether what an answer says to type next can be typed: the commands in a text, and what is wrong with them.

A text may hold words around its commands: a command begins at `esctl` and ends at a comma, a semicolon, a
bracket, a backtick, a redirection or the end. Words in capitals, such as FILE, stand for what only the reader
knows.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from esctl.cli.invocation import SHARED_WORDS
from esctl.playbook import commandline
from esctl.playbook.impact import of_words
from esctl.playbook.schema import Impact

_COMMAND = re.compile(r"(?<![\w./-])esctl(?= |$|[,;`)])((?:\"[^\"]*\"|'[^']*'|[^,;()<>|`\"'\n]|,(?! ))*)")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(\.\w+)?")
ASKS_FOR_HELP = frozenset({"ES4000", "ES4009"})
"""Codes of a command line that was wrong: only there the command's help is what helps."""


def commands_in(text: str) -> list[list[str]]:
    """The words after `esctl` of each command in a text."""
    return [shlex.split(found, comments=True) for found in _COMMAND.findall(text)]


def flaws_in(text: str, *, code: str = "") -> list[str]:
    """What would not work when it is pasted; `code` is that of the error that says it."""
    return [flaw for words in commands_in(text) if (flaw := _flaw(tuple(words), code in ASKS_FOR_HELP))]


def reads_only(words: Sequence[str]) -> bool:
    """Does the command change nothing?"""
    return of_words(without_target(words)) is Impact.READS


def without_target(words: Sequence[str]) -> list[str]:
    """Without the options that any command takes."""
    rest, found = list(words), []
    while rest:
        word = rest.pop(0)
        if word in (*SHARED_WORDS["cluster"], *SHARED_WORDS["output"]):
            del rest[:1]
        elif word not in commandline.SET_BY_THE_RUN:
            found.append(word)
    return found


def next_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each text of a JSON answer that says what to type, with the code of its error."""
    for error in document["errors"]:
        yield error["next"], error["code"]
    yield from ((text, "") for text in _nested(document["data"]))


def check(document: Mapping[str, Any]) -> None:
    """Nothing that the answer says to type fails, or is only the question that it answers."""
    for text, code in next_of(document):
        found = flaws_in(text, code=code)
        asked = document["command"].split()
        for words in commands_in(text):
            alone = commands_in(text) == [words] and not _takes_arguments(asked)
            alone &= _cluster_of(words) in (None, document["data"].get("cluster"))
            if alone and without_target(words) == asked and reads_only(words):
                found.append(f"`esctl {document['command']}` is what was typed")
        assert not found, f"esctl {document['command']} says to type {text!r}: {'; '.join(found)}"


def _cluster_of(words: Sequence[str]) -> str | None:
    """The cluster that a command names; None where it names none."""
    named = [value for option, value in pairwise(words) if option in SHARED_WORDS["cluster"]]
    return named[0] if named else None


@cache
def _flaw(words: tuple[str, ...], help_helps: bool) -> str:
    if not words:
        return "only `esctl`"
    if words[-1] == "--help":
        if not help_helps:
            return "help is no cure"
        known = len(words) == 1 or _is_command(words[:-1])
        return "" if known else f"there is no command `esctl {' '.join(words[:-1])}`"
    typed = ["1" if _PLACEHOLDER.fullmatch(word) else word for word in without_target(words)]
    return commandline.flaw_of(typed) if typed else "only options"


def _takes_arguments(words: Sequence[str]) -> bool:
    """May it be about something else when it is typed again? An answer does not say what was typed."""
    parameters = getattr(commandline.find(words), "params", ())
    return any(one.param_type_name == "argument" and one.name != "cluster" for one in parameters)


def _is_command(words: Sequence[str]) -> bool:
    try:
        return commandline.find(words) is not None or bool(commandline.members(words[0]))
    except (KeyError, AttributeError):
        return False


def _nested(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            for name, inner in value.items():
                match name, inner:
                    case ("next" | "first", str()):
                        yield inner
                    case ("next" | "also", list()):
                        yield from (one for one in inner if isinstance(one, str))
                yield from _nested(inner)
        case list() | tuple():
            for inner in value:
                yield from _nested(inner)
