"""RabbitMQ: a quorum queue of three members, published to with confirms.

The nodes share an Erlang port mapper (`epmd`) of their own, so that none is left behind; what only an
Erlang node knows is asked through `erl_call`. A queue has no deduplication: what is sent again is in it
twice.
"""

import os
import subprocess
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from pathlib import Path
from typing import Final

import trio

from bench.peers import binaries
from bench.peers.amqp import AmqpDialect
from bench.peers.client import RECEIVE_BYTES, Address, Client, Elsewhere, open_client
from bench.peers.peer import NODES, Facts, Habits
from bench.peers.servers import Servers
from esctl.clusters import ports
from esctl.errors import MachineRefused
from esnode.errors import NoQuorum

QUEUE: Final = "events"
COOKIE: Final = "bench"
HOST_NAME: Final = "localhost"
API_TIMEOUT_S: Final = 5.0
SCRIPT: Final = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
ERTS: Final = "usr/lib/erlang/erts-*/bin"


class RabbitMq:
    """See `peer.Peer`."""

    def __init__(self) -> None:
        self._servers = Servers()
        self._addresses: list[Address] = []
        self._epmd_port = 0

    @cached_property
    def version(self) -> str:
        """Such as `rabbitmq_server-3.10.8`."""
        return _find(SCRIPT).parents[1].name

    @property
    def facts(self) -> Facts:
        """See `peer.Facts`."""
        return Facts(
            system="RabbitMQ, quorum queue, confirms (no deduplication)",
            durable="yes",
            client="raw sockets: one persistent publish an event over one channel; a batch is one write",
            timers="as shipped: a lost connection between nodes at once, silence by probes (aten)",
            dialling="the queue's leader first, then the next node, also when a channel refuses a publish",
        )

    async def start(self, directory: Path) -> None:
        """The port mapper and three brokers; the queue once they have found each other."""
        script, erts = _find(SCRIPT), _find(ERTS)
        chosen = ports.choose(2 * NODES + 1, ())
        self._addresses = [(ports.HOST, port) for port in chosen[:NODES]]
        self._epmd_port = chosen[-1]
        plugins = directory / "enabled_plugins"
        plugins.write_text("[].\n", encoding="utf-8")
        listed = "cluster_formation.classic_config.nodes"
        names = "".join(f"{listed}.{number + 1} = {_node(number)}\n" for number in range(NODES))
        config = directory / "rabbitmq.conf"
        config.write_text(
            f"cluster_formation.peer_discovery_backend = classic_config\n{names}"
            "vm_memory_high_watermark.relative = 0.8\n",
            encoding="utf-8",
        )
        shared = {**self._environment(), "HOME": str(directory)}
        self._servers.start("epmd", [str(erts / "epmd"), "-address", ports.HOST], directory, shared)
        for number, (host, port) in enumerate(self._addresses):
            self._servers.start(f"rabbit-{number}", ["sh", str(script), "-noinput"], directory, {
                **shared,
                "PATH": f"{erts}:{os.environ['PATH']}",
                "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the broker instead of watching it
                "RABBITMQ_NODENAME": _node(number),
                "RABBITMQ_NODE_IP_ADDRESS": host,
                "RABBITMQ_NODE_PORT": str(port),
                "RABBITMQ_DIST_PORT": str(chosen[NODES + number]),
                "RABBITMQ_MNESIA_BASE": str(directory / f"rabbit-{number}"),
                "RABBITMQ_LOG_BASE": str(directory),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_CONFIG_FILE": str(config),
                "RABBITMQ_CONF_ENV_FILE": os.devnull,
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
                "RABBITMQ_PLUGINS_DIR": str(script.parents[1] / "plugins"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-setcookie {COOKIE} -start_epmd false",
            })  # fmt: skip
        await self._servers.until(self._found_each_other, "three nodes of RabbitMQ in one cluster")
        await self._servers.until(self._queue_made, "the quorum queue of RabbitMQ is made")

    async def wait_whole(self) -> None:
        """The queue has its three members from the beginning."""

    async def stop(self) -> None:
        """End the brokers and the port mapper."""
        self._servers.end_all()

    def client(self, leader: int, habits: Habits) -> AbstractAsyncContextManager[Client]:
        """One connection with one channel."""
        return open_client(self._addresses, leader, lambda: AmqpDialect(QUEUE), habits)

    async def leader(self) -> int:
        """The node that leads the queue; raises `NoQuorum`."""
        for number in range(NODES):
            found = await self._evaluate(number, f"ra_leaderboard:lookup_leader('%2F_{QUEUE}')")
            for leader in range(NODES):
                if _node(leader) in found:
                    return leader
        raise NoQuorum("nobody leads the queue of RabbitMQ")

    def pids(self) -> Sequence[int]:
        """The brokers."""
        return [self._servers.pid(f"rabbit-{number}") for number in range(NODES)]

    async def _found_each_other(self) -> bool:
        counts = [await self._evaluate(number, "rabbit_nodes:running_count()") for number in range(NODES)]
        return all(count == f"{{ok, {NODES}}}" for count in counts)

    async def _queue_made(self) -> bool:
        dialect = AmqpDialect(QUEUE)
        asked = False
        with trio.move_on_after(API_TIMEOUT_S):
            try:
                async with await trio.open_tcp_stream(*self._addresses[0]) as stream:
                    await stream.send_all(dialect.take())
                    while data := await stream.receive_some(RECEIVE_BYTES):
                        dialect.feed(data)
                        if dialect.ready and not asked:
                            dialect.declare()
                            asked = True
                        if dialect.declared:
                            return True
                        await stream.send_all(dialect.take())
            except (OSError, trio.BrokenResourceError, Elsewhere):
                return False
        return False

    async def _evaluate(self, number: int, expression: str) -> str:
        """What an Erlang expression gives on a node, such as `{ok, 3}`; empty when it does not answer."""
        command = [str(_find(ERTS) / "erl_call"), "-sname", _node(number), "-c", COOKIE, "-e"]
        with trio.move_on_after(API_TIMEOUT_S):
            done = await trio.run_process(
                command,
                stdin=f"{expression}.\n".encode(),
                capture_stdout=True,
                stderr=subprocess.DEVNULL,
                check=False,
                env={**os.environ, **self._environment()},
            )
            return bytes(done.stdout).decode(errors="replace").strip()
        return ""

    def _environment(self) -> dict[str, str]:
        return {"ERL_EPMD_PORT": str(self._epmd_port), "ERL_EPMD_ADDRESS": ports.HOST}


def _node(number: int) -> str:
    return f"rabbit-{number}@{HOST_NAME}"


def _find(pattern: str) -> Path:
    """The one that matches, unpacked here or installed; raises `MachineRefused`."""
    for root in (binaries.UNPACKED, Path("/")):
        found = sorted(root.glob(pattern))
        if found:
            return found[-1]
    name = pattern.rpartition("/")[2]
    raise MachineRefused(f"no {pattern} is here", next_step=f"{binaries.INSTALL} (it fetches {name})")
