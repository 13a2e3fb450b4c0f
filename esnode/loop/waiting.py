"""Requests that wait for the core's answer: from a token to the reply that goes out.

Decides when a reply is due: a decided append once its entry is applied, all of them the moment this
node stops leading in the term they were decided in. Never sends. Called by `ingest.py` alone, for
the driver.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from esnode.raft.messages import Decision, ReadGrant
from esnode.refusal import Refusal

Settle = Callable[[Decision], None]
"""Called once, with the decision whose outcome is final: done, or refused."""
Granted = Callable[[ReadGrant], None]


class _Due(NamedTuple):
    """Ordered by its first two fields: no two have the same token."""

    wait_index: int
    token: int
    decision: Decision
    settle: Settle


class WaitingRequests:
    """Every request of every client that is inside the core, each answered exactly once."""

    def __init__(self) -> None:
        self._last_token = 0
        self._undecided: dict[int, Settle] = {}
        self._due: list[_Due] = []
        self._reads: dict[int, Granted] = {}

    def __len__(self) -> int:
        return len(self._undecided) + len(self._due) + len(self._reads)

    def expect_decision(self, settle: Settle) -> int:
        """A token for a proposal that is about to be made."""
        self._last_token += 1
        self._undecided[self._last_token] = settle
        return self._last_token

    def expect_grant(self, granted: Granted) -> int:
        """A token for a read that is about to be asked for."""
        self._last_token += 1
        self._reads[self._last_token] = granted
        return self._last_token

    def withdraw(self, token: int) -> None:
        """The request was not taken after all."""
        self._undecided.pop(token, None)
        self._reads.pop(token, None)

    def decided(self, decisions: Sequence[Decision], applied_index: int, leading_term: int | None) -> None:
        """The core has decided; what waits for nothing is settled now.

        `leading_term` is the term in which this node leads, None when it does not. A decision of
        another term was overtaken by a new leader in the very same round.
        """
        for decision in decisions:
            settle = self._undecided.pop(decision.token)
            if decision.refusal is not None:
                settle(decision)
            elif decision.term != leading_term:
                settle(_lost(decision))
            elif decision.wait_index <= applied_index:
                settle(decision)
            else:
                heapq.heappush(self._due, _Due(decision.wait_index, decision.token, decision, settle))

    def granted(self, grants: Sequence[ReadGrant]) -> None:
        """The core has let reads go, or refused them."""
        for grant in grants:
            self._reads.pop(grant.token)(grant)

    def applied(self, index: int) -> None:
        """The log is applied up to `index`: those who waited for it have their answer."""
        while self._due and self._due[0].wait_index <= index:
            due = heapq.heappop(self._due)
            due.settle(due.decision)

    def leadership_over(self) -> None:
        """What was appended and not applied may or may not survive: say so, to all."""
        lost, self._due = self._due, []
        for due in lost:
            due.settle(_lost(due.decision))


def _lost(decision: Decision) -> Decision:
    return Decision(decision.token, decision.term, 0, (), 0, Refusal.LEADERSHIP_LOST)
