"""Which cluster a client belongs to: the one that it names, or the one of the first node that answers.

The client remembers it as long as it lives. If another cluster answers later at the same addresses, a new or
a restored one, offsets and acks of this cluster mean nothing there, so the client gets an error. Shared by
all connections of one client.
"""

from esnode.errors import WrongCluster
from esnode.messages import Welcome


class ClusterPin:
    """The identity of one client's cluster; empty until it is known."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster

    def check(self, welcome: Welcome) -> None:
        """Keep to the cluster of a node that has answered; raises `WrongCluster` for another one."""
        self.cluster = self.cluster or welcome.cluster
        if welcome.cluster != self.cluster:
            raise WrongCluster(
                f"node {welcome.node_id} belongs to {welcome.cluster!r}, not to {self.cluster!r}"
            )
