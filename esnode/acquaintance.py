"""Which data directory each node has, as this node knows it: how a wiped or swapped disk is noticed.

Decides who is turned away: a peer that comes with another directory than before and does not say that
it rejoins, since what it had voted and acked is on the other one. A node that rejoins itself turns nobody
away: what it remembers may be old. What is new is remembered durably before the peer is answered. Called
by `replication.py`.
"""

import logging
from functools import partial

from esnode.errors import ProtocolError, UnknownDirectory
from esnode.messages import Hello
from esnode.storage.worker import StorageWorker
from esnode.view import View

log = logging.getLogger(__name__)


class Acquaintances:
    """The names of the nodes' directories."""

    def __init__(self, view: View, worker: StorageWorker) -> None:
        self._view = view
        self._worker = worker

    @property
    def own(self) -> bytes:
        """The name of this node's directory."""
        return self._worker.storage.directory

    async def meet(self, hello: Hello) -> None:
        """Remember the directory of a peer; raises `UnknownDirectory`, `ProtocolError`, `StorageFailed`."""
        if not hello.directory:
            raise ProtocolError("a node must name its data directory")
        storage, peer = self._worker.storage, hello.node_id
        known = storage.peer_directories.get(peer)
        if known == hello.directory:
            return
        if known is not None and not hello.rejoining and not self._view.rejoining:
            raise UnknownDirectory(
                f"node {self._view.me} knows another data directory of node {peer}: this one is new or old"
            )
        await self._worker.call(partial(storage.remember_peer, peer, hello.directory))
        log.info("peer_noted", extra={"peer": peer, "directory": hello.directory.hex()})
