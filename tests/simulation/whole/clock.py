"""One trio run that follows from one number: its clock, its scheduler, and the pause of a process.

trio knows how to schedule deterministically but hides it: `_core._run` is private, so trio's version is
pinned, and a test in `test_whole.py` tells when another one breaks this. Decides in which order what can
run does run, never what happens. Called by `world.py`.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, TypeVar
from unittest.mock import patch

import trio
from trio._core import _run as scheduler

T = TypeVar("T")

HOST: Final[ContextVar[str]] = ContextVar("HOST", default="world")
"""The simulated machine that a task runs on; the tasks which it starts run there too."""


class JumpingClock(trio.abc.Clock):
    """Time stands still while anybody can run, then jumps to the next deadline.

    The same as `MockClock(autojump_threshold=0)`, which is final, with half the rounds of the event loop:
    trio asks how long to sleep only when nobody can run.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._rounds_without = 0

    def start_clock(self) -> None:
        """Nothing to start."""

    def current_time(self) -> float:
        """Seconds of simulated time."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """None at all: it is `deadline` now. Without one, trio itself is about to end."""
        if deadline < float("inf"):
            self._now = max(self._now, deadline)
            self._rounds_without = 0
        self._rounds_without += 1
        assert self._rounds_without < 1000, "everybody waits for somebody else, for ever"
        return 0.0


def run_deterministically(main: Callable[[], Awaitable[T]], source: random.Random) -> T:
    """`trio.run` whose every decision comes from `source`; leaves trio as it was."""
    with (
        patch.object(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        patch.object(scheduler, "_r", source),
    ):
        return trio.run(main, clock=JumpingClock())


class Freezer(trio.abc.Instrument):
    """Stops machines as SIGSTOP does: what they wait for happens, and they do not run.

    Their timeouts pass too. All of it is there when they go on.
    """

    def __init__(self) -> None:
        self._held: dict[str, deque[trio.lowlevel.Task]] = {}

    def freeze(self, host: str) -> None:
        """No task of `host` runs from now on, but for those of this very round."""
        assert host not in self._held, "it stands still already"
        if not self._held:
            trio.lowlevel.add_instrument(self)
        self._held[host] = deque()
        queue = scheduler.GLOBAL_RUN_CONTEXT.runner.runq
        for task in list(queue):
            if task.context.get(HOST) == host:
                queue.remove(task)
                self._held[host].append(task)

    def is_frozen(self, host: str) -> bool:
        """Whether it stands still."""
        return host in self._held

    def thaw(self, host: str) -> None:
        """Let them go on; does nothing when they were not stopped."""
        held = self._held.pop(host, None)
        if held is None:
            return
        scheduler.GLOBAL_RUN_CONTEXT.runner.runq.extend(held)
        if not self._held:
            trio.lowlevel.remove_instrument(self)

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """trio has just put `task` at the end of its queue."""
        held = self._held.get(task.context.get(HOST, "world"))
        if held is not None:
            last = scheduler.GLOBAL_RUN_CONTEXT.runner.runq.pop()
            assert last is task
            held.append(task)
