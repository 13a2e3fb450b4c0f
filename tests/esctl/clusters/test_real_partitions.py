"""A real cluster of two partitions, as an operator runs it: up, look, break a node, hand over, down."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.clusters import state
from esctl.clusters.backends import nodeprocess, pidfile
from esctl.query import ringsurvey
from esnode.client import connect
from esnode.events import make_batch
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


def spread_leaders() -> dict[int, int]:
    """The leader of each partition, once each is the preferred one."""
    for _ in range(60):
        rows = esctl("ring", "show")["data"]["partitions"]
        if all(row["leader"] == row["preferred"] for row in rows):
            break
    return {row["id"]: row["leader"] for row in rows}


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
    before = spread_leaders()
    assert before == {0: 1, 1: 2}
    to = 3
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
        assert told["stages"][1]["reasons"] == ["partition 1: node 3: paused"]
    finally:
        os.kill(second, signal.SIGCONT)
    assert esctl("status", "health", "--wait", "20s")["data"]["healthy"] is True


def sent(two: dict[str, Any], path: Path, count: int = 400) -> Path:
    """Events of twenty sources, each appended to the partition that owns its source; and the file of them."""
    cluster = state.load(two["name"])
    events: list[dict[str, Any]] = [
        {"id": f"e{n}", "source": f"/airport/{n % 20}", "type": "t", "data": {"n": n}} for n in range(count)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in events), encoding="utf-8")

    async def append() -> None:
        for partition in range(cluster.partitions):
            theirs = [one for one in events if ringsurvey.owner_of(cluster, one["source"]) == partition]
            async with connect(cluster.addresses, cluster=cluster.identity, partition=partition) as log:
                await log.append_batch(make_batch(theirs))

    trio.run(append)
    return path


def test_what_was_sent_is_in_the_partition_that_owns_its_source_and_is_proved_so(
    two: dict[str, Any], tmp_path: Path
) -> None:
    file = sent(two, tmp_path / "sent.ndjson")
    proof = esctl("verify", "--input", str(file), "--exact")["data"]
    assert (proof["ok"], proof["events"], proof["acked_lost"], proof["duplicates"]) == (True, 400, 0, 0)
    assert sum(one["events"] for one in proof["partitions"]) == 400
    assert all(one["events"] and one["ok"] for one in proof["partitions"])
    with file.open("a", encoding="utf-8") as more:
        more.write(json.dumps({"id": "never", "source": "/airport/1", "type": "t"}) + "\n")
    assert esctl("verify", "--input", str(file), code=11)["data"]["acked_lost"] == 1


def test_a_backup_of_two_partitions_becomes_a_cluster_with_the_same_events(
    two: dict[str, Any], tmp_path: Path
) -> None:
    file = sent(two, tmp_path / "sent.ndjson")
    place = tmp_path / "two.esbackup"
    made = esctl("backup", "create", "--save", str(place))["data"]
    assert (made["events"], len(made["partitions"])) == (400, 2)
    home = tmp_path / "again"
    try:
        restored = esctl("backup", "restore", str(place), "--name", "again", "--data-dir", str(home))["data"]
        assert (restored["epoch"], len(restored["leaders"])) == (2, 2)
        proof = esctl("verify", "--input", str(file), "--exact", "--cluster", "again")["data"]
        assert (proof["ok"], proof["events"]) == (True, 400)
        known = esctl("event", "dedup", "--source", "/airport/1", "--id", "e1", "--cluster", "again")["data"]
        assert known["known"] is True
    finally:
        esctl("cluster", "destroy", "again", "--confirm", "again")


def test_a_fault_strikes_one_partition_and_the_other_notices_nothing(tmp_path: Path) -> None:
    home = tmp_path / "data"
    esctl("cluster", "up", "broken", "--partitions", "2", "--faults", "--data-dir", str(home))
    try:
        before = {row["id"]: (row["leader"], row["term"]) for row in partitions()}
        leader = before[1][0]
        struck = esctl("fault", "pause", str(leader), "--partition", "1", "--lease", "30s", "--yes")["data"]
        assert (struck["partition"], struck["effect"]) == (1, "applied")
        (active,) = esctl("fault", "ls")["data"]["faults"]
        assert (active["node"], active["partition"], active["kind"]) == (leader, 1, "pause")
        found = esctl("why", code=10)["data"]["findings"]
        assert all(one["partitions"] == [1] for one in found)
        healed = esctl("fault", "heal", "--all")["data"]["healed"]
        assert [(one["node"], one["partition"]) for one in healed] == [(leader, 1)]
        assert esctl("status", "health", "--wait", "20s")["data"]["healthy"] is True
        after = {row["id"]: (row["leader"], row["term"]) for row in partitions()}
        assert (after[0], after[1] != before[1]) == (before[0], True)
        killed = esctl("fault", "kill", "1", "--partition", "0", "--yes")["data"]
        assert (killed["effect"], killed["lease_ms"]) == ("applied", 0)
        told = esctl("timeline", "--since", "1h")["data"]
        assert {tuple(one["partitions"]) for one in told["happenings"] if one["kind"] == "pause"} == {(1,)}
    finally:
        esctl("cluster", "destroy", "broken", "--confirm", "broken")
