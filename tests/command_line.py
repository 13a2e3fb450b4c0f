"""Command lines of `esctl`, taken apart as the program does, without running anything."""

import re
import shlex

import pytest
import typer

from esctl.cli.commandtable import find


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
