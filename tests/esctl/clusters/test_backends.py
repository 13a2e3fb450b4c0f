"""What every backend must do, with nodes that are scripts: on loopback, and in namespaces where that goes."""

import os
import secrets
import shutil
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from esctl.clusters import state
from esctl.clusters.backends import backend_named, network, pidfile
from esctl.clusters.backends.interface import RunState
from esctl.clusters.backends.network import Network
from esctl.clusters.state import Cluster
from esctl.errors import (
    MachineRefused,
    NetworkRefused,
    NodeFailedToStart,
    NodeNotRunning,
    NodesAlive,
    PortTaken,
)
from esnode.config import load
from tests.esctl.conftest import FakeNodes

PATIENCE_S = 60.0
LACK = network.missing()
KINDS = ["process", pytest.param("netns", marks=pytest.mark.skipif(bool(LACK), reason=LACK))]


@pytest.fixture(params=KINDS)
def fakes(request: pytest.FixtureRequest, make_fakes: Callable[..., FakeNodes]) -> FakeNodes:
    """Three fake nodes on each backend, not yet started."""
    return make_fakes(backend=request.param)


async def start_all(fakes: FakeNodes) -> None:
    await fakes.backend.start(fakes.cluster, fakes.numbers, PATIENCE_S)


def wait_until(pid: int, change: int) -> None:
    """A signal to a child of ours has taken effect."""
    os.waitid(os.P_PID, pid, change | os.WNOWAIT)


def networks(cluster: Cluster) -> list[str]:
    """Namespaces and links of the cluster."""
    name = Network.of(cluster).name
    places = [place for place in (network.LINKS, network.NAMESPACES) if place.exists()]
    return [one for place in places for one in os.listdir(place) if one.startswith(name)]


def reboot(fakes: FakeNodes) -> None:
    """What the end of the machine leaves: files."""
    for pid in fakes.pids():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(pid, os.WEXITED)
    if networks(fakes.cluster):
        network.take_down(Network.of(fakes.cluster).name)


@contextmanager
def occupied(fakes: FakeNodes, number: int) -> Iterator[int]:
    """Somebody else listens on the peer port of a node that is down; the port."""
    host, _, port = fakes.cluster.node(number).peer.rpartition(":")
    if fakes.backend.name == "netns":
        other = Network.of(fakes.cluster).socket_in(number, socket.SOCK_STREAM)
    else:
        other = socket.socket()
    with other:
        other.bind((host, int(port)))
        other.listen()
        yield int(port)


async def test_started_nodes_run_where_their_configuration_says_and_are_found_again(fakes: FakeNodes) -> None:
    await start_all(fakes)
    assert fakes.states() == ["running"] * 3
    for node in fakes.cluster.nodes:
        config = load(node.config)
        assert (config.node_id, config.cluster) == (node.id, fakes.cluster.identity)
        assert (str(config.me.client), str(config.me.peer)) == (node.client, node.peer)
    again = backend_named(fakes.cluster.backend).nodes(state.load("fake"))
    assert [process.pid for process in again] == fakes.pids()
    assert all(process.rss_bytes for process in again)


async def test_stopped_nodes_leave_only_files_and_start_again_where_they_were(fakes: FakeNodes) -> None:
    await start_all(fakes)
    before = fakes.pids()
    assert await fakes.backend.stop(fakes.cluster, fakes.numbers, PATIENCE_S) == []
    assert fakes.states() == ["down"] * 3
    assert networks(fakes.cluster) == []
    assert all(node.config.exists() and node.data_dir.is_dir() for node in fakes.cluster.nodes)
    await start_all(fakes)
    assert fakes.states() == ["running"] * 3
    assert not set(before) & set(fakes.pids())


async def test_a_paused_node_is_shown_resumed_and_stopped(fakes: FakeNodes) -> None:
    await start_all(fakes)
    pid = fakes.backend.pause(fakes.cluster, 1)
    wait_until(pid, os.WSTOPPED)
    assert fakes.states()[0] == "paused"
    assert fakes.backend.resume(fakes.cluster, 1) == pid
    wait_until(pid, os.WCONTINUED)
    assert fakes.states()[0] == "running"
    fakes.backend.pause(fakes.cluster, 1)
    assert await fakes.backend.stop(fakes.cluster, [1], PATIENCE_S) == []
    assert fakes.states() == ["down", "running", "running"]


async def test_a_killed_node_is_gone_when_the_call_returns_and_can_be_started_again(fakes: FakeNodes) -> None:
    await start_all(fakes)
    pid = fakes.pids()[2]
    assert await fakes.backend.kill(fakes.cluster, 3) == pid
    assert fakes.states() == ["running", "running", "down"]
    with pytest.raises(NodeNotRunning) as refused:
        await fakes.backend.kill(fakes.cluster, 3)
    assert refused.value.next_step == "esctl node start 3 --cluster fake"
    await start_all(fakes)
    assert fakes.states() == ["running"] * 3


async def test_after_a_reboot_all_nodes_come_back(fakes: FakeNodes) -> None:
    await start_all(fakes)
    reboot(fakes)
    assert fakes.states() == ["down"] * 3
    assert networks(fakes.cluster) == []
    await start_all(fakes)
    assert fakes.states() == ["running"] * 3


async def test_a_node_that_crashes_at_start_shows_the_end_of_its_log_and_the_others_go_on(
    fakes: FakeNodes,
) -> None:
    fakes.moods[2] = "crash"
    with pytest.raises(NodeFailedToStart) as failed:
        await start_all(fakes)
    assert "node 2 ended with exit code 3" in str(failed.value)
    assert "the disk is gone" in str(failed.value)
    assert failed.value.next_step == "buy a new disk"
    assert fakes.states() == ["running", "down", "running"]


async def test_a_start_of_which_nothing_came_leaves_nothing_but_files(fakes: FakeNodes) -> None:
    fakes.moods[2] = "crash"
    with pytest.raises(NodeFailedToStart):
        await fakes.backend.start(fakes.cluster, [2], PATIENCE_S)
    assert networks(fakes.cluster) == []


async def test_a_taken_port_is_told_before_anything_starts(fakes: FakeNodes) -> None:
    await fakes.backend.start(fakes.cluster, [1], PATIENCE_S)
    with occupied(fakes, 2) as port:
        with pytest.raises(PortTaken, match=f"peer port {port} of node 2"):
            await start_all(fakes)
        assert fakes.states() == ["running", "down", "down"]


@pytest.mark.parametrize("note", ["", "not json", '{"boot": "another"}', None])
async def test_a_node_is_found_and_stopped_whatever_its_note_says(fakes: FakeNodes, note: str | None) -> None:
    await fakes.backend.start(fakes.cluster, [1], PATIENCE_S)
    pid = fakes.pids()[0]
    path = fakes.cluster.directory / "node-1.pid"
    path.unlink() if note is None else path.write_text(note)
    assert fakes.states() == ["running", "down", "down"]
    assert fakes.pids()[0] == pid
    assert await fakes.backend.stop(fakes.cluster, fakes.numbers, PATIENCE_S) == []
    assert pid is not None
    assert pidfile.facts_of(pid) is None


async def test_a_node_that_could_not_be_noted_is_known_all_the_same(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _text: str) -> None:
        raise MachineRefused(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(pidfile, "write_atomically", full)
    await start_all(fakes)
    assert fakes.states() == ["running"] * 3
    with pytest.raises(NodesAlive, match=r"node 1 \(pid \d+\), node 2 .* still runs; nothing was deleted"):
        fakes.backend.destroy(fakes.cluster)
    assert all(node.data_dir.is_dir() for node in fakes.cluster.nodes)
    pids = fakes.pids()
    await fakes.backend.stop(fakes.cluster, fakes.numbers, PATIENCE_S)
    assert [pid for pid in pids if pid is not None and pidfile.facts_of(pid) is not None] == []


async def test_a_node_whose_files_were_deleted_under_it_is_found_and_stopped(fakes: FakeNodes) -> None:
    await start_all(fakes)
    (pid, *_) = fakes.pids()
    shutil.rmtree(fakes.cluster.data_dir)
    assert fakes.states() == ["running"] * 3
    await fakes.backend.stop(fakes.cluster, fakes.numbers, PATIENCE_S)
    assert fakes.states() == ["down"] * 3
    assert pid is not None
    assert pidfile.facts_of(pid) is None


async def test_destroy_leaves_nothing_and_may_be_said_twice(fakes: FakeNodes) -> None:
    await start_all(fakes)
    await fakes.backend.stop(fakes.cluster, fakes.numbers, 0.0)
    for _ in range(2):
        assert fakes.backend.destroy(fakes.cluster) == []
        assert not fakes.cluster.data_dir.exists()
        assert networks(fakes.cluster) == []
        assert list(fakes.cluster.directory.glob("node-*")) == []


@pytest.mark.skipif(bool(LACK), reason=LACK)
def test_a_network_is_looked_at_and_taken_down_while_somebody_else_makes_it_or_takes_it_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Network(f"es{secrets.token_hex(4)}", network.free_subnet(()), (1,))
    ip = network.ip

    def late(*words: str, batch: Iterable[str] = ()) -> str:
        if "pids" in words or "del" in words:
            ip(*[word.replace("pids", "del") for word in words])  # somebody else was quicker
        return ip(*words, batch=batch)

    try:
        ip("link", "add", place.bridge, "type", "bridge")
        assert place.name not in network.abandoned()  # nobody knows yet whose it is
        place.bring_up(tmp_path)
        assert place.name in network.abandoned()
        with monkeypatch.context() as patch:
            patch.setattr(network, "ip", late)
            assert place.name in network.abandoned()  # its only namespace goes before it is looked into
        place.bring_up(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(network, "ip", late)
            place.take_down()
    finally:
        place.take_down()
    assert place.name not in network.abandoned()


@pytest.mark.skipif(bool(LACK), reason=LACK)
async def test_a_network_that_cannot_be_made_whole_is_not_made_at_all(
    make_fakes: Callable[..., FakeNodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = make_fakes(backend="netns")
    stranger = Network("es0badcafe", Network.of(fakes.cluster).subnet, ())
    try:
        stranger.bring_up(fakes.cluster.directory)
        with pytest.raises(NetworkRefused, match="are those of the interface es0badcafeb"):
            await start_all(fakes)
    finally:
        stranger.take_down()
    assert networks(fakes.cluster) == []
    monkeypatch.setattr(
        Network, "link", lambda place, number: f"{place.name}v{number}" + "x" * 9 * (number > 2)
    )
    with pytest.raises(NetworkRefused, match=r"ip link add .* has failed"):
        await start_all(fakes)
    assert networks(fakes.cluster) == []
    assert fakes.states() == ["down"] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_two_clusters_live_side_by_side(make_fakes: Callable[..., FakeNodes], kind: str) -> None:
    one, two = make_fakes("one", backend=kind), make_fakes("two", backend=kind)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_all, one)
        nursery.start_soon(start_all, two)
    await one.backend.stop(one.cluster, one.numbers, PATIENCE_S)
    assert two.states() == ["running"] * 3
    assert {RunState(s) for s in one.states()} == {RunState.DOWN}
