"""A client that only reads, all the while: a subscription from offset 0, and linearizable reads.

What the subscription was given is the log as a reader saw it, also where retention has cut it since; what
both were told goes to the checker. Never appends. Called by the campaigns.
"""

from dataclasses import dataclass, field
from typing import Final

import trio

from esnode import limits
from esnode.client import Log, connect
from esnode.errors import EventStreamError
from tests.torture.arena import CATCH_UP_TIMEOUT_S, Arena, Trouble
from tests.torture.load import Load

READ_EVERY_S: Final = 0.1
READ_TIMEOUT_S: Final = 10.0


@dataclass
class Witness:
    """Reads until it is told to end."""

    load: Load
    seen: bytearray = field(default_factory=bytearray)
    """The packed keys of all events, from offset 0 on."""
    reads: int = 0
    unanswered: int = 0
    news: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def next_offset(self) -> int:
        return len(self.seen) // limits.KEY_BYTES

    async def run(self, arena: Arena) -> None:
        """Read until `end`. Raises `OffsetOutOfRange` where retention was faster than the subscription."""
        cluster = arena.cluster
        opened = connect(cluster.addresses, cluster=cluster.identity, timeout_s=READ_TIMEOUT_S)
        with self.scope:
            async with opened as log, trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, log)
                nursery.start_soon(self._read, log)

    def end(self) -> None:
        self.scope.cancel()

    async def wait_seen(self, next_offset: int) -> None:
        """Return when the subscription has come so far; raises `Trouble` when it does not."""
        with trio.move_on_after(CATCH_UP_TIMEOUT_S) as patience:
            while self.next_offset < next_offset:
                await self.news.wait()
        if patience.cancelled_caught:
            raise Trouble(f"a subscription ended at offset {self.next_offset:,}, not at {next_offset:,}")

    async def _follow(self, log: Log) -> None:
        number = self.load.ledger.operations.subscription_begins(0)
        async with log.subscribe_batches(0) as subscription:
            async for batch in subscription:
                keys = b"".join(batch.keys())
                self.load.ledger.operations.subscription_saw(
                    number, batch.offset, keys, self.load.ledger.clock()
                )
                self.seen += keys
                self.news.set()
                self.news = trio.Event()

    async def _read(self, log: Log) -> None:
        """Ask, again and again, for the last event that was acked so far: it must be there."""
        while True:
            await trio.sleep(READ_EVERY_S)
            last = self.load.last_offset
            if last < 0:
                continue
            number = self.load.ledger.operations.read_begins(self.load.ledger.clock())
            try:
                events = await log.read(last, 1)
            except EventStreamError:
                self.unanswered += 1
                continue
            self.reads += 1
            self.load.ledger.operations.read_ends(number, last + len(events), self.load.ledger.clock())
