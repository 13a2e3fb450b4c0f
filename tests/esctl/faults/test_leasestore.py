"""Where leases are kept: what was put comes back, what is damaged is none, and none is kept unwatched."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters.state import Cluster
from esctl.errors import MachineRefused
from esctl.faults import leases, linkcuts
from esctl.faults.leases import StoppedNode
from esctl.faults.linkcuts import LinkCuts
from tests.esctl.conftest import FakeNodes

STOPPED = [StoppedNode(f"pause-{n}", "pause", n, 1000, 5.0) for n in (1, 2)]
CUTS = LinkCuts("cut-1", ((1, 2), (2, 1)), 1000, 5.0, lost=1)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster("c", "c-1", "process", "sqlite", "now", tmp_path, ())


def test_a_lease_comes_back_as_it_was_put(cluster: Cluster) -> None:
    for stopped in STOPPED:
        leases.STORE.put(cluster, stopped)
    linkcuts.STORE.put(cluster, CUTS)
    assert leases.STORE.all(cluster) == STOPPED
    assert linkcuts.STORE.get(cluster, "cut-1") == CUTS
    leases.STORE.remove(cluster, "pause-1")
    assert leases.STORE.all(cluster) == STOPPED[1:]
    assert not leases.STORE.has(cluster, "pause-1")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "cut-1"}', '{"id": 1, "cuts": [[1]]}'])
def test_what_is_damaged_is_no_lease(cluster: Cluster, text: str) -> None:
    linkcuts.STORE.put(cluster, CUTS)
    next(cluster.directory.glob("*/cut-1.json")).write_text(text)
    assert linkcuts.STORE.get(cluster, "cut-1") is None
    assert linkcuts.STORE.all(cluster) == []


def test_a_lease_that_nobody_watches_is_not_kept(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    def refuse(*_arguments: Any, **_options: Any) -> int:
        begun.append(leases.STORE.all(cluster))
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    with pytest.raises(MachineRefused, match=r"nothing was done: .*Resource temporarily unavailable"):
        leases.STORE.begin(cluster, STOPPED)
    assert begun == [STOPPED[:1]], "the lease is there before its watchdog"
    assert leases.STORE.all(cluster) == []


def test_the_note_of_a_whole_node_is_what_it_was_before_there_were_partitions(
    make_fakes: Callable[..., FakeNodes],
) -> None:
    cluster = make_fakes().cluster
    for partition in (None, 3):
        one = StoppedNode("pause-1", "pause", 1, 1000, 5.0, partition=partition)
        leases.STORE.put(cluster, one)
        fields = json.loads((cluster.directory / "faults" / "pause-1.json").read_text(encoding="utf-8"))
        assert ("partition" in fields) is (partition is not None)
        assert leases.STORE.get(cluster, "pause-1") == one
