"""A terminal that is redrawn in place, and its keys: for commands that show what goes on.

Draws whole pictures on the terminal's second screen, so that the first one is as it was afterwards, however
the command ends. Knows neither rich nor what is shown: it is given lines. Opened by `Terminal.live`.
"""

import os
import re
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import IO, Any, Final

from esctl.ui.answer import View

Draw = Callable[[Sequence[View], int], list[str]]
"""Views as lines that are no wider than so many columns."""

ENTER: Final = "\x1b[?1049h\x1b[?25l"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
REST_OF_LINE: Final = "\x1b[K"
REST_OF_SCREEN: Final = "\x1b[J"
_SEQUENCES: Final = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down",
    b"\x1b[C": "right", b"\x1bOC": "right", b"\x1b[D": "left", b"\x1bOD": "left",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b"\r": "enter", b"\n": "enter", b"\t": "tab",
}  # fmt: skip
END: Final = "end"
"""The key that is read when there are no more: the terminal is gone."""

_open: "Screen | None" = None


class Screen:
    """The second screen of a terminal, while a `with` block lasts."""

    def __init__(self, output: IO[str], draw: Draw, keyboard: int | None = None) -> None:
        self._output, self._draw = output, draw
        self._keyboard = sys.stdin.fileno() if keyboard is None else keyboard
        self._before: list[Any] | None = None
        """How the keyboard was set; None while the screen is closed."""

    def __enter__(self) -> "Screen":
        global _open  # noqa: PLW0603  # a process has one terminal
        self._before = termios.tcgetattr(self._keyboard)
        _open = self
        wanted = termios.tcgetattr(self._keyboard)
        # Keys come one by one and unseen; Ctrl-C still interrupts, and Ctrl-Z, which would leave the
        # terminal like this, does nothing.
        wanted[3] &= ~(termios.ICANON | termios.ECHO)
        wanted[6][termios.VSUSP] = b"\0"
        wanted[6][termios.VMIN], wanted[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._keyboard, termios.TCSADRAIN, wanted)
        self._write(ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Show the first screen again, and set the keyboard as it was; more than once does no harm."""
        global _open  # a process has one terminal
        before, self._before, _open = self._before, None, None
        if before is None:
            return
        try:
            self._write(LEAVE)
        finally:
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, before)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        found = os.get_terminal_size(self._output.fileno())
        return found.columns, found.lines

    def show(self, body: Sequence[View], foot: Sequence[View] = ()) -> None:
        """Draw the body from the top and the foot at the bottom; what has no room is cut."""
        columns, lines = self.size
        below = self._draw(foot, columns)[:lines]
        above = self._draw(body, columns)[: lines - len(below)]
        filled = [*above, *[""] * (lines - len(above) - len(below)), *below]
        text = f"{REST_OF_LINE}\n".join(filled)
        self._write(f"{HOME}{text}{REST_OF_LINE}{REST_OF_SCREEN}")

    async def pressed(self) -> AsyncIterator[str]:
        """Each key as it is pressed: a character, or the name of a key; `END` when there are no more."""
        import trio  # loaded late: `--help` must be quick

        while True:
            await trio.lowlevel.wait_readable(self._keyboard)
            data = os.read(self._keyboard, 64)
            for key in keys_of(data):
                yield key
            if not data:
                yield END
                return

    def _write(self, text: str) -> None:
        encoding = getattr(self._output, "encoding", None) or "ascii"
        self._output.write(text.encode(encoding, "replace").decode(encoding))
        self._output.flush()


def restore() -> None:
    """Close the screen that is open, if one is: for a process that ends at once."""
    if _open is not None:
        _open.close()


def keys_of(data: bytes) -> list[str]:
    """The keys that these bytes are; sequences that are not known are left out."""
    keys: list[str] = []
    while data:
        known = next((name for name in _SEQUENCES if data.startswith(name)), None)
        if known is not None:
            keys.append(_SEQUENCES[known])
            data = data[len(known) :]
        elif data.startswith((b"\x1b[", b"\x1bO")):
            data = _after_sequence(data)
        elif data.startswith(b"\x1b"):
            keys.append("escape")
            data = data[1:]
        else:
            text = re.split(rb"[\x1b\r\n\t]", data, maxsplit=1)[0]
            keys += [each for each in text.decode(errors="ignore") if each.isprintable()]
            data = data[len(text) :]
    return keys


def _after_sequence(data: bytes) -> bytes:
    """What follows a control sequence: it ends with a byte from @ to ~."""
    for place, byte in enumerate(data[2:], start=3):
        if 0x40 <= byte <= 0x7E:
            return data[place:]
    return b""
