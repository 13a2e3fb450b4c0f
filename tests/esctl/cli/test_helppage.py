"""The help of every command, on the narrowest terminal that is promised."""

import io
import re
import sys
from typing import Any

import pytest

from esctl.cli import examples
from esctl.cli.commandtable import ROWS, load
from esctl.cli.helppage import SHARED_PANEL
from tests.esctl.cli.test_auditlog import COMMANDS
from tests.esctl.ui.test_terminal import Screen

OF_THE_LIBRARY = re.compile(r"[╭│]|x>=|<=x|<\w+>|\{\w+\}|\[default|\.\d{6}")
WORD = re.compile(r"[^\s()\[\],;:|`]+")
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
    assert all(line == line.rstrip() for line in lines)
    assert not OF_THE_LIBRARY.search(page)
    assert [line for line in lines if line.count("[") != line.count("]")] == []
    assert not re.search(r"\(default:$", page, re.MULTILINE), "a default stands in one line"
    for parameter in COMMANDS[name].params:
        if not parameter.hidden and parameter.rich_help_panel != SHARED_PANEL:
            said = max(parameter.opts, key=len) if parameter.param_type_name == "option" else ""
            assert said in page
            assert " ".join((parameter.help or "").split())[:20] in " ".join(page.split())
            written = [parameter.help or "", *(str(one) for one in getattr(parameter.type, "choices", ()))]
            assert set(WORD.findall(" ".join(written))) <= set(WORD.findall(page)), "a word is broken"
    assert set(WORD.findall(COMMANDS[name].help)) <= set(WORD.findall(page))
    for line in examples.shown(name):
        assert f"\n  {line}\n" in page
    assert lines[-1] == "As every command: -c NAME, -o table|json|plain, --no-color, --no-input"


def test_no_option_has_two_words() -> None:
    """A letter beside the word is fine; a word of the version before belongs into `oldwords.py`."""
    doubled = [
        (name, parameter.opts)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if sum(option.startswith("--") for option in parameter.opts) > 1
    ]
    assert doubled == []


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


def test_what_the_words_of_an_argument_mean_stands_below_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(COMMANDS["fault clock"], "fault clock", monkeypatch)
    assert "\nHOW\n  jump " in page
    assert page.index("\nOptions\n") < page.index("\nHOW\n") < page.index("\nExamples\n")


def test_the_page_of_a_group_that_is_a_command_too_has_its_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\n  esctl status\n" in page_of(GROUPS["status"], "status", monkeypatch)
    assert "Examples" not in page_of(GROUPS["cluster"], "cluster", monkeypatch)


def test_help_in_a_pipe_is_not_broken_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    command = COMMANDS["fault storm"]
    command.format_help(command.context_class(command, info_name="esctl fault storm"), None)
    help_text = " ".join(command.help.split())
    assert len(help_text) > 80
    assert f"\n  {help_text}\n" in pipe.getvalue()
    assert "\N{NO-BREAK SPACE}" not in pipe.getvalue()
