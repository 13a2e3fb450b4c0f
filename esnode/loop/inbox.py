"""The driver's one queue: everything that happens to a node comes in through here.

Decides nothing but order and bounds. Two ways in: `offer` for what a client may send as fast as it
likes, which can be refused, and `put` for what is bounded by its own nature (one tick a clock, one
completion a write, a window of messages a peer). What was put goes first, so that a new leader hears its
followers before the hundreds of requests that waited for it. Filled by ingest, replication, clocks and
the storage worker; emptied by the driver alone.
"""

from collections import deque

import trio

from esnode import limits
from esnode.raft.messages import Input


class Inbox:
    """A bounded queue of inputs for the core."""

    def __init__(self, max_offered: int = limits.MAX_INBOX_ITEMS) -> None:
        self._items: deque[Input] = deque()
        self._offered: deque[Input] = deque()
        self._max_offered = max_offered
        self._driver = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._items) + len(self._offered)

    def put(self, item: Input) -> None:
        """Take an input whose number is bounded elsewhere."""
        self._items.append(item)
        self._driver.unpark()

    def leave(self, item: Input) -> None:
        """Take an input that nobody waits for: the driver sees it with the next one."""
        self._items.append(item)

    def offer(self, item: Input) -> bool:
        """Take an input if there is room; False means that it was not taken."""
        if len(self._offered) >= self._max_offered:
            return False
        self._offered.append(item)
        self._driver.unpark()
        return True

    async def wait_room(self) -> None:
        """Wait until there is room. A peer's reader waits here, so TCP slows the peer down."""
        while len(self._items) >= self._max_offered:
            await self._senders.park()

    async def take(self, most: int) -> list[Input]:
        """Wait for inputs, and take those that are here, at most `most`."""
        if self._items or self._offered:
            await trio.lowlevel.checkpoint()
        while not (self._items or self._offered):
            await self._driver.park()
        taken = self.drain(most)
        self._senders.unpark_all()
        return taken

    def drain(self, most: int) -> list[Input]:
        """Those that are here, at most `most`; up to `limits.MAX_OFFERED_A_ROUND` of them are clients'."""
        room = min(limits.MAX_OFFERED_A_ROUND, len(self._offered))
        taken = [self._items.popleft() for _ in range(min(max(most - room, 1), len(self._items)))]
        taken += [self._offered.popleft() for _ in range(min(most - len(taken), room))]
        return taken
