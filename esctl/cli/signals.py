"""Ctrl-C, SIGTERM and SIGHUP cancel a command: it cleans up within a time limit and prints a summary.

A signal that whoever started the process had ignored stays ignored. Only Ctrl-C, pressed once more, skips the
clean-up. Called by `invocation.py`; what is said then is decided there.
"""

import atexit
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Never, TypeVar

from esctl.exits import Exit
from esctl.ui import screen

T = TypeVar("T")

ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""What ends a command as Ctrl-C does."""
RESTORING_S: Final = 1.0
"""How long a terminal may take to be restored: one that was stopped with Ctrl-S takes nothing."""
Handlers = dict[signal.Signals, Callable[[int, FrameType | None], None]]


async def interruptible(
    work: Callable[[], Awaitable[T]], stopping: Callable[[signal.Signals], None], clean_up_s: float
) -> T:
    """`work()`, cancelled by the first signal; Ctrl-C after that, or a slow clean-up, ends the process.

    A second SIGTERM or SIGHUP does not: `timeout`, shells and terminals send each of them twice.
    """
    import trio  # loaded late: `--help` must be quick

    working = trio.CancelScope()
    results: list[T] = []
    first: list[signal.Signals] = []
    heard = trio.Event()
    soon = trio.lowlevel.current_trio_token().run_sync_soon

    def pass_on(number: int, _frame: object) -> None:
        """Also runs while the process waits for whoever reads its output, when no task can."""
        if not first:
            first.append(signal.Signals(number))
            _heed_no_more()
            signal.setitimer(signal.ITIMER_REAL, clean_up_s)
            soon(heard.set)
        elif number == signal.SIGINT:
            leave_at_once()

    async def watch() -> None:
        await heard.wait()
        stopping(first[0])
        working.cancel()

    handlers: Handlers = dict.fromkeys(_heeded(signal.SIGINT, *ENDING), pass_on)
    with _handled({**handlers, signal.SIGALRM: lambda _number, _frame: leave_at_once()}):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                with working:
                    results.append(await work())
                nursery.cancel_scope.cancel()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    if working.cancel_called:
        raise KeyboardInterrupt
    if first:  # it came when the work was done
        stopping(first[0])
        raise KeyboardInterrupt
    return results[0]


@contextmanager
def ended_as_by_ctrl_c(heard: Callable[[signal.Signals], None]) -> Iterator[None]:
    """SIGTERM and a closed terminal end what is done here as Ctrl-C does; `heard` is told which it was."""

    def pass_on(number: int, _frame: object) -> None:
        heard(signal.Signals(number))
        _heed_no_more()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    with _handled(dict.fromkeys(_heeded(*ENDING), pass_on)):
        yield


@contextmanager
def _handled(handlers: Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not _ignored:
                signal.signal(number, handler)


def _ignored(_number: int, _frame: object) -> None:
    """A function, not SIG_IGN: the processes that this one starts must not inherit it."""


def _heed_no_more() -> None:
    """The command is ending: SIGTERM and SIGHUP, sent once more, must not cut what it still says."""
    for number in _heeded(*ENDING):
        signal.signal(number, _ignored)
    atexit.register(_ignore_to_the_end)


def _ignore_to_the_end() -> None:
    """An interpreter that ends drops handlers that are functions, and a signal would kill it."""
    for number in _heeded(*ENDING):
        signal.signal(number, signal.SIG_IGN)


def _heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those of them that whoever started the process wants to be heeded: `nohup` has SIGHUP ignored."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def leave_at_once() -> Never:
    """End the process without any clean-up but that of the terminal. May be called by a signal's handler."""
    try:
        signal.signal(signal.SIGALRM, lambda _number, _frame: os._exit(Exit.INTERRUPTED))
        signal.setitimer(signal.ITIMER_REAL, RESTORING_S)
        screen.restore()
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # its buffer may be in use right now
    finally:
        os._exit(Exit.INTERRUPTED)
