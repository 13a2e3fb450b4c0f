"""Nodes that are paused for a while: a watchdog ends that, whoever is gone. The nodes are scripts."""

import time
from pathlib import Path

import pytest
import trio

from esctl.clusters.state import Cluster
from esctl.errors import NodeNotReady, NodeNotRunning
from esctl.faults import leases, watchdog
from esnode.errors import OperationTimeout
from tests.esctl.conftest import FakeNodes

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0


@pytest.fixture
def running(fakes: FakeNodes) -> FakeNodes:
    trio.run(fakes.backend.start, fakes.cluster, fakes.numbers, PATIENCE_S)
    return fakes


def wait_for(fakes: FakeNodes, states: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while fakes.states() != states:
        assert time.monotonic() < deadline, fakes.states()
        time.sleep(0.02)


def pause(fakes: FakeNodes, lease_ms: int) -> leases.StoppedNode:
    stopped = leases.begin(fakes.cluster, "pause-1", "pause", 2, lease_ms)
    return leases.strike(fakes.cluster, stopped)


def test_a_paused_node_goes_on_when_its_lease_is_over(running: FakeNodes) -> None:
    stopped = pause(running, 700)
    wait_for(running, ["running", "paused", "running"])
    assert leases.active(running.cluster) == [stopped]
    wait_for(running, ["running"] * 3)
    assert time.time() >= stopped.until - 0.05
    deadline = time.monotonic() + PATIENCE_S
    while leases.active(running.cluster):
        assert time.monotonic() < deadline


def test_a_paused_node_goes_on_at_once_when_it_is_healed(running: FakeNodes) -> None:
    stopped = pause(running, 60_000)
    assert leases.heal(running.cluster, ["other"]) == ([], None)
    assert leases.heal(running.cluster, ["pause-1"]) == ([stopped], None)
    wait_for(running, ["running"] * 3)
    assert leases.active(running.cluster) == []


def test_a_watchdog_that_cannot_end_a_fault_tries_again(
    running: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases.begin(running.cluster, "pause-1", "pause", 2, 60_000)
    refusals = [NodeNotReady("busy"), NodeNotReady("still busy")]
    end = leases.end

    def refused(cluster: Cluster, stopped: leases.StoppedNode) -> None:
        if refusals:
            raise refusals.pop()
        end(cluster, stopped)

    monkeypatch.setattr(leases, "end", refused)
    monkeypatch.setattr(watchdog, "TRY_AGAIN_AFTER_S", (0.01, 0.01))
    monkeypatch.setattr(watchdog, "_until", lambda _: 0.0)
    assert watchdog.watch(running.cluster, "pause-1") == 0
    assert refusals == []
    leases.begin(running.cluster, "pause-1", "pause", 2, 60_000)
    refusals += [NodeNotReady("busy")] * 3
    assert watchdog.watch(running.cluster, "pause-1") == 1
    assert leases.STORE.get(running.cluster, "pause-1") is not None
    assert leases.heal(running.cluster) == ([], None)  # it was not struck, and its own watchdog ends now


def test_the_lease_begins_when_the_node_is_struck(running: FakeNodes) -> None:
    begun = leases.begin(running.cluster, "pause-1", "pause", 2, 1_000)
    time.sleep(0.2)
    stopped = leases.strike(running.cluster, begun)
    assert stopped.until >= begun.until + 0.2
    while leases.active(running.cluster):
        time.sleep(0.02)
    assert time.time() >= stopped.until - 0.05
    assert running.states() == ["running"] * 3


def test_all_nodes_stand_still_together_and_go_on(running: FakeNodes) -> None:
    begun = leases.begin_all(running.cluster, {n: f"freeze-1.{n}" for n in (1, 2, 3)}, "freeze", 2_000)
    for one in begun:
        leases.strike(running.cluster, one)
    wait_for(running, ["paused"] * 3)
    wait_for(running, ["running"] * 3)


def test_a_note_that_was_left_before_anything_was_struck_is_no_fault(running: FakeNodes) -> None:
    leases.begin(running.cluster, "pause-1", "pause", 2, 60_000)
    assert leases.active(running.cluster) == []
    assert leases.heal(running.cluster) == ([], None)
    assert leases.STORE.get(running.cluster, "pause-1") is None
    assert running.states() == ["running"] * 3


def test_nobody_is_struck_when_the_lease_is_over_before(running: FakeNodes) -> None:
    stopped = leases.begin(running.cluster, "pause-1", "pause", 2, 100)
    deadline = time.monotonic() + PATIENCE_S
    while leases.STORE.get(running.cluster, "pause-1") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(OperationTimeout, match="nothing was done"):
        leases.strike(running.cluster, stopped)
    assert running.states() == ["running"] * 3


def test_a_node_that_does_not_run_leaves_nothing_under_way(fakes: FakeNodes) -> None:
    with pytest.raises(NodeNotRunning):
        pause(fakes, 60_000)
    assert leases.active(fakes.cluster) == []


def test_a_damaged_note_is_no_fault(fakes: FakeNodes) -> None:
    directory = Path(fakes.cluster.directory / "faults")
    directory.mkdir(parents=True)
    (directory / "pause-9.json").write_text("{")
    assert leases.active(fakes.cluster) == []
