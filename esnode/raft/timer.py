"""When a node stops waiting for a leader: the randomised election time-out (Raft 5.2).

Two tempers. Ordinary: `election_ms` plus a random part. Hasty: the leader's connection has closed,
so its process has most likely ended; the survivors then start by rank, a few milliseconds apart. Pre-votes
are tried again quickly in either case, a bounded number of times: the first may come while another
survivor still believes in the leader. Pre-vote makes haste harmless. Called by `core.py`.
"""

from typing import Protocol

from esnode import limits
from esnode.config import Raft as Timers


class RandomSource(Protocol):
    """The part of `random.Random` that the core uses."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to `stop` - 1."""
        ...


class ElectionTimer:
    """Milliseconds since the leader was last heard from, against a random time-out."""

    def __init__(self, timers: Timers, random: RandomSource) -> None:
        self.silence_ms = 0
        self._timers = timers
        self._random = random
        self._hasty_tries = 0
        self._leader_ended = False
        self._timeout_ms = 0
        self.restart()

    @property
    def has_expired(self) -> bool:
        """Whether an election is due."""
        return self.silence_ms >= self._timeout_ms

    @property
    def within_lease(self) -> bool:
        """Whether the leader was heard from too recently for anyone to replace it."""
        return self.silence_ms < self._timers.election_ms

    def tick(self, elapsed_ms: int) -> None:
        """Time passes in silence."""
        self.silence_ms += elapsed_ms

    def heard(self) -> None:
        """The leader lives."""
        self.silence_ms = 0
        self._hasty_tries = limits.MAX_HASTY_ELECTIONS
        self._leader_ended = False

    def restart(self) -> None:
        """Wait the ordinary time again."""
        self.silence_ms = 0
        self._timeout_ms = self._timers.election_ms + self._random.randrange(self._timers.jitter_ms)

    def hurry(self, rank: int) -> None:
        """The leader is gone: start soon, the survivor of rank 0 first."""
        step_ms = limits.HASTY_ELECTION_STEP_MS
        self.silence_ms = 0
        self._hasty_tries = limits.MAX_HASTY_ELECTIONS
        self._leader_ended = True
        self._timeout_ms = rank * step_ms + self._random.randrange(step_ms)

    def retry(self, *, pre: bool) -> None:
        """An election begins, or the question whether it could be won: when to begin another."""
        if not self._hasty_tries or not (pre or self._leader_ended):
            self.restart()
            return
        self._hasty_tries -= 1
        self.silence_ms = 0
        self._timeout_ms = limits.HASTY_RETRY_MS + self._random.randrange(limits.HASTY_RETRY_MS)
