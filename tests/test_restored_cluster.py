"""A cluster that was restored from a backup, in one process: what it knows, and what old clients are told.

Backups that move offsets back while clients go on in silence have bitten others (etcd#16028, #14303).
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from esnode import limits
from esnode.backup.directory import lay_down
from esnode.backup.file import BackupReader, BackupWriter
from esnode.backup.manifest import Origin
from esnode.client import Log, NodeLink, Subscription, connect, connect_node
from esnode.client.clusterpin import ClusterPin
from esnode.client.link import call
from esnode.config import Ancestor, Config, Dedup, parse_address
from esnode.dedup.batch import Batch, ProducerStamp
from esnode.errors import (
    ClusterRestored,
    NotLeader,
    OffsetAfterRestore,
    OffsetOutOfRange,
    WrongCluster,
)
from esnode.events import make_batch
from esnode.messages import Append, Appended, OpenProducerSession, ProducerOpened, Refused
from esnode.transport.connection import open_stream
from esnode.wire import Message
from tests.cluster import LocalCluster, three_configs

pytestmark = pytest.mark.slow  # nodes in real time

CUT_BEFORE, IN_BACKUP = 40, 120


def events(first: int, end: int) -> list[dict[str, Any]]:
    return [{"id": str(n), "source": "/test", "type": "t"} for n in range(first, end)]


@asynccontextmanager
async def cluster_of(configs: list[Config]) -> AsyncIterator[LocalCluster]:
    async with trio.open_nursery() as nursery:
        cluster = LocalCluster(configs, nursery)
        for node_id in cluster.configs:
            await cluster.start(node_id)
        yield cluster
        nursery.cancel_scope.cancel()


async def take_backup(link: NodeLink, path: Path) -> None:
    """As `esctl backup create` does, from one node."""
    status = await link.status()
    target = status["applied_index"]
    with BackupWriter(path) as writer:
        await link.fetch_snapshot(writer.add_piece)
        while writer.next_index <= target:
            writer.add((await link.read_entries(writer.next_index, 2000)).records)
        end = (target, writer.next_offset)
        writer.finish(Origin("test", "test", (), 1, True, "2013-01-01T00:00:00Z", *end, Dedup()))


async def ask_raw(address: str, *messages: Message) -> list[Message]:
    """The answers of a node to these requests, one each, by way of the bare protocol."""
    connection, _ = await call(parse_address(address), open_stream, ClusterPin(""), random.Random(1))
    async with connection:
        await connection.send(*messages)
        found: list[Message] = []
        while len(found) < len(messages):
            message = await connection.receive_one()
            if isinstance(message, Appended | ProducerOpened | Refused):
                found.append(message)
        return found


@dataclass
class Lost:
    """What old clients have in hand when their cluster is gone."""

    configs: list[Config]
    backup: Path
    stamped: Batch
    next_stamped: Batch


async def live_and_be_lost(configs: list[Config], backup: Path, log: Log, reader: Subscription) -> Lost:
    """A cluster that is backed up, goes on for a while, and ends."""
    async with cluster_of(configs) as cluster:
        leader = cluster.configs[await cluster.leader()].me.client
        for first in range(0, 100, 20):  # one after the other: each is an entry of its own
            await log.append_many(events(first, first + 20))
        assert (await anext(reader)).offset == 0
        (session,) = await ask_raw(str(leader), OpenProducerSession(1))
        assert isinstance(session, ProducerOpened)
        batches = [make_batch(events(first, first + 20)) for first in (100, 200)]
        stamped, following = (
            replace(batch, producer=ProducerStamp(session.producer_id, session.epoch, at, 20))
            for batch, at in zip(batches, (0, 20), strict=True)
        )
        (acked,) = await ask_raw(str(leader), Append(2, stamped))
        assert isinstance(acked, Appended)
        await cluster.applied(IN_BACKUP)
        async with connect_node(str(leader)) as link:
            cut = await link.cut_prefix(CUT_BEFORE)
            assert cut.first_offset == CUT_BEFORE
            with pytest.raises(OffsetOutOfRange):
                await link.read_entries(cut.prefix_index)
            assert (await link.take_checkpoint()).index == (await link.status())["savepoint_index"]
            end = await link.read_entries(limits.MAX_INDEX, linearizable=True)
            assert (end.records, end.prefix_index) == ([], cut.prefix_index)
            await take_backup(link, backup)
        follower = next(str(c.me.client) for c in configs if c.me.client != leader)
        async with connect_node(follower) as link:
            with pytest.raises(NotLeader):
                await link.read_entries(limits.MAX_INDEX, linearizable=True)
        await log.append_many(events(300, 360))
    return Lost(configs, backup, stamped, following)


async def test_a_restored_cluster_knows_its_events_and_its_old_clients_are_told(tmp_path: Path) -> None:
    old = await three_configs(tmp_path / "old")
    addresses = [str(config.me.client) for config in old]
    # Before the nodes: a client outlives them here.
    async with connect(addresses, timeout_s=None) as log:
        reader = log.subscribe(0)
        lost = await live_and_be_lost(old, tmp_path / "b", log, reader)
        backup = BackupReader.open(lost.backup)
        assert backup.manifest.snapshot is not None
        ancestors = (Ancestor("test", IN_BACKUP),)
        configs = [
            replace(
                config, cluster="test-2", data_dir=tmp_path / f"new-{config.node_id}", ancestors=ancestors
            )
            for config in lost.configs
        ]
        for config in configs:
            lay_down(backup, config, lambda events: None)
        async with cluster_of(configs) as cluster:
            leader = str(cluster.configs[await cluster.leader()].me.client)
            await everything_is_known(cluster, leader, lost)
            await open_clients_are_told(log, reader)
            await new_clients_are_told(cluster)


async def everything_is_known(cluster: LocalCluster, leader: str, lost: Lost) -> None:
    """By key and by session, and a session goes on where it was."""
    async with connect(cluster.addresses) as log:
        acks = await log.append_many(events(0, 100))
        assert all(ack.duplicate for ack in acks)
        assert [ack.offset for ack in acks] == list(range(100))
        with pytest.raises(OffsetOutOfRange):
            await log.read(0)  # what was cut stays cut
        assert [event.offset for event in await log.read(CUT_BEFORE + 30, 1000)][-1] == IN_BACKUP - 1
    again, following = await ask_raw(leader, Append(1, lost.stamped), Append(2, lost.next_stamped))
    assert isinstance(again, Appended)
    assert again.duplicates == 20
    assert again.ranges[0].base_offset == 100
    assert isinstance(following, Appended)
    assert (following.duplicates, following.ranges[0].base_offset) == (0, IN_BACKUP)
    async with connect_node(leader) as link:
        status = await link.status()
    assert (status["epoch"], status["ancestors"]) == (2, [["test", IN_BACKUP]])


async def open_clients_are_told(log: Log, reader: Subscription) -> None:
    """Those that never named their cluster, too: they know the one that they have met."""
    told = f"epoch 2; only the events before offset {IN_BACKUP}"
    with trio.fail_after(60), pytest.raises(ClusterRestored, match=told):
        await log.append({"id": "late", "source": "/test", "type": "t"})  # it would be tried for ever
    with trio.fail_after(60), pytest.raises(ClusterRestored):
        await log.read(0)
    with trio.fail_after(60), pytest.raises(ClusterRestored):
        await all_of(reader)


async def all_of(reader: Subscription) -> None:
    """Read until it raises."""
    async for _ in reader:
        pass


async def new_clients_are_told(cluster: LocalCluster) -> None:
    """Those that name the old cluster; and those that name none, and bring an offset of it."""
    for address in cluster.addresses:
        with pytest.raises(ClusterRestored):
            await connect_node(address, cluster="test").__aenter__()
        with pytest.raises(WrongCluster) as caught:
            await connect_node(address, cluster="another").__aenter__()
        assert not isinstance(caught.value, ClusterRestored)
    async with connect(cluster.addresses) as log:
        end = (await log.read(IN_BACKUP, 1000))[-1].offset + 1
        assert await log.read(end) == []
        with pytest.raises(OffsetAfterRestore, match=f"offset {end + 7} is past the end of this log, {end}"):
            await log.read(end + 7)
        with trio.fail_after(60), pytest.raises(OffsetAfterRestore):
            await anext(log.subscribe(end + 7))
        waiting = log.subscribe(end)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.append, {"id": "next", "source": "/test", "type": "t"})
            assert (await anext(waiting)).offset == end  # the end itself is no offset of the old log


async def test_a_client_stays_with_the_first_cluster_that_answers(tmp_path: Path) -> None:
    configs = await three_configs(tmp_path / "one", 1)
    async with connect([str(configs[0].me.client)], timeout_s=60.0) as log:
        async with cluster_of(configs):
            await log.append({"id": "1", "source": "/test", "type": "t"})
        others = [replace(configs[0], cluster="another", data_dir=tmp_path / "other")]
        async with cluster_of(others) as cluster:
            await cluster.leader()
            with trio.fail_after(60), pytest.raises(WrongCluster):
                await anext(log.subscribe(0))
            assert cluster.running[1].node.view.next_offset == 0
