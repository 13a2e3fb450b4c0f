"""The way to one peer: a connection that is opened again and again, and an outbox in front of it.

Decides when to dial, how much leaves at once, and what is dropped: what waits for a connection that is
not there, and what is over the outbox's bound. Raft sends again, so dropping is safe; it is reported as
`PeerUnreachable`. Nothing but the handshake's answer comes back on this connection. Made by
`replication.py`, one task a peer.
"""

import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Final, Protocol

import trio

from esnode import limits
from esnode.config import Member
from esnode.errors import (
    CallerError,
    ConnectionLost,
    EventStreamError,
    HandshakeTimeout,
    OlderDirectory,
    OperatorError,
    PartitionDown,
    PeerError,
    ProtocolError,
    UnknownDirectory,
    Unreachable,
    first_of,
)
from esnode.faults import LinkFaults, same
from esnode.loop.inbox import Inbox
from esnode.messages import Goodbye, Hello
from esnode.raft.messages import (
    AppendEntries,
    InstallSnapshot,
    PeerConnected,
    PeerMessage,
    PeerUnreachable,
    SendSnapshot,
    Snapshot,
    SnapshotSent,
)
from esnode.replication.outbox import Outbox
from esnode.transport.connection import Connection, Dialer, error_of, greet
from esnode.wire import CODECS, FetchKeys, KeyChunk, SnapshotChunk, chunks, encode, encode_parts
from esnode.wire.layout import LENGTH_BYTES

log = logging.getLogger(__name__)

_ENTRIES_TYPE: Final = CODECS[AppendEntries].number
STARTING_S: Final = 10.0
"""For so long after its own start a node does not worry about a peer that it has never reached."""

LoadSnapshot = Callable[[], Awaitable[Snapshot | None]]
ReadKeys = Callable[[int, bytes], Awaitable[bytes]]
"""The chunk of keys of a number and a digest; empty where it is not there any more."""


class Jitter(Protocol):
    """The part of `random.Random` that a dialler uses."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between `a` and `b`."""
        ...


class PeerLink:
    """Messages to one peer."""

    def __init__(
        self,
        member: Member,
        hello: Callable[[], Hello],
        inbox: Inbox,
        dial: Dialer,
        load_snapshot: LoadSnapshot,
        jitter: Jitter,
        read_keys: ReadKeys,
    ) -> None:
        self.connected = False
        self.snapshot_bytes: tuple[int, int] | None = None
        """How much of a snapshot has left, and of how much, while one is being sent."""
        self.refusal: EventStreamError | None = None
        """Why the peer, which is there, does not talk to this node; None while it does, or is not there."""
        self._member = member
        self._hello = hello
        self._inbox = inbox
        self._dial = dial
        self._load_snapshot = load_snapshot
        self._jitter = jitter
        self._read_keys = read_keys
        self._wanted_keys: deque[tuple[int, bytes]] = deque()
        """Number and digest of the chunks of keys that the peer has asked for."""
        self._outbox = Outbox()
        self._burst_bytes = limits.FIRST_BURST_BYTES
        self._wanted_snapshot: SendSnapshot | None = None
        self._work = trio.lowlevel.ParkingLot()
        self._hurry = trio.Event()
        self._faults: LinkFaults | None = None
        self._faults_changed = trio.lowlevel.ParkingLot()
        self._to_be_reset = False

    @property
    def outbox_bytes(self) -> int:
        """What waits for the connection to take it."""
        return self._outbox.size_bytes

    def send(self, message: PeerMessage | FetchKeys) -> None:
        """Queue `message`, or drop it."""
        assert not isinstance(message, InstallSnapshot), "snapshots go by send_snapshot"
        if not self.connected:
            return
        parts = encode_parts(message) if isinstance(message, AppendEntries) else (encode(message),)
        size_bytes = sum(map(len, parts))
        if self.outbox_bytes + size_bytes > limits.MAX_OUTBOX_BYTES:
            self._inbox.put(PeerUnreachable(self._member.id))
            return
        if self._faults is not None:
            self._send_through(self._faults, b"".join(parts))
            return
        if isinstance(message, AppendEntries):
            self._outbox.put_bulk(parts, size_bytes)
        else:
            self._outbox.put_small(parts[0])
        self._work.unpark()

    def send_snapshot(self, wanted: SendSnapshot) -> None:
        """Send the stored snapshot as soon as the connection allows."""
        struck = self._faults is not None and not self._faults.fate(0, trio.current_time()).copies
        if not self.connected or struck:
            self._inbox.put(SnapshotSent(wanted.peer, ok=False))
            return
        self._wanted_snapshot = wanted
        self._work.unpark()

    def send_keys(self, wanted: FetchKeys) -> None:
        """Send these chunks as soon as the connection allows, and no others any more."""
        if self.connected:
            self._wanted_keys = deque(enumerate(wanted.digests, wanted.first_chunk))
            self._work.unpark()

    def dial_now(self) -> None:
        """The peer has just called us, so it is there: do not wait for the next try."""
        self._hurry.set()

    def strike(self, faults: LinkFaults | None) -> None:
        """What is sent from now on suffers these faults; what is held back waits for those that last."""
        if same(self._faults, faults):
            return
        older, self._faults = self._faults, faults
        if older is not None:
            if faults is None:
                self._leave(older.ripe(inf))
            else:
                faults.take_over(older)
                self._leave(faults.ripe(trio.current_time()))
            self.dial_now()
        self._faults_changed.unpark_all()

    async def run(self) -> None:
        """Keep a connection open for ever.

        Raises `UnknownDirectory` and `OlderDirectory` when the peer says that of this node.
        """
        pause_s = limits.RECONNECT_MIN_S
        told = logging.NOTSET
        patient_until, reached = trio.current_time() + STARTING_S, False
        while True:
            begun = trio.current_time()
            try:
                await self._converse()
            except* (UnknownDirectory, OlderDirectory):
                raise  # it is our own disk that is meant, and `repair.py` that helps
            except* (PeerError, OperatorError, CallerError) as group:  # a Goodbye may say any of them
                error = first_of(group)
                reached |= self.connected
                if self.connected and trio.current_time() - begun > limits.RECONNECT_MAX_S:
                    pause_s, told = limits.RECONNECT_MIN_S, logging.NOTSET
                starting = not reached and trio.current_time() < patient_until
                self.refusal = error if _is_refusal(error) else None
                level = _level(error, starting)
                if level > told:
                    told = level
                    log.log(
                        level,
                        "peer_unreachable",
                        extra={"peer": self._member.id, "code": error.code, "reason": str(error)},
                    )
            self._disconnected()
            with trio.move_on_after(pause_s * self._jitter.uniform(0.5, 1.0)):
                await self._hurry.wait()
            self._hurry = trio.Event()
            pause_s = min(2 * pause_s, limits.RECONNECT_MAX_S)

    def _disconnected(self) -> None:
        if self.connected:
            self.connected = False
            self._inbox.put(PeerUnreachable(self._member.id))
        self._end_snapshot(ok=False)
        self._wanted_keys.clear()
        self._outbox.clear()
        if self._faults is not None:
            self._faults.drop()

    async def _converse(self) -> None:
        """Dial, shake hands, and send until the connection breaks."""
        if self._faults is not None and self._faults.refuse():
            raise Unreachable(f"{self._member.peer} is cut off on purpose")
        with trio.move_on_after(limits.PEER_DIAL_S) as dialling:
            stream = await self._dial(self._member.peer)
        if dialling.cancelled_caught:
            raise Unreachable(f"{self._member.peer} did not answer within {limits.PEER_DIAL_S:g} s")
        async with Connection(stream) as connection:
            # The kernel ends a connection whose bytes nobody confirms, instead of after many minutes.
            connection.set_option(socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", limits.PEER_SILENCE_MS)
            # What the kernel has taken nothing can overtake.
            connection.set_option(socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", limits.MAX_UNSENT_BYTES)
            await greet(connection, self._hello())
            self.connected, self._to_be_reset, self.refusal = True, False, None
            self._burst_bytes = limits.FIRST_BURST_BYTES
            self._inbox.put(PeerConnected(self._member.id))
            log.info("peer_connected", extra={"peer": self._member.id})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_for_the_end, connection)
                nursery.start_soon(self._obey_faults)
                await self._pump(connection)

    async def _pump(self, connection: Connection) -> None:
        """Messages first, and one chunk of a snapshot or of its keys whenever none waits."""
        snapshot: Iterator[SnapshotChunk] | None = None
        wanted: SendSnapshot | None = None
        while True:
            while not self._outbox.size_bytes and self._wanted_snapshot is None and not self._wanted_keys:
                await self._work.park()
            if self._outbox.size_bytes:
                await self._send_burst(connection)
                continue
            if self._wanted_snapshot is None:
                await self._put_keys(*self._wanted_keys.popleft())
                continue
            if snapshot is None or wanted is not self._wanted_snapshot:
                wanted = self._wanted_snapshot
                assert wanted is not None
                snapshot = await self._open_snapshot(wanted)
                log.info("snapshot_sending", extra={"peer": self._member.id})
            chunk = next(snapshot, None)
            if self._faults is not None and not await self._wait_turn(
                0 if chunk is None else _due_at_once(len(chunk.data))
            ):
                self._end_snapshot(ok=False)
            elif chunk is not None:
                frame = encode(chunk)
                self._outbox.put_bulk((frame,), len(frame))
                self.snapshot_bytes = chunk.position + len(chunk.data), chunk.total_bytes
                await trio.lowlevel.checkpoint()  # a send that the kernel takes at once lets nobody else run
            elif wanted is self._wanted_snapshot:
                snapshot = None
                self._end_snapshot(ok=True)
                log.info("snapshot_sent", extra={"peer": self._member.id})

    async def _put_keys(self, number: int, digest: bytes) -> None:
        frame = encode(KeyChunk(number, await self._read_keys(number, digest)))
        if self._faults is None or await self._wait_turn(_due_at_once(len(frame))):
            self._outbox.put_bulk((frame,), len(frame))

    def _end_snapshot(self, *, ok: bool) -> None:
        if self._wanted_snapshot is not None:
            self._wanted_snapshot = self.snapshot_bytes = None
            self._inbox.put(SnapshotSent(self._member.id, ok))

    async def _send_burst(self, connection: Connection) -> None:
        """Send as much of what waits as the link takes without delay to what comes next."""
        if self._faults is not None:
            # What is small has waited its turn, if there is a rate, before it came here.
            parts = self._outbox.take(0) or self._outbox.take(limits.FRAGMENT_BYTES)
            if not self._outbox.cut_bytes or await self._wait_turn(self._outbox.cut_bytes):
                await connection.send_parts(parts)
            else:
                self._outbox.drop_large()
                self._end_snapshot(ok=False)  # it may have been a chunk
            return
        before_bytes = self._outbox.size_bytes
        parts = self._outbox.take(self._burst_bytes)
        begun = trio.current_time()
        await connection.send_parts(parts)
        took_s = trio.current_time() - begun
        if took_s > limits.BURST_S and 2 * (before_bytes - self._outbox.size_bytes) >= self._burst_bytes:
            shrunk = int(self._burst_bytes * limits.BURST_S / took_s)
            self._burst_bytes = max(shrunk, limits.FRAGMENT_BYTES)
        elif self._outbox.size_bytes and self._burst_bytes < limits.MAX_BURST_BYTES:
            self._burst_bytes *= 2

    # --- what faults do to it (see `faults.py`) ---

    def _send_through(self, faults: LinkFaults, frame: bytes) -> None:
        """What becomes of a message."""
        now = trio.current_time()
        fate = faults.fate(_due_at_once(len(frame)), now)
        if fate.reset:
            self._to_be_reset = True
        elif self.outbox_bytes + faults.held_bytes + fate.copies * len(frame) > limits.MAX_OUTBOX_BYTES:
            self._inbox.put(PeerUnreachable(self._member.id))
        else:
            faults.hold(frame, fate, now)
            self._leave(faults.ripe(now))
        self._faults_changed.unpark_all()

    def _leave(self, frames: list[bytes]) -> None:
        for frame in frames:
            if frame[LENGTH_BYTES] == _ENTRIES_TYPE:
                self._outbox.put_bulk((frame,), len(frame))
            else:
                self._outbox.put_small(frame)
        self._work.unpark()

    async def _obey_faults(self) -> None:
        """While the connection lasts: what is held back leaves when it is due; or the connection breaks."""
        while not self._to_be_reset:
            with trio.CancelScope(deadline=inf if self._faults is None else self._faults.next_due):
                await self._faults_changed.park()
            if self._faults is not None:
                self._leave(self._faults.ripe(trio.current_time()))
        raise ConnectionLost("the connection was reset on purpose")

    async def _wait_turn(self, size_bytes: int) -> bool:
        """Until a piece of something large may leave; False when it may not, and the whole is lost."""
        while (faults := self._faults) is not None and not faults.refuse():
            due = faults.pace(size_bytes, trio.current_time())
            while self._faults is faults and trio.current_time() < due:
                with trio.CancelScope(deadline=due):
                    await self._faults_changed.park()
            if self._faults is faults:
                return True
        return self._faults is None

    async def _open_snapshot(self, wanted: SendSnapshot) -> Iterator[SnapshotChunk]:
        snapshot = await self._load_snapshot()
        assert snapshot is not None, "a prefix was cut without a snapshot"
        return chunks(InstallSnapshot(wanted.term, snapshot))


def _due_at_once(size_bytes: int) -> int:
    """What a frame costs where a rate is bound before it leaves: one in fragments pays for each of them."""
    return size_bytes if size_bytes <= limits.FRAGMENT_BYTES else 0


def _level(error: EventStreamError, starting: bool) -> int:
    """How loud a peer that cannot be reached is: nodes that start together miss each other for a moment."""
    if not isinstance(error, Unreachable | ConnectionLost | PartitionDown):
        return logging.ERROR
    return logging.INFO if starting else logging.WARNING


def _is_refusal(error: EventStreamError) -> bool:
    """Whether the peer is there, and has said why it does not talk to this node."""
    return not isinstance(error, Unreachable | ConnectionLost | PartitionDown | HandshakeTimeout)


async def _watch_for_the_end(connection: Connection) -> None:
    for message in await connection.receive():
        if isinstance(message, Goodbye):
            raise error_of(message.code, message.message)
        raise ProtocolError("a peer answered on a connection that goes one way")
    raise ConnectionLost("the peer has closed the connection")
