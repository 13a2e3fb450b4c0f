"""Three real nodes in namespaces, as operators see them: links that are cut, and mended whoever is gone."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from esctl.clusters import state
from esctl.clusters.backends import network
from esctl.clusters.backends.network import Network
from esctl.clusters.state import Cluster
from esctl.faults import linkcuts
from esctl.faults.partitionshapes import between
from tests.esctl.chaos.test_real_faults import active, leader
from tests.esctl.conftest import RealCluster

LACK = network.missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACK), reason=LACK)]
EVENTS = 3_000
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Each test heals what it breaks."""
    cluster = RealCluster(tmp_path_factory.mktemp("apart"))
    try:
        cluster.data("cluster", "up", "apart", "--backend", "netns", "--faults")
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "apart", "--confirm", "apart")


@pytest.fixture
def cluster(apart: RealCluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The same, for what is asked of it without a command."""
    monkeypatch.setenv("XDG_STATE_HOME", str(apart.home))
    return state.load("apart")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reaches(cluster: Cluster, source: int, destination: int) -> bool:
    """Does a new connection from one node's namespace get to the other's peer port?"""
    host, _, port = cluster.node(destination).peer.rpartition(":")
    with Network.of(cluster).socket_in(source, socket.SOCK_STREAM) as caller:
        caller.settimeout(0.5)
        try:
            caller.connect((host, int(port)))
        except TimeoutError:
            return False
    return True


def test_a_leader_that_is_cut_off_is_replaced_and_the_lease_outlives_esctl_and_nothing_is_lost(
    apart: RealCluster, cluster: Cluster, tmp_path: Path
) -> None:
    events = tmp_path / "events.ndjson"
    lines = (json.dumps({"id": str(n), "source": "/test", "type": "t"}) for n in range(EVENTS))
    events.write_text("\n".join(lines))
    old = leader(apart)
    load = apart.begin("produce", str(events), "--rate", "1000", "-o", "json")
    cutting = apart.begin("fault", "partition", "isolate-leader", "--lease", "3s")
    wait_for(lambda: bool(linkcuts.active(cluster)))
    cutting.send_signal(signal.SIGKILL)
    cutting.communicate()
    assert cutting.returncode == -signal.SIGKILL
    (cut,) = linkcuts.active(cluster)
    others = [number for number in (1, 2, 3) if number != old]
    assert set(cut.cuts) == set(between([old], others))
    wait_for(lambda: not linkcuts.STORE.all(cluster))
    assert time.time() >= cut.until - 0.05
    assert Network.of(cluster).cuts() == set()
    said, complained = load.communicate(timeout=60)
    assert load.returncode == 0, said + complained
    assert apart.data("status", "health", "--wait", "20")["healthy"]
    assert leader(apart) != old
    assert apart.data("verify", "--input", str(events), "--exact", "--wait", "20")["verdict"] == "passed"


def test_a_cut_one_way_is_shown_to_hit_and_to_be_gone_after_heal(
    apart: RealCluster, cluster: Cluster
) -> None:
    old = leader(apart)
    struck = apart.data("fault", "partition", "one-way", "--lease", "60s")
    assert (struck["effect"], struck["leader"]) == ("applied", old)
    assert struck["leader_after"] not in (None, old)
    found = active(apart)
    assert {(fault["kind"], fault["direction"]) for fault in found} == {("cut", "in"), ("cut", "out")}
    others = [number for number in (1, 2, 3) if number != old]
    # A connection needs both ways.
    assert [reaches(cluster, *way) for way in ((old, others[0]), (others[1], old), others)] == [
        False,
        False,
        True,
    ]
    health = apart.data("status", "health", code=10)
    assert any("broken on purpose" in reason for stage in health["stages"] for reason in stage["reasons"])
    assert apart.data("fault", "heal", "--all")["recovered"]
    assert active(apart) == []
    assert apart.data("status", "health", "--wait", "20")["healthy"]
