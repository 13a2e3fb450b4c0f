"""A follower behind the log's beginning fetches the chunks of keys that it lacks, and no others."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from esnode import limits
from esnode.client import Log, connect
from esnode.config import Retention
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.storage.segments import SegmentStorage
from tests.cluster import LocalCluster, local_cluster

RETENTION = Retention(bytes=50_000, check_every_ms=3_600_000)


def numbered(first: int, end: int) -> list[dict[str, str]]:
    return [{"id": str(number), "source": "/keys", "type": "t"} for number in range(first, end)]


def fetches(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    """Of each snapshot that came: how many chunks it named, and how many were asked for."""
    told = [record for record in caplog.records if record.message == "keys_missing"]
    return [(record.chunks, record.missing) for record in told]  # type: ignore[attr-defined]


async def behind(cluster: LocalCluster, log: Log, away: int, first: int, end: int, *, runs: int = 1) -> None:
    """Let `away` miss these events, and the others cut them away; then start it again, for so many runs."""
    run = cluster.runs[away] + runs
    await log.append_many(numbered(first, end))
    for each in cluster.running.values():
        await each.node.cutter.cut()
        assert each.node.view.first_offset > first
    await cluster.start(away)
    await cluster.wait_run(away, run)
    await cluster.applied(end)


async def all_known(cluster: LocalCluster, leader: int, samples: Sequence[int]) -> None:
    """The node leads, and knows these events again."""
    async with connect(cluster.addresses) as log:
        if await cluster.leader() != leader:
            await log.transfer_leadership(leader)
        acks = await log.append_many([numbered(number, number + 1)[0] for number in samples])
        assert [(ack.offset, ack.duplicate) for ack in acks] == [(number, True) for number in samples]


@pytest.mark.parametrize("storage", ["segments", "sqlite"])
async def test_a_follower_fetches_the_chunks_that_it_lacks_and_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, storage: str
) -> None:
    caplog.set_level(logging.INFO, logger="esnode.replication.keychunks")
    async with (
        local_cluster(tmp_path, retention=RETENTION, storage=storage) as cluster,
        connect(cluster.addresses, batch_events=500) as log,
    ):
        leader = await cluster.leader()
        away = next(node_id for node_id in cluster.running if node_id != leader)
        await cluster.kill(away)
        with trio.fail_after(60):
            await behind(cluster, log, away, 0, 5 * CHUNK_KEYS + 500)
        ((chunks, missing),) = fetches(caplog)
        assert chunks == missing >= 4
        await cluster.kill(away)
        caplog.clear()
        with trio.fail_after(60):
            await behind(cluster, log, away, 5 * CHUNK_KEYS + 500, 8 * CHUNK_KEYS + 500)
        ((more, missing),) = fetches(caplog)
        assert more - missing == chunks < more
        # From its own disk, the window is whole: a second start, and a leadership.
        await cluster.kill(away)
        (cluster.configs[away].data_dir / "savepoint").unlink(missing_ok=True)
        await cluster.start(away)
        await all_known(
            cluster, away, [0, CHUNK_KEYS - 1, 5 * CHUNK_KEYS, 7 * CHUNK_KEYS + 9, 8 * CHUNK_KEYS]
        )


async def test_a_follower_whose_directory_is_gone_fetches_the_whole_window(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="esnode.replication.keychunks")
    async with (
        local_cluster(tmp_path, retention=RETENTION) as cluster,
        connect(cluster.addresses, batch_events=500) as log,
    ):
        leader = await cluster.leader()
        away = next(node_id for node_id in cluster.running if node_id != leader)
        await log.append_many(numbered(0, 100))
        await cluster.applied(100)
        await cluster.kill(away)
        shutil.rmtree(cluster.configs[away].data_dir)
        with trio.fail_after(60):
            await behind(cluster, log, away, 100, 3 * CHUNK_KEYS + 100, runs=2)  # it rejoins
        chunks, missing = fetches(caplog)[-1]
        assert chunks == missing >= 2


@pytest.mark.slow
async def test_a_window_of_several_hundred_thousand_keys_comes_as_files_a_few_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="esnode.replication.keychunks")
    most_at_once = 0
    keep_keys = SegmentStorage.keep_keys

    def noted(storage: SegmentStorage, first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        nonlocal most_at_once
        most_at_once = max(most_at_once, len(chunks))
        keep_keys(storage, first_chunk, chunks)

    async with (
        local_cluster(tmp_path, retention=RETENTION, storage="segments") as cluster,
        connect(cluster.addresses, batch_events=1_000) as log,
    ):
        leader = await cluster.leader()
        away = next(node_id for node_id in cluster.running if node_id != leader)
        await cluster.kill(away)
        for first in range(0, 300_000, 50_000):
            await log.append_many(numbered(first, first + 50_000))
        for each in cluster.running.values():
            await each.node.cutter.cut()
        stored = cluster.running[leader].node.worker.storage.load_snapshot()
        assert stored is not None
        assert len(stored.data) < 100_000 < stored.next_offset  # with its keys: 16 bytes for each event
        monkeypatch.setattr(SegmentStorage, "keep_keys", noted)
        with trio.fail_after(30):
            await cluster.start(away)
            await cluster.applied(300_000)
        ((chunks, missing),) = fetches(caplog)
        assert chunks == missing > 60
        assert 0 < most_at_once <= limits.FETCHED_CHUNKS
        await all_known(cluster, away, [0, 150_000, 280_000])
