"""A client whose retry outlasts the deduplication window is told so, and nothing is stored twice."""

from pathlib import Path

import pytest
import trio

from esnode.client import Log, connect
from esnode.config import Address, Dedup
from esnode.errors import WindowPassed
from esnode.messages import PROTOCOL_VERSION, Hello, LeaderIs, Side
from esnode.transport.connection import Connection, greet, open_stream
from tests.cluster import LocalCluster, local_cluster

EVENT = {"id": "late", "source": "/test", "type": "t"}
TTL_MS = 200


class Deaf(trio.abc.Stream):
    """A connection of which a client hears nothing more while its network is `deaf`; then it breaks."""

    def __init__(self, stream: trio.abc.Stream, network: "Network") -> None:
        self._stream = stream
        self._network = network

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if self._network.deaf:
            await self._network.broken.wait()
            raise trio.BrokenResourceError
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class Network:
    """How a client reaches the nodes: its answers can be lost."""

    def __init__(self) -> None:
        self.deaf = False
        self.broken = trio.Event()

    async def dial(self, address: Address) -> trio.abc.Stream:
        return Deaf(await open_stream(address), self)

    def hear_again(self) -> None:
        self.deaf = False
        self.broken.set()


async def forgotten(cluster: LocalCluster, others: Log) -> None:
    """Append until no node knows the late event any more."""
    number = 0
    while (await others.explain(EVENT["source"], EVENT["id"])).offset is not None:
        number += 1
        await others.append({**EVENT, "id": f"other {number}"})


@pytest.mark.parametrize(
    "dedup", [Dedup(ttl_ms=TTL_MS), Dedup.of_keys(30, ttl_ms=0)], ids=["expired", "no room left"]
)
async def test_a_retry_that_outlasts_the_window_is_refused_and_stored_once(
    tmp_path: Path, dedup: Dedup
) -> None:
    network = Network()
    async with (
        local_cluster(tmp_path, dedup=dedup) as cluster,
        connect(cluster.addresses) as others,
        connect(cluster.addresses, dial=network.dial) as log,
    ):
        await others.append({**EVENT, "id": "first"})
        await log.read(0, 1)  # it is connected, and has heard where the log ends
        async with trio.open_nursery() as nursery:

            async def append() -> None:
                with pytest.raises(WindowPassed) as caught:
                    await log.append(EVENT)
                assert not caught.value.definite

            network.deaf = True
            nursery.start_soon(append)
            await cluster.applied(2)
            await forgotten(cluster, others)
            network.hear_again()
        stored = [one.event["id"] for one in await others.read(0, 10_000)]
        assert stored.count(EVENT["id"]) == 1


async def test_who_has_long_not_heard_where_the_log_ends_can_append_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first attempt is refused, and with the refusal it hears of the end."""
    monkeypatch.setattr("esnode.limits.LOG_END_TOLD_S", 3600)
    async with (
        local_cluster(tmp_path, dedup=Dedup.of_keys(30, ttl_ms=0)) as cluster,
        connect(cluster.addresses) as others,
        connect(cluster.addresses) as log,
    ):
        await log.append({**EVENT, "id": "first"})
        await others.append_many([{**EVENT, "id": f"other {number}"} for number in range(100)])
        with trio.fail_after(10):
            assert not (await log.append(EVENT)).duplicate
        stored = [one.event["id"] for one in await others.read(0, 1000)]
        assert (len(stored), stored.count(EVENT["id"])) == (102, 1)


async def test_a_retry_within_the_window_is_acked_with_its_offset(tmp_path: Path) -> None:
    network = Network()
    async with (
        local_cluster(tmp_path) as cluster,
        connect(cluster.addresses, dial=network.dial) as log,
    ):
        await log.append({**EVENT, "id": "first"})
        async with trio.open_nursery() as nursery:

            async def append() -> None:
                assert (await log.append(EVENT)).offset == 1

            network.deaf = True
            nursery.start_soon(append)
            await cluster.applied(2)
            network.hear_again()


async def test_a_node_tells_its_clients_where_the_log_ends_now_and_then(tmp_path: Path) -> None:
    """Else a client that was idle for long would not be believed when it must send again."""
    async with (
        local_cluster(tmp_path, dedup=Dedup(ttl_ms=TTL_MS)) as cluster,
        connect(cluster.addresses) as log,
        Connection(await open_stream(cluster.configs[1].me.client)) as connection,
    ):
        await greet(connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "test", 0, 0, 1))
        end = (await log.append(EVENT)).offset + 1
        told = await connection.receive_one()
        while not (isinstance(told, LeaderIs) and told.next_offset == end):
            told = await connection.receive_one()
