"""A node with several partitions is several processes: what acts on the node acts on all of them."""

import os
import signal
from collections.abc import Callable

import pytest
import trio

from esctl.clusters.backends import nodeprocess, pidfile
from esctl.clusters.backends.interface import RunState
from esctl.errors import NodeNotReady, NodeNotRunning
from esctl.faults import leases
from esnode.config import load
from tests.esctl.conftest import FakeNodes

PATIENCE_S = 60.0
PARTITIONS = 2


@pytest.fixture
def several(make_fakes: Callable[..., FakeNodes]) -> FakeNodes:
    """Three fake nodes of two partitions, not yet started."""
    return make_fakes(partitions=PARTITIONS)


async def start(fakes: FakeNodes) -> None:
    """Start all of them, and wait until each has its partitions."""
    await fakes.backend.start(fakes.cluster, fakes.numbers, PATIENCE_S)
    await until(lambda: all(len(pids_of(fakes, number)) == 1 + PARTITIONS for number in fakes.numbers))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the operating system tells nobody of."""
    with trio.fail_after(PATIENCE_S):
        while True:
            if holds():
                return
            await trio.sleep(0.005)


def pids_of(fakes: FakeNodes, number: int) -> list[int]:
    """Of a node: the one that stands for it first."""
    found = nodeprocess.holder_of(fakes.cluster.node(number), PARTITIONS)
    return [] if found is None else [found.pid, *(each.pid for each in found.partitions)]


def states(pids: list[int]) -> list[str]:
    """The letters of the operating system; those that are gone have none."""
    facts = [pidfile.facts_of(pid) for pid in pids]
    return [each.state for each in facts if each is not None and each.state not in "ZX"]


async def wait_states(pids: list[int], wanted: str) -> None:
    """A signal takes a moment to work."""
    await until(lambda: set(states(pids)) <= set(wanted))


async def test_the_setting_is_in_the_files_of_the_nodes_and_only_where_there_are_several(
    make_fakes: Callable[..., FakeNodes],
) -> None:
    for partitions in (1, 4):
        fakes = make_fakes(f"of-{partitions}", partitions=partitions)
        for node in fakes.cluster.nodes:
            assert load(node.config).partitions == partitions
            assert ("partitions" in node.config.read_text(encoding="utf-8")) is (partitions > 1)


async def test_the_node_is_its_supervisor_and_the_memory_that_of_all(several: FakeNodes) -> None:
    await start(several)
    for shown in several.backend.nodes(several.cluster):
        supervisor, *partitions = pids_of(several, shown.node.id)
        assert shown.pid == supervisor == int((shown.node.data_dir / "lock").read_text())
        own = pidfile.rss_bytes(supervisor)
        assert len(partitions) == PARTITIONS
        assert own is not None
        assert shown.rss_bytes is not None
        assert shown.rss_bytes > 2 * own


async def test_the_node_is_its_supervisor_where_its_directory_was_deleted_too(several: FakeNodes) -> None:
    await start(several)
    before = several.pids()
    for node in several.cluster.nodes:
        (node.data_dir / "lock").unlink()
    assert several.pids() == before


async def test_a_paused_node_stands_still_with_all_its_partitions_and_resumes_with_them(
    several: FakeNodes,
) -> None:
    await start(several)
    pids, others = pids_of(several, 2), pids_of(several, 1)
    assert several.backend.pause(several.cluster, 2) == pids[0]
    await wait_states(pids, "T")
    assert several.states() == ["running", "paused", "running"]
    assert "T" not in states(others)
    assert several.backend.resume(several.cluster, 2) == pids[0]
    await wait_states(pids, "SRD")
    assert several.states() == ["running"] * 3


async def test_a_killed_node_is_gone_with_its_partitions_that_would_linger(several: FakeNodes) -> None:
    several.moods[3] = "lingering"
    await start(several)
    pids = pids_of(several, 3)
    assert await several.backend.kill(several.cluster, 3) == pids[0]
    assert states(pids) == []
    assert several.states() == ["running", "running", "down"]


@pytest.mark.parametrize("mood", ["supervisor", "lingering"])
async def test_a_stop_leaves_no_partition_whether_the_node_was_paused_or_not(
    several: FakeNodes, mood: str
) -> None:
    several.moods.update(dict.fromkeys(several.numbers, mood))
    await start(several)
    pids = [pid for number in several.numbers for pid in pids_of(several, number)]
    several.backend.pause(several.cluster, 1)
    assert await several.backend.stop(several.cluster, several.numbers, PATIENCE_S) == []
    assert states(pids) == []


async def test_a_node_whose_supervisor_somebody_killed_is_there_until_its_partitions_have_ended(
    several: FakeNodes,
) -> None:
    await start(several)
    supervisor, *partitions = pids_of(several, 1)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: pidfile.reap(supervisor) is not None)
    assert set(pids_of(several, 1)) == set(partitions)
    (started,) = await several.backend.start(several.cluster, [1], PATIENCE_S)
    assert states(partitions) == []
    assert started.pid not in (supervisor, *partitions)


async def test_partitions_that_outlive_their_supervisor_are_told_and_stopped(
    several: FakeNodes,
) -> None:
    several.moods[1] = "lingering"
    await start(several)
    supervisor, *partitions = pids_of(several, 1)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: pidfile.reap(supervisor) is not None)
    with pytest.raises(NodeNotReady, match="has not ended within") as told:
        await several.backend.start(several.cluster, [1], 0.2)
    assert told.value.next_step == "esctl node stop 1 --cluster fake"
    await several.backend.stop(several.cluster, [1], PATIENCE_S)
    assert states(partitions) == []


async def test_a_replica_is_paused_and_killed_alone(several: FakeNodes) -> None:
    await start(several)
    backend, cluster = several.backend, several.cluster
    holder = nodeprocess.holder_of(cluster.node(2), PARTITIONS)
    assert holder is not None
    replicas = {each.partition: each.pid for each in holder.partitions}
    assert backend.pause(cluster, 2, 1) == replicas[1]
    await wait_states([replicas[1]], "T")
    assert "T" not in states([holder.pid, replicas[0]])
    (shown,) = [one for one in backend.nodes(cluster) if one.node.id == 2]
    assert (shown.state, shown.paused_partitions) == (RunState.RUNNING, {1})
    assert (shown.state_of(0), shown.state_of(1)) == (RunState.RUNNING, RunState.PAUSED)
    assert backend.resume(cluster, 2, 1) == replicas[1]
    await wait_states([replicas[1]], "RS")
    assert await backend.kill_replica(cluster, 2, 0) == replicas[0]
    assert states([replicas[0]]) == []
    assert len(states([holder.pid, replicas[1]])) == 2
    with pytest.raises(NodeNotRunning, match="the process of partition 0 of node 2 does not run"):
        backend.pause(cluster, 2, 0)


@pytest.mark.slow
async def test_a_replica_that_is_paused_for_a_while_goes_on_when_it_is_healed(several: FakeNodes) -> None:
    await start(several)

    def strike() -> leases.StoppedNode:
        (begun,) = leases.begin_all(several.cluster, {2: "pause-1"}, "pause", 60_000, partition=1)
        return leases.strike(several.cluster, begun)

    stopped = await trio.to_thread.run_sync(strike)
    holder = nodeprocess.holder_of(several.cluster.node(2), PARTITIONS)
    assert holder is not None
    replica = holder.replica(1)
    assert replica is not None
    await wait_states([replica.pid], "T")
    assert (stopped.partition, stopped.as_data()["partition"]) == (1, 1)
    assert leases.heal(several.cluster, only=0) == ([], None)
    assert leases.heal(several.cluster, only=1) == ([stopped], None)
    await wait_states([replica.pid], "RS")
