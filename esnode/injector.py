"""Carries out the table of faults: the links, the peers' door and the disk are told what strikes them.

One that is not struck holds None and asks nothing. Decides nothing about a fault itself. Its one task ends
those whose lease is over, by the node's own clock, so that nothing depends on whoever set them. Made by
`node.py` only where the configuration allows faults; asked by the sessions.
"""

import logging
from collections.abc import Sequence
from typing import assert_never

import trio

from esnode.faults import Active, Direction, FaultTable, fault_of
from esnode.messages import FaultRequest, FaultsReply, HealFault, ListFaults, SetFault
from esnode.replication import Replication
from esnode.storage.worker import StorageWorker

log = logging.getLogger(__name__)


class Injector:
    """Sets, heals and ends faults."""

    def __init__(self, table: FaultTable, replication: Replication, worker: StorageWorker) -> None:
        self._table = table
        self._replication = replication
        self._worker = worker
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
        return active

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
