"""One storm as it passes over a cluster, under load: each gust at its time, and the calm after it.

Every fault has a lease or a keeper, so what is left when this process is gone ends by itself. Decides when
the calm has come: no fault is active, and something is acked that was sent after that. Judges nothing; keeps
what became of each gust. Never prints. Called by `esctl fault storm`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from esctl.bench.openloop import OpenLoop, longest_gap_s
from esctl.chaos import ledger, nodes
from esctl.chaos.storm import ON_PROCESSES, Gust, Storm
from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.state import Cluster
from esctl.faults import leases, severed
from esnode.errors import EventStreamError

CALM_TIMEOUT_S: Final = 60.0
"""A cluster that acks nothing for so long after the last gust never does."""
LOOK_EVERY_S: Final = 0.1
CLEAN_UP_S: Final = 4.0


@dataclass(slots=True)
class Blown:
    """What became of one gust."""

    gust: Gust
    id: str
    missed: str = ""
    """Why it could not be raised; empty when it was."""
    hits: int = 0

    def as_data(self) -> dict[str, Any]:
        """For the JSON answer."""
        return {**self.gust.as_data(), "fault": self.id, "missed": self.missed or None, "hits": self.hits}


@dataclass(slots=True)
class Passage:
    """`name` begins the ids of all its faults."""

    cluster: Cluster
    storm: Storm
    load: OpenLoop
    name: str
    tell: Callable[[int, Gust], None] = lambda _number, _gust: None
    blown: list[Blown] = field(default_factory=list)
    served: bool = False
    """Was something acked that was sent after the last fault had ended?"""
    begun_s: float = 0.0
    ended_s: float = 0.0

    async def run(self) -> None:
        """All of it. What was raised is healed in the end, whatever comes."""
        backend = backend_named(self.cluster.backend)
        logs = {node.id: backend.log_path(self.cluster, node.id) for node in self.cluster.nodes}
        log_ends = {number: nodelog.size(path) for number, path in logs.items()}
        self.blown = [Blown(gust, f"{self.name}-{n}") for n, gust in enumerate(self.storm.gusts, 1)]
        self.begun_s = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.load.run)
                async with trio.open_nursery() as blowing:
                    for number, blown in enumerate(self.blown, 1):
                        blowing.start_soon(self._blow, number, blown)
                    await trio.sleep(self.storm.duration_ms / 1000)  # a storm has its time
                await self._calm_down()
                self.ended_s = trio.current_time()
                self.load.end()
        finally:
            with trio.move_on_after(CLEAN_UP_S, shield=True):
                await nodes.heal(self.cluster, [self.name, *(blown.id for blown in self.blown)])
        self._count(logs, log_ends)

    @property
    def longest_gap_ms(self) -> float | None:
        """The longest time between two acks."""
        gap_s = longest_gap_s(self.load.acks_s, self.begun_s, self.ended_s or self.begun_s)
        return None if gap_s is None else round(gap_s * 1000, 1)

    async def _blow(self, number: int, blown: Blown) -> None:
        gust = blown.gust
        await trio.sleep(gust.at_ms / 1000)
        self.tell(number, gust)
        try:
            if gust.kind in ON_PROCESSES:
                await trio.to_thread.run_sync(partial(self._stop, blown))
            else:
                await nodes.set_all(self.cluster, gust.orders(self.storm.voters, blown.id), gust.for_ms)
            ledger.note(self.cluster, blown.id, [_way(gust.kind)], [gust.node])
        except EventStreamError as error:
            blown.missed = str(error)

    def _stop(self, blown: Blown) -> None:
        """In a thread: a keeper is waited for."""
        gust = blown.gust
        stopped = leases.begin(self.cluster, blown.id, gust.kind, gust.node, gust.for_ms)
        leases.strike(self.cluster, stopped)
        blown.hits = 1

    async def _calm_down(self) -> None:
        with trio.move_on_after(CALM_TIMEOUT_S):
            ids = {blown.id for blown in self.blown}
            while True:
                kept = {one.id for one in leases.active(self.cluster)}
                kept |= {one.id for one in severed.noted(self.cluster)}
                if not ids & kept:
                    break
                await trio.sleep(LOOK_EVERY_S)  # a keeper is another process: its note is looked at
            await self.load.wait_answered(trio.current_time())
            self.served = True

    def _count(self, logs: Mapping[int, Path], log_ends: Mapping[int, int]) -> None:
        """What each node says that its faults have struck. Of links that were really cut it knows nothing."""
        by_id = {blown.id: blown for blown in self.blown}
        for number, path in logs.items():
            for line in nodelog.read(path, number, log_ends[number]):
                told = line.fields
                blown = by_id.get(str(told.get("fault", "")).partition(".")[0])
                if blown is not None:
                    blown.hits += int(told.get("hits", 0))


def _way(kind: str) -> str:
    """In the words of the ledger."""
    if kind in ("isolate", "one-way"):
        return f"partition {kind}"
    if kind in ON_PROCESSES:
        return kind
    return kind.replace("-", " ", 1) if kind.startswith(("disk-", "clock-")) else f"net {kind}"
