"""A node with several partitions is several processes: what acts on the node acts on all of them."""

import os
import signal
from collections.abc import Callable

import pytest
import trio

from esctl.clusters.backends import nodeprocess, pidfile
from esctl.errors import NodeNotReady
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
