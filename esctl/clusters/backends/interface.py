"""What a backend can do with a cluster: the verbs of `esctl cluster` and `esctl node`.

The same drills and measurements run on any backend that has these. A backend never decides what a
cluster looks like (that is `esctl/clusters/state.py`) and never prints. Called by the commands.
"""

import enum
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final, Protocol

from esctl.clusters.state import Cluster, Node
from esctl.ui.values import BackendName
from esnode.config import Ancestor, Dedup, Retention
from esnode.dataclass import dataclass

ANSWER_TIMEOUT_S: Final = 2.0
"""How long a node may take to answer a question before it counts as down.

A thousand times what it takes on a quiet machine: a node that is called down on a busy one is a false alarm.
"""


class RunState(enum.StrEnum):
    """What the operating system says of a node; the node's own view is in `esctl status`."""

    RUNNING = "running"
    PAUSED = "paused"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """A node of the cluster and its process, if it has one.

    With several partitions that is the supervisor of theirs, and the memory is that of all of them.
    """

    node: Node
    state: RunState
    pid: int | None
    rss_bytes: int | None
    """Resident memory; None when the node is down."""
    uptime_s: float | None


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What `cluster up` can say about every node's configuration."""

    storage: str = "sqlite"
    log_level: str = "info"
    faults: bool = False
    """Whether nodes may be broken on purpose."""
    dedup: Dedup = field(default_factory=Dedup)
    retention: Retention = field(default_factory=Retention)
    ancestors: tuple[Ancestor, ...] = ()
    """Of a cluster that is restored from a backup."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node listens, `host:port` each."""

    client: str
    peer: str


Ready = Callable[[Node, int], Awaitable[bool]]
"""Does the node answer, for each of so many partitions? Asked again until it does or its process ends."""
Cut = tuple[int, int]
"""What the first node sends does not reach the second."""


class Links(Protocol):
    """Real links between nodes, where a backend has them. Whoever cuts them must see to it that they are
    mended: no node can. All methods raise `NetworkRefused`."""

    def cut(self, cluster: Cluster, cuts: Collection[Cut]) -> None:
        """Lose what the first of each pair sends to the second, without a word to either."""

    def mend(self, cluster: Cluster, cuts: Collection[Cut]) -> None:
        """End those of the cuts that are there."""

    def cuts(self, cluster: Cluster) -> frozenset[Cut]:
        """The cuts that are there now. A cluster that was stopped has none."""

    def carries(self, cluster: Cluster, source: int, destination: int) -> bool:
        """Does what one node's machine sends reach the other's? Waits a moment before it says no."""


class Backend(Protocol):
    """Runs the nodes of clusters. Async methods run under trio and may be cancelled."""

    name: BackendName
    links: Links | None
    """Without real links, nodes are told to lose messages (see `esctl/faults`)."""

    def addresses(self, count: int, base_port: int | None = None) -> list[Address]:
        """Where the nodes of a new cluster would listen. Raises `PortTaken`."""

    def check_free(self, cluster: Cluster, options: NodeOptions) -> None:
        """Raises `DirectoryTaken` when one of the cluster's places is not free, `EngineMissing`.

        Raises `InvalidArgument` for a place that no configuration can name.
        """

    def create(self, cluster: Cluster, options: NodeOptions) -> None:
        """Write the nodes' configuration files and directories.

        Raises `DirectoryTaken` when something is there already, `InvalidConfig`; nothing is left then.
        """

    async def start(
        self, cluster: Cluster, numbers: Collection[int], timeout_s: float, options: Sequence[str] = ()
    ) -> list[NodeProcess]:
        """Start those of the nodes that are down, and wait until all of them answer.

        `options` are options of `esnode` for this one start: what the operator says of the data directory.
        Raises `PortTaken` and `NodeFilesGone` before anything is started, `NodeFailedToStart` with the tail
        of the log, `NodeNotReady`. Nodes that did start go on.
        """

    async def stop(self, cluster: Cluster, numbers: Collection[int], timeout_s: float) -> list[int]:
        """Ask the nodes to end, wait, and kill what still lives after `timeout_s`.

        The numbers of the nodes that had to be killed.
        """

    async def kill(self, cluster: Cluster, number: int) -> int:
        """End a node without warning (SIGKILL), and wait until it is gone; its pid."""

    def pause(self, cluster: Cluster, number: int) -> int:
        """Stop a node's clock and work (SIGSTOP); its pid."""

    def resume(self, cluster: Cluster, number: int) -> int:
        """Let a paused node go on (SIGCONT); its pid."""

    def nodes(self, cluster: Cluster) -> list[NodeProcess]:
        """Every configured node, a row each, always."""

    def destroy(self, cluster: Cluster) -> list[Path]:
        """Delete the nodes' files; what could not be deleted. Raises `NodesAlive` unless they are down."""

    def log_path(self, cluster: Cluster, number: int) -> Path:
        """The file with the node's log, JSON lines."""
