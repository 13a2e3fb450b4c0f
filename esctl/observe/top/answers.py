"""What `esctl top` says under `-o json`, a look a line or with --once: the types of that."""

from typing import TYPE_CHECKING, NotRequired, TypedDict

from esctl.clusters.backends.interface import RunState
from esctl.ui.values import ClusterName, Count, NodeId

if TYPE_CHECKING:
    from esctl.query.survey import QuorumData


class TopRow(TypedDict):
    """A node at one look."""

    id: NodeId
    up: bool
    state: RunState
    role: str | None
    events_per_s: float | None
    lag_events: int | None
    next_offset: Count | None
    rss_bytes: Count | None
    cpu_percent: float | None
    faults: list[str]


class TopPartition(TypedDict):
    """One of several partitions at one look."""

    id: Count
    leader: NodeId | None
    held: bool
    events_per_s: float | None


class TopAnswer(TypedDict):
    """The figures of one look; with several partitions, those of `partition`, and a few of each."""

    cluster: ClusterName
    partition: NotRequired[Count]
    partitions: NotRequired[list[TopPartition]]
    leader: NodeId | None
    term: Count | None
    quorum: "QuorumData"
    events_per_s: float | None
    append_p50_ms: float | None
    append_p99_ms: float | None
    read_ms: float | None
    faults: list[str]
    nodes: list[TopRow]


class TopRecord(TopAnswer):
    """The same, and when."""

    time: str
