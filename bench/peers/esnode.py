"""esnode itself, through its own client library, as an application would use it."""

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from bench.peers.binaries import ROOT
from bench.peers.peer import NODES, Facts, Habits
from bench.peers.servers import Servers
from esctl.clusters import ports
from esnode import __version__, limits
from esnode.client import Log, connect, connect_node
from esnode.client.link import ASK_WHEN_DUE_S, HANG_UP_S
from esnode.config import Address, Config, Member, dump
from esnode.errors import EventStreamError, NoQuorum

CLUSTER: Final = "bench-peers"
API_TIMEOUT_S: Final = 1.0


class Esnode:
    """See `peer.Peer`."""

    def __init__(self) -> None:
        self._servers = Servers()
        self._members: tuple[Member, ...] = ()

    @property
    def version(self) -> str:
        """Of this checkout."""
        return f"esnode {__version__}, Python {sys.version.split()[0]}"

    @property
    def facts(self) -> Facts:
        """See `peer.Facts`."""
        return Facts(
            system="esnode, sqlite",
            durable="yes",
            client="esnode.client: one message a batch, a connection to each node",
            timers="as shipped: a closed connection at once, silence after 450 to 600 ms",
            dialling=(
                "connected to all nodes, the leader names itself; asks a silent leader after"
                f" {ASK_WHEN_DUE_S * 1000:g} ms, leaves it {HANG_UP_S * 1000:g} ms later; dials again after"
                f" {limits.RECONNECT_MIN_S * 1000:g} ms"
            ),
        )

    async def start(self, directory: Path) -> None:
        """Three nodes, and a leader."""
        chosen = ports.choose(2 * NODES, ())
        self._members = tuple(
            Member(n + 1, Address(ports.HOST, chosen[NODES + n]), Address(ports.HOST, chosen[n]))
            for n in range(NODES)
        )
        for number, member in enumerate(self._members):
            home = directory / f"esnode-{number}"
            home.mkdir()
            config = directory / f"esnode-{number}.toml"
            config.write_text(dump(Config(CLUSTER, member.id, home, self._members)), encoding="utf-8")
            command = [sys.executable, "-m", "esnode", "--config", str(config)]
            self._servers.start(f"esnode-{number}", command, directory, {"PYTHONPATH": str(ROOT)})
        await self._servers.until(self._is_led, "a leader of esnode")

    async def wait_whole(self) -> None:
        """Every node answers and knows the leader."""

        async def known() -> bool:
            statuses = [await self._status(member) for member in self._members]
            return all(status is not None and status["leader"] for status in statuses)

        await self._servers.until(known, "every node of esnode knows the leader")

    async def stop(self) -> None:
        """End the nodes."""
        self._servers.end_all()

    def client(self, leader: int, habits: Habits) -> AbstractAsyncContextManager[Log]:
        """The client library; it finds the leader itself."""
        first = [*self._members[leader:], *self._members[:leader]]
        return connect(
            [str(member.client) for member in first],
            cluster=CLUSTER,
            window=limits.MAX_SESSION_INFLIGHT,
            timeout_s=habits.timeout_s,
        )

    async def leader(self) -> int:
        """The node that says it leads; raises `NoQuorum`."""
        for number, member in enumerate(self._members):
            status = await self._status(member)
            if status is not None and status["role"] == "leader":
                return number
        raise NoQuorum("no esnode leads")

    def pids(self) -> Sequence[int]:
        """The nodes."""
        return [self._servers.pid(f"esnode-{number}") for number in range(NODES)]

    async def _is_led(self) -> bool:
        try:
            await self.leader()
        except NoQuorum:
            return False
        return True

    async def _status(self, member: Member) -> dict[str, Any] | None:
        try:
            async with connect_node(str(member.client), timeout_s=API_TIMEOUT_S) as link:
                return await link.status()
        except EventStreamError:
            return None
