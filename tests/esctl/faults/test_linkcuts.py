"""Real links, cut and mended: what is lost, who ends it, and what is left. No node runs; most needs root."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from esctl.chaos.failover.subject import LiveCluster
from esctl.clusters import state
from esctl.clusters.backends import backend_named, network
from esctl.clusters.backends.network import Network
from esctl.clusters.state import Cluster
from esctl.errors import NoEffect
from esctl.faults import linkcuts, nodeorders
from esctl.faults.partitionshapes import Shape, partition
from esnode.errors import OperationTimeout
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes

PATIENCE_S = 30.0
LACK = network.missing()
needs_root = pytest.mark.skipif(bool(LACK), reason=LACK)
BOTH_WAYS = [(1, 2), (2, 1)]


@dataclass(frozen=True)
class Wires:
    """The network of a cluster whose nodes do not run."""

    cluster: Cluster
    network: Network

    def cut(self, fault: str, cuts: list[tuple[int, int]], lease_ms: int = 60_000) -> linkcuts.LinkCuts:
        links = linkcuts.begin(self.cluster, fault, cuts, lease_ms)
        linkcuts.strike(self.cluster, links)
        return links


@pytest.fixture
def wires(make_fakes: Callable[..., FakeNodes]) -> Iterator[Wires]:
    cluster = make_fakes(backend="netns").cluster
    place = Network.of(cluster)
    try:
        place.bring_up(cluster.directory)
        yield Wires(cluster, place)
    finally:
        place.take_down()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_cuts_of_every_shape_are_what_its_orders_say() -> None:
    for shape in Shape:
        node = 2 if shape is Shape.ISOLATE else None
        cuts = partition(shape, range(1, 6), 1, node).cuts
        assert set(linkcuts.cuts_of(nodeorders.block(cuts, "p"))) == cuts


def test_a_cut_is_told_in_the_words_of_a_nodes_own_fault() -> None:
    links = linkcuts.LinkCuts("cut-1", ((1, 2), (1, 3)), 10_000, time.time() + 5, lost=1)
    told = links.pictures()
    assert {number: [one["id"] for one in ones] for number, ones in told.items()} == {
        1: ["cut-1.out"],
        2: ["cut-1.in"],
        3: ["cut-1.in"],
    }
    (mute,) = told[1]
    assert (mute["kind"], mute["peers"], mute["direction"], mute["hits"]) == ("cut", [2, 3], "out", 2)
    assert 4_000 < mute["left_ms"] <= 5_000


@needs_root
def test_a_cut_loses_what_goes_one_way_and_is_over_when_it_is_mended(wires: Wires) -> None:
    links = wires.cut("cut-1", [(1, 2)])
    assert not wires.network.carries(1, 2)
    assert wires.network.carries(2, 1)
    assert wires.network.carries(1, 3)
    assert linkcuts.prove(wires.cluster, links).lost == 1
    assert [one.id for one in linkcuts.active(wires.cluster)] == ["cut-1"]
    assert [one.id for one in linkcuts.heal(wires.cluster, ["cut-1"])] == ["cut-1"]
    assert wires.network.carries(1, 2)
    assert linkcuts.STORE.all(wires.cluster) == []


@needs_root
def test_links_are_mended_when_the_lease_is_over(wires: Wires) -> None:
    links = wires.cut("cut-1", BOTH_WAYS, lease_ms=800)
    assert wires.network.cuts() == set(BOTH_WAYS)
    wait_for(lambda: not linkcuts.STORE.has(wires.cluster, "cut-1"))
    assert time.time() >= links.until - 0.05
    assert wires.network.cuts() == set()


@needs_root
def test_a_link_that_another_cut_wants_stays_cut(wires: Wires) -> None:
    wires.cut("cut-1", BOTH_WAYS)
    wires.cut("cut-2", [(1, 2), (1, 3)])
    linkcuts.heal(wires.cluster, ["cut-1"])
    assert wires.network.cuts() == {(1, 2), (1, 3)}
    (wires.cluster.directory / "cuts" / "cut-2.json").unlink()  # nobody knows of it any more
    assert linkcuts.active(wires.cluster) == []
    linkcuts.heal(wires.cluster)
    assert wires.network.cuts() == set()


@needs_root
def test_a_cut_that_something_passes_is_said_to_have_no_effect(wires: Wires) -> None:
    links = wires.cut("cut-1", BOTH_WAYS)
    wires.network.mend([(2, 1)])
    with pytest.raises(NoEffect, match="what node 2 sends still reaches node 1"):
        linkcuts.prove(wires.cluster, links)
    assert wires.network.cuts() == set()
    assert linkcuts.STORE.all(wires.cluster) == []


@needs_root
def test_nothing_is_cut_when_the_lease_is_over_before(wires: Wires) -> None:
    links = linkcuts.begin(wires.cluster, "cut-1", BOTH_WAYS, 100)
    wait_for(lambda: not linkcuts.STORE.has(wires.cluster, "cut-1"))
    with pytest.raises(OperationTimeout, match="nothing was done"):
        linkcuts.strike(wires.cluster, links)
    assert wires.network.cuts() == set()


@needs_root
async def test_the_failover_drill_cuts_the_links_of_a_leader_and_mends_them(wires: Wires) -> None:
    subject = LiveCluster(wires.cluster, backend_named(wires.cluster.backend))
    marked = []
    await subject.cut(2, lambda: marked.append(wires.network.cuts()))
    assert marked == [frozenset()], "the instant before"
    assert wires.network.cuts() == {(2, 1), (2, 3), (1, 2), (3, 2)}
    assert await subject.cut_hits(2)
    await subject.mend(2)
    assert wires.network.cuts() == set()


@needs_root
def test_the_doctor_finds_a_network_whose_cluster_is_gone_and_removes_it(wires: Wires) -> None:
    check = f"network {wires.network.name}"

    def found(*words: str) -> list[str]:
        checks = Run("doctor", "-o", "json", *words).data["checks"]
        return [one["result"] for one in checks if one["check"] == check]

    assert found() == []
    state.remove(wires.cluster.name)
    assert found() == ["warning"]
    assert found("--fix") == ["ok"]
    assert not (network.LINKS / wires.network.bridge).exists()
    assert found() == []


@pytest.mark.parametrize("lack", ["root", "ip"])
def test_without_root_or_ip_a_cluster_is_refused_with_what_is_missing(
    lack: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000 if lack == "root" else 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    run = Run("cluster", "up", "apart", "--backend", "netns", "-o", "json")
    (error,) = run.document["errors"]
    assert (run.code, error["code"]) == (1, "ES4110")
    assert lack in error["message"]
    assert "--backend process" in error["next"]
    assert state.names() == []
