"""An open loop: turns at a fixed rate, whatever the log does with them.

Each turn has a time at which it is meant, and that never moves: what cannot be served then is served late.
Whoever measures counts from the time that was meant, so that no pause of the log or of this process hides
anything ("coordinated omission", Gil Tene). Turns that lie too far back are passed over only where the caller
says how far, and the caller is told of each. Never prints. Every load with a rate has its turns from here:
`runner.py`, `background.py`, and `esctl/chaos/steadyload.py`.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from esnode import limits

WINDOW: Final = limits.MAX_SESSION_INFLIGHT
"""Batches under way at most: with one a millisecond, what falls due in a second without a leader."""
MOST_BEHIND_S: Final = 1.0
"""A load that only has to be there does not make up for what was meant before that."""
LINGER_S: Final = 0.001
"""A batch holds no more events than fall due within this: the batching of the client library."""


def events_a_batch(rate: float, most: int = limits.MAX_BATCH_EVENTS) -> int:
    """How many events travel together at that rate, `most` at most."""
    return min(most, max(1, math.ceil(rate * LINGER_S)))


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch that is to be sent. Times in seconds, on trio's clock."""

    meant_s: float
    """When its first event is meant to be sent."""
    due_s: float
    """When its last event is: the batch leaves then."""
    free_s: float
    """When there was room for it in the window."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Turns that follow each other and were never served."""

    count: int
    newest_s: float
    """For how long the last one had waited when it was given up, in seconds; the others waited for longer."""
    oldest_s: float


class OpenLoop:
    """`rate` events a second in batches of `events`, `window` of them under way at most.

    What was meant more than `most_behind_s` ago, when there is room at last, is passed over.
    """

    def __init__(
        self,
        rate: float,
        events: int,
        window: int = WINDOW,
        most_behind_s: float = math.inf,
        passed_over: Callable[[PassedOver], None] = lambda _turns: None,
    ) -> None:
        self._interval_s = events / rate
        self._fills_s = (events - 1) / rate
        self._window = window
        self._most_behind_s = most_behind_s
        self._passed_over = passed_over
        self._begin_s = 0.0
        self._next = 0
        self._ending = trio.Event()

    async def run(
        self, serve: Callable[[Turn], Awaitable[None]], begin_s: float, end_s: float = math.inf
    ) -> None:
        """Serve every turn that is meant from `begin_s` to before `end_s`, or until `end`.

        Returns when those that were begun are served. What `serve` raises comes out in a group.
        """
        self._begin_s = begin_s
        async with trio.open_nursery() as nursery:
            for _ in range(self._window):
                nursery.start_soon(self._work, serve, end_s)

    def end(self) -> None:
        """Begin no other turn."""
        self._ending.set()

    def turns_between(self, begin_s: float, end_s: float) -> int:
        """How many turns are meant in that time, served or not."""
        return self._first_since(end_s) - self._first_since(begin_s)

    async def _work(self, serve: Callable[[Turn], Awaitable[None]], end_s: float) -> None:
        while not self._ending.is_set() and (turn := self._take(end_s)) is not None:
            with trio.move_on_at(turn.due_s):
                await self._ending.wait()
                return
            await serve(turn)

    def _take(self, end_s: float) -> Turn | None:
        """The next turn; None when there is no other before `end_s`."""
        now_s = trio.current_time()
        if self._meant_s(self._next) < now_s - self._most_behind_s:
            self._pass_over(now_s)
        meant_s = self._meant_s(self._next)
        if meant_s >= end_s:
            return None
        self._next += 1
        return Turn(meant_s, meant_s + self._fills_s, now_s)

    def _pass_over(self, now_s: float) -> None:
        first, self._next = self._next, self._first_since(now_s - self._most_behind_s)
        oldest_s, newest_s = now_s - self._meant_s(first), now_s - self._meant_s(self._next - 1)
        self._passed_over(PassedOver(self._next - first, newest_s, oldest_s))

    def _meant_s(self, number: int) -> float:
        return self._begin_s + number * self._interval_s

    def _first_since(self, at_s: float) -> int:
        """The first turn that is meant then or later."""
        number = max(0, int((at_s - self._begin_s) / self._interval_s) - 1)
        while self._meant_s(number) < at_s:
            number += 1
        return number
