"""How far a long piece of work has come: shown, or told to nobody.

Knows no rich: it is given the bar. Called by `terminal.py` and the commands.
"""

from typing import Any, Protocol

from esctl.ui import escape


class Progress(Protocol):
    """How far a long piece of work has come."""

    def advance(self, amount: int = 1) -> None:
        """`amount` more is done."""

    def describe(self, text: str) -> None:
        """Say what is going on now."""


class Silent:
    """Where nobody watches."""

    def advance(self, amount: int = 1) -> None:
        """Show nothing."""

    def describe(self, text: str) -> None:
        """Show nothing."""


class Shown:
    """One task of a progress bar that rich draws."""

    def __init__(self, shown: Any, task: Any) -> None:
        self._shown, self._task = shown, task

    def advance(self, amount: int = 1) -> None:
        """`amount` more is done."""
        self._shown.advance(self._task, amount)

    def describe(self, text: str) -> None:
        """Say what is going on now."""
        self._shown.update(self._task, description=escape.line(text))
