"""The peers' door and the ways to the peers: what nodes say to each other, in both directions.

One TCP connection for each direction of a pair. Going out: a `PeerLink` for each peer. Coming in:
here, each message goes to the core through the inbox; when the connection of a peer ends, the core
hears that too, at once. Decides nothing about Raft. Started by `node.py`.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import trio

from esnode import limits
from esnode.config import Config
from esnode.errors import (
    CallerError,
    ConnectionLost,
    DamagedRecord,
    FrameTooLarge,
    NodeRunsElsewhere,
    PeerError,
    ProtocolError,
    SettingsDiffer,
)
from esnode.faults import LinkFaults
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.messages import Hello, Side
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    NodeId,
    PartReceived,
    PeerClosed,
    PeerMessage,
    Received,
    Rejoin,
    RejoinReply,
    SendSnapshot,
    Snapshot,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from esnode.replication.keychunks import KeyChunks
from esnode.replication.peeridentity import PeerIdentities
from esnode.replication.peerlink import Jitter, LoadSnapshot, PeerLink
from esnode.transport.connection import ByteListener, ByteStream, Connection, Dialer, accept, say_goodbye
from esnode.transport.connectionslots import HandshakeDisplaced, Handshakes
from esnode.transport.sharedsettings import SharedSettings
from esnode.wire import (
    FetchKeys,
    Fragment,
    FragmentAssembler,
    KeyChunk,
    Message,
    SnapshotAssembler,
    SnapshotChunk,
)

log = logging.getLogger(__name__)


class Replication:
    """All connections with the other nodes."""

    def __init__(
        self,
        config: Config,
        incarnation: int,
        inbox: Inbox,
        view: View,
        identities: PeerIdentities,
        dial: Dialer,
        load_snapshot: LoadSnapshot,
        jitter: Jitter,
        keys: KeyChunks,
    ) -> None:
        self._config = config
        self._shared = SharedSettings(config)
        self._incarnation = incarnation
        self._inbox = inbox
        self._view = view
        self._identities = identities
        self._keys = keys
        self._incoming: dict[NodeId, Connection] = {}
        self._speaking: dict[NodeId, int] = {}
        """The incarnation of the process at the other end of each."""
        self._refusals: set[str] = set()
        """Those that only a person can end, as the log has told them."""
        self._handshakes = Handshakes(limits.MAX_PEER_HANDSHAKES)
        self._arrivals = 0
        self._newest: dict[NodeId, int] = {}
        self._struck: dict[NodeId, LinkFaults] = {}
        self.links = {
            peer.id: PeerLink(
                peer, partial(self._hello, peer.id), inbox, dial, load_snapshot, jitter, keys.read
            )
            for peer in config.peers
        }

    def send(self, peer: NodeId, message: PeerMessage) -> None:
        """Queue a message, or drop it and report `PeerUnreachable`."""
        self.links[peer].send(message)

    def send_snapshot(self, wanted: SendSnapshot) -> None:
        """Begin to send the stored snapshot; `SnapshotSent` tells the end."""
        self.links[wanted.peer].send_snapshot(wanted)

    def life_of(self, peer: NodeId) -> int | None:
        """The incarnation of the peer's process; None unless connections in both directions are open."""
        return self._speaking.get(peer) if self.links[peer].connected else None

    async def fetch_keys(self, peer: NodeId, snapshot: Snapshot) -> bool:
        """`KeyChunks.fetch`."""
        return await self._keys.fetch(peer, snapshot, self.links[peer].send)

    def strike(self, peer: NodeId, faults: LinkFaults | None) -> None:
        """What comes from the peer suffers these faults from now on."""
        if faults is None:
            self._struck.pop(peer, None)
        else:
            self._struck[peer] = faults

    async def run(
        self,
        listeners: Sequence[ByteListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keep the links open and serve the peers, for ever."""
        async with trio.open_nursery() as nursery:
            for link in self.links.values():
                nursery.start_soon(link.run)
            nursery.start_soon(self._identities.run)
            await nursery.start(trio.serve_listeners, self._serve_one, listeners)
            task_status.started()

    def _hello(self, peer: NodeId) -> Hello:
        last_index, applied_index = self._identities.own_end
        return replace(
            self._shared.hello(peer, self._incarnation),
            directory=self._identities.own,
            rejoining=self._view.rejoining,
            last_index=last_index,
            applied_index=applied_index,
        )

    async def _serve_one(self, stream: ByteStream) -> None:
        connection = Connection(stream)
        try:
            await self.serve_peer(connection)
        except HandshakeDisplaced:
            pass  # `connectionslots.py` tells of all of them together
        except ConnectionLost as error:
            log.info("peer_left", extra={"address": connection.peer_address, "reason": str(error)})
        except (PeerError, CallerError, DamagedRecord, SettingsDiffer) as error:
            again = str(error) in self._refusals
            log.log(
                logging.DEBUG if again else logging.WARNING,  # such a peer tries for hours
                "peer_dropped",
                extra={"address": connection.peer_address, "code": error.code, "reason": str(error)},
            )
            if isinstance(error, SettingsDiffer | NodeRunsElsewhere):
                if len(self._refusals) >= limits.MAX_REFUSALS_REMEMBERED:
                    self._refusals.clear()
                self._refusals.add(str(error))
        finally:
            await connection.aclose()

    async def serve_peer(self, connection: Connection) -> None:
        """Hear one peer until its connection ends.

        Raises `PeerError`, `DamagedRecord`, `SettingsDiffer`, `StorageFailed`.

        Once a newer connection of the peer is heard, nothing of an older one reaches the core: what it
        said may be from an earlier life, before a disk was lost.
        """
        self._arrivals += 1
        arrival = self._arrivals
        with self._handshakes.one(connection.source):
            hello = await accept(
                connection,
                cluster=self._config.cluster,
                node_id=self._config.node_id,
                incarnation=self._incarnation,
                allowed_side=Side.PEER,
                peers=tuple(self.links),
                partition=self._config.partition,
                partitions=self._config.partitions,
                agree=self._shared.check,
                admit=self._admit,
            )
        peer = hello.node_id
        if arrival < self._newest.get(peer, 0):
            raise ConnectionLost(f"node {peer} has connected again meanwhile")
        self._newest[peer] = arrival
        older = self._incoming.get(peer)
        self._incoming[peer], self._speaking[peer] = connection, hello.incarnation
        self.links[peer].dial_now()
        try:
            if older is not None:
                await older.aclose()
            await self._receive(peer, connection)
        except (ProtocolError, FrameTooLarge, DamagedRecord) as error:
            await say_goodbye(connection, error)
            raise
        finally:
            if self._incoming.get(peer) is connection:
                del self._incoming[peer], self._speaking[peer]
                self._inbox.put(PeerClosed(peer))
                self._keys.lost(peer)
                log.info("peer_closed", extra={"peer": peer})

    async def _admit(self, hello: Hello) -> None:
        if hello.node_id in self._struck and self._struck[hello.node_id].refuse():
            raise ConnectionLost(f"node {hello.node_id} is cut off on purpose")
        await self._identities.check(hello, self._speaking.get(hello.node_id))

    def _copies(self, peer: NodeId) -> int:
        """How often a message that has come from a peer is heard."""
        return self._struck[peer].fate(0, trio.current_time()).copies

    def _part_received(self, peer: NodeId, connection: Connection) -> None:
        """More of a large message is here, and the rest on its way."""
        passes = peer not in self._struck or self._copies(peer) > 0
        if passes and self._incoming.get(peer) is connection:
            self._inbox.put(PartReceived(peer))
            if peer == self._view.soft_state.leader:
                self._view.last_heard = trio.current_time()

    async def _receive(self, peer: NodeId, connection: Connection) -> None:
        fragments, assembler = FragmentAssembler(), SnapshotAssembler()
        connection.on_progress(partial(self._part_received, peer, connection))
        while messages := await connection.receive():
            heard = peer not in self._struck
            for message in messages:
                whole = _peer_message(message, fragments, assembler)
                if whole is None:
                    assert isinstance(message, Fragment | SnapshotChunk)
                    connection.progressed(len(message.data))
                    continue
                for _ in range(1 if peer not in self._struck else self._copies(peer)):
                    heard = True
                    await self._inbox.wait_room()
                    if self._incoming.get(peer) is not connection:
                        return
                    self._hear(peer, whole)
            if heard and peer == self._view.soft_state.leader:
                self._view.last_heard = trio.current_time()

    def _hear(self, peer: NodeId, message: PeerMessage | FetchKeys | KeyChunk) -> None:
        match message:
            case FetchKeys():
                self.links[peer].send_keys(message)
            case KeyChunk():
                self._keys.take(peer, message)
            case _:
                self._inbox.put(Received(peer, message))


def _peer_message(
    message: Message | None, fragments: FragmentAssembler, assembler: SnapshotAssembler
) -> PeerMessage | FetchKeys | KeyChunk | None:
    """A message of a peer; None while one is incomplete. Raises `ProtocolError` for all else."""
    if isinstance(message, Fragment):
        message = fragments.add(message)
    match message:
        case None:
            return None
        case SnapshotChunk():
            return assembler.add(message)
        case (
            AppendEntries()
            | AppendReply()
            | AppendReject()
            | Heartbeat()
            | HeartbeatReply()
            | VoteRequest()
            | VoteReply()
            | TimeoutNow()
            | Rejoin()
            | RejoinReply()
            | FetchKeys()
            | KeyChunk()
        ):
            return message
        case _:
            raise ProtocolError(f"a peer may not send {type(message).__name__}")
