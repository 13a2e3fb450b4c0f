"""Carries out the table of faults: links, the peers' door, disk and clock are told what strikes them.

One that is not struck holds None and asks nothing. Decides nothing about a fault itself. Its one task ends
those whose lease is over, by the node's own clock, so that nothing depends on whoever set them. Made by
`node.py` only where the configuration allows faults; asked by the sessions.
"""

import logging
from collections.abc import Sequence
from typing import assert_never

import trio

from esnode.faults import Active, Direction, Fault, FaultTable, Kind, fault_of
from esnode.messages import FaultRequest, FaultsReply, HealFault, ListFaults, SetFault
from esnode.raft.messages import HeartbeatReply
from esnode.replication.replication import Replication
from esnode.storage.worker import StorageWorker
from esnode.wallclock import WallClock

log = logging.getLogger(__name__)


class FaultInjector:
    """Sets, heals and ends faults."""

    def __init__(
        self, table: FaultTable, replication: Replication, worker: StorageWorker, clock: WallClock
    ) -> None:
        self._table = table
        self._replication = replication
        self._worker = worker
        self._clock = clock
        self._changed = trio.Event()

    def answer(self, request: FaultRequest) -> FaultsReply:
        """Do what an operator asks for. Raises `InvalidRequest`; nothing was changed then."""
        now = trio.current_time()
        self._end(self._table.expire(now), "fault_expired")
        match request:
            case SetFault():
                active = [self._set(request, now)]
            case HealFault(_, fault_id):
                active = self._table.heal(fault_id)
                self._end(active, "fault_healed")
            case ListFaults():
                return FaultsReply(request.request_id, self._table.pictures(now))
            case _:
                assert_never(request)
        return FaultsReply(request.request_id, [one.picture(now) for one in active])

    async def run(self) -> None:
        """End each fault when its lease is over, for ever."""
        while True:
            with trio.CancelScope(deadline=self._table.next_expiry()):
                await self._changed.wait()
            self._changed = trio.Event()
            self._end(self._table.expire(trio.current_time()), "fault_expired")

    def _set(self, request: SetFault, now: float) -> Active:
        fault = fault_of(request)
        known = {one["id"]: one for one in self._table.pictures(now)}
        active = self._table.set(fault, request.lease_ms, now)
        log.warning("fault_set", extra=_words(active) | {"renewed": fault.id in known})
        self._tell_all()
        if fault.kind is Kind.BLOCK and fault.direction is not Direction.IN:
            self._try(fault)
        return active

    def _try(self, fault: Fault) -> None:
        """Send something over each link that is cut: nodes that have nothing to say would not show it.

        Should it pass, it is an answer of the first term, which means nothing to anybody.
        """
        for peer in fault.peers:
            self._replication.send(peer, HeartbeatReply(0, 0))

    def _end(self, over: Sequence[Active], event: str) -> None:
        for one in over:
            log.warning(event, extra=_words(one) | {"hits": one.hits})
        if over:
            self._tell_all()

    def _tell_all(self) -> None:
        """Tell every seam what strikes it now."""
        self._changed.set()
        for peer, link in self._replication.links.items():
            link.strike(self._table.of_link(peer, Direction.OUT))
            self._replication.strike(peer, self._table.of_link(peer, Direction.IN))
        self._worker.strike(self._table.of_disk())
        self._clock.strike(self._table.of_clock())


def _words(active: Active) -> dict[str, object]:
    fault = active.fault
    return {
        "fault": fault.id,
        "kind": fault.kind.value,
        "peers": list(fault.peers),
        "direction": fault.direction.value,
        "parameters": dict(fault.parameters),
        "lease_ms": round(active.lease_s * 1000),
    }
