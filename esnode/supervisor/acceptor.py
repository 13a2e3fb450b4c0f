"""The two ports of a node with several partitions: which process a connection is for.

Reads the first frame of each connection, and hands the connection to the process of the partition that its
`Hello` names. Decides nothing else about it: whether the `Hello` is good is for that process. What is no
`Hello`, comes too late or names a partition that is not there is answered here, with the reason. Bounded like
the handshakes of a node: in bytes, in time, and in the number of connections that have said nothing yet.
"""

import logging
from collections.abc import Sequence
from typing import Final

import trio

from esnode import limits
from esnode.errors import (
    CallerError,
    ConnectionLost,
    EventStreamError,
    FrameTooLarge,
    HandshakeTimeout,
    OperatorError,
    PartitionDown,
    PeerError,
    ProtocolError,
)
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.supervisor.partitionprocess import PartitionProcess
from esnode.transport.connection import Connection, say_goodbye, unknown_partition
from esnode.transport.connectionslots import Handshakes
from esnode.transport.tcpstream import TcpStream
from esnode.wire.frames import decode
from esnode.wire.layout import LENGTH_BYTES

log = logging.getLogger(__name__)

HANDOVER_TIMEOUT_S: Final = limits.HANDSHAKE_TIMEOUT_S
"""A process that takes no connection for so long is too busy for another one."""
MAX_HANDSHAKES: Final = {Side.CLIENT: limits.MAX_CLIENT_HANDSHAKES, Side.PEER: limits.MAX_PEER_HANDSHAKES}


class Acceptor:
    """The port for one side: clients, or peers."""

    def __init__(self, side: Side, processes: Sequence[PartitionProcess]) -> None:
        self._side = side
        self._processes = processes
        self._handshakes = Handshakes(MAX_HANDSHAKES[side])
        self._logged: set[str] = set()
        """What the log has told of connections that were refused, once each."""

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve connections for ever."""
        await trio.serve_listeners(self._serve_one, list(listeners))

    async def _serve_one(self, accepted: trio.SocketStream) -> None:
        stream = TcpStream(accepted)
        connection = Connection(stream)
        try:
            with self._handshakes.one(connection.source):
                await self._dispatch(connection, stream)
        except ConnectionLost as error:
            log.debug("connection_left", extra={"address": connection.peer_address, "reason": str(error)})
        finally:
            await connection.aclose()

    async def _dispatch(self, connection: Connection, stream: TcpStream) -> None:
        try:
            first = await _first_frame(stream)
            process = self._process_of(first)
            with trio.move_on_after(HANDOVER_TIMEOUT_S) as waiting:
                if await process.hand_over(self._side, stream, first):
                    return
            why = "is too busy" if waiting.cancelled_caught else "does not run"
            raise PartitionDown(f"the process of partition {process.partition} {why} on this node")
        except ConnectionLost:
            raise
        except (PeerError, CallerError, OperatorError) as error:
            self._log_refusal(connection, error)
            await say_goodbye(connection, error)

    def _process_of(self, first: bytes) -> PartitionProcess:
        hello = decode(first[LENGTH_BYTES:])
        if not isinstance(hello, Hello):
            raise ProtocolError(f"the first message was {type(hello).__name__}, not Hello")
        if not hello.min_version <= PROTOCOL_VERSION <= hello.max_version:
            return self._processes[0]  # which says so: all but the versions may mean something else
        if hello.partition >= len(self._processes):
            raise unknown_partition(hello.partition, len(self._processes))
        return self._processes[hello.partition]

    def _log_refusal(self, connection: Connection, error: EventStreamError) -> None:
        again = str(error) in self._logged or isinstance(error, PartitionDown)
        if len(self._logged) >= limits.MAX_REFUSALS_REMEMBERED:
            self._logged.clear()
        self._logged.add(str(error))
        log.log(
            logging.DEBUG if again else logging.WARNING,
            "connection_refused",
            extra={
                "side": self._side.name.lower(),
                "address": connection.peer_address,
                "code": error.code,
                "reason": str(error),
            },
        )


async def _first_frame(stream: TcpStream) -> bytes:
    """The first frame with its length, and not a byte of what follows.

    Raises `HandshakeTimeout`, `FrameTooLarge`, `ConnectionLost`.
    """
    try:
        with trio.fail_after(limits.HANDSHAKE_TIMEOUT_S):
            length = await _exactly(stream, LENGTH_BYTES)
            size = int.from_bytes(length, "big")
            if not 0 < size <= limits.MAX_HELLO_BYTES:
                raise FrameTooLarge(f"a frame of {size} bytes is not within 1 to {limits.MAX_HELLO_BYTES}")
            return length + await _exactly(stream, size)
    except trio.TooSlowError as error:
        raise HandshakeTimeout(
            f"no Hello within {limits.HANDSHAKE_TIMEOUT_S:g} s (HANDSHAKE_TIMEOUT_S)"
        ) from error
    except trio.BrokenResourceError as error:
        raise ConnectionLost("the connection broke before its Hello") from error


async def _exactly(stream: TcpStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        if not piece:
            raise ConnectionLost("the connection ended before its Hello")
        data += piece
    return data
