"""Load for a measurement: batches of generated events into the log, closed loop or at a fixed rate.

Closed loop: `window` batches are always under way. At a rate every event has a time at which it is meant
to be sent (`openloop.py`); what cannot leave in time leaves late, and its latency counts from the time that
was meant. Never prints. Called by `esctl bench`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from esctl.bench.generator import Generator
from esctl.bench.latency import NO_OFFSET, Recorder
from esctl.bench.openloop import OpenLoop, Turn, events_a_batch
from esctl.events.producer import Appender
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange
from esnode.errors import CallerError, EventStreamError

DRAIN_S: Final = 5.0
"""How long the last acks are waited for."""


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What is to be measured. `rate` is in events a second; 0 is a closed loop."""

    seconds: float
    warmup_s: float
    rate: float
    batch: int
    window: int

    @property
    def events_a_batch(self) -> int:
        """How many events really travel together."""
        return events_a_batch(self.rate, self.batch) if self.rate else self.batch

    @property
    def interval_s(self) -> float:
        """Between two events; 0 in a closed loop."""
        return 1 / self.rate if self.rate else 0.0


class Load:
    """One run. `begun_s` to `ended_s` is what is measured, on trio's clock; the warm-up is before."""

    def __init__(self, log: Appender, generator: Generator, plan: TrialPlan) -> None:
        self.recorder = Recorder(plan.interval_s)
        self.sent = 0
        self.acked = 0
        self.failed = 0
        """Certainly not stored: refused, or given up before it left this process."""
        self.errors: dict[str, int] = {}
        """How many events each error cost, by code, those of unknown end too."""
        self.begun_s = self.ended_s = 0.0
        self.most_late_s = 0.0
        """By how much this process itself sent too late at worst, at a rate: it, not the log, was slow."""
        self.most_held_back_s = 0.0
        """For how long a batch that was due had to wait at worst, at a rate: the window was full."""
        self._log = log
        self._generator = generator
        self._plan = plan
        self._loop = OpenLoop(plan.rate, plan.events_a_batch, plan.window) if plan.rate else None

    @property
    def unknown(self) -> int:
        """Events that were sent and have no answer."""
        return self.sent - self.acked - self.failed

    @property
    def due(self) -> int:
        """Events that were meant to be sent in the measured time; 0 in a closed loop."""
        if self._loop is None:
            return 0
        return self._loop.turns_between(self.begun_s, self.ended_s) * self._plan.events_a_batch

    def cut(self) -> Recorder:
        """What was recorded since the last cut; what comes goes to a new recorder."""
        cut, self.recorder = self.recorder, Recorder(self._plan.interval_s)
        return cut

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until the time is over, then wait for the last acks, `DRAIN_S` at most.

        It has started once `begun_s` and `ended_s` are known.
        """
        start_s = trio.current_time()
        self.begun_s = start_s + self._plan.warmup_s
        self.ended_s = self.begun_s + self._plan.seconds
        task_status.started()
        with trio.move_on_at(self.ended_s + DRAIN_S):
            if self._loop is not None:
                await self._loop.run(self._serve, start_s, self.ended_s)
                return
            async with trio.open_nursery() as nursery:
                for _ in range(self._plan.window):
                    nursery.start_soon(self._serve_closed)

    async def _serve_closed(self) -> None:
        while (now := trio.current_time()) < self.ended_s:
            await self._append(now, now)

    async def _serve(self, turn: Turn) -> None:
        sent_s = trio.current_time()
        if turn.meant_s >= self.begun_s:
            self.most_late_s = max(self.most_late_s, sent_s - max(turn.due_s, turn.free_s))
            self.most_held_back_s = max(self.most_held_back_s, turn.free_s - turn.due_s)
        await self._append(turn.meant_s, sent_s)

    async def _append(self, intended_s: float, sent_s: float) -> None:
        batch = self._generator.next_batch()
        left = False

        def leaves() -> None:
            nonlocal left
            left = True
            self.sent += batch.count

        try:
            taken = await self._log.append_batch(batch, on_sent=leaves)
        except EventStreamError as error:
            refused = error.definite and isinstance(error, CallerError)
            if refused or not left:
                self.failed += batch.count
            if not left:
                self.sent += batch.count
            self.errors[error.code] = self.errors.get(error.code, 0) + batch.count
            return
        self.acked += batch.count
        partition = taken.partitions[-1] if taken.partitions else 0
        last_offset = _last_offset(taken.ranges)
        self.recorder.record(intended_s, sent_s, trio.current_time(), batch.count, last_offset, partition)


def _last_offset(ranges: Sequence[OffsetRange]) -> int:
    if not ranges:  # another system's log may tell no offsets
        return NO_OFFSET
    last = ranges[-1]
    return NO_OFFSET if last.base_offset == UNKNOWN_OFFSET else last.base_offset + last.count - 1
