"""When a node stops waiting for a leader: the randomised election timeout (Raft 5.2).

Two tempers. Ordinary: `election_ms` plus a random part. Hasty: the leader's connection has closed, so its
process has most likely ended, or the voters' answers have split an election; the nodes then start by rank, a
few milliseconds apart. Pre-votes are tried again quickly, a bounded number of times: the first may come
while another survivor still believes in the leader. Pre-vote makes haste harmless; a real election waits for
disks, so its own timeout is never hasty. Called by `core.py`.
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
    """Milliseconds since the leader was last heard from, against a random timeout."""

    def __init__(self, timers: Timers, random: RandomSource) -> None:
        self.silence_ms = 0
        self.stands_late = False
        """Others shall stand first: this node's disk would hold up every ack."""
        self._timers = timers
        self._random = random
        self._hasty_tries = 0
        self._may_give_way = True
        self._gives_way_ms = 0
        self._timeout_ms = 0
        self.restart()

    @property
    def has_expired(self) -> bool:
        """Whether an election is due."""
        late_ms = self._timers.election_ms if self.stands_late else 0
        return self.silence_ms >= self._timeout_ms + late_ms

    @property
    def within_lease(self) -> bool:
        """Whether the leader was heard from too recently for anyone to replace it."""
        return self.silence_ms < self._timers.election_ms

    @property
    def is_close(self) -> bool:
        """Whether two more ordinary ticks may end the lease."""
        return self.silence_ms >= self._timers.election_ms - 2 * limits.TICK_MS

    def tick(self, elapsed_ms: int) -> None:
        """Time passes in silence."""
        self.silence_ms += elapsed_ms
        self._gives_way_ms = max(0, self._gives_way_ms - elapsed_ms)

    def heard(self) -> None:
        """The leader lives."""
        self.silence_ms = 0
        self._hasty_tries = limits.MAX_HASTY_ELECTIONS
        self._may_give_way = True
        self._gives_way_ms = 0

    def restart(self) -> None:
        """Wait the ordinary time again."""
        self.silence_ms = 0
        self._may_give_way = True
        self._timeout_ms = self._timers.election_ms + self._random.randrange(self._timers.jitter_ms)

    def hurry(self, rank: int) -> None:
        """The leader is gone: start soon, the survivor of rank 0 first."""
        self._hasty_tries = limits.MAX_HASTY_ELECTIONS
        self._start_by_rank(rank)

    def retry(self) -> None:
        """Pre-votes are asked for: when to ask again."""
        if not self._hasty_tries:
            self.restart()
            return
        self._hasty_tries -= 1
        self.silence_ms = 0
        self._timeout_ms = limits.HASTY_RETRY_MS + self._random.randrange(limits.HASTY_RETRY_MS)

    def stand_again(self, rank: int) -> None:
        """An election was split, or lost: try again soon, the voter of rank 0 first."""
        if self._hasty_tries:
            self._hasty_tries -= 1
            self._start_by_rank(rank)

    def give_way(self) -> None:
        """A pre-vote was granted: give the asker the time of its election, once in each silence.

        Only once: one that asks for ever and cannot win must not keep this node from standing.
        """
        if self._may_give_way:
            self._may_give_way = False
            self._gives_way_ms = limits.GIVE_WAY_MS
            self._timeout_ms = max(self._timeout_ms, self.silence_ms + limits.GIVE_WAY_MS)

    def _start_by_rank(self, rank: int) -> None:
        step_ms = limits.HASTY_ELECTION_STEP_MS
        self.silence_ms = 0
        self._timeout_ms = max(self._gives_way_ms, rank * step_ms + self._random.randrange(step_ms))
