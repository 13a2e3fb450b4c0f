"""etcd: every event a key of its own. `etcd` puts each by itself, `etcd-txn` a batch in a transaction.

`etcd-fast` has timers of 20 and 200 ms instead of those it ships with. The load goes over gRPC; who leads
is asked over the JSON gateway.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

import trio

from bench.peers import binaries
from bench.peers.client import Address, Client, open_client
from bench.peers.etcd_wire import EtcdDialect
from bench.peers.peer import NODES, Facts, Habits
from bench.peers.servers import Servers
from esctl.clusters import ports
from esnode.errors import NoQuorum

QUOTA_BYTES: Final = 8 * 1024**3
API_TIMEOUT_S: Final = 1.0
SHIPPED_MS: Final = (100, 1000)
FAST_MS: Final = (20, 200)


class Etcd:
    """See `peer.Peer`. `timers_ms` are the heartbeat and the election timeout."""

    def __init__(self, *, transactions: bool = False, timers_ms: tuple[int, int] = SHIPPED_MS) -> None:
        self._transactions = transactions
        self._timers_ms = timers_ms
        self._servers = Servers()
        self._addresses: list[Address] = []

    @cached_property
    def version(self) -> str:
        """Such as `etcd Version: 3.4.23`."""
        return binaries.first_line(binaries.find("etcd"), "--version")

    @property
    def facts(self) -> Facts:
        """See `peer.Facts`."""
        heartbeat_ms, election_ms = self._timers_ms
        one_call = "one transaction a batch" if self._transactions else "one put an event"
        fast = "" if self._timers_ms == SHIPPED_MS else f", {heartbeat_ms}/{election_ms} ms timers"
        return Facts(
            system=f"etcd, {one_call}{fast}",
            durable="yes",
            client=f"raw sockets: gRPC calls over one HTTP/2 connection, {one_call}",
            timers=f"heartbeat {heartbeat_ms} ms, election {election_ms} to {2 * election_ms} ms",
            dialling="the leader first, then the next node",
        )

    async def start(self, directory: Path) -> None:
        """Three servers, and a leader."""
        binary = binaries.find("etcd")
        chosen = ports.choose(2 * NODES, ())
        self._addresses = [(ports.HOST, port) for port in chosen[:NODES]]
        peers = [f"http://{ports.HOST}:{port}" for port in chosen[NODES:]]
        for number, (host, port) in enumerate(self._addresses):
            self._servers.start(f"etcd-{number}", [
                binary,
                "--name", f"etcd-{number}",
                "--data-dir", str(directory / f"etcd-{number}"),
                "--listen-client-urls", f"http://{host}:{port}",
                "--advertise-client-urls", f"http://{host}:{port}",
                "--listen-peer-urls", peers[number],
                "--initial-advertise-peer-urls", peers[number],
                "--initial-cluster", ",".join(f"etcd-{n}={url}" for n, url in enumerate(peers)),
                "--initial-cluster-state", "new",
                "--heartbeat-interval", str(self._timers_ms[0]),
                "--election-timeout", str(self._timers_ms[1]),
                "--quota-backend-bytes", str(QUOTA_BYTES),
                "--logger", "zap",
                "--log-level", "warn",
            ], directory)  # fmt: skip
        await self._servers.until(self._is_led, "a leader of etcd")

    async def wait_whole(self) -> None:
        """Every node knows the leader."""

        async def known() -> bool:
            statuses = [await self._status(number) for number in range(NODES)]
            return all(status is not None and int(status.get("leader", 0)) for status in statuses)

        await self._servers.until(known, "every node of etcd knows the leader")

    async def stop(self) -> None:
        """End the servers."""
        self._servers.end_all()

    def client(self, leader: int, habits: Habits) -> AbstractAsyncContextManager[Client]:
        """One connection, which carries any number of calls."""
        return open_client(
            self._addresses,
            leader,
            lambda: EtcdDialect("bench", transactions=self._transactions),
            habits,
        )

    async def leader(self) -> int:
        """The node that says it leads; raises `NoQuorum`."""
        for number in range(NODES):
            status = await self._status(number)
            if status is not None and status.get("leader") == status["header"]["member_id"]:
                return number
        raise NoQuorum("no node of etcd leads")

    def pids(self) -> Sequence[int]:
        """The servers."""
        return [self._servers.pid(f"etcd-{number}") for number in range(NODES)]

    async def _is_led(self) -> bool:
        try:
            await self.leader()
        except NoQuorum:
            return False
        return True

    async def _status(self, number: int) -> dict[str, Any] | None:
        return await trio.to_thread.run_sync(_status_of, self._addresses[number])


def _status_of(address: Address) -> dict[str, Any] | None:
    """What a node says of itself; None when it does not."""
    connection = HTTPConnection(*address, timeout=API_TIMEOUT_S)
    try:
        connection.request("POST", "/v3/maintenance/status", body="{}")
        return dict(json.loads(connection.getresponse().read()))
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
