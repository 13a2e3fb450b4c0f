"""Runs one storm on a cluster, under load: each fault at its time, and then the recovery.

Every fault has a lease or a watchdog, so what is left when this process is gone ends by itself. Decides when
the calm has come: no fault is active, and something is acked that was sent after that. Judges nothing; keeps
what became of each fault. Never prints. Called by `esctl fault storm`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from esctl.chaos import ledger, nodes
from esctl.chaos.steadyload import SteadyLoad, longest_gap_s
from esctl.chaos.storm import ON_PROCESSES, ScheduledFault, ScheduledFaultData, Storm
from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.state import Cluster
from esctl.faults import leases, linkcuts
from esctl.ui.values import Count
from esnode.errors import EventStreamError

CALM_TIMEOUT_S: Final = 60.0
"""A cluster that acks nothing for so long after the last fault never does."""
LOOK_EVERY_S: Final = 0.1
CLEAN_UP_S: Final = 4.0


class StormFaultData(ScheduledFaultData):
    """What became of one fault of a storm; `missed` says why it could not be set."""

    fault: str
    missed: str | None
    hits: Count


@dataclass(slots=True)
class FaultResult:
    """What became of one fault."""

    fault: ScheduledFault
    id: str
    missed: str = ""
    """Why it could not be set; empty when it was."""
    hits: int = 0

    def as_data(self) -> StormFaultData:
        """For the JSON answer."""
        return {**self.fault.as_data(), "fault": self.id, "missed": self.missed or None, "hits": self.hits}


@dataclass(slots=True)
class StormRun:
    """`name` begins the ids of all its faults."""

    cluster: Cluster
    storm: Storm
    loads: Sequence[SteadyLoad]
    """One, or one of each partition that owns sources."""
    partitions: Sequence[int | None]
    """Of the loads."""
    name: str
    tell: Callable[[int, ScheduledFault], None] = lambda _number, _fault: None
    results: list[FaultResult] = field(default_factory=list)
    served: bool = False
    """Was something acked that was sent after the last fault had ended?"""
    begun_s: float = 0.0
    ended_s: float = 0.0

    async def run(self) -> None:
        """All of it. What was set is healed in the end, whatever comes."""
        backend = backend_named(self.cluster.backend)
        logs = {node.id: backend.log_path(self.cluster, node.id) for node in self.cluster.nodes}
        log_ends = {number: nodelog.size(path) for number, path in logs.items()}
        self.results = [
            FaultResult(fault, f"{self.name}-{n}") for n, fault in enumerate(self.storm.schedule, 1)
        ]
        self.begun_s = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                for load in self.loads:
                    nursery.start_soon(load.run)
                async with trio.open_nursery() as setting:
                    for number, result in enumerate(self.results, 1):
                        setting.start_soon(self._set, number, result)
                    await trio.sleep(self.storm.duration_ms / 1000)  # a storm has its time
                await self._calm_down()
                self.ended_s = trio.current_time()
                for load in self.loads:
                    load.end()
        finally:
            with trio.move_on_after(CLEAN_UP_S, shield=True):
                await nodes.heal(self.cluster, [self.name, *(result.id for result in self.results)])
        self._count(logs, log_ends)

    @property
    def longest_gap_ms(self) -> float | None:
        """The longest time between two acks of the same load."""
        end_s = self.ended_s or self.begun_s
        gaps_s = [longest_gap_s(load.acks_s, self.begun_s, end_s) for load in self.loads]
        known_s = [gap_s for gap_s in gaps_s if gap_s is not None]
        return round(max(known_s) * 1000, 1) if len(known_s) == len(gaps_s) else None

    @property
    def sent(self) -> int:
        """Events of all loads."""
        return sum(load.sent for load in self.loads)

    @property
    def acked(self) -> int:
        """Events of all loads."""
        return sum(load.acked for load in self.loads)

    @property
    def errors(self) -> dict[str, int]:
        """Events without an ack, by the code of the error."""
        found = Counter[str]()
        for load in self.loads:
            found.update(load.errors)
        return dict(found)

    async def _set(self, number: int, result: FaultResult) -> None:
        fault = result.fault
        await trio.sleep(fault.at_ms / 1000)
        self.tell(number, fault)
        try:
            if fault.kind == "kill" and fault.partition is not None:
                # Its own node starts it again: that is over at once, and no lease has to end it.
                backend = backend_named(self.cluster.backend)
                await backend.kill_replica(self.cluster, fault.node, fault.partition)
                result.hits = 1
            elif fault.kind in ON_PROCESSES:
                await trio.to_thread.run_sync(partial(self._stop, result))
            else:
                orders = fault.orders(self.storm.voters, result.id)
                await nodes.set_all(self.cluster, orders, fault.for_ms, fault.partition)
            ledger.note(self.cluster, result.id, [_way(fault.kind)], [fault.node])
        except EventStreamError as error:
            result.missed = str(error)

    def _stop(self, result: FaultResult) -> None:
        """In a thread: a watchdog is waited for."""
        fault = result.fault
        names = {fault.node: result.id}
        for one in leases.begin_all(self.cluster, names, fault.kind, fault.for_ms, fault.partition):
            leases.strike(self.cluster, one)
        result.hits = 1

    async def _calm_down(self) -> None:
        with trio.move_on_after(CALM_TIMEOUT_S):
            ids = {result.id for result in self.results}
            while True:
                kept = {one.id for one in leases.active(self.cluster)}
                kept |= {one.id for one in linkcuts.STORE.all(self.cluster)}
                if not ids & kept:
                    break
                await trio.sleep(LOOK_EVERY_S)  # a watchdog is another process: its note is looked at
            since_s = trio.current_time()
            for load in self.loads:
                await load.wait_answered(since_s)
            self.served = True

    def _count(self, logs: Mapping[int, Path], log_ends: Mapping[int, int]) -> None:
        """What each node says that its faults have struck. Of links that were really cut it knows nothing."""
        by_id = {result.id: result for result in self.results}
        for number, path in logs.items():
            for line in nodelog.read(path, number, log_ends[number]):
                told = line.fields
                result = by_id.get(str(told.get("fault", "")).partition(".")[0])
                if result is not None:
                    result.hits += int(told.get("hits", 0))


def _way(kind: str) -> str:
    """In the words of the ledger."""
    if kind in ("isolate", "one-way"):
        return f"partition {kind}"
    if kind in ON_PROCESSES:
        return kind
    return kind.replace("-", " ", 1) if kind.startswith(("disk-", "clock-")) else f"net {kind}"
