"""The clients' door: who may come in, and how the core's answers find the session that waits.

It admits connections up to a bound, runs a `Session` for each, and is what the driver tells about
decisions, reads and progress. A bad client ends its own session only. Started by `node.py`.
"""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import trio

from esnode import limits
from esnode.config import Config
from esnode.errors import (
    CallerError,
    ConnectionLost,
    DamagedRecord,
    EventStreamError,
    FramesFull,
    FrameTooLarge,
    PeerError,
    ProtocolError,
    TooManyConnections,
    first_of,
)
from esnode.faults import Answer as FaultAnswer
from esnode.faults import not_allowed
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.loop.waiting import WaitingRequests
from esnode.messages import Hello, LeaderIs, Side
from esnode.raft.messages import Decision, ReadGrant, SoftState
from esnode.server.appendlatency import AppendLatency
from esnode.server.batchcheck import BatchCheck
from esnode.server.reading import Reader
from esnode.server.services import AdminHandler, Services
from esnode.server.session import Session
from esnode.transport.clientmemory import ReaderTooSlow
from esnode.transport.connection import ByteListener, ByteStream, Connection, accept, say_goodbye
from esnode.transport.connectionslots import HandshakeDisplaced, Handshakes, Slots

log = logging.getLogger(__name__)


class Ingest:
    """All client sessions of one node."""

    def __init__(
        self,
        config: Config,
        incarnation: int,
        inbox: Inbox,
        view: View,
        reader: Reader,
        status: Callable[[], Mapping[str, Any]],
        explain: Callable[[bytes], tuple[int, int]],
        faults: FaultAnswer = not_allowed,
        admin: AdminHandler | None = None,
        latency: AppendLatency | None = None,
        cold: Callable[[bytes], Sequence[Callable[[], object]]] = lambda keys: (),
    ) -> None:
        self._config = config
        self._incarnation = incarnation
        self._view = view
        self._waiting = WaitingRequests()
        self._sessions: set[Session] = set()
        self._handshakes = Handshakes(limits.MAX_CLIENT_HANDSHAKES)
        self._slots = Slots(
            limits.MAX_CLIENT_CONNECTIONS, limits.MAX_CONNECTIONS_OF_A_SOURCE, limits.LOCAL_CONNECTIONS
        )
        self._addresses = {member.id: str(member.client) for member in config.members}
        self._services = Services(
            inbox,
            view,
            self._waiting,
            reader,
            tuple(self._addresses),
            self._leader_news,
            status,
            explain,
            faults,
            admin,
            latency=AppendLatency() if latency is None else latency,
            check=BatchCheck.of(config),
            cold=cold,
            spreads=config.partitions > 1,
            restored=bool(config.ancestors),
        )

    async def serve(
        self,
        listeners: Sequence[ByteListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve clients for ever."""
        async with trio.open_nursery() as sessions:
            await sessions.start(trio.serve_listeners, self._serve_one, listeners)
            sessions.start_soon(self._tell_log_end)
            task_status.started()

    async def _tell_log_end(self) -> None:
        """Now and then: what a client knows of it must not be as old as the window when it sends."""
        ttl_ms = self._config.dedup.ttl_ms
        pause_s = min(limits.LOG_END_TOLD_S, ttl_ms / 8000) if ttl_ms else limits.LOG_END_TOLD_S
        told = self._view.next_offset
        while True:
            await trio.sleep(max(limits.MIN_LOG_END_TOLD_S, pause_s))
            if self._view.next_offset != told:
                told = self._view.next_offset
                for session in self._sessions:
                    session.tell_leader()

    async def _serve_one(self, stream: ByteStream) -> None:
        connection = Connection(stream)
        _ask_the_silent(connection)
        try:
            await self._serve_client(connection)
        except* (PeerError, CallerError, DamagedRecord) as group:
            error = first_of(group)
            log.log(
                _level(error),
                "client_dropped",
                extra={"address": connection.peer_address, "code": error.code, "reason": str(error)},
            )
        finally:
            await connection.aclose()

    async def _serve_client(self, connection: Connection) -> None:
        with ExitStack() as slot:

            async def admit(_: Hello) -> None:
                slot.enter_context(self._slots.one(connection.source))

            with self._handshakes.one(connection.source):
                await accept(
                    connection,
                    cluster=self._config.cluster,
                    node_id=self._config.node_id,
                    incarnation=self._incarnation,
                    allowed_side=Side.CLIENT,
                    peers=(),
                    ancestors=self._config.ancestors,
                    partition=self._config.partition,
                    partitions=self._config.partitions,
                    ring=lambda: self._view.ring,
                    admit=admit,
                )
            connection.share_memory(self._services.memory.frames)
            await self._run_session(connection)

    async def _run_session(self, connection: Connection) -> None:
        session = Session(connection, self._services)
        self._sessions.add(session)
        try:
            await session.run()
        except* (ProtocolError, FrameTooLarge, FramesFull, DamagedRecord) as group:
            await say_goodbye(connection, first_of(group))
            raise
        finally:
            self._sessions.discard(session)

    # --- what the driver tells -----------------------------------------------------------------

    def on_soft_state(self, soft_state: SoftState) -> None:
        """Role, term or leader have changed: nothing appended in another term will be acked here."""
        self._waiting.leadership_over()
        for session in self._sessions:
            session.tell_leader()

    def on_decisions(self, decisions: Sequence[Decision]) -> None:
        """What became of proposals."""
        self._waiting.decided(decisions, self._view.applied_index, self._view.leading_term)

    def on_read_grants(self, grants: Sequence[ReadGrant]) -> None:
        """What became of reads."""
        self._waiting.granted(grants)

    def on_applied(self, index: int) -> None:
        """The log is applied up to `index`."""
        self._waiting.applied(index)

    def on_ring(self) -> None:
        """The partition goes by another ring."""
        for session in self._sessions:
            session.tell_leader()

    def _leader_news(self) -> LeaderIs:
        state = self._view.soft_state
        address = "" if state.leader is None else self._addresses[state.leader]
        return LeaderIs(state.term, state.leader or 0, address, self._view.next_offset, *self._view.ring)


def _level(error: EventStreamError) -> int:
    """Clients come and go; `connectionslots.py` tells of those that may be thousands; others are at fault."""
    if isinstance(error, HandshakeDisplaced | TooManyConnections):
        return logging.DEBUG
    usual = isinstance(error, ConnectionLost) and not isinstance(error, ReaderTooSlow)
    return logging.INFO if usual else logging.WARNING


def _ask_the_silent(connection: Connection) -> None:
    """Let the kernel find out about clients that vanished without a word."""
    connection.set_option(socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        connection.set_option(socket.IPPROTO_TCP, name, limits.KEEPALIVE_S)
