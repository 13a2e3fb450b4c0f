"""Which data directory each node has, as this node knows it: how a wiped or swapped disk is noticed.

Decides who is turned away: a peer that comes with another directory than before and does not say that
it rejoins, since what it had voted and acked is on the other one; and a second process that runs as a peer,
since the peer's address answers for another one. A node that rejoins itself takes any directory: what it
remembers may be old. What is new is remembered durably before the peer is answered. Called by
`replication.py`.
"""

import logging
from functools import partial

import trio

from esnode import limits
from esnode.config import Config
from esnode.connection import Connection, Dialer, greet
from esnode.errors import (
    CallerError,
    NodeRunsElsewhere,
    OperatorError,
    PeerError,
    ProtocolError,
    UnknownDirectory,
)
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.raft.messages import NodeId
from esnode.storage.worker import StorageWorker
from esnode.view import View

log = logging.getLogger(__name__)


class Acquaintances:
    """The names of the nodes' directories."""

    def __init__(self, config: Config, view: View, worker: StorageWorker, dial: Dialer) -> None:
        self._cluster = config.cluster
        self._addresses = {peer.id: peer.client for peer in config.peers}
        self._view = view
        self._worker = worker
        self._dial = dial

    @property
    def own(self) -> bytes:
        """The name of this node's directory."""
        return self._worker.storage.directory

    async def meet(self, hello: Hello, connected: int | None) -> None:
        """Remember the directory of a peer.

        `connected`: the incarnation of the process that speaks as this peer at the moment, if one does.
        Raises `NodeRunsElsewhere`, `UnknownDirectory`, `ProtocolError`, `StorageFailed`.
        """
        if not hello.directory:
            raise ProtocolError("a node must name its data directory")
        storage, peer = self._worker.storage, hello.node_id
        known = storage.peer_directories.get(peer)
        if (known is not None and known != hello.directory) or connected not in (None, hello.incarnation):
            await self._check_place(hello)
        if known == hello.directory:
            return
        if known is not None and not hello.rejoining and not self._view.rejoining:
            raise UnknownDirectory(
                f"node {self._view.me} knows another data directory of node {peer}: this one is new or old"
            )
        await self._worker.call(partial(storage.remember_peer, peer, hello.directory))
        log.info("peer_noted", extra={"peer": peer, "directory": hello.directory.hex()})

    async def _check_place(self, hello: Hello) -> None:
        """That no other process answers at the peer's address; nobody may: it starts, or is cut off."""
        peer, address = hello.node_id, self._addresses[hello.node_id]
        found = await self._incarnation_at(peer)
        if found not in (None, hello.incarnation):
            raise NodeRunsElsewhere(
                f"another process runs as node {peer}, on its own data directory: it answers at {address}"
            )

    async def _incarnation_at(self, peer: NodeId) -> int | None:
        """Which process answers clients at the address of `peer`; None where none does as `peer`."""
        hello = Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, self._cluster, 0, peer, 0)
        with trio.move_on_after(limits.PEER_DIAL_S):
            try:
                async with Connection(await self._dial(self._addresses[peer])) as connection:
                    return (await greet(connection, hello)).incarnation
            except (PeerError, OperatorError, CallerError):  # a Goodbye may carry the code of any of them
                return None
        return None
