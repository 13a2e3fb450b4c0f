"""A real cluster of two partitions, as an operator runs it: up, look, break a node, hand over, down."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
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
from esnode.ring import Ring
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
        ring = await ringsurvey.ring_of(cluster)
        for partition in ring.partitions:
            theirs = [one for one in events if ring.owner_of(one["source"]) == partition]
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
        spread_leaders()  # or the leadership of the other partition goes to its place meanwhile
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


def lines_of(*words: str) -> list[dict[str, Any]]:
    """The records that a command prints."""
    with begin(*words) as run:
        out, err = run.communicate(timeout=100)
    assert run.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def begin(*words: str) -> subprocess.Popen[str]:
    """Start a command that goes on while the test does something else."""
    return subprocess.Popen(
        [sys.executable, "-m", "esctl.main", *words, "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write(path: Path, numbers: range) -> str:
    """A file of events of 20 sources."""
    events = [{"id": str(n), "source": f"/s{n % 20}", "type": "t", "data": n} for n in numbers]
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return str(path)


def test_events_go_to_their_partitions_once_and_come_back_from_them(
    two: dict[str, Any], tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", range(2000))
    first = esctl("produce", file)["data"]
    assert (first["acked"], first["duplicates"]) == (2000, 0)
    again = esctl("produce", file)["data"]
    assert (again["acked"], again["duplicates"]) == (2000, 2000)
    records = lines_of("consume")
    assert sorted(int(one["event"]["id"]) for one in records) == list(range(2000))
    assert [one["partition"] for one in records] == sorted(one["partition"] for one in records)
    counts = Counter(one["partition"] for one in records)
    ring = Ring(1, range(2))
    assert set(counts) == {0, 1}
    assert {one["id"]: one["next_offset"] for one in partitions()} == counts
    for number in range(20):
        source = f"/s{number}"
        of_it = [one for one in records if one["event"]["source"] == source]
        assert [one["event"]["data"] for one in of_it] == list(range(number, 2000, 20))
        assert {one["partition"] for one in of_it} == {ring.owner_of(source)}
    assert lines_of("consume", "--source", "/s7") == [
        one for one in records if one["event"]["source"] == "/s7"
    ]
    ones = [one for one in records if one["partition"] == 1]
    assert lines_of("consume", "--partition", "1", "--from", "5", "--max", "3") == ones[5:8]
    assert lines_of("consume", "--last", "2") == [*records[counts[0] - 2 : counts[0]], *records[-2:]]
    assert lines_of("consume", "--node", "2", "--max", "10", "--partition", "1") == ones[:10]


def test_every_event_sent_twice_while_a_node_is_killed_is_stored_once(
    two: dict[str, Any], tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", range(6000))
    with begin("produce", file, "--rate", "2000") as one, begin("produce", file, "--rate", "2000") as other:
        esctl("node", "kill", "1", "--yes")
        esctl("node", "start", "1")
        for run in (one, other):
            out, err = run.communicate(timeout=100)
            assert (run.returncode, json.loads(out)["data"]["acked"]) == (0, 6000), err
    records = lines_of("consume")
    assert sorted(int(one["event"]["id"]) for one in records) == list(range(6000))
    for number in range(20):
        of_it = [one["event"]["data"] for one in records if one["event"]["source"] == f"/s{number}"]
        assert of_it == list(range(number, 6000, 20))


def test_a_measurement_is_of_all_partitions(two: dict[str, Any]) -> None:
    words = ("--duration", "3s", "--warmup", "1s", "--window", "4", "--batch", "16")
    data = esctl("bench", "produce", *words)["data"]
    assert data["cluster"]["partitions"] == 2
    assert data["figures"]["acked"] > 0
    assert data["figures"]["nodes_cpu_us_per_event"] > 0
    assert data["figures"]["leader_cpu_us_per_event"] is None
    assert all(one["next_offset"] > 0 for one in partitions())


def test_monitors_exports_and_drills_know_both_partitions(two: dict[str, Any], tmp_path: Path) -> None:
    acked = esctl("bench", "produce", "--duration", "1s", "--warmup", "0s")["data"]["figures"]["acked"]
    figures = {one["probe"]: one for one in esctl("status", "metrics")["data"]["checks"]}
    assert figures["quorum"]["value"] == 1
    exported = esctl("export", "--save", str(tmp_path / "two.db"))["data"]
    assert [one["id"] for one in exported["partitions"]] == [0, 1]
    assert exported["events"] >= acked > 0
    again = esctl("export", "--save", str(tmp_path / "two.db"))["data"]
    assert (again["events"], again["partitions"]) == (0, exported["partitions"])
    drilled = esctl("backup", "drill")["data"]
    assert (drilled["verdict"], drilled["events"]) == ("passed", exported["events"])
    assert [one["common_offset"] for one in drilled["partitions"]] == [
        one["next_offset"] for one in exported["partitions"]
    ]
    read = esctl("bench", "consume")["data"]
    assert read["figures"]["events"] == exported["events"]
    delivered = esctl("bench", "e2e", "--duration", "1s", "--rate", "20")["data"]["figures"]
    assert delivered["undelivered"] == 0
    kept = esctl("snapshot", "create")["data"]["partitions"]
    assert all(node["kept"] for one in kept for node in one["nodes"])
    esctl("node", "stop", "2")
    offline = esctl("backup", "create", "--offline", "--from-node", "2", "--save", str(tmp_path / "offline"))
    assert offline["data"]["events"] >= exported["events"]
    esctl("node", "start", "2")


def test_a_storm_and_a_failover_of_one_partition_lose_nothing(tmp_path: Path) -> None:
    home = tmp_path / "data"
    esctl("cluster", "up", "two", "--partitions", "2", "--faults", "--data-dir", str(home))
    try:
        storm = esctl("fault", "storm", "--seed", "3", "--duration", "6s", "--yes")["data"]
        assert (storm["verdict"], storm["acked_lost"], storm["duplicates"]) == ("passed", 0, 0)
        assert any("partition" in one for one in storm["faults"])
        esctl("status", "health", "--wait", "30s")
        struck = esctl("bench", "failover", "--times", "1", "--partition", "1", "--yes")["data"]
        assert struck["settings"]["partition"] == 1
        assert struck["figures"]["lost"] == struck["figures"]["duplicates"] == 0
    finally:
        esctl("cluster", "destroy", "two", "--confirm", "two")
    assert nodes_below(home) == set()
