"""`esctl`, ended by Ctrl-C at a moment that does not depend on the machine.

`python -m tests.esctl.interrupted N WORD...`: the signal comes when the command waits for the N-th time
since it has said what an interrupt is to be answered with. Run by `test_interrupts.py`.
"""

import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from esctl import main as program
from esctl.cli.invocation import AnyAnswer, Invocation


class CtrlC(trio.abc.Instrument):
    """Counts down, from when it is `armed`."""

    def __init__(self, waits: int) -> None:
        self.armed = False
        self._left = waits

    def before_io_wait(self, timeout: float) -> None:
        self._left -= self.armed
        if self.armed and self._left == 0:
            signal.raise_signal(signal.SIGINT)


def main(waits: int) -> None:
    """Run `esctl` with the words that are left in `sys.argv`."""
    ctrl_c: Final = CtrlC(waits)
    on_interrupt = Invocation.on_interrupt

    def arm(run: Invocation, summary: Callable[[], AnyAnswer], next_step: str = "") -> None:
        on_interrupt(run, summary, next_step)
        ctrl_c.armed = True

    Invocation.on_interrupt = arm  # type: ignore[assignment, method-assign]
    trio.run = partial(trio.run, instruments=[ctrl_c])  # type: ignore[assignment]
    program.main()


if __name__ == "__main__":
    main(int(sys.argv.pop(1)))
