"""One round of measuring on one system: a fresh cluster, the load of `esctl bench`, and its figures.

Decides what is measured and how; knows no system but through `peer.Peer`. What was started is ended when
a round fails, too. Never prints. Called by `__main__.py`.
"""

import math
import os
import random
import secrets
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from bench.peers import servers
from bench.peers.peer import THROUGHPUT, Habits, Peer
from esctl.bench.generator import Generator
from esctl.bench.latency import Percentiles
from esctl.bench.runner import Load, TrialPlan
from esctl.events.producer import Appender, Taken
from esnode.dedup.batch import Batch
from esnode.errors import OperationTimeout

REACHED: Final = 0.99
"""The share of a rate that must be acked in time; with less the figures would be those of an overload."""
FAILOVER_RATE: Final = 1000.0
FAILOVER_WINDOW: Final = 512
CALM_S: Final = 2.0
"""For so long the load runs before the leader is killed, and a random part of a second more."""
FOLLOW_S: Final = 3.0
"""For so long it runs after that at least."""
RECOVERED: Final = 0.5
"""The share of `FAILOVER_RATE` that must be acked within a second again."""
GIVE_UP_S: Final = 60.0
FSYNCS: Final = 200

Figures = dict[str, float | None]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """The same for every system."""

    directory: Path
    """Below it each round has a directory of its own; its disk is the one that is measured."""
    seconds: float = 10.0
    warmup_s: float = 2.0
    size: int = 100
    batch: int = 64
    window: int = 64
    rates: Sequence[float] = (20_000.0, 60_000.0)
    patience_s: float = 0.25
    """Of the clients here, while a leader is killed."""


@asynccontextmanager
async def running(peer: Peer, settings: Settings) -> AsyncIterator[None]:
    """The system in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-", dir=settings.directory) as name:
        try:
            await peer.start(Path(name))
            yield
        finally:
            await peer.stop()


async def throughput(peer: Peer, settings: Settings, tell: Tell) -> Figures:
    """Cold start, closed loop, open loops, and the memory of a node after them."""
    figures: Figures = {}
    begun = trio.current_time()
    async with running(peer, settings), peer.client(await peer.leader(), THROUGHPUT) as log:
        await log.append_batch(new_generator(settings.size, 1).next_batch())
        figures["cold_start_ms"] = (trio.current_time() - begun) * 1000
        tell("closed loop")
        figures |= await loop(peer, log, settings, 0.0)
        for rate in settings.rates:
            tell(f"{rate:,.0f} events/s")
            at_rate = await loop(peer, log, settings, rate)
            figures |= at_rate
            if not reached(at_rate, rate):
                break  # a higher one would only be a longer queue
        figures["memory_bytes"] = max(servers.resident_bytes(peer.pids()))
    return figures


async def loop(peer: Peer, log: Appender, settings: Settings, rate: float) -> Figures:
    """One load; the names of its figures begin with `prefix(rate)`."""
    plan = TrialPlan(settings.seconds, settings.warmup_s, rate, settings.batch, settings.window)
    load = Load(log, new_generator(settings.size, plan.events_a_batch), plan)
    nodes_s, client_s, begun_s = servers.cpu_s(peer.pids()), time.process_time(), time.perf_counter()
    await load.run()
    nodes_s, client_s = servers.cpu_s(peer.pids()) - nodes_s, time.process_time() - client_s
    acked = max(1, load.acked)
    name = prefix(rate)
    latency = load.recorder.percentiles(load.begun_s, load.ended_s, intended=bool(rate))
    return {
        f"{name}_per_s": load.recorder.acked_between(load.begun_s, load.ended_s) / settings.seconds,
        **{f"{name}_{part}_ms": value for part, value in percentiles(latency).items()},
        f"{name}_nodes_us_per_event": nodes_s / acked * 1e6,
        f"{name}_client_us_per_event": client_s / acked * 1e6,
        f"{name}_client_busy": client_s / (time.perf_counter() - begun_s),
        f"{name}_failed": float(load.failed),
    }


async def failover(peer: Peer, settings: Settings) -> float:
    """SIGKILL to the leader under load: the longest time between two acks, in milliseconds.

    Raises `OperationTimeout` when acks do not come back.
    """
    async with running(peer, settings):
        await peer.wait_whole()
        leader = await peer.leader()
        async with peer.client(leader, Habits(settings.patience_s)) as log, trio.open_nursery() as nursery:
            acks = AckTimes(log)
            plan = TrialPlan(2 * CALM_S + GIVE_UP_S, 0.0, FAILOVER_RATE, settings.batch, FAILOVER_WINDOW)
            nursery.start_soon(Load(acks, new_generator(settings.size, plan.events_a_batch), plan).run)
            await trio.sleep(CALM_S + random.random())
            leader = await peer.leader()
            acks.since_s = trio.current_time()
            servers.kill(peer.pids()[leader])
            with trio.move_on_after(GIVE_UP_S):
                await acks.flow_again.wait()
            nursery.cancel_scope.cancel()
        if not acks.flow_again.is_set():
            raise OperationTimeout(f"no acks for {GIVE_UP_S:g} s after the leader was killed")
        return acks.longest_gap_s() * 1000


class AckTimes:
    """An `Appender` that notes when it heard of each ack."""

    def __init__(self, log: Appender) -> None:
        self.since_s = math.inf
        """When the leader was killed."""
        self.flow_again = trio.Event()
        """Set when, `FOLLOW_S` or more after that, acks come as events are sent."""
        self._log = log
        self._acked_s = array("d")

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> Taken:
        """As the log below does."""
        taken = await self._log.append_batch(batch, on_sent=on_sent)
        now = trio.current_time()
        self._acked_s.append(now)
        enough = round(FAILOVER_RATE * RECOVERED)
        if now > self.since_s + FOLLOW_S and self._acked_s[-enough:][0] > now - 1:
            self.flow_again.set()
        return taken

    def longest_gap_s(self) -> float:
        """Between two acks, of those gaps that end after `since_s`."""
        pairs = zip(self._acked_s, self._acked_s[1:], strict=False)
        return max((after - before for before, after in pairs if after > self.since_s), default=0.0)


def new_generator(size: int, batch: int) -> Generator:
    """Events that no other generator makes."""
    return Generator(secrets.token_hex(8), size, batch)


def prefix(rate: float) -> str:
    """How the names of the figures at a rate begin; 0 is the closed loop."""
    return f"at_{rate:.0f}" if rate else "closed"


def reached(figures: Figures, rate: float) -> bool:
    """Was so much acked as was sent?"""
    acked = figures.get(f"{prefix(rate)}_per_s")
    return acked is not None and acked >= REACHED * rate


def percentiles(latency: Percentiles) -> dict[str, float | None]:
    """Those that are told."""
    return {"p50": latency.p50, "p99": latency.p99, "p999": latency.p999}


def fsync_ms(directory: Path, size: int) -> tuple[float, float]:
    """What making `size` bytes durable costs there: median and p99."""
    costs = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(FSYNCS):
            begun = time.perf_counter()
            os.write(file.fileno(), bytes(size))
            os.fsync(file.fileno())
            costs.append((time.perf_counter() - begun) * 1000)
    costs.sort()
    return costs[FSYNCS // 2], costs[FSYNCS * 99 // 100]
