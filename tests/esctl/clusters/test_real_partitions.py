"""A real cluster of two partitions, as an operator runs it: up, look, break a node, hand over, down."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters.backends import nodeprocess, pidfile
from tests.esctl.clusters.test_real_cluster import esctl, nodes_below

pytestmark = pytest.mark.slow


@pytest.fixture
def two(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A running cluster of two partitions; gone after the test, with all its processes."""
    home = tmp_path / "data"
    yield esctl("cluster", "up", "two", "--partitions", "2", "--data-dir", str(home))["data"]
    esctl("cluster", "destroy", "two", "--confirm", "two")
    assert nodes_below(home) == set()


def partition_of(pid: int) -> str:
    words = pidfile.words_of(pid)
    return words[words.index("--partition") + 1]


def partitions() -> list[dict[str, Any]]:
    return esctl("status")["data"]["partitions"]  # type: ignore[no-any-return]


def test_every_partition_has_a_leader_when_it_is_up_and_after_each_start(two: dict[str, Any]) -> None:
    assert [one["id"] for one in two["partitions"]] == [0, 1]
    assert {one["leader"] for one in two["partitions"]} <= {1, 2, 3}
    assert two["leader"] is None
    assert len(nodes_below(Path(two["data_dir"]))) == 3 * 3
    assert esctl("cluster", "down", "two")["data"]["killed"] == []
    assert nodes_below(Path(two["data_dir"])) == set()
    again = esctl("cluster", "start", "two")["data"]
    assert len(again["partitions"]) == 2
    assert len(esctl("cluster", "restart", "two", "--yes")["data"]["partitions"]) == 2
    assert esctl("status", "health")["data"]["healthy"] is True


def test_a_node_that_is_paused_or_killed_is_missed_in_each_partition(two: dict[str, Any]) -> None:
    esctl("node", "pause", "2", "--yes")
    paused = [row["nodes"][1] for row in partitions()]
    assert [(row["up"], row["why"]) for row in paused] == [(False, "paused")] * 2
    esctl("node", "resume", "2")
    assert esctl("status", "health", "--wait", "20s")["data"]["healthy"] is True
    esctl("node", "kill", "2", "--yes")
    flaws = esctl("status", "health", code=10)["data"]["stages"][0]["reasons"]
    assert flaws == ["node 2 is down"]
    assert [row["nodes"][1]["up"] for row in partitions()] == [False, False]
    esctl("node", "start", "2")
    assert esctl("status", "health", "--wait", "20s")["data"]["healthy"] is True


def test_the_leadership_of_one_partition_moves_and_the_other_stays(two: dict[str, Any]) -> None:
    before = {one["id"]: one["leader"] for one in esctl("leader", "show")["data"]["partitions"]}
    to = next(number for number in (1, 2, 3) if number != before[1])
    moved = esctl("leader", "transfer", "--partition", "1", "--to", str(to))["data"]
    assert (moved["partition"], moved["from"], moved["to"]) == (1, before[1], to)
    assert [row["leader"] for row in partitions()] == [before[0], to]
    assert esctl("leader", "show", "--partition", "1")["data"]["leader"] == to
    assert esctl("ring", "where", "--source", "/airport/JFK")["data"]["leader"] in (before[0], to)
    assert esctl("dedup", "--partition", "1")["data"]["leader"] == to


def test_a_process_of_one_partition_that_stands_still_is_told_of_that_partition(two: dict[str, Any]) -> None:
    config = next(Path(two["data_dir"]).glob("node-3.toml"))
    theirs = [each.pid for each, path in nodeprocess.every_node() if each.of_partition and path == config]
    (second,) = [pid for pid in theirs if partition_of(pid) == "1"]
    os.kill(second, signal.SIGSTOP)
    try:
        told = esctl("status", "health", code=10)["data"]
        assert told["stages"][0]["ok"] is True
        assert told["stages"][1]["reasons"] == ["partition 1: node 3: runs, no answer in 2 s"]
    finally:
        os.kill(second, signal.SIGCONT)
    assert esctl("status", "health", "--wait", "20s")["data"]["healthy"] is True
