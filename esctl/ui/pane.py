"""A few lines at the end of what is printed, drawn anew in place while something goes on.

What is printed meanwhile goes above them: the terminal stops the pane before and starts it after. Knows
neither rich nor what is shown: it is given how a picture is made. Opened by `Terminal.pane`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from esctl.ui.answer import Tone

Lines = Sequence[Sequence[tuple[str, Tone]]]


class Picture(Protocol):
    """Something that is drawn over itself; rich's `Live` is one."""

    def start(self) -> None:
        """Begin below what is printed."""

    def stop(self) -> None:
        """Take it off the screen."""

    def update(self, renderable: Any, *, refresh: bool = False) -> None:
        """Draw that instead."""


class Pane:
    """The lines. Without a `picture` nobody watches, and nothing is drawn."""

    def __init__(
        self, console: Any = None, picture: Callable[[], Picture] | None = None, drawn: Any = None
    ) -> None:
        self.console = console
        """Where what is said meanwhile is printed."""
        self._picture = picture
        self._drawn = drawn
        self._shown: Picture | None = None
        self._lines: Lines = ()

    def draw(self, lines: Lines) -> None:
        """Show these instead; each is cut to the width of the terminal."""
        self._lines = lines
        if self._shown is not None:
            self._shown.update(self._drawn(lines), refresh=True)

    def start(self) -> None:
        """Show it, and what was drawn last."""
        if self._picture is None:
            return
        # A new one each time: one that is started again takes the lines above it for its own.
        self._shown = self._picture()
        self._shown.start()
        self.draw(self._lines)

    def stop(self) -> None:
        """Take it off the screen; more than once does no harm."""
        if self._shown is not None:
            self._shown.stop()
        self._shown = None
