"""Nodes killed or paused for a while: a keeper, a process of its own, ends that when the lease is over.

A node that is paused or dead cannot end its own fault, and `esctl` may be gone by then: the keeper is in a
session of its own, and there before the node is struck. A note in the cluster's directory says what is
under way; without it the keeper has nothing to do, and nobody is struck. Only the machine's end takes the
keeper with it, and with it the paused node. Called by `esctl fault` and by `keeper.py`.
"""

import json
import os
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import esnode
from esctl import state
from esctl.backends import backend_named
from esctl.backends.interface import RunState
from esctl.errors import MachineRefused, NodeNotRunning
from esctl.faults.orders import belongs
from esctl.state import Cluster
from esnode.errors import EventStreamError, OperationTimeout

START_TIMEOUT_S: Final = 30.0
READY: Final = b"ready\n"


@dataclass(frozen=True, slots=True)
class StoppedNode:
    """A node that was killed or paused, until when (seconds since 1970)."""

    id: str
    kind: str
    """`kill` or `pause`."""
    node: int
    lease_ms: int
    until: float

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
    """Leave the note and start the keeper; then `strike`. Raises `MachineRefused`."""
    stopped = StoppedNode(fault, kind, node, lease_ms, time.time() + lease_ms / 1000)
    state.write_atomically(_path(cluster, fault), json.dumps(asdict(stopped)) + "\n")
    try:
        start_keeper(cluster, fault)
    except (OSError, MachineRefused) as error:
        _path(cluster, fault).unlink(missing_ok=True)
        raise MachineRefused(f"no keeper could be started, so nothing was done: {error}") from error
    return stopped


def strike(cluster: Cluster, stopped: StoppedNode) -> None:
    """Kill or pause the node, unless its lease is over: then nobody would end that any more.

    Raises `NodeNotRunning`, `OperationTimeout`, `MachineRefused`; nothing is under way then.
    """
    import trio  # loaded late: `--help` must be quick

    path, backend = _path(cluster, stopped.id), backend_named(cluster.backend)
    with state.locked(cluster.name, lambda _: None):  # the keeper ends it under the same lock
        if not path.exists():
            raise OperationTimeout(
                f"the lease of {stopped.lease_ms} ms was over before node {stopped.node} was struck;"
                " nothing was done",
                next_step="take a longer --lease",
                definite=True,
            )
        try:
            if stopped.kind == "pause":
                backend.pause(cluster, stopped.node)
            else:
                trio.run(backend.kill, cluster, stopped.node)
        except EventStreamError:
            path.unlink(missing_ok=True)
            raise


def active(cluster: Cluster) -> list[StoppedNode]:
    """Those that are under way."""
    found = []
    for path in sorted(_directory(cluster).glob("*.json")):
        with suppress(FileNotFoundError, ValueError, TypeError):  # it has just ended
            found.append(StoppedNode(**json.loads(path.read_text(encoding="utf-8"))))
    return found


def heal(cluster: Cluster, ids: Collection[str] = ()) -> tuple[list[StoppedNode], EventStreamError | None]:
    """End those that belong to these ids, or all, now; and why one of them could not be ended."""
    ended, failure = [], None
    for one in active(cluster):
        if not ids or any(belongs(one.id, to) for to in ids):
            try:
                end(cluster, one)
                ended.append(one)
            except EventStreamError as error:
                failure = error
    return ended, failure


def end(cluster: Cluster, stopped: StoppedNode) -> None:
    """Let the node go on, if the note is still there. A node of a cluster that was stopped stays stopped."""
    import trio  # loaded late: `--help` must be quick

    path = _path(cluster, stopped.id)
    if not path.exists():
        return
    with state.locked(cluster.name, lambda _: None):
        if not path.exists():
            return
        backend = backend_named(cluster.backend)
        states = {process.node.id: process.state for process in backend.nodes(cluster)}
        if stopped.kind == "pause":
            with suppress(NodeNotRunning):
                backend.resume(cluster, stopped.node)
        elif any(one is not RunState.DOWN for one in states.values()):
            trio.run(backend.start, cluster, [stopped.node], START_TIMEOUT_S)
        path.unlink(missing_ok=True)


def is_active(cluster: Cluster, fault: str) -> bool:
    """Is the note still there?"""
    return _path(cluster, fault).exists()


def start_keeper(cluster: Cluster, fault: str) -> None:
    """Start the keeper of a fault whose note is there; returns once it says that it is too.

    Raises `MachineRefused`, `OSError`.
    """
    ours, theirs = os.pipe()
    package_root = str(Path(esnode.__file__).resolve().parent.parent)
    search = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    words = ["-m", "esctl.faults.keeper", cluster.name, fault]
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
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as said:
        if said.readline() != READY:
            raise MachineRefused("it ended at once")


def _directory(cluster: Cluster) -> Path:
    return cluster.directory / "faults"


def _path(cluster: Cluster, fault: str) -> Path:
    return _directory(cluster) / f"{fault}.json"
