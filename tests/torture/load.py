"""Load that never gives up: events at a fixed rate, some of them sent a second time, all of them in a ledger.

Says how much was acked and when nothing moves any more. Knows no fault. Called by the campaigns.
"""

import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import trio

from esctl.bench.generator import Generator
from esnode import limits
from esnode.client import Log, connect
from esnode.dedup.batch import Batch
from esnode.errors import EventStreamError
from tests.torture.arena import Arena, Trouble
from tests.torture.ledger import Ledger

BATCH: Final = 64
EVENT_BYTES: Final = 128
WINDOW: Final = 128
APPEND_TIMEOUT_S: Final = 60.0
SENT_AGAIN_EVERY: Final = 16
"""One batch in so many is sent a second time, some time later."""
REMEMBERED: Final = 512
ENOUGH: Final = 0.5
"""With less than this of the rate acked, the load did not happen."""
STANDSTILL_S: Final = 120.0
"""A cluster whose nodes all run and that acks nothing for so long has failed, however slow the machine."""


@dataclass
class Load:
    """Events at a fixed rate, until it is told to end. Some batches are sent a second time, later."""

    rate: float
    source: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    last_offset: int = -1
    """The largest that was acked."""
    errors: dict[str, int] = field(default_factory=dict)
    """Batches without an ack, by the code of the error."""
    sent_again: int = 0
    begun_s: float = 0.0
    ended_s: float = 0.0
    news: trio.Event = field(default_factory=trio.Event)
    ended: bool = False
    over: trio.Event = field(default_factory=trio.Event)
    """The last answer has come."""

    @property
    def seconds(self) -> float:
        return self.ended_s - self.begun_s

    @property
    def happened(self) -> bool:
        """Was there load enough to prove something?"""
        return self.ledger.acked >= ENOUGH * self.rate * self.seconds > 0

    async def run(self, arena: Arena) -> None:
        """Send until `end`, then wait for the last answers."""
        generator = Generator(secrets.token_hex(8), EVENT_BYTES, BATCH)
        cluster = arena.cluster
        recent: deque[Batch] = deque(maxlen=REMEMBERED)
        slots = trio.Semaphore(WINDOW)
        opened = connect(
            cluster.addresses, cluster=cluster.identity, window=WINDOW, timeout_s=APPEND_TIMEOUT_S
        )
        self.begun_s = turn = trio.current_time()
        async with opened as log, trio.open_nursery() as nursery:
            while not self.ended:
                if recent and self.source.random() < 1 / SENT_AGAIN_EVERY:
                    batch = self.source.choice(recent)
                    self.sent_again += 1
                    attempt = self.ledger.operations.append_begins(batch.keys, self.ledger.clock())
                else:
                    batch = generator.next_batch()
                    self.ledger.sent(batch)
                    attempt, _ = self.ledger.batches[batch.keys[: limits.KEY_BYTES]]
                    recent.append(batch)
                await slots.acquire()
                nursery.start_soon(self._append, log, batch, attempt, slots)
                turn = max(turn + batch.count / self.rate, trio.current_time() - 1.0)
                await trio.sleep_until(turn)
            self.ended_s = trio.current_time()
        self.over.set()

    def end(self) -> None:
        self.ended = True

    async def wait_acked(self, more: int) -> None:
        """Return when so many more events are acked than now; raises `Trouble` when nothing moves."""
        target = self.ledger.acked + more
        with trio.move_on_after(STANDSTILL_S) as patience:
            while self.ledger.acked < target:
                await self.news.wait()
        if patience.cancelled_caught:
            raise Trouble(f"all nodes run, and {more} more events were not acked within {STANDSTILL_S:g} s")

    async def _append(self, log: Log, batch: Batch, attempt: int, slots: trio.Semaphore) -> None:
        try:
            taken = await log.append_batch(batch)
        except EventStreamError as error:
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            if error.definite:
                self.ledger.operations.refused(attempt)
            return
        finally:
            slots.release()
        self.ledger.ack(batch, taken.ranges, taken.duplicates)
        self.last_offset = max(
            self.last_offset, *(part.base_offset + part.count - 1 for part in taken.ranges)
        )
        self.news.set()
        self.news = trio.Event()
