"""Whether the deduplication window is at its bound: keys are forgotten early, or new events are refused.

Tells it in the log, once for each time that it begins and ends, and the status on demand. Only looks:
whoever forgets keys or refuses events counts them. A task of `node.py`.
"""

import logging
from collections.abc import Callable
from typing import Final

from esnode import limits
from esnode.apply import Machine
from esnode.coalescing import sleep_to_next
from esnode.config import Dedup
from esnode.loop.view import View

log = logging.getLogger(__name__)

_ROOM_AGAIN: Final = 7 / 8
"""The part of the bound at which a window that was full has room again: near the bound it would tell of
each generation that expires."""


class FullWindow:
    """What the bound of one node's window costs."""

    def __init__(self, dedup: Dedup, machine: Machine, view: View, refused: Callable[[], int]) -> None:
        """`refused`: how many batches this process has refused for want of room."""
        self._dedup = dedup
        self._refused = refused
        self._machine = machine
        self._view = view
        self._seen = self._lost, self.refused
        self.full = False

    @property
    def forgotten_early(self) -> int:
        """Keys that were forgotten before their time, ever.

        Without a time-to-live their time is as long as this node keeps their events: those that it still has.
        """
        if self._dedup.ttl_ms:
            return self._machine.keys.shrunk
        return max(0, self._machine.keys.first_offset - self._view.first_offset)

    @property
    def refused(self) -> int:
        """Batches that this process has refused for want of room."""
        return self._refused()

    @property
    def reach_ms(self) -> int:
        """`KeyWindow.reach_ms` at the end of the log."""
        return self._machine.keys.reach_ms(self._machine.log_time_ms)

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            self.look()
            await sleep_to_next(limits.WINDOW_CHECK_S)

    def look(self) -> None:
        """Note what has come since the last time."""
        before, self._seen = self._seen, (self._lost, self.refused)
        struck = any(now > then for now, then in zip(self._seen, before, strict=True))
        if struck and not self.full:
            log.warning("window_full", extra=self._told())
        elif not struck and self.full and self._has_room():
            log.info("window_has_room", extra=self._told())
        else:
            return
        self.full = not self.full

    @property
    def _lost(self) -> int:
        """Keys that the bound has cost, ever; none of events that this node has not got any more."""
        keys = self._machine.keys
        return keys.shrunk if self._dedup.ttl_ms or keys.first_offset > self._view.first_offset else 0

    def _has_room(self) -> bool:
        if not self._dedup.ttl_ms:
            return not self.forgotten_early
        return self._machine.keys.live <= self._dedup.max_keys * _ROOM_AGAIN

    def _told(self) -> dict[str, object]:
        return {
            "when_full": self._dedup.when_full,
            "live_keys": self._machine.keys.live,
            "window_ms": self.reach_ms,
            "forgotten_early": self.forgotten_early,
            "refused": self.refused,
        }
