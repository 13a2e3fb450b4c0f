"""Every partition of a cluster asked at the same time how it is, and what the answers say of the whole.

A cluster of one partition is a ring of one. Decides what is said of the cluster where its partitions differ:
the worst of them counts. Changes nothing and never prints. Called by `status`, `status health`, `ring`,
`leader`, `dedup` and the guards of `node`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain, count
from typing import Any, TypedDict, TypeVar

import trio

from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument
from esctl.faults.nodeorders import FaultData
from esctl.query import survey as surveys
from esctl.query.survey import Report, Survey
from esctl.ui.formatting import shared
from esctl.ui.values import Count, NodeId
from esnode.dataclass import dataclass
from esnode.ring import FIRST_VERSION, Ring

T = TypeVar("T")


class RingData(TypedDict):
    """The ring that the nodes go by."""

    version: Count
    partitions: Count
    moving: bool


class PartitionLeader(TypedDict):
    """A partition, who leads it, and whether it takes events."""

    id: Count
    leader: NodeId | None
    held: bool


@dataclass(frozen=True, slots=True)
class RingSurvey:
    """A survey of each partition, by their numbers; or of one of them only."""

    cluster: Cluster
    partitions: Sequence[Survey]

    @property
    def ring(self) -> Ring:
        """Who owns which part of the circle."""
        said = self.ring_data()
        return Ring(said["version"], range(said["partitions"]))

    @property
    def shares(self) -> dict[int, float]:
        """How much of the circle each partition owns; 0 where only its log is left, after a shrink."""
        return dict.fromkeys(range(self.cluster.partitions), 0.0) | self.ring.shares()

    @property
    def since(self) -> dict[int, int]:
        """For each partition, where its log stood when it took up its ring, as far as any node tells."""
        return {
            survey.partition or 0: int(_said_of_ring(survey).get("since_offset", 0))
            for survey in self.partitions
        }

    @property
    def worst(self) -> Survey:
        """The partition of which the fewest more nodes may fail; without a leader it is worse still."""
        return min(self.partitions, key=lambda survey: (survey.serves, survey.may_fail, len(survey.up)))

    @property
    def alike(self) -> bool:
        """Can the same be said of every partition's majority?"""
        return len({survey.quorum_text for survey in self.partitions}) == 1

    @property
    def up(self) -> bool:
        """Does any process of any partition answer?"""
        return any(survey.up for survey in self.partitions)

    @property
    def down(self) -> dict[int, str]:
        """The nodes that do not answer for some partition, and why."""
        return {
            node.id: "; ".join(f"{where}{why}" for where, why in whys)
            for place, node in enumerate(self.cluster.nodes)
            if (whys := shared([_why(survey.reports[place]) for survey in self.partitions]))
        }

    @property
    def faults(self) -> list[FaultData]:
        """What the nodes are broken by on purpose; what one command has set may be there several times."""
        return [one for survey in self.partitions for report in survey.up for one in report.faults]

    @property
    def leader(self) -> int | None:
        """The node that leads, where it is the same one everywhere."""
        leaders = {survey.leader.node.id if survey.leader is not None else None for survey in self.partitions}
        return leaders.pop() if len(leaders) == 1 else None

    @property
    def only(self) -> int | None:
        """The one of several partitions that it is about; None where it is about all there are."""
        return self.partitions[0].partition if len(self.partitions) == 1 else None

    def survey(self, partition: int | None) -> Survey:
        """That of one partition."""
        return next(survey for survey in self.partitions if survey.partition == partition)

    @property
    def uncounted(self) -> frozenset[int]:
        """The nodes that run, and that some partition makes no majority with."""
        return frozenset().union(*(survey.uncounted for survey in self.partitions))

    @property
    def quorum_text(self) -> str:
        """For people."""
        if len(self.partitions) == 1:
            return self.worst.quorum_text
        worst = self.worst
        where = "in each partition" if self.alike else f"in partition {worst.partition}"
        return f"{where}, {worst.quorum_text}"

    @property
    def leader_text(self) -> str:
        """Who leads, or why nobody can, for people in half a sentence."""
        worst = self.worst
        if worst.may_fail < 0:
            return self.quorum_text
        if len(self.partitions) == 1:
            return "nobody leads" if worst.leader is None else f"node {worst.leader.node.id} leads"
        return "each partition has a leader" if worst.serves else f"nobody leads partition {worst.partition}"

    def leaders(self) -> list[PartitionLeader]:
        """For the JSON answer."""
        return [
            {
                "id": survey.partition or 0,
                "leader": survey.leader.node.id if survey.leader is not None else None,
                "held": survey.serves,
            }
            for survey in self.partitions
        ]

    def ring_data(self) -> RingData:
        """For the JSON answer: what the log of partition 0 says, as far as any node tells."""
        said = _said_of_ring(self.partitions[0])
        plan = said.get("plan")
        return {
            "version": int(said.get("version", FIRST_VERSION)),
            "partitions": int(said.get("partitions", self.cluster.partitions)),
            "moving": plan is not None and not plan["ended"],
        }


def _said_of_ring(survey: Survey) -> Mapping[str, Any]:
    """What the node that has applied the most says of the ring; nothing where none does."""
    told = [report.status for report in survey.up if report.status is not None and "ring" in report.status]
    newest = max(told, key=lambda status: int(status["ring"]["version"]), default=None)
    return {} if newest is None else dict(newest["ring"])


def _why(report: Report) -> list[str]:
    return [] if report.up else [report.why]


async def ring_of(cluster: Cluster) -> Ring:
    """The ring that the nodes go by, as far as any node tells."""
    if cluster.partitions == 1:
        return Ring(FIRST_VERSION, range(1))
    return (await ask(cluster, only=0)).ring


async def owner_of(cluster: Cluster, source: str) -> int | None:
    """The partition that owns the source; None where there is one partition."""
    return (await ring_of(cluster)).owner_of(source) if cluster.partitions > 1 else None


async def source_of(cluster: Cluster, partition: int | None, source: str) -> str:
    """A source that the partition owns: this one, or one of its name with a number behind it.

    Raises `InvalidArgument` where it owns none.
    """
    if partition is None:
        return source
    ring = await ring_of(cluster)
    if partition not in ring.partitions:
        raise InvalidArgument(
            f"partition {partition} of {cluster.name} owns no source: only its log is left; nothing was done",
            next_step=f"esctl ring show --cluster {cluster.name}",
        )
    names = chain([source], (f"{source}-{number}" for number in count(1)))
    return next(name for name in names if ring.owner_of(name) == partition)


def numbers(cluster: Cluster, only: int | None = None) -> Sequence[int | None]:
    """The partitions that a question is about: all, or `only` one of several.

    Where there is one partition, it is asked for without a number.
    """
    if cluster.partitions == 1:
        return [None]
    return range(cluster.partitions) if only is None else [only]


async def of_each(
    cluster: Cluster, ask_one: Callable[[int | None], Awaitable[T]], only: int | None = None
) -> list[T]:
    """Ask about every partition at the same time, or about `only` one; the answers, by number."""
    asked = numbers(cluster, only)
    if len(asked) == 1:
        return [await ask_one(asked[0])]
    found: dict[int | None, T] = {}

    async def keep(partition: int | None) -> None:
        found[partition] = await ask_one(partition)

    async with trio.open_nursery() as nursery:
        for partition in asked:
            nursery.start_soon(keep, partition)
    return [found[partition] for partition in asked]


async def ask(cluster: Cluster, timeout_s: float = ANSWER_TIMEOUT_S, only: int | None = None) -> RingSurvey:
    """Ask all nodes for all partitions, or for `only` one; takes no longer than `timeout_s` and a moment."""
    surveyed = await of_each(cluster, lambda each: surveys.ask(cluster, timeout_s, each), only)
    return RingSurvey(cluster, surveyed)


async def uncounted(cluster: Cluster) -> frozenset[int]:
    """The nodes that run now and do not count in some partition; see `Survey.uncounted`."""
    return (await ask(cluster)).uncounted
