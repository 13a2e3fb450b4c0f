"""One node over TCP that takes events into a dict: a cluster for the commands that send."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from esctl.clusters import state
from esctl.clusters.state import Cluster, Node
from esctl.query.survey import NUMBERS
from esnode.dedup.batch import OffsetRange, split_keys
from esnode.errors import PeerError
from esnode.messages import Append, Appended, LeaderIs, Read, Records, Side, StatusReply, StatusRequest
from esnode.transport.connection import Connection, accept
from esnode.wire import Message

IDENTITY = "sink-0a1b2c3d"


@dataclass
class SinkNode:
    """Acks what it takes. Without `leads` it takes nothing; after `deaf_after` events it is silent.

    It gives its status only when it `tells`.
    """

    leads: bool = True
    tells: bool = False
    deaf_after: float = float("inf")
    refuse: Callable[[Append], Message | None] = lambda _append: None
    offsets: dict[bytes, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)
    told: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        async with Connection(stream) as connection:
            try:
                await accept(
                    connection,
                    cluster=IDENTITY,
                    node_id=1,
                    incarnation=1,
                    allowed_side=Side.CLIENT,
                    peers=(),
                )
                await connection.send(LeaderIs(1, 1 if self.leads else 0, ""))
                while messages := await connection.receive():
                    replies = [reply for message in messages if (reply := self.answer(message)) is not None]
                    if replies:
                        await connection.send(*replies)
            except PeerError:
                return  # the client has gone

    def answer(self, message: Message) -> Message | None:
        if isinstance(message, StatusRequest):
            return StatusReply(message.request_id, self.status()) if self.tells else None
        if isinstance(message, Read):
            end = len(self.offsets)
            return Records(message.request_id, 0, end, 0, ()) if self.leads else None
        assert isinstance(message, Append)
        if len(self.offsets) >= self.deaf_after:
            return None
        refusal = self.refuse(message)
        if refusal is not None:
            return refusal
        batch = message.batch
        self.sizes.append(batch.count)
        keys = split_keys(batch.keys)
        known = sum(key in self.offsets for key in keys)
        ranges = tuple(OffsetRange(self.offsets.setdefault(key, len(self.offsets)), 1) for key in keys)
        self.changed.set()
        self.changed = trio.Event()
        return Appended(message.request_id, ranges, known)

    def status(self) -> dict[str, Any]:
        self.told += 1
        return {
            **dict.fromkeys(NUMBERS, 1),
            "cluster": IDENTITY,
            "id": 1,
            "role": "leader",
            "rss_bytes": 50_000_000,
            "cpu_s": self.told / 10,
        }


@asynccontextmanager
async def sink(home: Path, node: SinkNode) -> AsyncIterator[Cluster]:
    """The node on loopback, and the only cluster that esctl knows."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, node.serve, [listener])
        address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        paths = (home / "node-1", home / "node-1.toml", home / "node-1.log")
        listed = (Node(1, address, "127.0.0.1:1", *paths),)
        cluster = Cluster("sink", IDENTITY, "process", "sqlite", "2013-01-01T00:00:00Z", home, listed)
        state.add(cluster)
        yield cluster
        nursery.cancel_scope.cancel()
