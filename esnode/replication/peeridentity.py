"""What this node remembers of its peers' disks: how one that was wiped, swapped or set back is noticed.

Decides who is turned away: a peer that comes with another directory than before, or with a log that ends
before what it once held, and does not say that it rejoins; and a second process that runs as a peer. A node
that rejoins itself takes any directory: what it remembers may be old. A name is durable before the peer is
answered; how far the peers have come is, as often as checkpoints are made, and soon after each election.
Called by `replication.py`.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

import trio

from esnode import limits
from esnode.coalescing import sleep_to_next
from esnode.config import Config
from esnode.errors import (
    CallerError,
    NodeRunsElsewhere,
    OlderDirectory,
    OperatorError,
    PeerError,
    ProtocolError,
    UnknownDirectory,
    WrongNode,
)
from esnode.loop.view import View
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.raft.messages import NodeId
from esnode.storage.worker import StorageWorker
from esnode.transport.connection import Connection, Dialer, greet

log = logging.getLogger(__name__)


class PeerIdentities:
    """The directories of this node's peers, and up to where each of them held the log."""

    def __init__(
        self,
        config: Config,
        view: View,
        worker: StorageWorker,
        dial: Dialer,
        held: Callable[[], Mapping[NodeId, int]],
    ) -> None:
        """`held`: up to where each peer holds what is committed, as it has told this process."""
        self._cluster, self._partition = config.cluster, config.partition
        self._addresses = {peer.id: peer.client for peer in config.peers}
        self._view = view
        self._worker = worker
        self._dial = dial
        self._held = held
        self._reached = dict(worker.storage.peers_reached)
        self._noted = dict(self._reached)
        self._noted_term = view.soft_state.term

    @property
    def own(self) -> bytes:
        """The name of this node's directory."""
        return self._worker.storage.directory

    @property
    def own_end(self) -> tuple[int, int]:
        """The last index of this node's log, durably, and up to where it has applied that.

        A snapshot is applied before it is durable: only then does it count.
        """
        last_index = self._worker.storage.last_index
        return last_index, min(self._view.applied_index, last_index)

    async def run(self) -> None:
        """Note durably, now and then, up to where the peers hold the log; for ever."""
        while True:
            await sleep_to_next(limits.CHECKPOINT_CHECK_S)
            self._learn()
            grown = max((at - self._noted.get(peer, 0) for peer, at in self._reached.items()), default=0)
            term = self._view.soft_state.term
            if grown >= limits.CHECKPOINT_ENTRIES or (grown and term != self._noted_term):
                reached = dict(self._reached)
                await self._worker.aside(partial(self._worker.storage.remember_reached, reached))
                self._noted, self._noted_term = reached, term

    async def check(self, hello: Hello, connected: int | None) -> None:
        """Check the directory of a peer, and remember it.

        `connected`: the incarnation of the process that speaks as this peer at the moment, if one does.
        Raises `NodeRunsElsewhere`, `WrongNode`, `UnknownDirectory`, `OlderDirectory`, `ProtocolError`,
        `StorageFailed`.
        """
        if not hello.directory:
            raise ProtocolError("a node must name its data directory")
        storage, peer = self._worker.storage, hello.node_id
        known = storage.peer_directories.get(peer)
        replaces = known not in (None, hello.directory)
        if replaces or connected not in (None, hello.incarnation):
            await self._check_place(hello, certain=replaces and hello.rejoining and not self._view.rejoining)
            known = storage.peer_directories.get(peer)  # as it is after the wait
        if known not in (None, hello.directory) and not hello.rejoining and not self._view.rejoining:
            raise UnknownDirectory(
                f"node {self._view.me} knows another data directory of node {peer}: this one is new or old"
            )
        if not hello.rejoining:
            self._check_end(hello)
        if known == hello.directory:
            return
        await self._worker.call(partial(storage.remember_peer, peer, hello.directory))
        log.info("peer_noted", extra={"peer": peer, "directory": hello.directory.hex()})

    def _check_end(self, hello: Hello) -> None:
        """That the peer, which is let in, still holds what it once held; remember what it says it holds."""
        self._learn()
        peer = hello.node_id
        reached = self._reached.get(peer, 0)
        if hello.last_index < reached and not self._view.rejoining:
            raise OlderDirectory(
                f"the log of node {peer} ends with entry {hello.last_index}, and node {self._view.me} knows"
                f" that it held entry {reached}"
            )
        self._reached[peer] = max(reached, min(hello.applied_index, hello.last_index))

    def _learn(self) -> None:
        for peer, index in self._held().items():
            self._reached[peer] = max(self._reached.get(peer, 0), index)

    async def _check_place(self, hello: Hello, *, certain: bool) -> None:
        """That no other process answers at the peer's address; if it must be `certain`, that this one does.

        Otherwise nobody may answer there: the peer starts, or is cut off. But whoever says that it rejoins
        replaces the name of a disk for good, and anybody can say so.
        """
        peer, address = hello.node_id, self._addresses[hello.node_id]
        found = await self._incarnation_at(peer)
        if found not in (None, hello.incarnation):
            raise NodeRunsElsewhere(
                f"another process runs as node {peer}, on its own data directory: it answers at {address}"
            )
        if found is None and certain:
            raise WrongNode(
                f"nobody answers as node {peer} at {address}, where clients find it: only the process that"
                " does may come with another data directory"
            )

    async def _incarnation_at(self, peer: NodeId) -> int | None:
        """Which process answers clients at the address of `peer`; None where none does as `peer`."""
        hello = Hello(
            *(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, self._cluster, 0, peer, 0),
            partition=self._partition,
        )
        with trio.move_on_after(limits.PEER_DIAL_S):
            try:
                async with Connection(await self._dial(self._addresses[peer])) as connection:
                    return (await greet(connection, hello)).incarnation
            except (PeerError, OperatorError, CallerError):  # a Goodbye may carry the code of any of them
                return None
        return None
