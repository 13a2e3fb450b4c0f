"""A TCP connection with as few steps as possible: it waits only if the kernel has no data or accepts none.

trio's own stream passes through the scheduler after each call that could be done at once, and tries to read
before it waits. A node reads and writes for each batch several times, mostly a few hundred bytes.
Decides nothing else. Made by `connection.py`.
"""

import operator
import socket
import threading
from collections.abc import Sequence
from typing import Final

import trio

DEFAULT_BYTES: Final = 65536
MAX_PARTS: Final = 1024
"""Linux takes no more in one call (UIO_MAXIOV)."""
MOST_AT_ONCE: Final = 262_144
_STREAM: Final = (socket.SOCK_STREAM, socket.IPPROTO_TCP)


class _Memory(threading.local):
    """Where what arrives is for a moment, whatever stream of this thread it arrives on."""

    def __init__(self) -> None:
        self.arrived = memoryview(bytearray(MOST_AT_ONCE))


_memory: Final = _Memory()


class TcpStream(trio.abc.HalfCloseableStream):
    """As `trio.SocketStream`, whose socket it takes over. One task sends and one receives at a time."""

    def __init__(self, stream: trio.SocketStream) -> None:
        family = stream.socket.family
        self._socket = socket.socket(family, *_STREAM, fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._drained = True
        """The last read took all there was."""
        self._said_end = False
        self._sending = False

    def fileno(self) -> int:
        """The number of its descriptor, to hand the socket to another process."""
        return self._socket.fileno()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As the socket's."""
        self._socket.setsockopt(level, option, value)

    def peer_name(self) -> str:
        """Who is at the other end, for logs."""
        try:
            name = self._socket.getpeername()
        except OSError:
            return "a closed connection"  # gone before we looked; the first receive says so
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)

    def peer_host(self) -> str:
        """The address of the other end without its port; empty where there is none."""
        try:
            name = self._socket.getpeername()
        except OSError:
            return ""
        return str(name[0]) if isinstance(name, tuple) else ""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the kernel; waits, and lets others run, only while that is full.

        Raises `trio.BrokenResourceError` and `trio.ClosedResourceError`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self._send(data)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            await self.wait_send_all_might_not_block()
            rest = rest[self._push(rest) :]

    async def send_parts(self, parts: Sequence[bytes]) -> None:
        """The same for bytes in several parts, which nobody has to join."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_may_send()
        for begin in range(0, len(parts), MAX_PARTS):
            few = parts[begin : begin + MAX_PARTS]
            sent = self._push_parts(few)
            if sent < sum(map(len, few)):
                await self.send_all(_rest(parts[begin:], sent))
                return

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes something, with nobody else waiting for that."""
        self._check_alone()
        self._check_open()
        self._sending = True
        try:
            await trio.lowlevel.wait_writable(self._socket)
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        await trio.lowlevel.checkpoint()
        self._check_alone()
        self._check_open()
        self._said_end = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at least one byte; empty at the end.

        Raises `trio.BrokenResourceError` and `trio.ClosedResourceError`.
        """
        wanted = DEFAULT_BYTES if max_bytes is None else operator.index(max_bytes)
        if wanted < 1:
            raise ValueError("max_bytes must be at least 1")
        if not self._drained:
            await trio.lowlevel.checkpoint()
        while True:
            if self._drained:
                await self._wait_readable()
            self._check_open()
            try:
                data = self._receive(wanted)
            except BlockingIOError:
                self._drained = True
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self._drained = len(data) < wanted
            return data

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        self._check_may_send()
        return self._push(data)

    def _check_may_send(self) -> None:
        self._check_alone()
        if self._said_end:
            raise trio.ClosedResourceError("the end was said already")

    def _push_parts(self, parts: Sequence[bytes]) -> int:
        self._check_open()
        try:
            return self._socket.sendmsg(parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def _push(self, data: bytes | bytearray | memoryview) -> int:
        self._check_open()
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def _receive(self, wanted: int) -> bytes:
        """Into memory that is always there: a piece of its own would come from the kernel each time."""
        buffer = _memory.arrived
        received = self._socket.recv_into(buffer, min(wanted, len(buffer)))
        return buffer[:received].tobytes()

    async def _wait_readable(self) -> None:
        self._check_open()
        await trio.lowlevel.wait_readable(self._socket)

    def _check_alone(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed on this side")


def _rest(parts: Sequence[bytes], sent: int) -> bytes:
    """What is left of `parts` when so many bytes have gone."""
    for number, part in enumerate(parts):
        if sent < len(part):
            return b"".join((part[sent:], *parts[number + 1 :]))
        sent -= len(part)
    return b""
