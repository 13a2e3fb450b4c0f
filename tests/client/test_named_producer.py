"""Named producer sessions on whole nodes with real disks: over restarts of everybody, and snapshots."""

from pathlib import Path
from typing import Any

import pytest

from esnode.client import ProducerState, connect, connect_node
from esnode.config import Dedup
from esnode.errors import ProducerFenced
from tests.cluster import LocalCluster, local_cluster

NO_WINDOW = Dedup(ttl_ms=1)


def events(first: int, end: int) -> list[dict[str, Any]]:
    return [{"id": str(number), "source": "/test", "type": "t"} for number in range(first, end)]


async def restart(cluster: LocalCluster) -> None:
    for node_id in list(cluster.running):
        await cluster.kill(node_id)
    for node_id in cluster.configs:
        await cluster.start(node_id)


async def ids(cluster: LocalCluster, first: int = 0) -> list[str]:
    async with connect(cluster.addresses) as log:
        return [stored.event["id"] for stored in await log.read(first)]


@pytest.mark.parametrize("storage", ["sqlite", "segments"])
async def test_an_application_and_all_nodes_are_restarted_and_every_event_is_there_once(
    tmp_path: Path, storage: str
) -> None:
    async with local_cluster(tmp_path, dedup=NO_WINDOW, storage=storage) as cluster:
        async with connect(cluster.addresses, producer="billing-1", batch_events=7) as log:
            await log.append_many(events(0, 40), first_sequence=0)
        await restart(cluster)
        async with connect(cluster.addresses, producer="billing-1", batch_events=7) as log:
            state = await log.producer_state()
            assert (state.epoch, state.last_sequence, state.last_offset) == (2, 39, 39)
            acks = await log.append_many(events(20, 60), first_sequence=20)
            assert [ack.offset for ack in acks] == list(range(20, 60))
            assert [ack.duplicate for ack in acks] == [True] * 20 + [False] * 20
        assert await ids(cluster) == [str(number) for number in range(60)]


async def test_the_last_number_of_a_name_outlives_the_cut_prefix_and_comes_with_a_checkpoint(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path, count=1, dedup=NO_WINDOW) as cluster:
        async with connect(cluster.addresses, producer="a", batch_events=5) as log:
            await log.append_many(events(0, 20))
        async with connect_node(cluster.addresses[0]) as node:
            assert (await node.take_checkpoint()).index
            assert (await node.cut_prefix(15)).first_offset == 15
        for _ in range(2):
            await restart(cluster)
        async with connect(cluster.addresses, producer="a") as log:
            state = await log.producer_state()
            assert state == ProducerState("a", state.producer_id, 2, 19, 19)
            assert (await log.append_many(events(0, 21), first_sequence=0))[20].offset == 20
        assert await ids(cluster, 15) == [str(number) for number in range(15, 21)]


async def test_whoever_opens_a_name_fences_the_one_before(tmp_path: Path) -> None:
    async with (
        local_cluster(tmp_path, dedup=NO_WINDOW) as cluster,
        connect(cluster.addresses, producer="a") as older,
    ):
        await older.append_many(events(0, 5), first_sequence=0)
        async with connect(cluster.addresses, producer="a") as newer:
            assert (await newer.append_many(events(5, 10), first_sequence=5))[0].offset == 5
            for _ in range(2):
                with pytest.raises(ProducerFenced) as caught:
                    await older.append_many(events(10, 15))
                assert caught.value.definite
            await cluster.kill(await cluster.leader())
            with pytest.raises(ProducerFenced):
                await older.append_many(events(10, 15), first_sequence=5)
            await newer.append_many(events(10, 12))
        assert await ids(cluster) == [str(number) for number in range(12)]
