"""Command lines of `esctl`, taken apart as the program does, without running anything."""

import re
import shlex

import pytest
import typer

from esctl.cli.commandtable import ROWS, load


def parse(line: str) -> None:
    """Resolve `esctl ...` and every option and argument of it, and run nothing."""
    words = [re.sub(r"^[A-Z]{2,}$", "1", word) for word in shlex.split(line)[1:]]
    words = [word for word in words if not word.startswith("[")]
    if words[0].startswith("-"):
        assert words in (["--help"], ["--version"]), line
        return
    row = next((row for row in ROWS if row.name == words[0]), None)
    assert row is not None, f"{line}: no such command"
    command, rest = load(row), words[1:]
    if members := getattr(command, "commands", None):
        assert rest, f"{line}: {sorted(members)}"
        assert rest[0] in members, f"{line}: {sorted(members)}"
        command, rest = members[rest[0]], rest[1:]
    if rest == ["--help"]:
        return
    try:
        command.make_context(row.name, rest)
    except typer.TyperException as error:
        pytest.fail(f"{line}: {error.format_message()}")
