"""Upkeep of real nodes while events are sent: restarted in turn, one on a new disk, and nothing is lost."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.esctl.conftest import FLIGHTS, FLIGHTS_COUNT, RealCluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes without events."""
    cluster = RealCluster(tmp_path_factory.mktemp("kept"))
    try:
        cluster.data("cluster", "up", "kept")
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "kept", "--confirm", "kept")


def test_nodes_are_restarted_and_one_replaced_under_load_without_a_loss(
    kept: RealCluster, tmp_path: Path
) -> None:
    leader = kept.data("cluster", "wait")["leader"]
    load = kept.begin("produce", str(FLIGHTS), "--rate", "3000", "-o", "json")
    rolled = kept.data("cluster", "restart", "--rolling")
    assert rolled["order"][-1] == leader
    assert [step["led"] for step in rolled["done"]] == [False, False, True]
    assert rolled["left"] == []
    replaced = kept.data("node", "replace", str(leader), "--data-dir", str(tmp_path / "disk2"), "--no-verify")
    assert Path(replaced["old"]).name == f"node-{leader}"
    said, complained = load.communicate(timeout=60)
    assert load.returncode == 0, said + complained
    proof = kept.data("verify", "--input", str(FLIGHTS), "--exact", "--wait", "20")
    assert (proof["verdict"], proof["events"]) == ("passed", FLIGHTS_COUNT)
    commands = [entry["command"] for entry in kept.data("audit")["entries"]]
    assert commands == ["cluster up", "cluster restart", "node replace"]


def test_ctrl_c_ends_a_rolling_restart_between_two_nodes_and_leaves_none_down(kept: RealCluster) -> None:
    restart = kept.begin("cluster", "restart", "--rolling")
    assert restart.stdout is not None
    assert restart.stdout.readline().startswith("1 of 3: node ")
    restart.send_signal(signal.SIGINT)
    said, _ = restart.communicate(timeout=60)
    assert restart.returncode == 130, said
    assert "not yet [" in said
    drained = kept.data("node", "drain", "2")  # all nodes have to be up and level for that
    assert drained["quorum"]["running_after"] == 2
    outcomes = [(entry["command"], entry["exit_code"]) for entry in kept.data("audit")["entries"]]
    assert outcomes[-2:] == [("cluster restart", 130), ("node drain", 0)]


def test_a_cluster_of_several_partitions_is_restarted_and_a_node_replaced_without_a_loss(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    several = RealCluster(tmp_path_factory.mktemp("several"))
    try:
        several.data("cluster", "up", "several", "--partitions", "4")
        load = several.begin("produce", str(FLIGHTS), "--rate", "1000", "-o", "json")
        rolled = several.data("cluster", "restart", "--rolling")
        assert rolled["left"] == []
        assert all(step["leader"] is None for step in rolled["done"])
        assert sorted(n for step in rolled["done"] for n in step["led_partitions"])
        drained = several.data("node", "drain", "2")
        assert 2 not in [each["leader"] for each in drained["partitions"]]
        several.data("node", "start", "2")
        replaced = several.data("node", "replace", "3")
        assert replaced["hashes_equal"]
        assert len(replaced["partition_hashes"]) == 4
        said, complained = load.communicate(timeout=60)
        assert load.returncode == 0, said + complained
        proof = several.data("verify", "--input", str(FLIGHTS), "--exact", "--wait", "20")
        assert (proof["verdict"], proof["events"]) == ("passed", FLIGHTS_COUNT)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            shown = several.data("ring", "show")["partitions"]
            if all(each["leader"] == each["preferred"] for each in shown):
                break
            time.sleep(0.5)
        assert [each["leader"] for each in shown] == [each["preferred"] for each in shown]
    finally:
        several.run("cluster", "destroy", "several", "--confirm", "several")
