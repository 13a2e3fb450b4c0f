"""Redis: a stream on a master, two replicas that follow it, and three Sentinels that appoint a new master.

Replication is asynchronous: `WAIT` says that a replica has received the events, not that they are on its
disk, and Sentinel may appoint a replica that has not. There is no deduplication: what is sent again is
in the stream twice.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from pathlib import Path
from typing import Final

import trio

from bench.peers import binaries
from bench.peers.client import RECEIVE_BYTES, Address, Client, Elsewhere, open_client
from bench.peers.peer import NODES, Facts, Habits
from bench.peers.resp import Reader, RedisDialect, Value, command
from bench.peers.servers import Servers
from esctl.clusters import ports
from esnode.errors import NoQuorum

STREAM: Final = b"events"
CONNECTIONS: Final = 64
DOWN_AFTER_MS: Final = 1000
FAILOVER_TIMEOUT_MS: Final = 5000
API_TIMEOUT_S: Final = 1.0


class Redis:
    """See `peer.Peer`."""

    def __init__(self) -> None:
        self._servers = Servers()
        self._addresses: list[Address] = []
        self._sentinels: list[Address] = []

    @cached_property
    def version(self) -> str:
        """Such as `Redis server v=7.0.15 ...`."""
        return " ".join(binaries.first_line(binaries.find("redis-server"), "--version").split()[:3])

    @property
    def facts(self) -> Facts:
        """See `peer.Facts`."""
        return Facts(
            system="Redis stream, appendfsync always, WAIT 1, Sentinel (no consensus, no deduplication)",
            durable="the master's disk yes; WAIT promises that one replica received it",
            client=f"raw sockets: one pipeline a batch, {CONNECTIONS} connections, one batch on each",
            timers=f"Sentinel down-after-milliseconds {DOWN_AFTER_MS}",
            dialling="the master first, then the next node while one is read-only",
        )

    async def start(self, directory: Path) -> None:
        """The servers, then the Sentinels."""
        binary = binaries.find("redis-server")
        chosen = ports.choose(2 * NODES, ())
        self._addresses = [(ports.HOST, port) for port in chosen[:NODES]]
        self._sentinels = [(ports.HOST, port) for port in chosen[NODES:]]
        for number, (host, port) in enumerate(self._addresses):
            home = directory / f"redis-{number}"
            home.mkdir()
            follows = ["--replicaof", *map(str, self._addresses[0])] if number else []
            self._servers.start(f"redis-{number}", [
                binary,
                "--port", str(port),
                "--bind", host,
                "--dir", str(home),
                "--save", "",
                "--appendonly", "yes",
                "--appendfsync", "always",
                "--repl-diskless-sync", "yes",
                "--repl-diskless-sync-delay", "0",
                *follows,
            ], directory, binaries.libraries())  # fmt: skip
        await self._servers.until(self._replicas_follow, "both replicas of Redis follow")
        for number, (host, port) in enumerate(self._sentinels):
            config = directory / f"sentinel-{number}.conf"
            config.write_text(
                f"port {port}\nbind {host}\ndir {directory}\n"
                f"sentinel monitor bench {ports.HOST} {self._addresses[0][1]} 2\n"
                f"sentinel down-after-milliseconds bench {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout bench {FAILOVER_TIMEOUT_MS}\n",
                encoding="utf-8",
            )
            command_line = [binary, str(config), "--sentinel"]
            self._servers.start(f"sentinel-{number}", command_line, directory, binaries.libraries())

    async def wait_whole(self) -> None:
        """The Sentinels need some seconds to find each other."""
        await self._servers.until(self._sentinels_agree, "the Sentinels know each other and the replicas")

    async def stop(self) -> None:
        """End the servers and the Sentinels."""
        self._servers.end_all()

    def client(self, leader: int, habits: Habits) -> AbstractAsyncContextManager[Client]:
        """As many connections as batches under way."""
        return open_client(self._addresses, leader, lambda: RedisDialect(STREAM), habits, CONNECTIONS)

    async def leader(self) -> int:
        """The node that says it is the master; raises `NoQuorum`."""
        for number, address in enumerate(self._addresses):
            role = await _ask(address, b"ROLE")
            if isinstance(role, list) and role[0] == b"master":
                return number
        raise NoQuorum("no Redis server is a master")

    def pids(self) -> Sequence[int]:
        """The servers; the Sentinels keep nothing."""
        return [self._servers.pid(f"redis-{number}") for number in range(NODES)]

    async def _replicas_follow(self) -> bool:
        role = await _ask(self._addresses[0], b"ROLE")
        # master, offset, [[host, port, offset], ...]: a replica is listed once it follows
        return isinstance(role, list) and isinstance(role[2], list) and len(role[2]) == NODES - 1

    async def _sentinels_agree(self) -> bool:
        for address in self._sentinels:
            reply = await _ask(address, b"SENTINEL", b"MASTER", b"bench")
            if not isinstance(reply, list):
                return False
            facts = dict(zip(reply[::2], reply[1::2], strict=True))
            if facts[b"num-slaves"] != b"2" or facts[b"num-other-sentinels"] != b"2":
                return False
        return True


async def _ask(address: Address, *words: bytes) -> Value:
    """The reply to one command; None when none came."""
    reader = Reader()
    with trio.move_on_after(API_TIMEOUT_S):
        try:
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(command(*words))
                while data := await stream.receive_some(RECEIVE_BYTES):
                    for value in reader.feed(data):
                        return value
        except (OSError, trio.BrokenResourceError, Elsewhere):
            return None
    return None
