"""Command lines of `esctl`, taken apart as the program does, without running anything."""

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise

import pytest
import typer

from esctl.cli.commandtable import find
from esctl.cli.durationoption import METAVAR


def parse(line: str) -> None:
    """Resolve `esctl ...` and every option and argument of it, and run nothing."""
    words = [re.sub(r"^[A-Z]{2,}$", "1", word) for word in shlex.split(line)[1:]]
    words = [word for word in words if not word.startswith("[")]
    if words[0].startswith("-"):
        assert words in (["--help"], ["--version"]), line
        return
    command, path = find(words)
    assert command is not None, f"{line}: no such command"
    rest = words[len(path) :]
    if rest == ["--help"]:
        return
    assert not hasattr(command, "commands"), f"{line}: {sorted(command.commands)}"
    try:
        command.make_context(path[-1], rest)
    except typer.TyperException as error:
        pytest.fail(f"{line}: {error.format_message()}")


def without_unit(words: Sequence[str]) -> list[str]:
    """Of the words after `esctl`, the options whose span of time is a number alone, which has no unit."""
    command, _ = find(words)
    names = {
        name
        for parameter in getattr(command, "params", ())
        if parameter.metavar == METAVAR
        for name in parameter.opts
    }
    pairs = [
        (word.partition("=")[0], word.partition("=")[2] or after) for word, after in pairwise([*words, ""])
    ]
    return [f"{name} {value}" for name, value in pairs if name in names and re.fullmatch(r"[\d.]+", value)]
