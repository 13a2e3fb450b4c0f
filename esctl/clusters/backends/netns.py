"""The nodes of a cluster in network namespaces of this machine, each with an address of its own.

They are processes as those of the backend `process`, on links that can really be cut. The network (see
`network.py`) is there while a node runs: a start makes it, the end of the last node takes it away. Needs
root. Called by the commands through `interface.py`.
"""

import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from esctl.clusters import state
from esctl.clusters.backends.interface import Address, Cut, Links, NodeProcess, RunState
from esctl.clusters.backends.network import Network, free_subnet, require
from esctl.clusters.backends.process import ProcessBackend
from esctl.clusters.state import Cluster, Node
from esctl.ui.values import BackendName

BASE_PORT: Final = 7101
"""Where clients connect, at each node; peers at the next one. Nobody else has ports at these addresses."""


class NetnsLinks:
    """See `interface.Links`."""

    def cut(self, cluster: Cluster, cuts: Collection[Cut]) -> None:
        """See `interface.Links.cut`."""
        Network.of(cluster).cut(cuts)

    def mend(self, cluster: Cluster, cuts: Collection[Cut]) -> None:
        """See `interface.Links.mend`."""
        Network.of(cluster).mend(cuts)

    def cuts(self, cluster: Cluster) -> frozenset[Cut]:
        """See `interface.Links.cuts`."""
        return Network.of(cluster).cuts()

    def carries(self, cluster: Cluster, source: int, destination: int) -> bool:
        """See `interface.Links.carries`."""
        return Network.of(cluster).carries(source, destination)


class NetnsBackend(ProcessBackend):
    """See `interface.Backend`."""

    name: BackendName = "netns"
    links: Links | None = NetnsLinks()

    def addresses(self, count: int, base_port: int | None = None) -> list[Address]:
        """See `interface.Backend.addresses`. Raises `NetnsUnavailable`, `NetworkRefused`."""
        require()
        subnet, port = free_subnet(_subnets_of_clusters()), base_port or BASE_PORT
        return [Address(f"{subnet}.{n}:{port}", f"{subnet}.{n}:{port + 1}") for n in range(1, count + 1)]

    async def start(
        self, cluster: Cluster, numbers: Collection[int], timeout_s: float, options: Sequence[str] = ()
    ) -> list[NodeProcess]:
        """See `interface.Backend.start`. Raises `NetnsUnavailable`, `NetworkRefused` too."""
        require()
        try:
            Network.of(cluster).bring_up(cluster.directory)
            return await super().start(cluster, numbers, timeout_s, options)
        finally:
            self._leave(cluster)

    async def stop(self, cluster: Cluster, numbers: Collection[int], timeout_s: float) -> list[int]:
        """See `interface.Backend.stop`."""
        forced = await super().stop(cluster, numbers, timeout_s)
        self._leave(cluster)
        return forced

    def destroy(self, cluster: Cluster) -> list[Path]:
        """See `interface.Backend.destroy`. Raises `NetworkRefused`; the files are gone then."""
        left = super().destroy(cluster)
        Network.of(cluster).take_down()
        return left

    def _leave(self, cluster: Cluster) -> None:
        """Leave no network in which nobody lives."""
        if all(process.state is RunState.DOWN for process in self.nodes(cluster)):
            Network.of(cluster).take_down()

    def _inside(self, cluster: Cluster, node: Node) -> list[str]:
        return Network.of(cluster).inside(node.id)

    def _is_free(self, cluster: Cluster, node: Node, port: int) -> bool:
        network = Network.of(cluster)
        with network.socket_in(node.id, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((network.address(node.id), port))
            except OSError:
                return False
        return True


def _subnets_of_clusters() -> set[str]:
    """Those of the clusters that are described here: they keep theirs while they are stopped."""
    return {node.client.rpartition(".")[0] for cluster in state.readable() for node in cluster.nodes}
