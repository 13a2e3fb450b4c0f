"""Which cluster a client belongs to: the one that it names, or the one of the first node that answers.

The client remembers it as long as it lives. If another cluster answers later at the same addresses, a new or
a restored one, offsets and acks of this cluster mean nothing there, so the client gets an error. The same
goes for the partition that the client is for. Shared by all connections of one client.
"""

from esnode.errors import PartitionNeeded, WrongCluster
from esnode.messages import Welcome


class ClusterPin:
    """The identity of one client's cluster, empty until it is known, and the partition that is meant.

    Without a partition the cluster must not have several.
    """

    def __init__(self, cluster: str, partition: int | None = None) -> None:
        self.cluster = cluster
        self.partition = partition

    def check(self, welcome: Welcome) -> None:
        """Keep to the cluster of a node that has answered.

        Raises `WrongCluster` for another one, and `PartitionNeeded`.
        """
        self.cluster = self.cluster or welcome.cluster
        if welcome.cluster != self.cluster:
            raise WrongCluster(
                f"node {welcome.node_id} belongs to {welcome.cluster!r}, not to {self.cluster!r}"
            )
        if self.partition is None and welcome.partitions > 1:
            raise PartitionNeeded(f"{self.cluster!r} has the partitions 0 to {welcome.partitions - 1}")
