"""NATS JetStream: a stream of three replicas on file, deduplicated by message id.

`nats` syncs its files every two minutes, as it does by default; `nats-always` before each ack; `nats-batch`
publishes atomic batches, by default synced as `nats`.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import trio

from bench.peers import binaries
from bench.peers.client import RECEIVE_BYTES, Address, Client, Elsewhere, open_client
from bench.peers.nats_wire import (
    BATCHES_AT_ONCE,
    NatsBatchDialect,
    NatsDialect,
    Reader,
    error_of,
    hello,
    new_inbox,
    publish,
)
from bench.peers.peer import NODES, Facts, Habits
from bench.peers.servers import Servers
from esctl.clusters import ports
from esnode.errors import InvalidRequest

SUBJECT: Final = "bench.events"
STREAM: Final = "EVENTS"
WINDOW_NS: Final = 120 * 10**9
API_TIMEOUT_S: Final = 2.0


class Nats:
    """See `peer.Peer`."""

    def __init__(self, *, sync_always: bool = False, batches: bool = False) -> None:
        self._sync_always = sync_always
        self._batches = batches
        self._servers = Servers()
        self._addresses: list[Address] = []

    @cached_property
    def version(self) -> str:
        """Such as `nats-server: v2.15.1`."""
        return binaries.first_line(binaries.find("nats-server"), "--version")

    @property
    def facts(self) -> Facts:
        """See `peer.Facts`."""
        return Facts(
            system="NATS JetStream, R3 file, message ids"
            + ", sync_interval: always" * self._sync_always
            + ", atomic batches" * self._batches,
            durable="yes" if self._sync_always else "no: fsync every 2 minutes",
            client="raw sockets: one publish an event over one connection, one ack"
            f" {'a batch' if self._batches else 'each'}; a batch is one write",
            timers="as shipped: elections after 4 to 9 s",
            dialling="the stream's leader first, then the next node",
        )

    async def start(self, directory: Path) -> None:
        """Three servers, and the stream."""
        binary = binaries.find("nats-server")
        chosen = ports.choose(2 * NODES, ())
        self._addresses = [(ports.HOST, port) for port in chosen[:NODES]]
        peers = [f"{ports.HOST}:{port}" for port in chosen[NODES:]]
        routes = ", ".join(f'"nats-route://{peer}"' for peer in peers)
        for number in range(NODES):
            name = f"nats-{number}"
            config = directory / f"{name}.conf"
            config.write_text(
                f"server_name: {name}\n"
                f'listen: "{ports.HOST}:{chosen[number]}"\n'
                f'jetstream {{ store_dir: "{directory / name}"\n'
                + ("  sync_interval: always\n" if self._sync_always else "")
                + f"  limits {{ batch {{ max_inflight_per_stream: {BATCHES_AT_ONCE} }} }}\n"
                + "  max_file_store: 60GB }\n"
                f'cluster {{ name: bench, listen: "{peers[number]}", routes: [{routes}] }}\n',
                encoding="utf-8",
            )
            self._servers.start(name, [binary, "--config", str(config)], directory)
        await self._servers.until(self._stream_made, "the stream of NATS is made")

    async def wait_whole(self) -> None:
        """Both replicas of the stream are current."""

        async def current() -> bool:
            reply = await self._ask(f"STREAM.INFO.{STREAM}", {})
            replicas = ((reply or {}).get("cluster") or {}).get("replicas") or []
            return len(replicas) == NODES - 1 and all(replica["current"] for replica in replicas)

        await self._servers.until(current, "the replicas of the stream of NATS are current")

    async def stop(self) -> None:
        """End the servers."""
        self._servers.end_all()

    def client(self, leader: int, habits: Habits) -> AbstractAsyncContextManager[Client]:
        """One connection: a publish needs no more."""
        dialect = NatsBatchDialect if self._batches else NatsDialect
        return open_client(self._addresses, leader, lambda: dialect(SUBJECT.encode()), habits)

    async def leader(self) -> int:
        """The node that leads the stream."""
        reply = await self._ask(f"STREAM.INFO.{STREAM}", {})
        if reply is None or error_of(reply):
            raise InvalidRequest(f"NATS does not tell who leads the stream: {reply}")
        return int(str(reply["cluster"]["leader"]).rpartition("-")[2])

    def pids(self) -> Sequence[int]:
        """The servers."""
        return [self._servers.pid(f"nats-{number}") for number in range(NODES)]

    async def _stream_made(self) -> bool:
        stream = {
            "name": STREAM,
            "subjects": [SUBJECT],
            "storage": "file",
            "num_replicas": NODES,
            "duplicate_window": WINDOW_NS,
            "allow_atomic": self._batches,
        }
        reply = await self._ask(f"STREAM.CREATE.{STREAM}", stream)
        return reply is not None and error_of(reply) is None

    async def _ask(self, what: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The reply of the JetStream API; None when none came."""
        inbox, reader = new_inbox(), Reader()
        request = publish(f"$JS.API.{what}".encode(), inbox + b".1", json.dumps(body).encode())
        with trio.move_on_after(API_TIMEOUT_S):
            try:
                async with await trio.open_tcp_stream(*self._addresses[0]) as stream:
                    await stream.send_all(hello(inbox) + request)
                    while data := await stream.receive_some(RECEIVE_BYTES):
                        for message in reader.feed(data):
                            return None if message.headers else dict(json.loads(message.payload))
            except (OSError, trio.BrokenResourceError, Elsewhere):
                return None
        return None
