"""Whole nodes on loopback, with their real disks: elections, exactly once, failover, reads, bad input."""

import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import trio

from esnode import limits
from esnode.client import connect, connect_node
from esnode.config import Address, Dedup, Retention
from esnode.dedup.batch import event_key
from esnode.errors import (
    AddressTaken,
    ConnectionLost,
    FrameTooLarge,
    InvalidRequest,
    NotLeader,
    OffsetOutOfRange,
    ProtocolError,
    StorageFailed,
    WrongCluster,
)
from esnode.events import make_batch
from esnode.messages import (
    PROTOCOL_VERSION,
    Append,
    Appended,
    CutPrefix,
    Goodbye,
    Hello,
    LeaderIs,
    Refused,
    Side,
)
from esnode.node import listen
from esnode.raft.entry import Entry
from esnode.raft.messages import Snapshot
from esnode.transport.connection import Connection, greet, open_stream
from esnode.wire import Message, encode
from tests.cluster import LocalCluster, local_cluster

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights-2013-01.ndjson.gz"


def flights(count: int) -> list[dict[str, Any]]:
    with gzip.open(FLIGHTS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in islice(lines, count)]


@asynccontextmanager
async def connect_raw(cluster: LocalCluster, node_id: int) -> AsyncIterator[Connection]:
    """A client's connection after its handshake, for bytes of one's own."""
    address = cluster.configs[node_id].me.client
    stream = await trio.open_tcp_stream(address.host, address.port)
    await cluster.leader()
    async with Connection(stream) as connection:
        await greet(connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 1))
        yield connection


async def records_of(cluster: LocalCluster, node_id: int) -> list[bytes]:
    """Every record with events that a node holds, read from that node."""
    storage = cluster.running[node_id].node.worker.storage
    worker = cluster.running[node_id].node.worker
    recovered = await worker.call(storage.recover)
    entries = await worker.read(recovered.prefix_index + 1, recovered.last_index, limits.MAX_FRAME_BYTES)
    return [entry.record for entry in entries if entry.count]


async def test_three_nodes_take_real_events_once_and_hold_the_same(tmp_path: Path) -> None:
    events = flights(500)
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        first = await log.append_many(events)
        again = await log.append_many(events)
        assert [ack.offset for ack in first] == list(range(500))
        assert not any(ack.duplicate for ack in first)
        assert [ack.offset for ack in again] == [ack.offset for ack in first]
        assert all(ack.duplicate for ack in again)
        assert [stored.event for stored in await log.read(0, 500)] == events
        await cluster.applied(500)
        logs = [await records_of(cluster, node_id) for node_id in cluster.running]
        assert logs[0] == logs[1] == logs[2]


async def test_a_killed_leader_loses_nothing_that_was_acked(tmp_path: Path) -> None:
    events = flights(600)
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses, batch_events=10) as log:
        acks = await log.append_many(events[:200])
        old_leader = await cluster.leader()
        async with trio.open_nursery() as nursery:

            async def send_the_rest() -> None:
                acks.extend(await log.append_many(events[200:]))

            nursery.start_soon(send_the_rest)
            await cluster.kill(old_leader)
        assert await cluster.leader() != old_leader
        assert [stored.event for stored in await log.read(0, 600)] == [
            events[index] for index in sorted(range(600), key=lambda n: acks[n].offset)
        ]
        await cluster.start(old_leader)
        await cluster.applied(600)
        logs = [await records_of(cluster, node_id) for node_id in cluster.running]
        assert logs[0] == logs[1] == logs[2]


async def test_a_follower_that_was_away_catches_up_by_replay(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        leader = await cluster.leader()
        away = next(node_id for node_id in cluster.running if node_id != leader)
        await cluster.kill(away)
        await log.append_many(flights(300))
        await cluster.start(away)
        await cluster.applied(300)
        assert await records_of(cluster, away) == await records_of(cluster, leader)


async def test_a_cluster_that_lost_every_process_comes_back_with_everything(tmp_path: Path) -> None:
    events = flights(100)
    async with local_cluster(tmp_path) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(events)
        for node_id in list(cluster.running):
            await cluster.kill(node_id)
        for node_id in list(cluster.configs):
            await cluster.start(node_id)
        async with connect(cluster.addresses) as log:
            again = await log.append_many(events)
            assert all(ack.duplicate for ack in again)
            assert [stored.event for stored in await log.read(0, 200)] == events


async def test_a_follower_behind_the_prefix_gets_the_snapshot_and_then_the_log(tmp_path: Path) -> None:
    retention = Retention(bytes=60_000, check_every_ms=3_600_000)
    async with (
        local_cluster(tmp_path, retention=retention) as cluster,
        connect(cluster.addresses, batch_events=20) as log,
    ):
        leader = await cluster.leader()
        away = next(node_id for node_id in cluster.running if node_id != leader)
        await cluster.kill(away)
        acks = await log.append_many(flights(1500))
        await cluster.running[leader].node.cutter.cut()
        assert cluster.running[leader].node.view.first_offset > 0
        await cluster.start(away)
        await cluster.applied(1500)
        assert cluster.running[away].node.view.first_offset > 0
        with pytest.raises(OffsetOutOfRange):
            await log.read(0, 1)
        # What was cut away is still known: exactly once does not end with retention.
        assert await log.append_many(flights(10)) == [type(ack)(ack.offset, True) for ack in acks[:10]]


async def test_a_transfer_moves_the_leadership_where_it_was_asked_to_go(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        await log.append_many(flights(10))
        old_leader = await cluster.leader()
        target = next(node_id for node_id in cluster.running if node_id != old_leader)
        assert await log.transfer_leadership(target) == (old_leader, target)
        assert await cluster.leader() == target
        assert (await log.append_many(flights(11)))[10].offset == 10


async def test_a_transfer_to_a_node_that_is_no_member_is_refused(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, count=1) as cluster, connect(cluster.addresses) as log:
        with pytest.raises(InvalidRequest, match="there is no node 7; the members are 1"):
            await log.transfer_leadership(7)


async def test_a_subscriber_hears_every_event_once_across_a_failover(tmp_path: Path) -> None:
    events = flights(200)
    heard: list[int] = []
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for stored in log.subscribe(0):
                    heard.append(stored.offset)
                    if len(heard) == 200:
                        return

            nursery.start_soon(listen)
            await log.append_many(events[:100])
            await cluster.kill(await cluster.leader())
            await log.append_many(events[100:])
        assert heard == list(range(200))


async def test_a_producer_session_is_exactly_once_without_a_window(tmp_path: Path) -> None:
    async with (
        local_cluster(tmp_path, dedup=Dedup(ttl_ms=1)) as cluster,
        connect(cluster.addresses, producer_session=True, batch_events=5) as log,
    ):
        acks = await log.append_many(flights(50))
        await cluster.kill(await cluster.leader())
        acks += await log.append_many(flights(100)[50:])
        assert sorted(ack.offset for ack in acks) == list(range(100))


async def test_a_follower_names_the_leader_and_takes_nothing(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        follower = next(node_id for node_id in cluster.running if node_id != leader)
        stream = await open_stream(cluster.configs[follower].me.client)
        async with Connection(stream) as connection:
            await greet(connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "test", 0, 0, 1))
            news = await connection.receive_one()
            assert isinstance(news, LeaderIs)
            assert (news.leader, news.address) == (leader, str(cluster.configs[leader].me.client))
            await connection.send(Append(7, make_batch(flights(1))))
            answer = await connection.receive_one()
            assert isinstance(answer, Refused)
            assert (answer.request_id, answer.code) == (7, NotLeader.code)


async def test_a_single_node_is_a_cluster(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, count=1) as cluster, connect(cluster.addresses) as log:
        assert (await log.append(flights(1)[0])).offset == 0
        assert [stored.offset for stored in await log.read(0, 5)] == [0]


async def test_status_and_explain_answer_for_one_node(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        event = flights(1)[0]
        await log.append(event)
        await cluster.applied(1)
        for node_id, config in cluster.configs.items():
            async with connect_node(str(config.me.client)) as link:
                status = await link.status()
                assert (status["id"], status["next_offset"], status["cluster"]) == (node_id, 1, "test")
                known = await link.explain_key(event_key(event["source"], event["id"]))
                assert known.offset == 0
                assert known.expires_in_ms > 0


async def test_garbage_ends_its_own_connection_and_nothing_else(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster, connect(cluster.addresses) as log:
        for config in cluster.configs.values():
            for address in (config.me.client, config.me.peer):
                for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x40\x00\x00\x00", b"\x00\x00\x00\x00"):
                    stream = await trio.open_tcp_stream(address.host, address.port)
                    await stream.send_all(garbage)
                    async with Connection(stream) as connection:
                        answer = await connection.receive_one()
                        assert isinstance(answer, Goodbye)
                        assert answer.code in {ProtocolError.code, FrameTooLarge.code}
        assert (await log.append(flights(1)[0])).offset == 0


async def test_a_frame_that_dribbles_in_ends_its_own_connection_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FRAME_TIMEOUT_S", 0.05)
    async with local_cluster(tmp_path, count=1) as cluster:
        frame = encode(Append(1, make_batch(flights(64))))
        async with connect_raw(cluster, 1) as connection:
            for position in range(0, len(frame) - 1, 64):
                try:
                    await connection.send_bytes(frame[position : position + 64])
                except ConnectionLost:
                    break
                await trio.sleep(0.002)
            else:
                pytest.fail("the node never gave up on the frame")
        async with connect(cluster.addresses) as log:
            assert (await log.append(flights(1)[0])).offset == 0


async def test_retention_ends_when_the_log_was_replaced_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = Retention(bytes=1000, check_every_ms=3_600_000)
    async with (
        local_cluster(tmp_path, count=1, retention=retention) as cluster,
        connect(cluster.addresses) as log,
    ):
        await log.append_many(flights(300))
        node = cluster.running[1].node

        async def nothing_there(first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
            return []

        monkeypatch.setattr(node.worker, "read", nothing_there)
        with trio.fail_after(5):
            await node.cutter.cut()
        assert node.view.first_offset == 0


async def test_retention_writes_no_snapshot_when_nothing_more_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 7 of the simulation of whole nodes: a leader without followers, its log full of what waits."""
    retention = Retention(bytes=1000, check_every_ms=3_600_000)
    async with local_cluster(tmp_path, count=1, retention=retention) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(flights(300))
        node = cluster.running[1].node
        monkeypatch.setattr(node.view, "applied_index", 0)  # nothing was committed yet
        await node.cutter.cut()
        assert not list(cluster.configs[1].data_dir.glob("snapshot*"))


async def test_a_cut_whose_client_has_gone_is_told_to_the_core_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a leader would look for ever on its disk for entries that are gone, and send no snapshot."""
    async with local_cluster(tmp_path, count=1) as cluster:
        async with connect(cluster.addresses) as log:
            await log.append_many(flights(100))
        node = cluster.running[1].node
        cut, begun, go = node.worker.storage.cut_prefix, threading.Event(), threading.Event()

        def slow_cut(snapshot: Snapshot) -> None:
            begun.set()
            go.wait()
            cut(snapshot)

        monkeypatch.setattr(node.worker.storage, "cut_prefix", slow_cut)
        try:
            async with trio.open_nursery() as session:
                session.start_soon(node.admin.cut, CutPrefix(1, 100))
                await trio.to_thread.run_sync(begun.wait)
                session.cancel_scope.cancel()  # its client leaves
        finally:
            go.set()
        with trio.fail_after(5):
            async with connect_node(cluster.addresses[0]) as link:
                done = await link.cut_prefix(100)
                assert (await link.status())["prefix_index"] == done.prefix_index > 0


async def test_a_read_that_lost_the_race_with_the_cut_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = Retention(bytes=60_000, check_every_ms=3_600_000)
    async with local_cluster(tmp_path, count=1, retention=retention) as cluster:
        events = flights(500)
        async with connect(cluster.addresses, batch_events=20) as log:
            for begin in range(0, 500, 20):  # one after the other: an entry each
                await log.append_many(events[begin : begin + 20])
        view = cluster.running[1].node.view
        await cluster.running[1].node.cutter.cut()
        assert view.first_offset > 0
        monkeypatch.setattr(view, "first_offset", 0)  # as it was when the read was let in
        async with connect_node(cluster.addresses[0]) as link:
            with pytest.raises(OffsetOutOfRange, match="just been cut"):
                await link.read(0, 10)


async def test_a_client_of_another_cluster_is_told_so(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, count=1) as cluster:
        stream = await open_stream(cluster.configs[1].me.client)
        async with Connection(stream) as connection:
            with pytest.raises(WrongCluster):
                await greet(
                    connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "another", 0, 0, 1)
                )


async def test_a_disk_that_refuses_a_write_ends_the_node_without_an_ack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """raft-bugs 21: the first failed write ends the process; nothing is retried, nothing is acked."""

    def refuse(writes: object) -> None:
        raise StorageFailed("the disk is full")

    async def send_to_a_node_whose_disk_fails() -> None:
        async with local_cluster(tmp_path, count=1) as cluster:
            await cluster.leader()
            monkeypatch.setattr(cluster.running[1].node.worker.storage, "write", refuse)
            stream = await open_stream(cluster.configs[1].me.client)
            async with Connection(stream) as connection:
                await greet(connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 1))
                await connection.send(Append(1, make_batch(flights(1))))
                while messages := await connection.receive():
                    answers.extend(messages)

    answers: list[Message] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        await send_to_a_node_whose_disk_fails()
    assert caught.group_contains(StorageFailed)
    assert not any(isinstance(answer, Appended) for answer in answers)


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with ExitStack() as opened, pytest.raises(AddressTaken, match=str(port)):
            await listen(Address("127.0.0.1", port), opened)
