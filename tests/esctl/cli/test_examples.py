"""The examples of every command: enough of them, each can be typed, and each fits beside its indent."""

import re

import pytest

from esctl.cli import examples
from esctl.cli.commandtable import every_command, find
from tests.command_line import parse, without_unit

COMMANDS = every_command()
LINES = [(name, line) for name, lines in examples.EXAMPLES.items() for line in lines]
PIPE = re.compile(r" [|>] ")


def test_every_command_has_two_examples_and_nothing_else_has_any() -> None:
    assert set(examples.EXAMPLES) == set(COMMANDS)
    assert [name for name, lines in examples.EXAMPLES.items() if len(set(lines)) < 2] == []


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_an_example_can_be_typed_and_is_of_its_own_command(name: str, line: str) -> None:
    typed = PIPE.split(line.partition("  # ")[0])[0]
    _, path = find(typed.split()[1:])
    assert " ".join(path) == name
    parse(typed)


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_a_span_of_time_in_an_example_has_its_unit(name: str, line: str) -> None:
    assert without_unit(line.partition("  # ")[0].split()[1:]) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_fit_in_80_columns(name: str) -> None:
    lines = list(examples.shown(name))
    assert len(lines) >= 2
    assert max(map(len, lines)) <= 78, "they stand two columns from the left"
    told = [line.index("  # ") for line in lines if "  # " in line]
    assert len(set(told)) <= 1, "what they are for stands in one column"


def test_an_example_that_cannot_be_typed_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="--nodse"):
        parse("esctl cluster up drill --nodse 3")


def test_what_is_no_command_has_no_examples() -> None:
    assert list(examples.shown("cluster")) == []
