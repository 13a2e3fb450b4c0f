"""Options that take a span of time: all of them take the one form, and a number alone means what it did."""

from typing import Any

import pytest
import typer

from esctl.cli.commandtable import every_command
from esctl.cli.durationoption import METAVAR, Reader, shown_default
from tests.esctl.commands.test_commands import Run

COMMANDS = every_command()
TAKING = {
    (name, parameter.opts[0]): parameter
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.metavar == METAVAR
}
READ_BY_THE_OPTION = {
    key: one for key, one in TAKING.items() if isinstance(getattr(one.type, "func", None), Reader)
}


def value_of(name: str, option: str, text: str) -> Any:
    parameter = TAKING[name, option]
    return parameter.type.convert(text, parameter, None)


@pytest.mark.parametrize(
    ("name", "option", "plain_s"),
    [("status", "--timeout", 30), ("top", "--every", 30), ("bench produce", "--duration", 30),
     ("bench soak", "--interval", 30), ("bench sweep", "--p99", 0.03), ("fault disk", "--wait", 30)],
)  # fmt: skip
def test_an_option_takes_units_and_a_number_alone_means_what_it_did(
    name: str, option: str, plain_s: float
) -> None:
    assert value_of(name, option, "30") == pytest.approx(plain_s)
    assert value_of(name, option, "1m30s") == 90


def test_no_option_counts_seconds_or_milliseconds_in_a_form_of_its_own() -> None:
    spans = ("--timeout", "--wait", "--every", "--interval", "--warmup", "--duration", "--lease",
             "--delay", "--jitter", "--hold", "--p99")  # fmt: skip
    others = [
        (name, parameter.opts)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if set(spans) & set(parameter.opts) and (name, parameter.opts[0]) not in TAKING
    ]
    assert others == []
    metavars = {parameter.metavar for command in COMMANDS.values() for parameter in command.params}
    assert not metavars & {"SECONDS", "MINUTES", "S", "MS", "M"}


@pytest.mark.parametrize("key", READ_BY_THE_OPTION, ids=" ".join)
def test_every_default_can_be_typed(key: tuple[str, str]) -> None:
    parameter = READ_BY_THE_OPTION[key]
    shown = shown_default(parameter)
    assert shown is not None
    assert value_of(*key, shown) == pytest.approx(parameter.default)


def test_a_wrong_span_of_time_is_the_callers_mistake() -> None:
    run = Run("top", "--every", "soon", "-o", "json")
    assert run.code == 2
    with pytest.raises(typer.BadParameter, match="no duration"):
        value_of("top", "--every", "soon")
