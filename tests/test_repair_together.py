"""Damage on several nodes: one after the other each repairs itself, together none puts its log aside."""

from pathlib import Path

import pytest
import trio

from esnode.client import connect
from esnode.errors import DamagedRecord, UnsafeRepair
from tests.cluster import LocalCluster, local_cluster
from tests.storage.test_versioncheck import digests
from tests.test_node import flights
from tests.test_rejoin import begun, damage_middle, hold_the_same, is_sound


async def filled(cluster: LocalCluster, count: int = 100) -> None:
    async with connect(cluster.addresses, batch_events=10) as log:
        for begin in range(0, count, 20):
            await log.append_many(flights(count)[begin : begin + 20])
    await cluster.applied(count)


async def kill_and_damage(cluster: LocalCluster, *node_ids: int) -> None:
    for node_id in node_ids:
        if node_id in cluster.running:
            await cluster.kill(node_id)
        damage_middle(cluster, node_id)


def untouched(cluster: LocalCluster, node_id: int) -> dict[str, tuple[str, int]]:
    return digests(cluster.configs[node_id].data_dir)


async def test_nodes_that_are_damaged_one_after_the_other_repair_themselves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with local_cluster(tmp_path) as cluster:
        await filled(cluster)
        for ill in (1, 2, 3):
            await kill_and_damage(cluster, ill)
            await cluster.start(ill)
            await is_sound(cluster, ill)
        assert begun(caplog) == [(DamagedRecord.code, True)] * 3
        await hold_the_same(cluster, 100)


async def test_a_second_damaged_node_waits_while_the_first_is_not_whole_and_goes_on_when_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a cluster of five: with three, two lost disks leave nobody to ask."""
    async with local_cluster(tmp_path, count=5) as cluster:
        await filled(cluster)
        leader = await cluster.leader()
        first, second, *_ = [each for each in cluster.running if each != leader]
        await kill_and_damage(cluster, first, second)
        await cluster.start(first)  # it needs an answer of every other node, and stays as it is
        before = untouched(cluster, second)
        with pytest.raises(UnsafeRepair, match=f"node {first} is not whole either"):
            await cluster.start(second)
        assert untouched(cluster, second) == before
        assert begun(caplog) == [(DamagedRecord.code, True)]
        await cluster.start(second, rejoin=True)  # a person has decided
        for each in (first, second):
            await is_sound(cluster, each)
        assert (cluster.configs[second].data_dir / "damaged-1").is_dir()


@pytest.mark.parametrize("engine", ["sqlite", "segments"])
async def test_logs_that_are_damaged_on_every_node_at_once_are_never_put_aside(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an upgrade whose version reads its log wrongly."""
    refused: dict[int, str] = {}

    async def refuse(node_id: int) -> None:
        with pytest.raises(UnsafeRepair) as caught:
            await cluster.start(node_id)
        refused[node_id] = str(caught.value)

    async with local_cluster(tmp_path, storage=engine) as cluster:
        await filled(cluster)
        await kill_and_damage(cluster, 1, 2, 3)
        before = {node_id: untouched(cluster, node_id) for node_id in (1, 2, 3)}
        async with trio.open_nursery() as nursery:
            for node_id in (1, 2, 3):
                nursery.start_soon(refuse, node_id)
        assert "nodes 2, 3 are not whole either" in refused[1]
        assert sorted(refused) == [1, 2, 3]
        assert begun(caplog) == []
        for node_id in (1, 2, 3):
            assert not (cluster.configs[node_id].data_dir / "damaged-1").exists()
            assert {name for name, _ in before[node_id].items()} <= set(untouched(cluster, node_id))


async def test_a_damaged_node_whose_peers_say_nothing_begins_to_rejoin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that is down says nothing of its disk; the first one to be damaged waits for nobody."""
    async with local_cluster(tmp_path) as cluster:
        await filled(cluster)
        await kill_and_damage(cluster, 1)
        for node_id in (2, 3):
            await cluster.kill(node_id)
        await cluster.start(1)
        assert cluster.running[1].node.view.rejoining
        for node_id in (2, 3):
            await cluster.start(node_id)
        await is_sound(cluster, 1)
        assert begun(caplog) == [(DamagedRecord.code, True)]
