"""What one client may have in flight: a number of batches, and no more bytes than a node accepts from it.

The first that asked goes first. A place is given and taken in one step, without waking a task in between, so
that batches are sent in the order in which they asked. The place is free again when the request is settled.
Never looks into a batch. Used by `batcher.py`.
"""

from collections import deque
from functools import partial
from typing import Protocol

from esnode import limits
from esnode.client.request import Request


class Entrant(Protocol):
    """What asks for a place. Its size may grow until it goes."""

    request: Request
    size_bytes: int

    def go(self) -> None:
        """It has its place: leave now."""


class Window:
    """The places. `most` batches, of `limits.MAX_SESSION_INFLIGHT_BYTES` in all, but always one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._taken_bytes = 0
        self._waiting: deque[Entrant] = deque()
        self._admitting = False

    def ask(self, entrant: Entrant) -> None:
        """Let it go at once, or as soon as there is a place and all who asked before have gone."""
        if self._waiting or not self._has_room(entrant.size_bytes):
            self._waiting.append(entrant)
        else:
            self._let_go(entrant)

    def withdraw(self, entrant: Entrant) -> None:
        """It wants no place any more."""
        self._waiting.remove(entrant)
        self._admit()  # those behind it may be smaller

    def _give_back(self, size_bytes: int) -> None:
        self._taken -= 1
        self._taken_bytes -= size_bytes
        self._admit()

    def _admit(self) -> None:
        if self._admitting:
            return  # one that went was settled at once: the loop below sees it
        self._admitting = True
        while self._waiting and self._has_room(self._waiting[0].size_bytes):
            self._let_go(self._waiting.popleft())
        self._admitting = False

    def _let_go(self, entrant: Entrant) -> None:
        self._taken += 1
        self._taken_bytes += entrant.size_bytes
        entrant.request.on_settled = partial(self._give_back, entrant.size_bytes)
        entrant.go()

    def _has_room(self, size_bytes: int) -> bool:
        fits = self._taken_bytes + size_bytes <= limits.MAX_SESSION_INFLIGHT_BYTES
        return not self._taken or (self._taken < self._most and fits)
