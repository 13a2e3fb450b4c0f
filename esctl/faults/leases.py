"""Nodes ended or paused for a while: a watchdog, a process of its own, ends that when the lease is over.

A node that is paused or dead cannot end its own fault, and `esctl` may be gone by then: the watchdog is in a
session of its own, and there before the node is struck. A note in the cluster's directory says what is
under way; without it the watchdog has nothing to do, and nobody is struck. Only the machine's end takes the
watchdog with it, and with it the paused node. Called by `esctl fault` and by `watchdog.py`.
"""

import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import esnode
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import Cluster
from esctl.errors import MachineRefused, NodeNotRunning
from esctl.faults.orders import belongs
from esnode.errors import EventStreamError, OperationTimeout

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
READY: Final = b"ready\n"
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

    def as_data(self) -> dict[str, Any]:
        """In the words of the nodes' own faults."""
        return {
            "id": self.id,
            "kind": self.kind,
            "peers": [],
            "direction": "",
            "parameters": {},
            "lease_ms": self.lease_ms,
            "left_ms": max(0, round((self.until - time.time()) * 1000)),
            "hits": 1,
        }


def begin(cluster: Cluster, fault: str, kind: str, node: int, lease_ms: int) -> StoppedNode:
    """Leave the note and start the watchdog; then `strike`. Raises `MachineRefused`."""
    return begin_all(cluster, {node: fault}, kind, lease_ms)[0]


def begin_all(cluster: Cluster, faults: Mapping[int, str], kind: str, lease_ms: int) -> list[StoppedNode]:
    """The same for several nodes, by number; all watchdogs are there when it returns."""
    until = time.time() + lease_ms / 1000
    begun = [StoppedNode(fault, kind, node, lease_ms, until) for node, fault in faults.items()]
    waiting: list[int] = []
    try:
        for stopped in begun:
            _leave_note(cluster, stopped)
            waiting.append(_spawn_watchdog(cluster, stopped.id))
        while waiting:
            _wait_ready(waiting.pop())
    except (OSError, MachineRefused) as error:
        for stopped in begun:
            _path(cluster, stopped.id).unlink(missing_ok=True)
        for descriptor in waiting:
            os.close(descriptor)
        raise MachineRefused(f"no watchdog could be started, so nothing was done: {error}") from error
    return begun


def strike(cluster: Cluster, stopped: StoppedNode) -> StoppedNode:
    """End or pause the node, unless its lease is over: then nobody would end that any more.

    The lease begins now; its watchdog goes by the note. Raises `NodeNotRunning`, `OperationTimeout`,
    `MachineRefused`; nothing is under way then.
    """
    import trio  # loaded late: `--help` must be quick

    path, backend = _path(cluster, stopped.id), backend_named(cluster.backend)
    with state.locked(cluster.name, lambda _: None):  # the watchdog ends it under the same lock
        if not path.exists():
            raise OperationTimeout(
                f"the lease of {stopped.lease_ms} ms was over before node {stopped.node} was struck;"
                " nothing was done",
                next_step="take a longer --lease",
                definite=True,
            )
        stopped = replace(stopped, until=time.time() + stopped.lease_ms / 1000, struck=True)
        _leave_note(cluster, stopped)
        try:
            if stopped.kind in PAUSING:
                backend.pause(cluster, stopped.node)
            elif stopped.kind == "flip":  # in peace: what is damaged next is at rest
                trio.run(backend.stop, cluster, [stopped.node], STOP_TIMEOUT_S)
            else:
                trio.run(backend.kill, cluster, stopped.node)
        except EventStreamError:
            path.unlink(missing_ok=True)
            raise
    return stopped


def active(cluster: Cluster) -> list[StoppedNode]:
    """Those that are under way."""
    return [one for one in _noted(cluster) if one.struck]


def note_of(cluster: Cluster, fault: str) -> StoppedNode | None:
    """The note of one; None when it has ended."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        return StoppedNode(**json.loads(_path(cluster, fault).read_text(encoding="utf-8")))
    return None


def heal(cluster: Cluster, ids: Collection[str] = ()) -> tuple[list[StoppedNode], EventStreamError | None]:
    """End those that belong to these ids, or all, now; and why one of them could not be ended."""
    ended, failure = [], None
    for one in _noted(cluster):
        if not ids or any(belongs(one.id, to) for to in ids):
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

    path = _path(cluster, stopped.id)
    if not path.exists():
        return
    with state.locked(cluster.name, lambda _: None):
        noted = note_of(cluster, stopped.id)
        if noted is not None and noted.struck and not stopped.struck:
            return
        if not path.exists():
            return
        backend = backend_named(cluster.backend)
        states = {process.node.id: process.state for process in backend.nodes(cluster)}
        if not stopped.struck:
            pass  # whoever was about to is gone
        elif stopped.kind in PAUSING:
            with suppress(NodeNotRunning):
                backend.resume(cluster, stopped.node)
        elif any(one is not RunState.DOWN for one in states.values()):
            trio.run(backend.start, cluster, [stopped.node], START_TIMEOUT_S)
        path.unlink(missing_ok=True)


def _noted(cluster: Cluster) -> list[StoppedNode]:
    names = [path.stem for path in sorted(_directory(cluster).glob("*.json"))]
    return [one for one in (note_of(cluster, name) for name in names) if one is not None]


def _leave_note(cluster: Cluster, stopped: StoppedNode) -> None:
    state.write_atomically(_path(cluster, stopped.id), json.dumps(asdict(stopped)) + "\n")


def start_watchdog(cluster: Cluster, fault: str) -> None:
    """Start the watchdog of a fault whose note is there; returns once it says that it is too.

    Raises `MachineRefused`, `OSError`.
    """
    _wait_ready(_spawn_watchdog(cluster, fault))


def _spawn_watchdog(cluster: Cluster, fault: str) -> int:
    """The descriptor on which the watchdog says that it is there."""
    ours, theirs = os.pipe()
    package_root = str(Path(esnode.__file__).resolve().parent.parent)
    search = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    words = ["-m", "esctl.faults.watchdog", cluster.name, fault]
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, *words],
            {**os.environ, "PYTHONPATH": search},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setsid=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return ours


def _wait_ready(descriptor: int) -> None:
    with os.fdopen(descriptor, "rb") as said:
        if said.readline() != READY:
            raise MachineRefused("it ended at once")


def _directory(cluster: Cluster) -> Path:
    return cluster.directory / "faults"


def _path(cluster: Cluster, fault: str) -> Path:
    return _directory(cluster) / f"{fault}.json"
