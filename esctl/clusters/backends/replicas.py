"""The process of one of a node's several partitions: found, and sent a signal.

The others of the node, and their supervisor, are left alone. Called by the process backend.
"""

import signal

from esctl.clusters.backends import nodeprocess
from esctl.clusters.backends.nodeprocess import Holder
from esctl.clusters.state import Cluster
from esctl.errors import NodeNotRunning


def signal_one(cluster: Cluster, number: int, partition: int, which: signal.Signals) -> int:
    """Send the process a signal; its pid. Raises `NodeNotRunning`, `MachineRefused`."""
    holder = nodeprocess.holder_of(cluster.node(number), cluster.partitions)
    replica = holder.replica(partition) if holder is not None else None
    if replica is None or not nodeprocess.send(replica, which):
        raise NodeNotRunning(
            f"the process of partition {partition} of node {number} does not run",
            next_step=f"esctl logs --node {number} --cluster {cluster.name}",
        )
    return replica.pid


def paused(node: Holder) -> frozenset[int]:
    """The partitions of a node whose processes stand still."""
    return frozenset(each.partition for each in node.partitions if each.paused and each.partition is not None)
