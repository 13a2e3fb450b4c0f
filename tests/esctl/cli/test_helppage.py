"""The help of every command, on the narrowest terminal that is promised."""

import re
import sys
from typing import Any

import pytest

from esctl.cli.commandtable import ROWS, load
from esctl.cli.helppage import SHARED_PANEL
from tests.esctl.cli.test_auditlog import COMMANDS
from tests.esctl.ui.test_terminal import Screen

OF_THE_LIBRARY = re.compile(r"[╭│]|x>=|<=x|<\w+>|\{\w+\}|\[default|\.\d{6}")
GROUPS = {row.name: load(row) for row in ROWS if hasattr(load(row), "commands")}


def page_of(command: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    screen = Screen()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", screen)
    context = command.context_class(command, info_name=f"esctl {name}")
    command.format_help(context, None)
    return screen.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_in_80_columns_and_has_every_option(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of(COMMANDS[name], name, monkeypatch)
    lines = page.splitlines()
    assert lines[0].startswith(f"Usage: esctl {name} [OPTIONS]")
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert not OF_THE_LIBRARY.search(page)
    for parameter in COMMANDS[name].params:
        if not parameter.hidden and parameter.rich_help_panel != SHARED_PANEL:
            said = max(parameter.opts, key=len) if parameter.param_type_name == "option" else ""
            assert said in page
            assert " ".join((parameter.help or "").split())[:20] in " ".join(page.split())
    assert lines[-1] == "As every command: -c NAME, -o table|json|plain, --no-color, --no-input"


@pytest.mark.parametrize("name", GROUPS)
def test_the_help_of_a_group_names_its_commands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(GROUPS[name], name, monkeypatch)
    assert page.startswith("Usage: ")
    assert f" esctl {name} COMMAND ...\n" in page[:200]
    assert max(len(line.rstrip()) for line in page.splitlines()) <= 80
    names = re.findall(r"^  (\S+) ", page, re.MULTILINE)
    commands = GROUPS[name].commands
    assert set(commands) & set(names) == {one for one, command in commands.items() if not command.hidden}


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        ("top", "--every DURATION", "1s"),
        ("bench produce", "--runs N", "1"),
        ("bench produce", "--rate N", "0"),
    ],
)
def test_a_default_is_told_also_when_it_is_0_or_1(
    name: str, option: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = " ".join(page_of(COMMANDS[name], name, monkeypatch).split())
    assert f"(default: {default})" in page.partition(option)[2].partition(" --")[0]


def test_a_flag_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    flag = page_of(COMMANDS["consume"], "consume", monkeypatch).partition("-f, --follow")[2]
    assert "default" not in flag.partition("--")[0]
