"""Playbooks on three real nodes: a drill that passes, one that is killed in the middle, one that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl import state
from esctl.exits import Exit
from esctl.faults import nodes
from esctl.playbook import journal
from esctl.playbook.errors import RunUnreadable

from .conftest import RealCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE_S = 60.0
HEAD = """
schema = "esctl.playbook/v1"
id = "{id}"
version = "1.0.0"
title = "A drill of the tests"
risk = "low"
max_duration = "2m"

[requires]
nodes = 3
faults = true

[[guard]]
expr = "load.acked_lost == 0"

[[step]]
id = "load"
kind = "bench"
impact = "rw"
with = {{ mode = "produce", rate = 100, background = true }}
undo = {{ kind = "esctl", with = {{ argv = ["bench", "stop", "load"] }} }}

[[step]]
id = "cut"
kind = "fault"
impact = "rw"
with = {{ type = "partition", shape = "isolate-leader", lease = "3s" }}
capture = {{ old_leader = "status.leader" }}
expect = ["fault.effect == 'applied'"]
undo = {{ kind = "heal", with = {{ fault = "cut" }} }}

[[step]]
id = "failover"
kind = "wait"
expect = ["status.leader != null", "status.leader != captured.old_leader"]
timeout = "30s"
"""
TO_THE_END = """
[[step]]
id = "healed"
kind = "wait"
expect = ["faults.active == 0", "health.ok"]
timeout = "30s"

[[step]]
id = "audit"
kind = "assert"
expect = ["verify.acked_lost == 0", "verify.duplicates == 0", "verify.hashes_equal"]
timeout = "30s"
"""
NO_GOOD = """
[[step]]
id = "judge"
kind = "assert"
expect = ["status.term < 0"]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes that may be broken."""
    made = RealCluster(tmp_path_factory.mktemp("playbooks"))
    try:
        made.data("cluster", "up", "drill", "--faults")
        yield made
    finally:
        made.run("cluster", "destroy", "drill", "--confirm", "drill")


@pytest.fixture(autouse=True)
def _at_home(cluster: RealCluster, state_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.home))


def written(tmp_path: Path, name: str, rest: str) -> str:
    path = tmp_path / f"{name}.toml"
    path.write_text(HEAD.format(id=name) + rest)
    return str(path)


def states(run: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["state"] for step in run["steps"]}


def active_faults() -> dict[int, Any]:
    """What the nodes say, without a command in between: a lease is short."""
    active, _ = trio.run(nodes.active, state.load("drill"))
    return {number: faults for number, faults in active.items() if faults}


def test_the_leader_loss_drill_passes_and_can_be_read(cluster: RealCluster, tmp_path: Path) -> None:
    run = cluster.data("playbook", "run", "leader-loss-drill", "--input", "rate=100", "--yes")
    assert run["verdict"] == "pass", run["why"]
    assert set(states(run).values()) == {"passed"}
    assert run["clean"]
    assert run["audit"]["acked"] > 0
    assert (run["audit"]["acked_lost"], run["audit"]["duplicates"]) == (0, 0)
    assert run["audit"]["nodes_read"] == 3
    assert not run["loads"][0]["last"]["running"]
    assert not active_faults()
    page = tmp_path / "run.html"
    cluster.data("playbook", "report", run["run"], "--format", "html", "--into", str(page))
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text
    assert run["run"] in text


def is_cut() -> bool:
    """Has the newest run said that it cuts, and do the nodes show it?"""
    known = journal.run_ids()
    try:
        events = journal.read(journal.runs_root() / known[0]) if known else []
    except RunUnreadable:
        return False  # it has not said anything yet
    acts = any(event["event"] == "step-acts" and event["step"] == "cut" for event in events)
    return acts and bool(active_faults())


def test_a_killed_run_leaves_a_cluster_that_heals_itself_and_goes_on(
    cluster: RealCluster, tmp_path: Path
) -> None:
    path = written(tmp_path, "killed", TO_THE_END)
    words = [sys.executable, "-m", "esctl.main", "playbook", "run", path, "--cluster", "drill"]
    with subprocess.Popen(
        words,
        env={**os.environ, "XDG_STATE_HOME": str(cluster.home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as driver:
        deadline = time.monotonic() + PATIENCE_S
        while not is_cut():
            assert driver.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline, "no fault was set"
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    run = cluster.data("playbook", "runs")["runs"][0]
    assert (run["playbook"], run["verdict"]) == ("killed", None)
    while active_faults():
        assert time.monotonic() < deadline, "the lease has no end"
        time.sleep(0.2)
    resumed = cluster.data("playbook", "resume", run["run"])
    assert resumed["verdict"] == "pass", resumed["why"]
    assert [session["why"] for session in resumed["sessions"]] == ["run", "resume"]
    assert resumed["audit"]["acked_lost"] == 0
    assert resumed["clean"]
    again = cluster.run("playbook", "resume", run["run"], "-o", "json")
    assert again.returncode == Exit.REFUSED
    assert json.loads(again.stdout)["errors"][0]["code"] == "ES4522"


def test_a_run_that_fails_is_rolled_back_and_says_so(cluster: RealCluster, tmp_path: Path) -> None:
    path = written(tmp_path, "failing", NO_GOOD + TO_THE_END)
    run = cluster.data("playbook", "run", path, code=Exit.VERDICT_FAILED)
    assert run["verdict"] == "fail"
    assert run["why"].startswith("step judge: expected status.term < 0, was ")
    assert states(run)["judge"] == "failed"
    assert {step["step"]: step["undo"] for step in run["steps"]} == {
        "load": "done",
        "cut": "done",
        "failover": "none",
        "judge": "none",
    }
    assert not active_faults()
