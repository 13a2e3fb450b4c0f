"""A link of a given speed: `python -m bench.throttle DESCRIPTOR` carries bytes from its port to another one.

Decides how fast the bytes go that come in, all connections together; those of the way back, which are few,
go at once. Its input says what it does from then on: `to HOST:PORT`, and `rate N`, in bits a second, 0 for
no bound. A process of its own: the client that measures shall not do its work. Called by `slowlink.py`.
"""

import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from esnode.config import Address, parse_address

PIECE_BYTES: Final = 1400
"""What leaves at once while the rate is bound: about a packet."""
FREE_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = 64 * 1024
"""What the kernel keeps for us of each connection: a link does not swallow megabytes."""
SHORTEST_S: Final = 0.0001
"""The shortest sleep: what rounding leaves over may be too little to move a clock."""
LOOK_EVERY_S: Final = 0.05
"""The longest sleep: the rate may change meanwhile."""


class Bucket:
    """So many bytes may go by now. `now` is the clock in seconds."""

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._bytes_per_s = 0.0
        self._tokens = 0.0
        self._seen_s = 0.0
        self._turn = trio.Lock()

    @property
    def piece_bytes(self) -> int:
        """The most to take at once."""
        return PIECE_BYTES if self._bytes_per_s else FREE_BYTES

    def set_rate(self, bits_per_s: float) -> None:
        """From now on; 0 is no bound."""
        self._bytes_per_s, self._tokens, self._seen_s = bits_per_s / 8, 0.0, self._now()

    async def take(self, size_bytes: int) -> None:
        """Wait until so many bytes may go: nobody overtakes."""
        async with self._turn:
            while True:
                wait_s = self._lacking_s(size_bytes)
                if wait_s <= 0:
                    break
                await trio.sleep(min(max(wait_s, SHORTEST_S), LOOK_EVERY_S))
            self._tokens -= size_bytes

    def _lacking_s(self, size_bytes: int) -> float:
        if not self._bytes_per_s:
            return 0.0
        now = self._now()
        self._tokens += (now - self._seen_s) * self._bytes_per_s
        self._seen_s = now
        # What was not used is gone: a link does not save up.
        self._tokens = min(self._tokens, float(max(size_bytes, PIECE_BYTES)))
        return (size_bytes - self._tokens) / self._bytes_per_s


class Throttle:
    """The way from one port to another."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._target: Address | None = None
        self._known = trio.Event()

    def obey(self, line: str) -> None:
        """A line of the input; raises `ValueError` for one that says nothing."""
        what, _, value = line.strip().partition(" ")
        if what == "to":
            self._target = parse_address(value)
            self._known.set()
        elif what == "rate":
            self._bucket.set_rate(float(value))
        else:
            raise ValueError(f"neither `to` nor `rate`: {line!r}")

    async def serve(self, near: trio.SocketStream) -> None:
        """Carry one connection until either end is closed."""
        await self._known.wait()
        assert self._target is not None
        async with near:
            try:
                far = await trio.open_tcp_stream(self._target.host, self._target.port)
            except OSError:
                return  # the node is down: whoever has connected to it learns it by that
            async with far, trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, near, far, True, nursery.cancel_scope)
                nursery.start_soon(self._carry, far, near, False, nursery.cancel_scope)

    async def _carry(
        self, here: trio.SocketStream, there: trio.SocketStream, slowly: bool, both: trio.CancelScope
    ) -> None:
        try:
            while data := await here.receive_some(self._bucket.piece_bytes):
                if slowly:
                    await self._bucket.take(len(data))
                await there.send_all(data)
        except trio.BrokenResourceError:
            both.cancel()  # one end has gone: so goes the other
        both.cancel()


async def run(descriptor: int) -> None:
    """Listen on the descriptor and obey the input until that ends."""
    throttle = Throttle(Bucket())
    listening = socket.socket(fileno=descriptor)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    listening.setblocking(False)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, throttle.serve, [listener]))
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as orders:
            rest = b""
            async for data in orders:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    throttle.obey(line.decode("ascii"))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(run, int(sys.argv[1]))
