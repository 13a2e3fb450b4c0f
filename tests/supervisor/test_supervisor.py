"""Nodes with three partitions as real processes: served, killed, stopped, refused."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from esnode.client import connect, connect_node
from esnode.config import dump
from esnode.errors import Moved, PartitionNeeded, UnknownPartition
from esnode.messages import Goodbye, Side
from esnode.ring import Ring
from esnode.transport.connection import Connection
from tests.cluster import three_configs
from tests.supervisor.processes import Supervisor, leader_of, supervisors
from tests.supervisor.test_acceptor import hello

pytestmark = pytest.mark.slow  # the interpreter starts twelve times


SOURCES = {0: "/shop/4", 1: "/shop/1", 2: "/shop/0"}
"""A source of each of three partitions."""


def event(number: int, source: str) -> dict[str, Any]:
    return {"id": str(number), "source": source, "type": "order"}


def addresses(nodes: list[Supervisor]) -> list[str]:
    return [node.client for node in nodes]


async def test_each_partition_has_a_log_of_its_own_behind_the_same_ports(tmp_path: Path) -> None:
    async with supervisors(tmp_path) as nodes:
        for partition in range(3):
            async with connect(addresses(nodes), partition=partition) as log:
                for number in range(partition + 1):
                    ack = await log.append(event(number, SOURCES[partition]))
                    assert (ack.offset, ack.duplicate) == (number, False)
                assert (await log.append(event(0, SOURCES[partition]))).duplicate
                stored = await log.read(0)
                assert [(one.offset, one.partition) for one in stored] == [
                    (number, partition) for number in range(partition + 1)
                ]
                follow = log.subscribe(partition)
                assert (await anext(follow)).partition == partition
        for node in nodes:
            names = {path.name for path in node.config.data_dir.iterdir()}
            assert names == {"lock", "partitions.json", "partition-0", "partition-1", "partition-2"}
            peers = [line for line in node.lines if line["event"] == "peer_connected"]
            assert {line["partition"] for line in peers} == {0, 1, 2}


async def test_a_source_of_another_partition_is_refused_and_never_stored_there(tmp_path: Path) -> None:
    ring = Ring(2, range(3))
    async with supervisors(tmp_path) as nodes:
        for partition in range(3):
            async with connect(addresses(nodes), partition=partition) as log:
                for source in SOURCES.values():
                    owner = ring.owner_of(source)
                    if owner == partition:
                        await log.append(event(1, source))
                        continue
                    with pytest.raises(Moved, match="by version 2 of the ring, of 3 partitions") as refusal:
                        await log.append(event(1, source))
                    assert refusal.value.definite
                stored = await log.read(0)
                assert [one.event["source"] for one in stored] == [SOURCES[partition]]


async def test_a_partition_that_is_killed_comes_back_and_the_others_notice_nothing(tmp_path: Path) -> None:
    async with supervisors(tmp_path) as nodes:
        leader = nodes[await leader_of(nodes, 1) - 1]
        others = [leader.pid_of(0), leader.pid_of(2)]
        async with connect(addresses(nodes), partition=1) as log:
            await log.append(event(1, SOURCES[1]))
            since = len(leader.lines)
            leader.kill(1)
            ack = await log.append(event(2, SOURCES[1]))
            assert (ack.offset, ack.duplicate) == (1, False)
            ended = await leader.wait_event("partition_ended", since, partition=1)
            assert ended["signal"] == "SIGKILL"
            await leader.wait_event("node_started", since, partition=1)
            await leader_of(nodes, 1)
            assert [one.event["id"] for one in await log.read(0)] == ["1", "2"]
        assert [leader.pid_of(0), leader.pid_of(2)] == others


async def test_what_ends_a_partition_is_in_its_own_last_line_and_its_code_in_the_supervisors(
    tmp_path: Path,
) -> None:
    """As when its disk fails: nothing is hidden by starting it again."""
    async with supervisors(tmp_path) as nodes:
        node, since = nodes[0], len(nodes[0].lines)
        (node.config.data_dir / "partition-2").rename(tmp_path / "gone")
        told = await node.wait_event("node_failed", since, partition=2)
        assert told["code"] in ("ES3103", "ES3132")  # whatever has met it first
        ended = await node.wait_event("partition_ended", since, partition=2)
        assert (ended["exit_code"], ended["level"]) == (1, "error")
        await node.wait_event("partition_started", since, partition=2)


async def test_partitions_end_with_their_supervisor_and_the_next_one_takes_over(tmp_path: Path) -> None:
    async with supervisors(tmp_path) as nodes:
        async with connect(addresses(nodes), partition=2) as log:
            await log.append(event(1, SOURCES[2]))
        node = nodes[await leader_of(nodes, 2) - 1]
        async with trio.open_nursery() as nursery:
            node.process.kill()
            assert await node.wait_ended() == -signal.SIGKILL
            for partition in range(3):
                await node.wait_event("supervisor_gone", partition=partition)
            since = len(node.lines)
            await node.start(nursery)
            for partition in range(3):
                await node.wait_event("node_started", since, partition=partition)
            async with connect_node(node.client, partition=2) as link:
                assert (await link.status())["id"] == node.config.node_id
            await node.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_supervisor_that_is_told_to_stop_stops_its_partitions_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with supervisors(tmp_path) as nodes:
        for partition in range(3):
            await leader_of(nodes, partition)
        node = nodes[0]
        node.process.send_signal(number)
        assert await node.wait_ended() == 0
        stopped = [line.get("partition") for line in node.lines if line["event"] == "node_stopped"]
        assert sorted(stopped, key=str) == [0, 1, 2, None]
        assert all(line["event"] != "partition_ended" for line in node.lines)
        for partition in range(3):
            assert await leader_of(nodes[1:], partition) != node.config.node_id


async def test_a_client_hears_what_is_wrong_with_the_partition_that_it_wants(tmp_path: Path) -> None:
    async with supervisors(tmp_path, count=1, partitions=2) as (node,):
        with pytest.raises(UnknownPartition, match="there is no partition 2: this cluster has 0 to 1"):
            async with connect_node(node.client, partition=2):
                raise AssertionError("connected")
        async with connect([node.client], partition=2, timeout_s=10) as log:
            with pytest.raises(UnknownPartition):
                await log.append(event(1, SOURCES[2]))
            with pytest.raises(UnknownPartition):
                await anext(log.subscribe(0))
        with pytest.raises(PartitionNeeded, match="'test' has the partitions 0 to 1"):
            async with connect_node(node.client):
                raise AssertionError("connected")


async def test_strangers_and_silent_clients_keep_nobody_out(tmp_path: Path) -> None:
    async with supervisors(tmp_path, count=1, partitions=2) as (node,):
        async with trio.open_nursery() as nursery:
            silent = [
                await trio.open_tcp_stream(node.config.me.client.host, node.config.me.client.port)
                for _ in range(300)
            ]
            for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\0\0\0\x05\x10junk"):
                stream = await trio.open_tcp_stream(node.config.me.client.host, node.config.me.client.port)
                async with Connection(stream) as connection:
                    await connection.send_bytes(data)
                    assert isinstance(await connection.receive_one(), Goodbye)
            async with connect([node.client], partition=1) as log:
                await log.append(event(1, SOURCES[1]))
            for stream in silent:
                nursery.start_soon(stream.aclose)
        client = await trio.open_tcp_stream(node.config.me.client.host, node.config.me.client.port)
        async with Connection(client) as connection:
            await connection.send(hello(0, Side.PEER))
            assert isinstance(await connection.receive_one(), Goodbye)


async def test_nodes_with_other_numbers_of_partitions_serve_those_that_a_majority_has(tmp_path: Path) -> None:
    configs = await three_configs(tmp_path)
    nodes = [
        Supervisor(replace(config, partitions=count))
        for config, count in zip(configs, (2, 2, 3), strict=True)
    ]
    async with trio.open_nursery() as nursery:
        try:
            for node in nodes:
                await node.start(nursery)
            told = await nodes[2].wait_event("peer_unreachable", partition=2, code="ES1007")
            assert "no partition 2" in told["reason"]
            for partition in range(2):
                await leader_of(nodes, partition)
        finally:
            for node in nodes:
                await node.end()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (3, 2)])
async def test_the_number_of_partitions_of_a_directory_never_falls(
    tmp_path: Path, before: int, after: int
) -> None:
    """The events would be where nobody looks for them, and their keys with them."""
    (config,) = await three_configs(tmp_path, 1)
    node = Supervisor(replace(config, partitions=before))
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        await node.wait_event("node_started")
        node.process.terminate()
        assert await node.wait_ended() == 0
        node.config = replace(config, partitions=after)
        await node.start(nursery)
        failed = await node.wait_event("node_failed")
        assert failed["code"] == "ES3101"
        assert f"`partitions = {before}`" in failed["next"]
        assert await node.wait_ended() == 1


async def test_two_supervisors_never_run_on_one_directory(tmp_path: Path) -> None:
    async with supervisors(tmp_path, count=1, partitions=2) as (node,):
        (elsewhere,) = await three_configs(tmp_path, 1)
        second = Supervisor(replace(node.config, members=elsewhere.members))
        async with trio.open_nursery() as nursery:
            await second.start(nursery)
            failed = await second.wait_event("node_failed")
            assert failed["code"] == "ES3102"
            assert await second.wait_ended() == 1


@pytest.mark.parametrize("words", [["--partition", "0"], ["--partition", "9", "--sockets", "0,1"]])
async def test_nobody_starts_the_process_of_a_partition_by_hand(tmp_path: Path, words: list[str]) -> None:
    (config,) = await three_configs(tmp_path, 1)
    file = tmp_path / "node.toml"
    file.write_text(dump(replace(config, partitions=2)), encoding="utf-8")
    command = [sys.executable, "-m", "esnode", "--config", str(file), *words]
    done = await trio.run_process(command, capture_stderr=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert b"started by the supervisor" in done.stderr
