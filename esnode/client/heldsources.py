"""Which sources wait after a change of the ring, so that their events keep their order.

An event of a source that has moved is sent to the new owner when all earlier calls are past the old one:
acked there, or on their way to the new one before it. Decides who waits, and lets them go in the order of
their calls. All other sources go on. Used by `log.py`.
"""

from collections.abc import Collection

import trio

from esnode.dataclass import dataclass
from esnode.ring import Ring, moves


@dataclass(frozen=True, slots=True)
class _Change:
    """From one ring to the next. `draining` are old owners that earlier calls may still be with."""

    old: Ring
    new: Ring
    draining: set[int]

    def moves(self, token: int) -> bool:
        return self.old.owner(token) != self.new.owner(token)

    def blocks(self, token: int) -> bool:
        return self.moves(token) and self.old.owner(token) in self.draining


class HeldSources:
    """The changes that are not over."""

    def __init__(self) -> None:
        self._changes: list[_Change] = []
        self._turn = trio.StrictFIFOLock()
        self._drained = trio.Event()

    def __bool__(self) -> bool:
        """Whether any source may have to wait."""
        return bool(self._changes)

    def begin(self, old: Ring, new: Ring) -> set[int]:
        """Hold the sources that change their owner; the old owners, each of which `drained` has to free."""
        owners = {move.old_owner for move in moves(old, new)}
        self._changes.append(_Change(old, new, set(owners)))
        return owners

    def drained(self, partition: int) -> None:
        """All calls that came before the newest change are past this partition."""
        for change in self._changes:
            change.draining.discard(partition)
        self._drained.set()
        self._drained = trio.Event()
        self._forget()

    def holds(self, token: int) -> bool:
        """Whether an event with this token has to wait, or to stand behind those that do."""
        return any(change.moves(token) for change in self._changes)

    async def wait(self, tokens: Collection[int]) -> None:
        """Return when events with these tokens may go, in the order of the calls.

        What the caller does before its next await is before what any later call does.
        """
        try:
            async with self._turn:
                while any(change.blocks(token) for change in self._changes for token in tokens):
                    await self._drained.wait()
        finally:
            self._forget()

    def _forget(self) -> None:
        """Nobody waits, so nobody has to stand behind."""
        if not self._turn.locked():
            self._changes = [change for change in self._changes if change.draining]
