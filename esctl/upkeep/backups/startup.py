"""Starting all nodes of a cluster and waiting for its leader. Called by what makes clusters of backups."""

import time

from esctl.clusters.backends.interface import Backend
from esctl.clusters.state import Cluster
from esctl.query.leader import wait_for_leader


async def start_and_elect(backend: Backend, cluster: Cluster, timeout_s: float) -> int:
    """The number of the leader; raises what `Backend.start` does, and `NoQuorum`."""
    deadline = time.monotonic() + timeout_s
    await backend.start(cluster, [node.id for node in cluster.nodes], timeout_s)
    return await wait_for_leader(cluster, max(0.1, deadline - time.monotonic()))
