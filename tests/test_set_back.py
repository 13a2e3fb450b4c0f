"""Nodes whose files were set back to an older state in place: by what that is noticed, and what is said."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.client import connect
from esnode.errors import OlderDirectory
from esnode.storage.interface import Distrust
from tests.cluster import LocalCluster, local_cluster
from tests.test_node import flights
from tests.test_rejoin import a_follower, begun, hold_the_same, is_sound, votes

ENGINES = ["sqlite", "segments", "rocksdb"]


def put_back(copy: Path, data_dir: Path) -> None:
    """`cp -a copy/. data_dir/`: over the same files, which keep their inodes and times of birth."""
    subprocess.run(["cp", "-a", f"{copy}/.", str(data_dir)], check=True)


def roll_back(copy: Path, data_dir: Path) -> None:
    """Exactly as it was, in the same files, with what has come since gone: nothing in it tells."""
    there = {path.relative_to(data_dir) for path in data_dir.rglob("*") if path.is_file()}
    for path in there - {path.relative_to(copy) for path in copy.rglob("*")}:
        (data_dir / path).unlink()
    put_back(copy, data_dir)


async def append(cluster: LocalCluster, events: Sequence[dict[str, Any]]) -> None:
    async with connect([str(cluster.configs[n].me.client) for n in cluster.running], batch_events=10) as log:
        await log.append_many(events)


async def copied(cluster: LocalCluster, node_id: int, into: Path) -> Path:
    """A copy of the node's directory, made while it was stopped; it runs again."""
    await cluster.kill(node_id)
    shutil.copytree(cluster.configs[node_id].data_dir, into, copy_function=shutil.copy2)
    await cluster.start(node_id)
    return into


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_node_set_back_in_place_does_not_elect_a_leader_without_what_it_had_acked(
    engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nodes 1 and 2 have acked 60 events that node 3 has never seen; then 2 is set back, and 1 is down."""
    if engine == "rocksdb":
        pytest.importorskip("rocksdict")
    events = flights(100)
    async with local_cluster(tmp_path, storage=engine) as cluster:
        await append(cluster, events[:20])
        await cluster.applied(20)
        copy = await copied(cluster, 2, tmp_path / "copy")
        await cluster.leader()
        await cluster.kill(3)
        await append(cluster, events[20:80])
        await cluster.kill(2)
        await cluster.kill(1)
        data_dir = cluster.configs[2].data_dir
        before = {name: os.stat(data_dir / name).st_ino for name in ("durable", "identity.json")}
        put_back(copy, data_dir)
        assert before == {name: os.stat(data_dir / name).st_ino for name in before}
        await cluster.start(3)
        await cluster.start(2)
        storage = cluster.running[2].node.worker.storage
        assert storage.distrust is not None
        while not cluster.running[3].node.view.soft_state.leader and len(storage.peer_directories) < 2:
            await trio.testing.wait_all_tasks_blocked()
        assert cluster.running[2].node.view.rejoining
        assert cluster.running[3].node.view.soft_state.leader is None
        await cluster.start(1)
        await is_sound(cluster, 2)
        await append(cluster, events[80:])
        await hold_the_same(cluster, 100)
        assert begun(caplog) in ([(OlderDirectory.code, False)], [("ES3104", True)])
        await cluster.kill(2)
        await cluster.start(2)  # that was the end of it
        assert not cluster.running[2].node.view.rejoining
        assert len(begun(caplog)) == 1


async def test_peers_that_know_more_of_a_node_than_it_has_let_it_rejoin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rolled back so that nothing in the directory tells: what the leader heard of it does."""
    events = flights(60)
    async with local_cluster(tmp_path) as cluster:
        await append(cluster, events[:20])
        await cluster.applied(20)
        old = await a_follower(cluster)
        copy = await copied(cluster, old, tmp_path / "copy")
        await append(cluster, events[20:50])
        await cluster.applied(50)
        await cluster.kill(old)
        roll_back(copy, cluster.configs[old].data_dir)
        runs = cluster.runs[old]
        await cluster.start(old)
        await cluster.wait_run(old, runs + 2)
        await is_sound(cluster, old)
        assert begun(caplog) == [(OlderDirectory.code, False)]
        reason = next(r.__dict__["reason"] for r in caplog.records if r.message == "rejoin_begun")
        assert "knows that it held entry" in reason
        await votes(cluster, old, events[50:])
        await hold_the_same(cluster, 60)


async def test_what_is_known_of_a_peer_outlives_the_process_that_led(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A leader notes durably how far the others have come: with checkpoints, and after elections."""
    monkeypatch.setattr(limits, "CHECKPOINT_CHECK_S", 0.02)
    monkeypatch.setattr(limits, "CHECKPOINT_ENTRIES", 1)
    events = flights(60)
    async with local_cluster(tmp_path) as cluster:
        await append(cluster, events[:20])
        await cluster.applied(20)
        leader = await cluster.leader()
        old = next(n for n in cluster.running if n != leader)
        copy = await copied(cluster, old, tmp_path / "copy")
        entries = cluster.running[leader].node.view.applied_index
        await append(cluster, events[20:50])
        await cluster.applied(50)
        storage = cluster.running[leader].node.worker.storage
        while storage.peers_reached.get(old, 0) <= entries:
            await trio.testing.wait_all_tasks_blocked()
        await cluster.kill(old)
        await cluster.kill(leader)
        roll_back(copy, cluster.configs[old].data_dir)
        runs = cluster.runs[old]
        await cluster.start(leader)
        await cluster.start(old)
        await cluster.wait_run(old, runs + 2)
        await is_sound(cluster, old)
        assert begun(caplog) == [(OlderDirectory.code, False)]
        await hold_the_same(cluster, 50)


async def test_a_cluster_of_one_goes_on_with_an_older_state_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No other node has its log, and to put a copy back is what its operator does."""
    events = flights(40)
    async with local_cluster(tmp_path, count=1) as cluster:
        await append(cluster, events[:20])
        copy = await copied(cluster, 1, tmp_path / "copy")
        await append(cluster, events[20:])
        await cluster.kill(1)
        put_back(copy, cluster.configs[1].data_dir)
        for _ in range(2):
            await cluster.start(1)
            async with connect(cluster.addresses) as log:
                assert len(await log.read(0, 99)) == 20
            await cluster.kill(1)
        told = [r.__dict__["reason"] for r in caplog.records if r.message == "copy_trusted"]
        assert len(told) == 1
        assert "older files were restored in place" in told[0]


async def test_a_copy_of_the_latest_state_put_back_in_place_is_current(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        await append(cluster, flights(20))
        await cluster.applied(20)
        await cluster.kill(2)
        shutil.copytree(cluster.configs[2].data_dir, tmp_path / "copy")
        put_back(tmp_path / "copy", cluster.configs[2].data_dir)
        await cluster.start(2)
        assert cluster.running[2].node.worker.storage.distrust is None
        await hold_the_same(cluster, 20)


def test_the_cause_is_graver_than_a_copy_and_not_for_the_operators_word() -> None:
    assert Distrust.COPY.added_to(Distrust.OLDER) is Distrust.OLDER
    assert Distrust.DAMAGE.added_to(Distrust.OLDER) is Distrust.DAMAGE
