"""Nodes ended or paused for a while: a watchdog, a process of its own, ends that when the lease is over.

A node that is paused or dead cannot end its own fault, and `esctl` may be gone by then: the watchdog is in a
session of its own, and there before the node is struck. A note in the cluster's directory says what is
under way; without it the watchdog has nothing to do, and nobody is struck. Only the machine's end takes the
watchdog with it, and with it the paused node. Called by `esctl fault` and by `watchdog.py`.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import Cluster
from esctl.errors import NodeNotRunning
from esctl.faults.leasestore import LeaseStore
from esctl.faults.nodeorders import FaultData, belongs
from esnode.errors import EventStreamError, OperationTimeout

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
PAUSING: Final = ("pause", "freeze")


@dataclass(frozen=True, slots=True)
class StoppedNode:
    """A node that was killed or paused, until when (seconds since 1970)."""

    id: str
    kind: str
    """`pause` and `freeze` let it stand still; `kill`, `torn` and `flip` end it."""
    node: int
    lease_ms: int
    until: float
    struck: bool = False
    """Not before its watchdog is there: a note that was left in between is about nothing."""
    partition: int | None = None
    """The one of several whose process is meant, and not the whole node."""

    def as_data(self) -> FaultData:
        """In the words of the nodes' own faults."""
        told: FaultData = {
            "id": self.id,
            "kind": self.kind,
            "peers": [],
            "direction": "",
            "parameters": {},
            "lease_ms": self.lease_ms,
            "left_ms": max(0, round((self.until - time.time()) * 1000)),
            "hits": 1,
        }
        if self.partition is not None:
            told["partition"] = self.partition
        return told


STORE: Final = LeaseStore("faults", lambda fields: StoppedNode(**fields))


def begin(cluster: Cluster, fault: str, kind: str, node: int, lease_ms: int) -> StoppedNode:
    """Leave the note and start the watchdog; then `strike`. Raises `MachineRefused`."""
    return begin_all(cluster, {node: fault}, kind, lease_ms)[0]


def begin_all(
    cluster: Cluster, faults: Mapping[int, str], kind: str, lease_ms: int, partition: int | None = None
) -> list[StoppedNode]:
    """The same for several nodes, by number; all watchdogs are there when it returns.

    `partition`: only their processes for that one of several are meant.
    """
    until = time.time() + lease_ms / 1000
    begun = [
        StoppedNode(fault, kind, node, lease_ms, until, partition=partition) for node, fault in faults.items()
    ]
    STORE.begin(cluster, begun)
    return begun


def strike(cluster: Cluster, stopped: StoppedNode) -> StoppedNode:
    """End or pause the node, unless its lease is over: then nobody would end that any more.

    The lease begins now; its watchdog goes by the note. Raises `NodeNotRunning`, `OperationTimeout`,
    `MachineRefused`; nothing is under way then.
    """
    import trio  # loaded late: `--help` must be quick

    backend = backend_named(cluster.backend)
    with state.locked(cluster.name, lambda _: None):  # the watchdog ends it under the same lock
        if not STORE.has(cluster, stopped.id):
            raise OperationTimeout(
                f"the lease of {stopped.lease_ms} ms was over before node {stopped.node} was struck;"
                " nothing was done",
                next_step="take a longer --lease",
                definite=True,
            )
        stopped = replace(stopped, until=time.time() + stopped.lease_ms / 1000, struck=True)
        STORE.put(cluster, stopped)
        try:
            if stopped.kind in PAUSING:
                backend.pause(cluster, stopped.node, stopped.partition)
            elif stopped.kind == "flip":  # in peace: what is damaged next is at rest
                trio.run(backend.stop, cluster, [stopped.node], STOP_TIMEOUT_S)
            else:
                trio.run(backend.kill, cluster, stopped.node)
        except EventStreamError:
            STORE.remove(cluster, stopped.id)
            raise
    return stopped


def active(cluster: Cluster) -> list[StoppedNode]:
    """Those that are under way."""
    return [one for one in STORE.all(cluster) if one.struck]


def heal(
    cluster: Cluster, ids: Collection[str] = (), only: int | None = None
) -> tuple[list[StoppedNode], EventStreamError | None]:
    """End those that belong to these ids, or all, now; and why one of them could not be ended.

    `only`: those of one of several partitions; a whole node that was stopped is not one.
    """
    ended, failure = [], None
    for one in STORE.all(cluster):
        meant = only is None or one.partition == only
        if meant and (not ids or any(belongs(one.id, to) for to in ids)):
            try:
                end(cluster, one)
                ended += [one] if one.struck else []
            except EventStreamError as error:
                failure = error
    return ended, failure


def end(cluster: Cluster, stopped: StoppedNode) -> None:
    """Let the node go on, if the note is still there, and not of a node that was struck only now.

    A node of a cluster that was stopped stays stopped.
    """
    import trio  # loaded late: `--help` must be quick

    if not STORE.has(cluster, stopped.id):
        return
    with state.locked(cluster.name, lambda _: None):
        noted = STORE.get(cluster, stopped.id)
        if noted is not None and noted.struck and not stopped.struck:
            return
        if not STORE.has(cluster, stopped.id):
            return
        backend = backend_named(cluster.backend)
        states = {process.node.id: process.state for process in backend.nodes(cluster)}
        if not stopped.struck:
            pass  # whoever was about to is gone
        elif stopped.kind in PAUSING:
            with suppress(NodeNotRunning):
                backend.resume(cluster, stopped.node, stopped.partition)
        elif any(one is not RunState.DOWN for one in states.values()):
            trio.run(backend.start, cluster, [stopped.node], START_TIMEOUT_S)
        STORE.remove(cluster, stopped.id)
