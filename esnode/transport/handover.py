"""Connections that another process has accepted, handed over through a socket, with what was read of them.

The supervisor of a node with several partitions reads the first frame of a connection to find its partition.
That partition's process then serves it as if it had accepted it. Between the two there is a pair of sockets
for each port: a message is the bytes that were read, with the descriptor beside them (SCM_RIGHTS). Decides
nothing. Used by `supervisor/` on the one side, and `__main__` on the other.
"""

import socket
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import trio

from esnode import limits
from esnode.config import Address
from esnode.transport.tcpstream import TcpStream

_DESCRIPTOR_BYTES: Final = array("i").itemsize
MAX_FIRST_BYTES: Final = limits.MAX_HELLO_BYTES + 4
"""What may have been read of a connection: one frame, with its length."""
_QUEUE_BYTES: Final = 64 * limits.KIB
"""What waits in the kernel for a process to take it: connections that it is too busy to accept."""


def handover_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a socket for connections, one per message. When one end closes, the other notices."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)
    return ours, theirs


async def hand_over(to: trio.socket.SocketType, stream: TcpStream, first: bytes) -> None:
    """Give `stream`, of which `first` was read, to the other end; it is to be closed here afterwards.

    Waits while the other end takes nothing. One task at a time. Raises `OSError` where it has gone.
    """
    assert 0 < len(first) <= MAX_FIRST_BYTES
    rights = array("i", [stream.fileno()])
    await to.sendmsg([first], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights.tobytes())])


class HandedOverStream(TcpStream):
    """A connection that begins with bytes which another process has read."""

    def __init__(self, descriptor: int, first: bytes) -> None:
        super().__init__(trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))))
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What was read before; then as `TcpStream`."""
        if not self._first:
            return await super().receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        end = len(self._first) if max_bytes is None else max_bytes
        data, self._first = self._first[:end], self._first[end:]
        return data


class HandoverListener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """Accepts what comes through a socket. Closing this leaves the socket open: a node may run again."""

    def __init__(self, inherited: socket.socket, on_end: Callable[[], object]) -> None:
        """`on_end` is called when the other end has gone: there will be no more connections."""
        self._inherited = trio.socket.from_stdlib_socket(inherited)
        self._on_end = on_end

    async def accept(self) -> HandedOverStream:
        """The next one; waits for ever after the end."""
        space = socket.CMSG_SPACE(_DESCRIPTOR_BYTES)
        while True:
            first, rights, _, _ = await self._inherited.recvmsg(
                MAX_FIRST_BYTES, space, socket.MSG_CMSG_CLOEXEC
            )
            if not first:
                self._on_end()
                await trio.sleep_forever()
            descriptors = array("i")
            for _, _, data in rights:
                descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
            for descriptor in descriptors:  # none where this process may open no more
                return HandedOverStream(descriptor, first)

    async def aclose(self) -> None:
        """Listen no more."""
        await trio.lowlevel.checkpoint()


class InheritedPorts:
    """The ports of a process that the supervisor has started: the other ends of the pairs, by address."""

    def __init__(self, descriptors: Mapping[Address, int], on_end: Callable[[], object]) -> None:
        """Raises `OSError` where a descriptor is no socket."""
        self._sockets = {address: socket.socket(fileno=number) for address, number in descriptors.items()}
        self._on_end = on_end
        for each in self._sockets.values():
            each.set_inheritable(False)

    def close(self) -> None:
        """Take no connections any more."""
        for each in self._sockets.values():
            each.close()

    async def listen(self, address: Address, opened: ExitStack) -> Sequence[HandoverListener]:
        """In place of opening the port `address`."""
        await trio.lowlevel.checkpoint()
        return [HandoverListener(self._sockets[address], self._on_end)]
