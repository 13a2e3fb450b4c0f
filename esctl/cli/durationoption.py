"""Options that take a span of time: `500ms`, `30s`, `10m`, `1h30m`; the command gets seconds.

Decides what such an option is called in the help, which words it takes and how an error names its bounds.
A number alone counts what it did before there were units. Called by the modules of `esctl/commands`.
"""

from typing import Any, Final

import typer

from esctl.errors import InvalidArgument
from esctl.ui import duration
from esctl.ui.formatting import typed
from esnode.dataclass import dataclass

METAVAR: Final = "DURATION"
"""What the help has for the value of such an option; playbooks know by it what an argument takes."""
LONGEST_S: Final = duration.LONGEST_MS / 1000


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns what is typed into seconds; typer calls it for each value, the default included."""

    low_s: float
    high_s: float
    plain: str
    """The unit of a number alone."""
    __name__ = METAVAR

    def __call__(self, value: str | float) -> float:
        """Raises `typer.BadParameter`."""
        if not isinstance(value, str):
            return value
        try:
            seconds = duration.milliseconds(value, self.plain) / 1000
        except InvalidArgument as error:
            raise typer.BadParameter(f"{error}.") from None
        if self.low_s <= seconds <= self.high_s:
            return seconds
        low, high = typed(self.low_s * 1000), typed(self.high_s * 1000)
        if self.high_s == LONGEST_S:
            raise typer.BadParameter(f"{value} is too low: the lowest is {low}.")
        raise typer.BadParameter(f"{value} is out of range: it goes from {low} to {high}.")


def duration_option(
    word: str, help_text: str, *, low_s: float = 0.0, high_s: float = LONGEST_S, plain: str = "s"
) -> Any:
    """The declaration of an option whose value is from `low_s` to `high_s` seconds."""
    return typer.Option(word, metavar=METAVAR, help=help_text, parser=Reader(low_s, high_s, plain))


def shown_default(parameter: Any) -> str | None:
    """The default of such an option, as it would be typed; None for another parameter."""
    if parameter.metavar == METAVAR and isinstance(parameter.default, int | float):
        return typed(parameter.default * 1000)
    return None
