"""The data commands against real nodes, as an operator runs them. Each test puts back what it changes."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters import state
from esnode.config import load
from esnode.raft.entry import Entry, seal
from esnode.raft.messages import Write
from esnode.storage.directory import trust_copy
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity
from tests.esctl.conftest import FLIGHTS, FLIGHTS_COUNT, RealCluster

pytestmark = pytest.mark.slow


def flights() -> list[dict[str, Any]]:
    with gzip.open(FLIGHTS, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def a_follower(cluster: RealCluster) -> int:
    leader = cluster.data("leader", "show")["leader"]
    return int(leader) % 3 + 1


# --- status, health, leader --------------------------------------------------------------------


def test_status_shows_three_nodes_with_the_same_events(real_cluster: RealCluster) -> None:
    real_cluster.data("verify", "--wait", "30")
    data = real_cluster.data("status")
    assert data["leader"] in (1, 2, 3)
    assert data["term"] >= 1
    assert [node["id"] for node in data["nodes"]] == [1, 2, 3]
    assert {node["next_offset"] for node in data["nodes"]} == {FLIGHTS_COUNT}
    for node in data["nodes"]:
        assert node["up"]
        assert node["pid"] > 0
        assert node["rss_bytes"] > 1_000_000
        assert node["applied_index"] <= node["commit_index"] <= node["last_index"]
    assert sorted(node["role"] for node in data["nodes"]) == ["follower", "follower", "leader"]


def test_a_killed_node_is_a_row_makes_the_cluster_unhealthy_and_the_proof_open(
    real_cluster: RealCluster,
) -> None:
    number = a_follower(real_cluster)
    real_cluster.data("node", "kill", str(number))
    try:
        row = real_cluster.data("status")["nodes"][number - 1]
        assert (row["id"], row["up"], row["why"], row["role"]) == (number, False, "not running", None)
        health = real_cluster.data("status", "health", code=10)
        assert (health["healthy"], health["serving"]) == (False, True)
        assert health["stages"][0]["next"] == [f"esctl node start {number} --cluster drill"]
        proof = real_cluster.data("verify", "--wait", "0", code=12)
        assert (proof["ok"], proof["acked_lost"], proof["nodes"][number - 1]["up"]) == (False, 0, False)
        refused = real_cluster.run("leader", "transfer", "--to", str(number))
        assert refused.returncode == 1
        assert f"esctl node start {number}" in refused.stderr
    finally:
        real_cluster.data("node", "start", str(number))
    assert real_cluster.data("status", "health", "--wait", "30")["healthy"]


def test_a_paused_node_holds_up_nobody(real_cluster: RealCluster) -> None:
    number = a_follower(real_cluster)
    real_cluster.data("node", "pause", str(number))
    try:
        row = real_cluster.data("status")["nodes"][number - 1]
        assert (row["up"], row["state"], row["why"]) == (False, "paused", "paused")
        assert real_cluster.data("verify", "--wait", "0", code=12)["nodes"][number - 1]["up"] is False
    finally:
        real_cluster.data("node", "resume", str(number))
    assert real_cluster.data("status", "health", "--wait", "30")["healthy"]


def test_without_a_quorum_health_says_so_and_reads_end_in_time(real_cluster: RealCluster) -> None:
    for number in (1, 2):
        real_cluster.data("node", "pause", str(number), "--yes")
    try:
        assert real_cluster.data("status")["quorum"]["held"] is False
        health = real_cluster.data("status", "health", code=10)
        assert {stage["stage"]: stage["ok"] for stage in health["stages"]}["quorum"] is False
        assert real_cluster.run("consume", "--max", "1").returncode in (10, 124)
        stale = real_cluster.run("consume", "--node", "3", "--max", "1", "-o", "json")
        assert lines(stale)[0]["offset"] == 0
        assert "stale read from node 3" in stale.stderr
    finally:
        for number in (1, 2):
            real_cluster.data("node", "resume", str(number))
    assert real_cluster.data("status", "health", "--wait", "30")["healthy"]


def test_the_leadership_goes_where_it_is_sent(real_cluster: RealCluster) -> None:
    old = real_cluster.data("leader", "show")["leader"]
    wanted = old % 3 + 1
    dry = real_cluster.data("leader", "transfer", "--to", str(wanted), "--dry-run")
    assert dry["dry_run"]
    assert real_cluster.data("leader", "show")["leader"] == old
    assert real_cluster.data("leader", "transfer", "--dry-run")["to"] is None  # the best follower
    moved = real_cluster.data("leader", "transfer", "--to", str(wanted))
    assert (moved["from"], moved["to"]) == (old, wanted)
    assert moved["seconds"] > 0
    assert real_cluster.data("leader", "show")["leader"] == wanted


@pytest.mark.parametrize(
    ("number", "code", "next_step"), [(9, "ES4006", "esctl node ls"), (0, "ES4009", "leader show")]
)
def test_a_transfer_that_makes_no_sense_is_refused(
    real_cluster: RealCluster, number: int, code: str, next_step: str
) -> None:
    to = number or real_cluster.data("leader", "show")["leader"]
    done = real_cluster.run("leader", "transfer", "--to", str(to), "-o", "json")
    (error,) = json.loads(done.stdout)["errors"]
    assert done.returncode != 0
    assert error["code"] == code
    assert next_step in error["next"]


# --- events ------------------------------------------------------------------------------------


def test_consume_gives_back_every_event_as_it_was_sent(real_cluster: RealCluster) -> None:
    got = lines(real_cluster.run("consume", "--from", "0", "--max", str(FLIGHTS_COUNT), "-o", "json"))
    assert [line["offset"] for line in got] == list(range(FLIGHTS_COUNT))
    assert {line["partition"] for line in got} == {0}
    assert [line["event"] for line in got] == flights()


def test_every_node_gives_the_same_events(real_cluster: RealCluster) -> None:
    words = ("consume", "--from", "26990", "--max", "14", "-o", "json")
    answers = [lines(real_cluster.run(*words, "--node", str(number))) for number in (1, 2, 3)]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) == 14


def test_a_reader_that_has_had_enough_hears_no_complaint(real_cluster: RealCluster) -> None:
    command = f"{sys.executable} -m esctl.main consume -o json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={"PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(real_cluster.home)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert json.loads(done.stdout)["offset"] == 0
    assert (done.returncode, done.stderr) == (0, "")


def test_an_event_is_found_by_offset_and_by_source_and_id(real_cluster: RealCluster) -> None:
    sent = flights()[12_345]
    by_offset = real_cluster.data("event", "12345")
    assert by_offset == {"partition": 0, "offset": 12_345, "event": sent}
    assert real_cluster.data("event", "--source", sent["source"], "--id", sent["id"]) == by_offset
    real_cluster.data("event", "--source", "/nowhere", "--id", "none", code=1)
    real_cluster.data("event", "99999999", code=1)
    real_cluster.data("event", code=2)


def test_the_deduplication_explains_itself(real_cluster: RealCluster) -> None:
    sent = flights()[7]
    known = real_cluster.data("event", "dedup", "--source", sent["source"], "--id", sent["id"])
    assert (known["known"], known["offset"], known["would_store"]) == (True, 7, False)
    assert known["expires_in_ms"] > 0
    unknown = real_cluster.data("event", "dedup", "--source", "/nowhere", "--id", "none")
    assert (unknown["known"], unknown["offset"], unknown["would_store"]) == (False, None, True)
    stats = real_cluster.data("dedup")
    assert [node["live_keys"] for node in stats["nodes"]] == [FLIGHTS_COUNT] * 3
    for node in stats["nodes"]:
        assert (node["ttl_ms"], node["window_ms"], node["max_bytes"]) == (600_000, 600_000, 2_400_000_000)
        assert (node["forgotten_early"], node["refused"], node["full"]) == (0, 0, False)
        assert node["bytes_on_disk"] + node["bytes_in_memory"] >= 16 * FLIGHTS_COUNT
    assert real_cluster.data("dedup", "stats")["nodes"][0].keys() == stats["nodes"][0].keys()


# --- the proof ---------------------------------------------------------------------------------


def test_the_proof_holds_for_what_was_sent(real_cluster: RealCluster) -> None:
    proof = real_cluster.data("verify", "--input", str(FLIGHTS), "--wait", "30", "--exact")
    assert proof["ok"]
    assert (proof["events"], proof["acked_lost"], proof["duplicates"], proof["changed"]) == (
        FLIGHTS_COUNT,
        0,
        0,
        0,
    )
    assert proof["hashes_equal"]
    assert len({node["hash"] for node in proof["nodes"]}) == 1
    assert {node["next_offset"] for node in proof["nodes"]} == {FLIGHTS_COUNT}


def test_the_proof_fails_for_an_event_that_was_never_stored_and_for_one_that_differs(
    real_cluster: RealCluster, tmp_path: Path
) -> None:
    first, second = flights()[:2]
    other = tmp_path / "other.ndjson"
    never = {"id": "never", "source": "/sent", "type": "t"}
    other.write_text("\n".join(json.dumps(one) for one in (first, {**second, "data": {}}, never)) + "\n")
    proof = real_cluster.data("verify", "--input", str(FLIGHTS), "--input", str(other), code=11)
    assert (proof["ok"], proof["acked_lost"], proof["changed"]) == (
        False,
        1,
        0,
    )  # one of its two lines is right
    proof = real_cluster.data("verify", "--input", str(other), code=11)
    assert (proof["acked_lost"], proof["changed"]) == (1, 1)
    assert any(finding["text"].startswith(f"line 3 of {other}") for finding in proof["findings"])


def test_a_file_that_is_not_there_is_said_before_anything_is_read(real_cluster: RealCluster) -> None:
    done = real_cluster.run("verify", "--input", "/nowhere/at/all.ndjson")
    assert done.returncode in (1, 2)
    assert "/nowhere/at/all.ndjson" in done.stderr


def rewrite(config_path: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Put another history on the disk of a stopped node, with every checksum right."""
    config = load(config_path)
    identity = Identity(config.cluster, config.node_id)
    storage = open_storage(config.storage, config.data_dir, identity)
    found = storage.recover()
    entries: list[Entry] = []
    while len(entries) < found.last_index:
        entries += storage.read(len(entries) + 1, found.last_index, 1 << 24)
    peers = dict(storage.peer_directories)
    storage.close()
    identity_file = config.data_dir / "identity.json"
    text = identity_file.read_text(encoding="utf-8")
    shutil.rmtree(config.data_dir)
    config.data_dir.mkdir()
    identity_file.write_text(text, encoding="utf-8")  # by its name the other nodes know it
    trust_copy(config.data_dir, config.storage, identity)
    storage = open_storage(config.storage, config.data_dir, identity)
    storage.write([Write(1, None, found.hard_state, tuple(change(entries)), found.commit)])
    for peer, directory in peers.items():
        storage.remember_peer(peer, directory)
    storage.close()


def with_another_destination(entries: list[Entry]) -> list[Entry]:
    """One event says another thing, in as many bytes."""
    place = next(n for n, entry in enumerate(entries) if b"IAH" in entry.payload)
    old = entries[place]
    entries[place] = seal(
        index=old.index, term=old.term, kind=old.kind, base_offset=old.base_offset, count=old.count,
        log_time_ms=old.log_time_ms, keys=old.keys, payload=old.payload.replace(b"IAH", b"ZZZ", 1),
    )  # fmt: skip
    return entries


def test_a_disk_that_was_rewritten_with_right_checksums_is_found_out(
    real_cluster: RealCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(real_cluster.home))
    number = a_follower(real_cluster)
    node = state.load("drill").node(number)
    real_cluster.data("node", "stop", str(number))
    kept = tmp_path / "kept"
    shutil.copytree(node.data_dir, kept)
    try:
        rewrite(node.config, with_another_destination)
        real_cluster.data("node", "start", str(number))
        proof = real_cluster.data("verify", "--wait", "30", code=11)
        assert (proof["changed"], proof["acked_lost"], proof["hashes_equal"]) == (1, 0, False)
        proof = real_cluster.data("verify", "--input", str(FLIGHTS), "--wait", "30", code=11)
        assert proof["changed"] >= 1
    finally:
        real_cluster.run("node", "stop", str(number))
        shutil.rmtree(node.data_dir)
        shutil.copytree(kept, node.data_dir)
        real_cluster.data("node", "start", str(number), "--trust-copy")
    assert real_cluster.data("verify", "--wait", "30")["ok"]
