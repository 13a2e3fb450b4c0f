"""Which cluster a client belongs to: the one that it names, or the one of the first node that answers.

The client remembers it as long as it lives. If another cluster answers later at the same addresses, a new or
a restored one, offsets and acks of this cluster mean nothing there, so the client gets an error. The same
goes for the partition that a connection is for. Shared by all connections of one client to one partition.
"""

from collections.abc import Callable
from dataclasses import dataclass

from esnode.errors import PartitionNeeded, WrongCluster
from esnode.messages import Welcome


@dataclass(slots=True)
class Identity:
    """The name of the client's cluster, empty until it is known."""

    cluster: str


class ClusterPin:
    """The identity of one client's cluster, and the partition that is meant.

    Without a partition the cluster must not have several. `learn` is told of the ring of each node that
    answers: its version, and how many partitions it has.
    """

    def __init__(
        self,
        cluster: str | Identity,
        partition: int | None = None,
        learn: Callable[[int, int], None] = lambda _version, _partitions: None,
    ) -> None:
        self.partition = partition
        self.learn = learn
        self._identity = Identity(cluster) if isinstance(cluster, str) else cluster

    @property
    def cluster(self) -> str:
        """Its name; empty while it is not known."""
        return self._identity.cluster

    def for_partition(self, partition: int | None) -> "ClusterPin":
        """The same cluster, and another partition."""
        return ClusterPin(self._identity, partition, self.learn)

    def check(self, welcome: Welcome) -> None:
        """Keep to the cluster of a node that has answered.

        Raises `WrongCluster` for another one, and `PartitionNeeded`.
        """
        self._identity.cluster = self.cluster or welcome.cluster
        if welcome.cluster != self.cluster:
            raise WrongCluster(
                f"node {welcome.node_id} belongs to {welcome.cluster!r}, not to {self.cluster!r}"
            )
        if self.partition is None and welcome.partitions > 1:
            raise PartitionNeeded(f"{self.cluster!r} has the partitions 0 to {welcome.partitions - 1}")
        self.learn(welcome.ring_version, welcome.partitions)
