"""Every partition of a cluster asked at the same time how it is, and what the answers say of the whole.

A cluster of one partition is a ring of one. Decides what is said of the cluster where its partitions differ:
the worst of them counts. Changes nothing and never prints. Called by `status`, `status health`, `ring`,
`leader`, `dedup` and the guards of `node`.
"""

from collections.abc import Hashable, Sequence
from typing import TypedDict, TypeVar

import trio

from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S
from esctl.clusters.state import Cluster
from esctl.query import survey as surveys
from esctl.query.survey import Survey
from esctl.ui.formatting import partitions_named
from esctl.ui.values import Count, NodeId
from esnode.dataclass import dataclass
from esnode.ring import FIRST_VERSION, Ring

H = TypeVar("H", bound=Hashable)


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
    """A survey of each partition, by their numbers."""

    cluster: Cluster
    partitions: Sequence[Survey]

    @property
    def ring(self) -> Ring:
        """Who owns which part of the circle."""
        return ring_of(self.cluster)

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

    def leaders(self) -> list[PartitionLeader]:
        """For the JSON answer."""
        return [
            {
                "id": number,
                "leader": survey.leader.node.id if survey.leader is not None else None,
                "held": survey.serves,
            }
            for number, survey in enumerate(self.partitions)
        ]

    def ring_data(self) -> RingData:
        """For the JSON answer. A ring changes only with the files of the nodes, so none is moving."""
        return {"version": FIRST_VERSION, "partitions": len(self.partitions), "moving": False}


def ring_of(cluster: Cluster) -> Ring:
    """The ring that the nodes of a cluster make of their setting."""
    return Ring(FIRST_VERSION, range(cluster.partitions))


async def ask(cluster: Cluster, timeout_s: float = ANSWER_TIMEOUT_S) -> RingSurvey:
    """Ask all nodes for all partitions; takes no longer than `timeout_s` and a moment."""
    if cluster.partitions == 1:
        return RingSurvey(cluster, [await surveys.ask(cluster, timeout_s)])
    found: dict[int, Survey] = {}

    async def ask_one(partition: int) -> None:
        found[partition] = await surveys.ask(cluster, timeout_s, partition)

    async with trio.open_nursery() as nursery:
        for partition in range(cluster.partitions):
            nursery.start_soon(ask_one, partition)
    return RingSurvey(cluster, [found[partition] for partition in range(cluster.partitions)])


async def uncounted(cluster: Cluster) -> frozenset[int]:
    """The nodes that run now and do not count in some partition; see `Survey.uncounted`."""
    return (await ask(cluster)).uncounted


def without_why(text: str) -> str:
    """The same, where it says to ask `why`, which does not know partitions yet: with the logs instead."""
    return text.replace("esctl why", "esctl logs --level warning")


def shared(said: Sequence[Sequence[H]]) -> list[tuple[str, H]]:
    """What is said of each partition, once each, in order, with the words for which partitions it is said of.

    Those are empty where it is said of all.
    """
    by_text: dict[H, list[int]] = {}
    for partition, texts in enumerate(said):
        for text in dict.fromkeys(texts):
            by_text.setdefault(text, []).append(partition)
    return [
        ("" if len(numbers) == len(said) else f"{partitions_named(numbers)}: ", text)
        for text, numbers in by_text.items()
    ]
