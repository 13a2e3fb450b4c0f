"""What Ctrl-C, SIGTERM and SIGHUP do to a command: it is cancelled, cleans up within a bound, and speaks.

A signal that whoever started the process had ignored stays ignored. Only Ctrl-C, pressed once more, skips the
clean-up. Called by `invocation.py`; what is said then is decided there.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Never, TypeVar

from esctl import screen
from esctl.exits import Exit

T = TypeVar("T")

ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""What ends a command as Ctrl-C does."""


async def interruptible(
    work: Callable[[], Awaitable[T]], stopping: Callable[[signal.Signals], None], clean_up_s: float
) -> T:
    """`work()`, cancelled by the first signal; Ctrl-C after that, or a slow clean-up, ends the process.

    A second SIGTERM or SIGHUP does not: `timeout`, shells and terminals send each of them twice.
    """
    import trio  # loaded late: `--help` must be quick

    working = trio.CancelScope()
    results: list[T] = []

    async def watch() -> None:
        stopping(signal.Signals(await anext(heard)))
        working.cancel()
        with trio.move_on_after(clean_up_s):
            while await anext(heard) != signal.SIGINT:
                pass
        leave_at_once()

    with trio.open_signal_receiver(*_heeded(signal.SIGINT, *ENDING) or ENDING) as heard:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            with working:
                results.append(await work())
            nursery.cancel_scope.cancel()
    if working.cancel_called:
        raise KeyboardInterrupt
    return results[0]


@contextmanager
def ended_as_by_ctrl_c(heard: Callable[[signal.Signals], None]) -> Iterator[None]:
    """SIGTERM and a closed terminal end what is done here as Ctrl-C does; `heard` is told which it was."""

    def pass_on(number: int, _frame: object) -> None:
        heard(signal.Signals(number))
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, pass_on) for number in _heeded(*ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those of them that whoever started the process wants to be heeded: `nohup` has SIGHUP ignored."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def leave_at_once() -> Never:
    """End the process without any clean-up but that of the terminal."""
    screen.restore()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")
        sys.stderr.flush()
    os._exit(Exit.INTERRUPTED)
