"""Applications with a named producer session: restarted again and again, also beside their older selves.

Event `n` of an application is the same in each of its lives, and its number in the session is `n`, given by
the application or by the client. Whatever happens, the log has a prefix of them, in order, each once, though
keys expire. Started by `world.py`, which asks `check` in the end.
"""

import random
from collections.abc import Sequence
from itertools import count

import trio

from esnode import limits
from esnode.client import Log, connect
from esnode.dedup.batch import OffsetRange, split_keys
from esnode.errors import EventStreamError, ProducerFenced
from esnode.events import key_of
from esnode.transport.connection import Dialer

from ..outcome import Violation
from .clients import Application

LIFE_S = 6.0
"""The mean time from one life to the next."""


class Numbered:
    """One application."""

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        dial: Dialer,
        application: Application,
        seed: str,
    ) -> None:
        self.name = name
        self._load = application.load
        self._share = application.share
        self._addresses = addresses
        self._dial = dial
        self._tell = application.count
        self._history = application.history
        self._source = random.Random(f"{seed}:numbered")
        self._stopped = False
        self._acked = 0
        """Events that were acked, in whichever life: the log has them all."""

    def stop(self) -> None:
        """Begin nothing more; what was begun goes on."""
        self._stopped = True

    async def run(self) -> None:
        """One life after the other."""
        async with trio.open_nursery() as lives:
            for number in count():
                lives.start_soon(self._live, number)
                pause_s = self._source.expovariate(1 / LIFE_S)
                while pause_s > 0 and not self._stopped:
                    step_s = min(pause_s, 0.5)
                    await trio.sleep(step_s)
                    pause_s -= step_s
                if self._stopped:
                    return

    def check(self, log: bytes) -> None:
        """Whether `log`, the packed keys of all events, has what it must."""
        place = {self._key(number): number for number in range(len(log) // 16 + 1)}
        found = [place[key] for key in split_keys_of(log) if key in place]
        if found != list(range(len(found))):
            wrong = next(n for n, number in enumerate(found) if n != number)
            raise Violation("numbered once and in order", f"{self.name}: {found[wrong]} where {wrong} is due")
        if len(found) < self._acked:
            raise Violation("numbered once and in order", f"{self.name}: {len(found)} of {self._acked} acked")

    async def _live(self, life: int) -> None:
        """Until it is stopped, fenced, or killed."""
        source, load, acked = self._source, self._load, self._acked
        connecting = connect(
            self._addresses,
            cluster="simulated",
            batch_events=load.batch_events,
            batch_ms=load.batch_ms,
            window=min(load.window, limits.MAX_SESSION_INFLIGHT),
            timeout_s=load.timeout_s,
            producer=self.name,
            dial=self._dial,
            rng=random.Random(f"{self.name}:{life}:{source.random()}"),
            partition=self._share.asked,
        )
        with trio.move_on_after(source.choice((1.0, 10.0, 60.0))):  # a process that ends without a word
            async with connecting as log:
                try:
                    await self._append(log, acked, given=source.random() < 0.5)
                except ProducerFenced:
                    self._tell("op.fenced")
                    await self._stays_fenced(log)

    async def _append(self, log: Log, acked: int, *, given: bool) -> None:
        """Go on where the log is, with numbers that are `given` or not; `acked` before this life began."""
        source, number = self._source, -1
        while not self._stopped:
            try:
                if number < 0:
                    number = await self._next_number(log, acked)
                events = [self._event(number + n) for n in range(source.randint(1, self._load.max_events))]
                keys = b"".join(map(key_of, events))
                attempt = self._history.append_begins(keys, trio.current_time())
                with trio.move_on_after(source.choice((0.05, 60.0, 60.0))):
                    acks = await log.append_many(events, first_sequence=number if given else None)
                    offsets = [OffsetRange(ack.offset, 1) for ack in acks]
                    self._history.acked(attempt, offsets, trio.current_time())
                    number += len(events)
                    self._acked = max(self._acked, number)
                    self._tell("op.numbered")
            except ProducerFenced:
                raise
            except EventStreamError:
                await trio.sleep(source.uniform(0.01, 0.3))
            await trio.sleep(source.expovariate(1 / self._load.append_every_s))

    async def _next_number(self, log: Log, acked: int) -> int:
        state = await log.producer_state()
        if state.next_sequence < acked:
            raise Violation("numbered once and in order", f"{acked} were acked, and the log says {state}")
        self._tell("op.resumed" if state.next_sequence else "op.begun")
        return state.next_sequence

    async def _stays_fenced(self, log: Log) -> None:
        for call in (log.producer_state, lambda: log.append(self._event(0))):
            try:
                await call()
            except ProducerFenced:
                continue
            raise Violation("fenced for good", f"{self.name} goes on after another has opened its name")

    def _event(self, number: int) -> dict[str, str]:
        return {"id": f"{self.name}:{number}", "source": self._share.source("/numbered"), "type": "t"}

    def _key(self, number: int) -> bytes:
        return key_of(self._event(number))


def split_keys_of(log: bytes) -> list[bytes]:
    """The packed keys of a whole log, one by one."""
    return [key for start in range(0, len(log), 16_384) for key in split_keys(log[start : start + 16_384])]
