"""Linearizable reads by ReadIndex (Raft thesis 6.4): which reads wait, and which round frees them.

A round is one fresh number, sent with the heartbeats. A majority that confirms it proves that this
node still led after the reads of that round began. A number is never used twice, so that an answer
from before a pause frees nothing that began after it. Called by `leadership.py` alone.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The read `token` may be served once `index` is applied."""

    token: int
    index: int


@dataclass(frozen=True, slots=True)
class _Round:
    probe: int
    index: int
    tokens: tuple[int, ...]


class PendingReads:
    """The reads of one term of one leader."""

    def __init__(self) -> None:
        self.probe = 0
        """The newest round; 0 before the first."""
        self._waiting: list[int] = []
        self._rounds: deque[_Round] = deque()

    def __len__(self) -> int:
        return len(self._waiting) + sum(len(round_.tokens) for round_ in self._rounds)

    def add(self, token: int) -> None:
        """A read that began now; it waits for the next round."""
        self._waiting.append(token)

    @property
    def are_waiting(self) -> bool:
        """Whether a round is to be begun."""
        return bool(self._waiting)

    def begin_round(self, committed: int) -> None:
        """Put the waiting reads into a round of their own.

        `committed` must be the commit index of a leader that has committed in its own term.
        """
        self.probe += 1
        self._rounds.append(_Round(self.probe, committed, tuple(self._waiting)))
        self._waiting.clear()

    def confirm(self, probe: int) -> list[Confirmed]:
        """A majority has confirmed `probe`, and with it every earlier round."""
        freed: list[Confirmed] = []
        while self._rounds and self._rounds[0].probe <= probe:
            round_ = self._rounds.popleft()
            freed += [Confirmed(token, round_.index) for token in round_.tokens]
        return freed

    def drain(self) -> list[int]:
        """Every read that was not freed; none is left."""
        tokens = [token for round_ in self._rounds for token in round_.tokens] + self._waiting
        self._rounds.clear()
        self._waiting.clear()
        return tokens
