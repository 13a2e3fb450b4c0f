"""What `esctl cluster` and `esctl node` answer under `-o json`: the types of their data.

Types only. Imported by nothing at run time: by the two commands, and by `report.py`, for the type checker.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from esctl.cli.guard import QuorumChangeData
from esctl.clusters.backends.interface import RunState
from esctl.query.survey import QuorumData
from esctl.ui.values import Address, BackendName, ClusterName, Count, FilePath, NodeId, Seconds

# --- whole clusters ------------------------------------------------------------------------------


class NodeProcessData(TypedDict):
    """A node and its process."""

    id: NodeId
    pid: int | None
    state: RunState
    address: Address
    peer_address: Address
    data_dir: FilePath
    log: FilePath


class PartitionLeaderData(TypedDict):
    """A partition and who leads it."""

    id: Count
    leader: NodeId


class StartedAnswer(TypedDict):
    """A cluster that is up; with several partitions, each has a leader of its own."""

    name: ClusterName
    identity: str
    backend: BackendName
    storage: str
    data_dir: FilePath
    nodes: list[NodeProcessData]
    leader: Annotated[NodeId | None, "null with several partitions"]
    partitions: NotRequired[list[PartitionLeaderData]]


class PlannedClusterAnswer(TypedDict):
    """The cluster that would be made."""

    name: ClusterName
    dry_run: Literal[True]
    backend: BackendName
    data_dir: FilePath
    addresses: list[Address]
    partitions: NotRequired[Count]


class PlannedStartAnswer(TypedDict):
    """The nodes that would be started."""

    name: ClusterName
    dry_run: Literal[True]
    nodes: list[NodeId]
    quorum: QuorumChangeData


class PlannedStopAnswer(PlannedStartAnswer):
    """The nodes that would be stopped."""


class StoppedAnswer(TypedDict):
    """The nodes that were stopped; `killed` did not end when asked to."""

    name: ClusterName
    nodes: list[NodeId]
    quorum: QuorumChangeData
    killed: list[NodeId]


class PlannedRestartAnswer(TypedDict):
    """What a restart of all nodes at once would do."""

    name: ClusterName
    rolling: Literal[False]
    quorum: QuorumChangeData
    dry_run: Literal[True]


class RestartedAnswer(StartedAnswer):
    """A cluster that is up again after all nodes were stopped at once."""

    rolling: Literal[False]
    quorum: QuorumChangeData


class RollingData(TypedDict):
    """A restart of one node after the other, and the order."""

    name: ClusterName
    rolling: Literal[True]
    order: list[NodeId]
    quorum: QuorumData


class PlannedRollingAnswer(RollingData):
    """What a rolling restart would do, and wait for first."""

    waits_for: list[str]
    dry_run: Literal[True]


class RestartStepData(TypedDict):
    """A node that was restarted; `led` before its turn, `leader` afterwards."""

    id: NodeId
    pid: int
    led: bool
    led_partitions: NotRequired[list[Count]]
    leader: Annotated[NodeId | None, "null with several partitions"]
    killed: bool
    seconds: Seconds


class RollingAnswer(RollingData):
    """How far a rolling restart has come."""

    done: list[RestartStepData]
    left: list[NodeId]


class PlannedDestructionAnswer(TypedDict):
    """What would be deleted."""

    name: str
    dry_run: Literal[True]
    deleted: list[FilePath]


class DestroyedAnswer(TypedDict):
    """What was deleted, and what lay beside it and is still there."""

    name: str
    deleted: list[FilePath]
    kept: list[FilePath]


class PlannedRecoveryAnswer(TypedDict):
    """What a recovery would do, and what would be lost."""

    name: ClusterName
    dry_run: Literal[True]
    would_start: list[NodeId]
    loss: str
    quorum: QuorumChangeData


class RecoveredAnswer(TypedDict):
    """The cluster that goes on with one node's log; `tried` says what became of each other node's start."""

    name: ClusterName
    identity: str
    epoch: int
    leader: NodeId
    from_node: NodeId
    next_offset: Count
    known_offset: Count
    events: Count
    entries_beyond_commit: Count
    backup: FilePath
    tried: dict[str, str]
    aside: list[FilePath]


class ClusterRow(TypedDict):
    """A cluster of this machine."""

    name: ClusterName
    running: Count
    nodes: Count
    backend: BackendName
    storage: str
    created: str
    data_dir: FilePath
    addresses: list[Address]


class ClustersAnswer(TypedDict):
    """The clusters of this machine."""

    clusters: list[ClusterRow]


class LeaderlessAnswer(TypedDict):
    """The cluster of which nobody leads when the time is over."""

    name: ClusterName


class WaitAnswer(LeaderlessAnswer):
    """Who leads, and how long that took."""

    leader: Annotated[NodeId | None, "null with several partitions"]
    partitions: NotRequired[list[PartitionLeaderData]]
    seconds: Seconds


# --- single nodes --------------------------------------------------------------------------------


class NodeRow(NodeProcessData):
    """A configured node, its process, and what that takes."""

    rss_bytes: Count | None
    uptime_s: Seconds | None


class NodesAnswer(TypedDict):
    """Every configured node."""

    name: ClusterName
    nodes: list[NodeRow]


class NodeData(TypedDict):
    """One node, and what becomes of the quorum."""

    cluster: ClusterName
    id: NodeId
    quorum: QuorumChangeData


class NodeChangeAnswer(NodeData):
    """A node whose process was changed."""

    pid: int | None


class NodeStopAnswer(NodeChangeAnswer):
    """A node that was stopped, and whether it had to be killed for that."""

    killed: bool


class PlannedNodeChangeAnswer(NodeChangeAnswer):
    """A node whose process would be changed."""

    dry_run: Literal[True]


class PlannedDrainAnswer(NodeData):
    """What a drain would do, and wait for first."""

    leads: bool
    led_partitions: NotRequired[list[Count]]
    waits_for: list[str]
    dry_run: Literal[True]


class DrainedAnswer(NodeData):
    """A node that is out of service, and who leads now."""

    leader: Annotated[NodeId | None, "null with several partitions"]
    partitions: NotRequired[list[PartitionLeaderData]]
    handed_over: bool
    led_partitions: NotRequired[list[Count]]
    killed: bool
    seconds: Seconds


class PlannedReplacementAnswer(NodeData):
    """What a replacement would do, and wait for first."""

    old: FilePath
    data_dir: FilePath
    waits_for: list[str]
    dry_run: Literal[True]


class ReplacedAnswer(NodeData):
    """A node that votes again, with a log that it fetched from the others."""

    pid: int
    old: FilePath | None
    discarded: bool
    handed_over: bool
    events: Count
    seconds: Seconds
    hashes_equal: bool | None
    hash: Annotated[str | None, "null with several partitions"]
    partition_hashes: NotRequired[list[str | None]]
