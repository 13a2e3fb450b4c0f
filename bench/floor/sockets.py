"""Bytes in and out of a socket with as few system calls and copies as trio allows.

In: one `recv_into` a wake-up, into a buffer that is used again. Out: at once while the socket takes it,
otherwise when it does. Knows no frame. Called by the nodes and the client.
"""

import mmap
import socket
from collections.abc import Callable
from typing import Final

import trio

from esnode.errors import ConnectionLost

HOST: Final = "127.0.0.1"
READY: Final = b"!"
"""What a node says first, once."""
BUFFER_BYTES: Final = 16 * 1024 * 1024
"""More than any frame and a half; only what is used of it becomes memory."""
RECEIVE_BYTES: Final = 256 * 1024

Take = Callable[[memoryview, int], int]
"""Looks at the first so many bytes of a buffer; how many of them it has taken. It keeps none of them."""


def tune(sock: socket.socket) -> socket.socket:
    """As `esnode` has its sockets."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


async def connect(port: int) -> socket.socket:
    """A connection to a node on loopback; returns when that has begun its work. Raises `ConnectionLost`."""
    try:
        stream = await trio.open_tcp_stream(HOST, port)
    except OSError as error:
        raise ConnectionLost("a node of the floor ended before it was ready") from error
    sock = tune(socket.socket(fileno=stream.socket.detach()))
    await trio.lowlevel.wait_readable(sock)
    if sock.recv(len(READY)) != READY:
        sock.close()
        raise ConnectionLost("a node of the floor ended before it was ready")
    return sock


async def receive(sock: socket.socket, take: Take) -> None:
    """Give `take` what comes, until the other side ends."""
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
    have = 0
    while True:
        await trio.lowlevel.wait_readable(sock)
        got = sock.recv_into(buffer[have : have + RECEIVE_BYTES])
        if not got:
            return
        have += got
        taken = take(buffer, have)
        if taken:
            have -= taken
            buffer[:have] = buffer[taken : taken + have]


class Outlet:
    """What goes out of one socket, in order."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting: list[bytes | memoryview] = []
        self._work = trio.lowlevel.ParkingLot()
        self._ending = False

    def send(self, data: bytes) -> None:
        """Send it now, or after what waits."""
        if self._waiting:
            self._waiting.append(data)
            return
        sent = self._try(data)
        if sent < len(data):
            self._waiting.append(memoryview(data)[sent:])
            self._work.unpark()

    def end(self) -> None:
        """Say that nothing more comes, once all of it has left."""
        self._ending = True
        self._work.unpark()

    async def run(self) -> None:
        """Send what the socket would not take at once, until the end."""
        while not self._ending or self._waiting:
            if not self._waiting:
                await self._work.park()
                continue
            await trio.lowlevel.wait_writable(self._sock)
            data = b"".join(self._waiting)
            sent = self._try(data)
            self._waiting = [memoryview(data)[sent:]] if sent < len(data) else []
        self._sock.shutdown(socket.SHUT_WR)

    def _try(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
