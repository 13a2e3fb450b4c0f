"""What `esctl fault` answers under `-o json`: the types of its data.

A strike has three ends: it was planned, it was set and nobody looked (after Ctrl-C), or what each node shows
was looked at. Types only; imported by nothing at run time.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from esctl.chaos.atrest import DamageData
from esctl.chaos.coverage import CoverageData
from esctl.chaos.effect import EffectVerdict, NodeEffectData
from esctl.chaos.storm import StormData
from esctl.chaos.stormrun import StormFaultData
from esctl.cli.guard import QuorumChangeData
from esctl.faults.nodeorders import NodeFaultData, OrderData
from esctl.faults.partitionshapes import PartitionData
from esctl.ui.values import ClusterName, Count, Milliseconds, NodeId, Verdict

# --- strikes -------------------------------------------------------------------------------------


class StrikeData(TypedDict):
    """A fault, and how long its lease is."""

    cluster: ClusterName
    fault: str
    lease_ms: Count
    partition: NotRequired[Annotated[Count, "The one of several that is struck; without it, all"]]


class Planned(TypedDict):
    """It was not done."""

    dry_run: Literal[True]


class Judged(TypedDict):
    """What each node shows, and who leads then."""

    effect: EffectVerdict
    nodes: list[NodeEffectData]
    leader_after: Annotated[NodeId | None, "null where several partitions have several"]
    term_after: int | None


class OneNode(TypedDict):
    """The node that is struck, and what becomes of the quorum."""

    node: NodeId
    quorum: QuorumChangeData


class NodeStrike(StrikeData, OneNode):
    """A node that was killed or paused."""


class PlannedNodeStrike(NodeStrike, Planned):
    """A node that would be killed or paused."""


class JudgedNodeStrike(NodeStrike, Judged):
    """A node that was killed or paused, and what is seen of that."""


class Freeze(StrikeData):
    """Nodes that were frozen at once."""

    struck: list[NodeId]
    quorum: QuorumChangeData


class PlannedFreeze(Freeze, Planned):
    """Nodes that would be frozen at once."""


class JudgedFreeze(Freeze, Judged):
    """Nodes that were frozen at once, and what is seen of that."""


class NodeOrderStrike(NodeStrike):
    """A fault that a node was told to have."""

    orders: list[OrderData]


class PlannedNodeOrderStrike(NodeOrderStrike, Planned):
    """A fault that a node would be told to have."""


class JudgedNodeOrderStrike(NodeOrderStrike, Judged):
    """A fault that a node was told to have, and what is seen of it."""


class Cut(PartitionData):
    """How nodes are cut off from each other."""

    leader: Annotated[NodeId | None, "Who led before"]


class CutStrike(StrikeData, Cut):
    """Nodes that were cut off from each other."""

    orders: list[OrderData]


class PlannedCutStrike(CutStrike, Planned):
    """Nodes that would be cut off from each other."""


class JudgedCutStrike(CutStrike, Judged):
    """Nodes that were cut off from each other, and what is seen of that."""


class StruckLinks(PartitionData):
    """StruckLinks, each from a node to another, and what of them is cut."""

    links: list[tuple[NodeId, NodeId]]


class LinkStrike(StrikeData, StruckLinks):
    """StruckLinks that were made unreliable."""

    orders: list[OrderData]


class PlannedLinkStrike(LinkStrike, Planned):
    """StruckLinks that would be made unreliable."""


class JudgedLinkStrike(LinkStrike, Judged):
    """StruckLinks that were made unreliable, and what is seen of that."""


class DamageStrike(OneNode):
    """A node whose files are to be damaged, and that was perhaps not come to."""

    cluster: ClusterName
    fault: str
    lease_ms: Annotated[None, "It is no state"]
    partition: NotRequired[Annotated[Count, "The one of several whose log is damaged"]]


class PlannedDamageStrike(DamageStrike, Planned):
    """A node whose files would be damaged."""


class DamagedStrike(DamageStrike):
    """A node whose files were damaged."""

    damage: DamageData


class JudgedDamageStrike(DamagedStrike, Judged):
    """A node whose files were damaged, and whether it is whole again."""


# --- what is active ------------------------------------------------------------------------------


class FaultsAnswer(TypedDict):
    """The active faults, and the nodes that allow any."""

    cluster: ClusterName
    allowed: list[NodeId]
    faults: list[NodeFaultData]


class PlannedHealAnswer(TypedDict):
    """The faults that would be ended."""

    cluster: ClusterName
    dry_run: Literal[True]
    faults: list[NodeFaultData]


class HealAnswer(TypedDict):
    """The faults that were ended; `silent` are the nodes that gave no answer."""

    cluster: ClusterName
    healed: list[NodeFaultData]
    silent: list[NodeId]
    recovered: bool


class CoverageAnswer(TypedDict):
    """Which faults the cluster has met in its life."""

    cluster: ClusterName
    faults: list[CoverageData]
    never: list[str]
    no_hit: list[str]


# --- storms --------------------------------------------------------------------------------------


class StormQuorum(TypedDict):
    """How many nodes a storm takes away at its worst moment."""

    needed: Count
    total: Count
    worst_struck: Count
    kept: bool


class InterruptedStormAnswer(TypedDict):
    """The storm that was interrupted."""

    storm: StormData


class StormHead(InterruptedStormAnswer):
    """A storm, and what it does to a cluster."""

    cluster: ClusterName
    quorum: StormQuorum


class PlannedStormAnswer(StormHead, Planned):
    """The storm that would be raised."""


class StormAnswer(StormHead):
    """What became of each fault, and of the events that were sent meanwhile."""

    verdict: Verdict
    faults: list[StormFaultData]
    sent: Count
    acked: Count
    errors: Annotated[dict[str, Count], "Events without an ack, by the code of the error"]
    longest_gap_ms: Milliseconds | None
    acked_lost: Count | None
    duplicates: Count | None
    hashes_equal: bool | None
