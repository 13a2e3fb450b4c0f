"""A dialect for tests, one line a sending, and a server that speaks it as a script says."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from bench.peers.client import Acked, Address, Answer, Elsewhere, Never, NotNow
from esnode.dedup.batch import Batch

Script = Callable[[int], bytes]
"""What a server says to the sending it has heard so many others before; empty bytes: nothing."""


class LineDialect:
    """`SEND number count` there; `ACK`, `LATER`, `NEVER` and its number back, or `AWAY`."""

    capacity = 2
    ready = True

    def __init__(self) -> None:
        self._outbox: list[bytes] = []
        self._buffer = b""
        self._counts: dict[int, int] = {}

    def put(self, number: int, batch: Batch) -> None:
        self._counts[number] = batch.count
        self._outbox.append(b"SEND %d\n" % number)

    def feed(self, data: bytes) -> Sequence[Answer]:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [self._answer(*line.split()) for line in lines]

    def take(self) -> bytes:
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data

    def _answer(self, word: bytes, text: bytes) -> Answer:
        number = int(text)
        match word:
            case b"ACK":
                return Acked(number, self._counts[number])
            case b"LATER":
                return NotNow(number)
            case b"NEVER":
                return Never(number, "no")
            case _:
                raise Elsewhere


class LineServer:
    """Listens on loopback. `heard` counts sendings, those of all connections."""

    def __init__(self, script: Script) -> None:
        self.heard = 0
        self.connections = 0
        self._script = script

    async def listen(self, nursery: trio.Nursery) -> Address:
        listeners = await nursery.start(trio.serve_tcp, self._serve, 0)
        address: tuple[str, int] = listeners[0].socket.getsockname()[:2]
        return "127.0.0.1", address[1]

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        buffer = b""
        async for data in stream:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                word = self._script(self.heard)
                self.heard += 1
                if word:
                    await stream.send_all(word + b" " + line.split()[1] + b"\n")


async def with_servers(
    scripts: Sequence[Script], work: Callable[[Sequence[Address], Sequence[LineServer]], Awaitable[None]]
) -> None:
    """Run `work` while a server for each script listens."""
    async with trio.open_nursery() as nursery:
        servers = [LineServer(script) for script in scripts]
        addresses = [await server.listen(nursery) for server in servers]
        await work(addresses, servers)
        nursery.cancel_scope.cancel()
