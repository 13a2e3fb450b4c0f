"""One connection between two processes, and the handshake that opens it.

Decides how long a frame and a handshake may take, and who may talk to whom. Never interprets what
comes after the handshake. Here, and nowhere else, the errors of the operating system and of trio
become this project's. Called by the ingest, the replication and the client.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import cache
from types import TracebackType
from typing import Final, Self

import trio

import esnode
from esnode import errors, limits
from esnode.config import Address, Ancestor
from esnode.errors import (
    Bug,
    ClusterRestored,
    ConnectionLost,
    EventStreamError,
    HandshakeTimeout,
    ProtocolError,
    UnknownPartition,
    Unreachable,
    VersionMismatch,
    WrongCluster,
    WrongNode,
)
from esnode.messages import PROTOCOL_VERSION, Goodbye, Hello, Side, Welcome
from esnode.ring import FIRST_VERSION
from esnode.transport.clientmemory import FrameMemory
from esnode.transport.connectionslots import source_of
from esnode.transport.tcpstream import TcpStream
from esnode.wire import FrameReader, Message, encode

RECEIVE_BYTES: Final = 256 * limits.KIB
"""Read at once: many small messages, or much of a large one, for one system call."""
LINGER_S: Final = 0.05
"""How long a connection that was refused is read on, so that its reset does not overtake the reason."""
MAX_LINGER_BYTES: Final = 1 * limits.MIB

ByteStream = trio.abc.HalfCloseableStream
ByteListener = trio.abc.Listener[ByteStream]
Dialer = Callable[[Address], Awaitable[trio.abc.Stream]]
"""Opens a byte stream to an address; raises `Unreachable`. With `ByteListener` the seam of the simulated
network."""


async def open_stream(address: Address) -> trio.abc.Stream:
    """The `Dialer` for TCP; gives up after `limits.HANDSHAKE_TIMEOUT_S`."""
    try:
        with trio.fail_after(limits.HANDSHAKE_TIMEOUT_S):
            return await trio.open_tcp_stream(address.host, address.port)
    except trio.TooSlowError as error:
        raise Unreachable(f"{address} does not answer") from error
    except OSError as error:
        raise Unreachable(f"{address} cannot be reached: {_reason(error)}") from error


class Connection:
    """Messages over a byte stream, which is its own from now on. One task sends and one receives at a time.

    `peer_address` is for logs only.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = TcpStream(stream) if isinstance(stream, trio.SocketStream) else stream
        self._reader = FrameReader()
        self._received: list[Message] = []
        self._frame_s_left = limits.FRAME_TIMEOUT_S
        self._on_progress: Callable[[], object] | None = None
        self._progress_bytes = 0
        self._next_sign_at = 0.0
        self._memory: FrameMemory | None = None
        self._place_bytes = 0
        """What of that memory the unfinished frame has."""
        self.source = ""
        """Whom connections are counted by, see `connectionslots.py`; empty where there is no address."""
        self.peer_address = ""
        if isinstance(self._stream, TcpStream):
            self.peer_address = self._stream.peer_name()
            self.source = source_of(self._stream.peer_host())
            self.set_option(socket.IPPROTO_TCP, "TCP_NODELAY", 1)

    def set_option(self, level: int, name: str, value: int) -> None:
        """Set the option of the socket, where there is one and the system knows the name."""
        if isinstance(self._stream, TcpStream) and hasattr(socket, name):
            self._stream.setsockopt(level, getattr(socket, name), value)

    def limit_frames(self, max_bytes: int) -> None:
        """Refuse longer frames from now on; `limits.MAX_FRAME_BYTES` at first."""
        self._reader.max_frame_bytes = max_bytes

    def on_progress(self, tell: Callable[[], object]) -> None:
        """Let `tell` be called while a large message is on its way here: its sender lives.

        Once for each `limits.SIGN_OF_LIFE_BYTES` of it or more, and at most every `limits.SIGN_OF_LIFE_S`.
        """
        self._on_progress = tell

    def progressed(self, size_bytes: int) -> None:
        """So much more has come of a message that is not whole."""
        if self._on_progress is None:
            return
        self._progress_bytes += size_bytes
        now = trio.current_time()
        if self._progress_bytes >= limits.SIGN_OF_LIFE_BYTES and now >= self._next_sign_at:
            self._progress_bytes = 0
            self._next_sign_at = now + limits.SIGN_OF_LIFE_S
            self._on_progress()

    def share_memory(self, memory: FrameMemory) -> None:
        """Let large frames wait for memory that other connections use, too."""
        self._memory = memory

    async def send(self, *messages: Message) -> None:
        """Send them in one write; raises `ConnectionLost`."""
        await self.send_bytes(b"".join([encode(message) for message in messages]))

    async def send_bytes(self, data: bytes) -> None:
        """Send whole frames that are encoded already; raises `ConnectionLost`.

        When this is cancelled, a part of a frame may have left: the connection can only be closed.
        """
        await _sent(self._stream.send_all(data))

    async def send_parts(self, parts: Sequence[bytes]) -> None:
        """The same for frames in parts, one after the other."""
        if isinstance(self._stream, TcpStream):
            await _sent(self._stream.send_parts(parts))
        else:
            await self.send_bytes(b"".join(parts))

    async def receive(self) -> list[Message]:
        """What has arrived, at least one message; empty when the other side has ended cleanly.

        Waits for ever for a frame to begin, and for it to become whole `limits.FRAME_TIMEOUT_S` and the
        time that what has come of it takes on the slowest link, counted while somebody waits here. Raises
        `ConnectionLost`, `ProtocolError`, `FrameTooLarge`, `DamagedRecord`; `FramesFull` where
        memory is shared.
        """
        messages, self._received = self._received, []
        while not messages:
            data = await self._receive_some()
            if not data:
                if self._reader.unfinished:
                    raise ConnectionLost("the connection ended within a frame")
                return []
            messages = self._reader.feed(data)
            if not messages:
                self.progressed(len(data))
        self._frame_s_left = limits.FRAME_TIMEOUT_S
        if self._place_bytes:
            self._leave_place()
        return messages

    async def receive_one(self) -> Message | None:
        """The next message; None when the other side has ended cleanly. Raises as `receive` does."""
        messages = await self.receive()
        if not messages:
            return None
        self._received = messages[1:]
        return messages[0]

    async def aclose(self) -> None:
        """Close it, at once in the end: whatever the other side does."""
        if self._place_bytes:
            self._leave_place()
        with trio.move_on_after(limits.STOP_TIMEOUT_S, shield=True):
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def linger(self) -> None:
        """Say that nothing more will be sent, and drop what still comes, for a moment."""
        left = MAX_LINGER_BYTES
        with trio.move_on_after(LINGER_S):
            try:
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                    left -= len(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the other side has gone: that is what we waited for

    async def _wait_place(self, memory: FrameMemory) -> None:
        if not self._place_bytes:
            size_bytes = self._reader.unfinished_bytes
            await memory.wait_place(self.source, size_bytes, self._on_progress)
            self._place_bytes = size_bytes

    def _leave_place(self) -> None:
        assert self._memory is not None
        self._memory.give_back(self.source, self._place_bytes)
        self._place_bytes = 0

    async def _receive_some(self) -> bytes:
        if self._memory is not None and self._reader.unfinished_bytes > limits.SMALL_FRAME_BYTES:
            await self._wait_place(self._memory)
        try:
            if not self._reader.unfinished:
                return bytes(await self._stream.receive_some(RECEIVE_BYTES))
            begun = trio.current_time()
            with trio.fail_after(max(0.0, self._frame_s_left)):
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except trio.TooSlowError as error:
            raise ConnectionLost(
                f"a frame was not whole within {limits.FRAME_TIMEOUT_S:g} s (FRAME_TIMEOUT_S) and the time"
                f" that it takes at {limits.SLOWEST_LINK_BYTES_PER_S} bytes/s (SLOWEST_LINK_BYTES_PER_S)"
            ) from error
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"the connection broke while receiving: {_reason(error)}") from error
        except trio.ClosedResourceError as error:
            raise ConnectionLost("the connection was closed on this side") from error
        self._frame_s_left -= trio.current_time() - begun
        self._frame_s_left += len(data) / limits.SLOWEST_LINK_BYTES_PER_S
        return data


async def greet(connection: Connection, hello: Hello) -> Welcome:
    """The opening side: say `hello`, return the answer.

    A `Goodbye` raises the error of its code. Raises `HandshakeTimeout`, `ConnectionLost`,
    `ProtocolError`, `VersionMismatch`, `WrongCluster`, `WrongNode`.
    """
    try:
        with trio.fail_after(limits.HANDSHAKE_TIMEOUT_S):
            await connection.send(hello)
            answer = await connection.receive_one()
    except trio.TooSlowError as error:
        raise HandshakeTimeout(f"no answer to Hello within {limits.HANDSHAKE_TIMEOUT_S:g} s") from error
    if answer is None:
        raise ConnectionLost("the other side ended the connection instead of answering Hello")
    if isinstance(answer, Goodbye):
        raise error_of(answer.code, answer.message)
    if not isinstance(answer, Welcome):
        raise ProtocolError(f"Hello was answered by {type(answer).__name__}")
    if not hello.min_version <= answer.version <= hello.max_version:
        offered = f"{hello.min_version} to {hello.max_version}"
        older = f"node {answer.node_id}" if answer.version < hello.min_version else "this side"
        raise VersionMismatch(
            f"node {answer.node_id} chose version {answer.version} of the protocol, this side"
            f" (esnode {esnode.__version__}) offered {offered}: upgrade {older}"
        )
    if hello.cluster and answer.cluster != hello.cluster:
        raise WrongCluster(f"the node belongs to {answer.cluster!r}, not to {hello.cluster!r}")
    if hello.wanted_id and answer.node_id != hello.wanted_id:
        raise WrongNode(f"node {answer.node_id} answers where node {hello.wanted_id} should")
    return answer


async def accept(
    connection: Connection,
    *,
    cluster: str,
    node_id: int,
    incarnation: int,
    allowed_side: Side,
    peers: Collection[int],
    ancestors: Sequence[Ancestor] = (),
    partition: int = 0,
    partitions: int = 1,
    ring: Callable[[], tuple[int, int]] = lambda: (FIRST_VERSION, 1),
    agree: Callable[[Hello], None] | None = None,
    admit: Callable[[Hello], Awaitable[None]] | None = None,
) -> Hello:
    """The accepting side: wait for a `Hello`, answer `Welcome` or `Goodbye`, return the `Hello`.

    Raises what it has said in the `Goodbye`: `HandshakeTimeout`, `VersionMismatch`, `WrongCluster`,
    `WrongNode`, `UnknownPartition`, `ProtocolError`, `FrameTooLarge`, `DamagedRecord`, what `agree` and
    `admit` raise; or `ConnectionLost`. A client of one of the `ancestors` is told `ClusterRestored`. `agree`
    comes before it is asked whether the other side is a peer: where the lists of peers differ, that is the
    cause. `ring` gives version and number of partitions, for the `Welcome`.
    """
    connection.limit_frames(limits.MAX_HELLO_BYTES)
    try:
        hello = await _receive_hello(connection)
        version = _common_version(hello, node_id)
        _check_lineage(hello, cluster, ancestors)
        _check_hello(hello, cluster, node_id, allowed_side)
        if hello.side is Side.PEER:
            if agree is not None:
                agree(hello)
            _check_peer(hello, node_id, incarnation, peers)
        if hello.partition != partition:
            raise unknown_partition(hello.partition, partitions)
        if admit is not None:
            await admit(hello)
    except ConnectionLost:
        raise
    except EventStreamError as error:
        await say_goodbye(connection, error)
        raise
    connection.limit_frames(limits.MAX_FRAME_BYTES)
    await connection.send(Welcome(version, cluster, node_id, incarnation, *ring()))
    return hello


def unknown_partition(partition: int, partitions: int) -> UnknownPartition:
    """The answer to a `Hello` that wants a partition which is not there."""
    known = f"0 to {partitions - 1}" if partitions > 1 else "only 0"
    return UnknownPartition(f"there is no partition {partition}: this cluster has {known}")


async def say_goodbye(connection: Connection, error: EventStreamError) -> None:
    """Tell the other side why its connection ends, as well as that can be done; close it afterwards."""
    with trio.move_on_after(limits.STOP_TIMEOUT_S):
        try:
            await connection.send(Goodbye(error.code, str(error)[:1024]))
        except ConnectionLost:
            return  # nobody is left to tell
        await connection.linger()


def error_of(code: str, message: str) -> EventStreamError:
    """The error that a `Goodbye` or a `Refused` stands for. An unknown code is a `ProtocolError`.

    A bug of the other side is not one of this process: here it is a connection that was lost.
    """
    cls = _declared().get(code)
    if cls is not None and issubclass(cls, Bug):
        return ConnectionLost(f"the other side has ended with {code}: {message}")
    if cls is None:
        return ProtocolError(f"the other side gave the unknown error {code}: {message}")
    return cls(message)


@cache
def _declared() -> dict[str, type[EventStreamError]]:
    return errors.declared()


async def _receive_hello(connection: Connection) -> Hello:
    try:
        with trio.fail_after(limits.HANDSHAKE_TIMEOUT_S):
            message = await connection.receive_one()
    except trio.TooSlowError as error:
        raise HandshakeTimeout(
            f"no Hello within {limits.HANDSHAKE_TIMEOUT_S:g} s (HANDSHAKE_TIMEOUT_S)"
        ) from error
    if message is None:
        raise ConnectionLost("the connection ended before its Hello")
    if not isinstance(message, Hello):
        raise ProtocolError(f"the first message was {type(message).__name__}, not Hello")
    return message


def _check_hello(hello: Hello, cluster: str, node_id: int, allowed_side: Side) -> None:
    if hello.side is not allowed_side:
        raise ProtocolError(
            f"this port is for a {allowed_side.name.lower()}, not a {hello.side.name.lower()}"
        )
    if hello.cluster != cluster and (hello.cluster or hello.side is Side.PEER):
        raise WrongCluster(f"this is cluster {cluster!r}, not {hello.cluster!r}")
    if hello.wanted_id != node_id and (hello.wanted_id or hello.side is Side.PEER):
        raise WrongNode(f"this is node {node_id}, not node {hello.wanted_id}")


def _check_peer(hello: Hello, node_id: int, incarnation: int, peers: Collection[int]) -> None:
    if hello.incarnation == incarnation:
        raise WrongNode(f"node {node_id} has reached itself")
    if hello.node_id not in peers:
        raise WrongNode(f"node {hello.node_id} is not a peer of node {node_id}")


def _check_lineage(hello: Hello, cluster: str, ancestors: Sequence[Ancestor]) -> None:
    """Tell a client of a cluster that this one was restored from what has become of it."""
    known = [ancestor.cluster for ancestor in ancestors]
    if hello.side is not Side.CLIENT or hello.cluster == cluster or hello.cluster not in known:
        return
    shared = min(ancestor.end_offset for ancestor in ancestors[known.index(hello.cluster) :])
    raise ClusterRestored(
        f"cluster {hello.cluster!r} was restored from a backup: it is now {cluster!r}, epoch"
        f" {1 + len(ancestors)}; only the events before offset {shared} are the same in both"
    )


def _common_version(hello: Hello, node_id: int) -> int:
    """The version that both sides speak; first of all, since every other field may mean something else."""
    if not hello.min_version <= PROTOCOL_VERSION <= hello.max_version:
        other = f"node {hello.node_id}" if hello.side is Side.PEER and hello.node_id else "the other side"
        older = other if hello.max_version < PROTOCOL_VERSION else f"node {node_id}"
        raise VersionMismatch(
            f"node {node_id} (esnode {esnode.__version__}) speaks version {PROTOCOL_VERSION} of the protocol,"
            f" {other} {hello.min_version} to {hello.max_version}: upgrade {older}"
        )
    return PROTOCOL_VERSION


async def _sent(sending: Awaitable[None]) -> None:
    """Wait for a stream to send; translates what it raises."""
    try:
        await sending
    except trio.BrokenResourceError as error:
        raise ConnectionLost(f"the connection broke while sending: {_reason(error)}") from error
    except trio.ClosedResourceError as error:
        raise ConnectionLost("the connection was closed on this side") from error


def _reason(error: BaseException) -> str:
    """What the operating system said, where it said something."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            # trio puts the address into the text once more; a failed look-up has a number below zero.
            return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
        cause = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__
    return str(error) or "closed"
