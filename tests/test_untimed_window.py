"""`dedup.ttl_ms = 0`: an event is known at least as long as any node has it, wherever each cuts its log."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esnode.client import Log, connect, connect_node
from esnode.config import Dedup, Retention
from tests.cluster import LocalCluster, local_cluster
from tests.test_node import flights


async def append(log: Log, events: Sequence[dict[str, Any]]) -> None:
    """Several entries, so that some of them can be cut away."""
    for start in range(0, len(events), 50):
        await log.append_many(events[start : start + 50])


async def dedup_of(cluster: LocalCluster, node_id: int) -> dict[str, Any]:
    async with connect_node(str(cluster.configs[node_id].me.client)) as node:
        return dict((await node.status())["dedup"])


def digests(cluster: LocalCluster) -> set[bytes]:
    return {running.node.machine.keys.digest() for running in cluster.running.values()}


async def test_nodes_that_cut_replay_and_install_a_snapshot_know_the_same(tmp_path: Path) -> None:
    retention = Retention(bytes=10**9, check_every_ms=3_600_000)
    events = flights(600)
    async with local_cluster(tmp_path, dedup=Dedup(ttl_ms=0), retention=retention) as cluster:
        async with connect(cluster.addresses, batch_events=20) as log:
            leader = await cluster.leader()
            away = next(number for number in (1, 2, 3) if number != leader)
            await cluster.kill(away)
            await append(log, events)
            await cluster.applied(600)
            await cluster.running[leader].node.cutter.cut_before(400)
            await cluster.start(away)  # from a snapshot; the third node has its whole log
            await cluster.applied(600)
            assert cluster.running[away].node.view.first_offset > 0
            assert len(digests(cluster)) == 1
            assert all(ack.duplicate for ack in await log.append_many(events))
        for number in (1, 2, 3):
            await cluster.kill(number)
        for number in (1, 2, 3):
            await cluster.start(number)
        async with connect(cluster.addresses, batch_events=20) as log:
            assert all(ack.duplicate for ack in await log.append_many(events))
            known = await log.explain(events[0]["source"], events[0]["id"])
            assert (known.offset, known.expires_in_ms) == (0, -1)
        await cluster.applied(600)  # a majority has acked: the third node may have to catch up yet
        assert len(digests(cluster)) == 1
        for number in (1, 2, 3):
            told = await dedup_of(cluster, number)
            assert (told["live_keys"], told["ttl_ms"], told["forgotten_early"]) == (600, 0, 0)


async def test_the_bound_forgets_the_same_on_all_and_early_is_what_a_node_still_has(tmp_path: Path) -> None:
    events = flights(300)
    async with local_cluster(tmp_path, dedup=Dedup.of_keys(100, ttl_ms=0)) as cluster:
        async with connect(cluster.addresses, batch_events=10) as log:
            await append(log, events)
            await cluster.applied(300)
            await cluster.running[1].node.cutter.cut_before(150)
            told = {number: await dedup_of(cluster, number) for number in (1, 2, 3)}
            assert {one["live_keys"] for one in told.values()} == {100}
            assert (told[1]["forgotten_early"], told[2]["forgotten_early"]) == (50, 200)
            assert [ack.duplicate for ack in await log.append_many(events[-5:])] == [True] * 5
        assert len(digests(cluster)) == 1
