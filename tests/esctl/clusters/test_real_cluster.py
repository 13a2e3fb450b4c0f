"""Whole clusters of real nodes, as an operator runs them: up, kill, start, restart, down, destroy."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters import state
from esctl.clusters.backends import nodeprocess, pidfile
from tests.esctl import contract

pytestmark = pytest.mark.slow


def esctl(*words: str, code: int = 0) -> dict[str, Any]:
    """Run a command in a process of its own; its JSON document."""
    run = subprocess.run(
        [sys.executable, "-m", "esctl.main", *words, "-o", "json"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == code, run.stdout + run.stderr
    document: dict[str, Any] = contract.check(json.loads(run.stdout))
    assert document["ok"] is (code == 0)
    return document


@pytest.fixture
def up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A running cluster named drill; gone after the test."""
    words = [
        "cluster",
        "up",
        "drill",
        "--data-dir",
        str(tmp_path / "data"),
        "--storage",
        getattr(request, "param", "sqlite"),
    ]
    yield esctl(*words)["data"]
    subprocess.run(
        [sys.executable, "-m", "esctl.main", "cluster", "destroy", "drill", "--confirm", "drill"],
        capture_output=True,
        timeout=100,
    )


def nodes_below(home: Path) -> set[int]:
    """The live processes of nodes whose configurations are there, whatever any list says."""
    return {process.pid for process, config in nodeprocess.every_node() if home in config.parents}


@pytest.mark.parametrize("moment", ["described", "first process", "all processes"])
def test_a_cluster_whose_making_is_killed_leaves_no_process_that_is_not_known(
    tmp_path: Path, moment: str
) -> None:
    home = tmp_path / "state"
    words = [sys.executable, "-m", "esctl.main", "cluster", "up", "cut"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as making:
        wanted = {"described": 0, "first process": 1, "all processes": 3}[moment]
        while "cut" not in state.names() or len(nodes_below(home)) < wanted:
            assert making.poll() is None
        making.kill()
    listed = {node["pid"] for node in esctl("node", "ls")["data"]["nodes"] if node["pid"] is not None}
    assert listed == nodes_below(home)
    assert esctl("cluster", "destroy", "cut", "--confirm", "cut")["data"]["kept"] == []
    assert nodes_below(home) == set()


def fill(directory: Path) -> None:
    """Leave no byte of the file system."""
    with (directory / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1024)):
            pass
    free = os.statvfs(directory)
    assert free.f_bavail == 0


def test_a_full_state_directory_hides_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    monkeypatch.setenv("XDG_STATE_HOME", str(small))
    try:
        esctl("cluster", "up", "full", "--data-dir", str(tmp_path / "data"))
        esctl("cluster", "stop", "full")
        fill(small)
        esctl("node", "start", "1")
        assert len(nodes_below(tmp_path)) == 1
        esctl("cluster", "stop", "full")
        assert nodes_below(tmp_path) == set()
        esctl("node", "start", "1")
        assert esctl("cluster", "destroy", "full", "--confirm", "full")["data"]["kept"] == []
        assert nodes_below(tmp_path) == set()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def running(states: dict[str, Any]) -> dict[int, bool]:
    return {node["id"]: node["state"] == "running" for node in states["nodes"]}


def test_nodes_outlive_the_command_that_started_them(up: dict[str, Any], tmp_path: Path) -> None:
    assert up["leader"] in (1, 2, 3)
    assert [node["id"] for node in up["nodes"]] == [1, 2, 3]
    for node in up["nodes"]:
        os.kill(node["pid"], 0)
        assert Path(node["data_dir"]).is_relative_to(tmp_path / "data")
    listed = esctl("node", "ls")["data"]
    assert [node["pid"] for node in listed["nodes"]] == [node["pid"] for node in up["nodes"]]
    assert esctl("cluster", "ls")["data"]["clusters"][0]["running"] == 3


def test_a_killed_leader_is_replaced_and_comes_back_on_its_port(up: dict[str, Any]) -> None:
    killed = esctl("node", "kill", str(up["leader"]))["data"]
    assert killed["pid"] == up["nodes"][up["leader"] - 1]["pid"]
    assert killed["quorum"] == {"needed": 2, "running_before": 3, "running_after": 2, "kept": True}
    new_leader = esctl("cluster", "wait")["data"]["leader"]
    assert new_leader != up["leader"]
    run = subprocess.run(
        [sys.executable, "-m", "esctl.main", "logs", "--level", "warning", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    warnings = [json.loads(line) for line in run.stdout.splitlines()]
    lost = [(line["level"], line["peer"]) for line in warnings if line["event"] == "peer_unreachable"]
    assert ("warning", up["leader"]) in lost
    started = esctl("node", "start", str(up["leader"]))["data"]
    assert started["pid"] != killed["pid"]
    addresses = [node["address"] for node in esctl("node", "ls")["data"]["nodes"]]
    assert addresses == [node["address"] for node in up["nodes"]]


@pytest.mark.parametrize("up", ["sqlite", "rocksdb"], indirect=True)
def test_a_cluster_comes_back_after_every_process_has_gone(up: dict[str, Any]) -> None:
    for node in up["nodes"]:
        os.kill(node["pid"], signal.SIGKILL)
    again = esctl("cluster", "start", "drill")["data"]
    assert again["identity"] == up["identity"]
    assert {node["address"] for node in again["nodes"]} == {node["address"] for node in up["nodes"]}
    assert not {node["pid"] for node in again["nodes"]} & {node["pid"] for node in up["nodes"]}


def test_down_keeps_the_data_and_start_brings_it_back(up: dict[str, Any], tmp_path: Path) -> None:
    stopped = esctl("cluster", "down")["data"]
    assert stopped["killed"] == []  # every node ended by itself
    assert (tmp_path / "data" / "node-1").is_dir()
    assert running(esctl("node", "ls")["data"]) == {1: False, 2: False, 3: False}
    assert esctl("cluster", "start")["data"]["leader"] in (1, 2, 3)
    refused = esctl("cluster", "up", "drill", code=1)
    assert refused["errors"][0]["code"] == "ES4001"


def test_a_paused_node_is_resumed_and_a_restarted_one_has_a_new_pid(up: dict[str, Any]) -> None:
    number = up["leader"] % 3 + 1
    pid = up["nodes"][number - 1]["pid"]
    assert esctl("node", "pause", str(number))["data"]["pid"] == pid
    assert esctl("node", "resume", str(number))["data"]["pid"] == pid
    assert esctl("node", "restart", str(number))["data"]["pid"] != pid
    assert all(running(esctl("node", "ls")["data"]).values())


def test_a_node_that_cannot_start_says_why_and_what_to_do(up: dict[str, Any]) -> None:
    esctl("cluster", "down")
    config = Path(up["data_dir"]) / "node-2.toml"
    config.write_text(config.read_text() + "\n[surprise]\n")
    failed = esctl("cluster", "start", code=1)["errors"][0]
    assert failed["code"] == "ES4102"
    assert "surprise" in failed["message"]
    assert failed["next"]


def test_logs_of_real_nodes_are_json_lines_with_time_and_node(up: dict[str, Any]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "esctl.main", "logs", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert {line["node"] for line in lines} == {1, 2, 3}
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    assert all(time.endswith("Z") for time in times)
    assert {"level", "event", "term", "index"} <= lines[0].keys()


def test_destroy_leaves_no_process_and_no_file(up: dict[str, Any], tmp_path: Path) -> None:
    esctl("cluster", "destroy", "drill", "--confirm", "drill")
    assert not (tmp_path / "data").exists()
    for node in up["nodes"]:
        facts = pidfile.facts_of(node["pid"])
        assert facts is None or facts.state == "Z"  # not every container's process 1 collects orphans
    assert esctl("cluster", "ls")["data"]["clusters"] == []
