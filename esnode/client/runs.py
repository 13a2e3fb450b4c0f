"""The order of a client's appends on their way to the leader: they leave in runs.

A run begins with the oldest append that has no answer and goes on in the order of submission, with none
left out. When one is refused, the node refuses the rest of the run (`esnode/raft/appendorder.py`): nothing
more is sent until every append on this connection is answered and a pause is over. Then the next run begins.
So nothing is sent twice. The pause doubles from `RETRY_S` to `ROUND_S`, each +-50 %, until one is acked.
Decides when, never what. Used by `dispatcher.py`.
"""

import random
from math import inf
from typing import Final

import trio

from esnode.errors import EventStreamError

RETRY_S: Final = 0.01
ROUND_S: Final = 0.25


def pause_s(refusals: int, rng: random.Random) -> float:
    """How long to wait before a request goes again that was refused so often in a row."""
    return min(RETRY_S * 2.0 ** min(refusals - 1, 10), ROUND_S) * rng.uniform(0.5, 1.5)


class Runs:
    """Which run it is, and whether it goes on."""

    def __init__(self, rng: random.Random) -> None:
        self.number = 0
        self.refusal: EventStreamError | None = None
        """What ended the last run, where it is worth trying again."""
        self._next_at = inf
        """When the next run may begin at the earliest; infinite while one is under way."""
        self._refusals = 0
        """In a row, without an ack."""
        self._due: set[int] = set()
        """The requests that the leader owes an answer."""
        self._rng = rng

    @property
    def under_way(self) -> bool:
        """Whether there is a run that nothing has ended yet."""
        return self._next_at == inf

    @property
    def next_at(self) -> float:
        """When it is time for the next run, as far as that is known."""
        return inf if self._due else self._next_at

    def may_send(self) -> bool:
        """Whether the next append may leave; begins the next run when it is time to."""
        if self.under_way:
            return True
        if self._due or trio.current_time() < self._next_at:
            return False
        self.number = (self.number + 1) % 2**32
        self._next_at = inf
        return True

    def begin_anew(self, due: set[int]) -> None:
        """Another leader, or another numbering: a new run as soon as it has answered what is `due`."""
        self._due, self._refusals, self.refusal = due, 0, None
        self._next_at = 0.0

    def sent(self, request_id: int) -> None:
        """An append has left."""
        self._due.add(request_id)

    def acked(self, request_id: int) -> None:
        """An append is in the log."""
        self._due.discard(request_id)
        self._refusals = 0

    def given_up(self, request_id: int) -> None:
        """Nobody waits for its answer any more."""
        self._due.discard(request_id)

    def refused(self, request_id: int, refusal: EventStreamError | None) -> None:
        """An append was refused, which ends the run; with None for good: no reason for a longer pause."""
        self._due.discard(request_id)
        if not self.under_way:
            return
        self._refusals += refusal is not None
        self.refusal = refusal
        self._next_at = trio.current_time() + pause_s(max(self._refusals, 1), self._rng)
