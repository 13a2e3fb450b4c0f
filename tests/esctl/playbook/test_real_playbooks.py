"""Every shipped playbook on real nodes, one that is killed in the middle, and one that fails.

One cluster for all that leave it whole. `bootstrap-a-cluster` makes one of its own, of which `lost-quorum`
then loses two disks. The partitions also on nodes in namespaces, where links are cut for certain.
"""

import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from esctl.chaos import nodes
from esctl.clusters import state
from esctl.clusters.backends import network
from esctl.exits import Exit
from esctl.playbook import catalog, journal, parser
from esctl.playbookerrors import RunUnreadable
from tests.esctl.conftest import RealCluster

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
id = "exactly-once"
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


SHARED = {
    "asymmetric-partition": ["rate=100"],
    "backup-and-restore-drill": [],
    "capacity-check": ["least=500", "from=500", "to=500", "p99=5000", "seconds=1", "refine=0"],
    "clock-jump": ["rate=100"],
    "corrupt-log-on-one-node": ["rate=100"],
    "first-response": [],
    "full-disk": ["rate=100"],
    "leader-loss-drill": ["rate=100"],
    "majority-partition": ["rate=100"],
    "minority-partition": ["rate=100"],
    "planned-hand-over": ["rate=100", "pause=30s"],
    "replace-a-node": ["node=2"],
    "rolling-restart": ["rate=100", "pause=30s"],
    "slow-follower": ["rate=100"],
}
"""Those that leave the cluster as it was, with their inputs. A pause says how busy this machine is."""
OF_THEIR_OWN = {"announce", "bootstrap-a-cluster", "lost-quorum", "upgrade"}
PARTITIONS = [name for name in SHARED if name.endswith("-partition") or name == "leader-loss-drill"]
LACK = network.missing()
RUN_S = 280.0


@contextmanager
def made(home: Path, *options: str) -> Iterator[RealCluster]:
    """Three real nodes that may be broken."""
    cluster = RealCluster(home, RUN_S)
    try:
        cluster.data("cluster", "up", "drill", "--faults", *options)
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "drill", "--confirm", "drill")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """The one for all, with an event in it."""
    with made(tmp_path_factory.mktemp("playbooks")) as one:
        one.data("produce", "-", stdin=json.dumps({"id": "1", "source": "/first", "type": "t"}) + "\n")
        yield one


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Each node in a network of its own."""
    with made(tmp_path_factory.mktemp("apart"), "--backend", "netns") as one:
        yield one


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealCluster, dict[str, Any]]]:
    """The cluster that a playbook has made, and what that run was."""
    cluster = RealCluster(tmp_path_factory.mktemp("bootstrap"), RUN_S)
    try:
        run = cluster.data("playbook", "run", "bootstrap-a-cluster", "--cluster", "drill")
        yield cluster, run
    finally:
        cluster.run("cluster", "destroy", "drill", "--confirm", "drill")


@pytest.fixture
def at_home(cluster: RealCluster, state_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is asked of the shared cluster without a command."""
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.home))


def passes(cluster: RealCluster, name: str, *words: str) -> dict[str, Any]:
    """Run a shipped playbook: it passes, leaves nothing behind, and has read three logs for its proof."""
    inputs = [word for given in SHARED.get(name, []) for word in ("--input", given)]
    run = cluster.data("playbook", "run", name, "--yes", "--cluster", "drill", *inputs, *words)
    assert run["verdict"] == "pass", run["why"]
    assert run["clean"]
    return audited(name, run)


def audited(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """What is true of each run that passed."""
    book, audit = parser.read(catalog.find(name)), run["audit"]
    may_skip = {"skipped"} if name in ("first-response", "upgrade") else set()
    assert set(states(run).values()) <= {"passed"} | may_skip
    assert (audit is None) is (name == "first-response")
    if audit is not None:
        assert (audit["acked_lost"], audit["duplicates"], audit["nodes_read"]) == (0, 0, 3)
        assert audit["hashes_equal"]
    if any(step.id == "load" for step in book.steps):
        assert audit["acked"] > 0
        assert not run["loads"][0]["last"]["running"]
    return run


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


def test_every_playbook_that_is_shipped_is_run_here() -> None:
    assert SHARED.keys() | OF_THEIR_OWN == {path.stem for path in catalog.shipped().glob("*.toml")}


@pytest.mark.parametrize("name", SHARED)
def test_a_shipped_playbook_passes_on_three_real_nodes(
    cluster: RealCluster, at_home: None, name: str
) -> None:
    passes(cluster, name, "--yes")
    assert not active_faults()


@pytest.mark.skipif(bool(LACK), reason=LACK)
@pytest.mark.parametrize("name", PARTITIONS)
def test_a_partition_passes_where_links_are_cut_between_namespaces(apart: RealCluster, name: str) -> None:
    passes(apart, name, "--yes")


def test_a_cluster_is_made_by_a_playbook_and_has_what_it_stored(
    bootstrap: tuple[RealCluster, dict[str, Any]],
) -> None:
    _, run = bootstrap
    assert run["verdict"] == "pass", run["why"]
    assert audited("bootstrap-a-cluster", run)["audit"]["events"] > 0


def test_a_cluster_that_has_lost_two_disks_goes_on_with_the_log_of_the_third(
    bootstrap: tuple[RealCluster, dict[str, Any]],
) -> None:
    cluster, made = bootstrap
    shown = {node["id"]: node for node in cluster.data("node", "ls", "--cluster", "drill")["nodes"]}
    for number in (1, 3):
        cluster.data("node", "kill", str(number), "--yes", "--cluster", "drill")
        shutil.rmtree(shown[number]["data_dir"])
    words = ("lost-quorum", "--input", "survivor=2", "--yes", "--answer", "agreed=A. Nyone")
    refused = cluster.run("playbook", "run", *words, "--cluster", "drill", "-o", "json")
    assert json.loads(refused.stdout)["errors"][0]["next"].endswith("--confirm drill")
    run = passes(cluster, *words, "--confirm", "drill")
    assert run["audit"]["events"] == made["audit"]["events"]
    old = Path(shown[2]["data_dir"])
    assert old.with_name(f"{old.name}.epoch-1").is_dir(), "the survivor's own log is kept"
    assert run["answers"]["agreed"] == "A. Nyone"
    assert "A. Nyone has agreed" in run["notes"][-1]["text"]


class Chat(http.server.BaseHTTPRequestHandler):
    """A webhook that is out of order when it is asked for the first time."""

    told: ClassVar[list[tuple[int, str]]] = []

    def do_POST(self) -> None:
        status = 200 if self.told else 503
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        self.told.append((status, text))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at `told`."""


def test_an_upgrade_tells_a_chat_before_and_after(cluster: RealCluster) -> None:
    Chat.told.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Chat) as chat:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        webhook = f"webhook=http://127.0.0.1:{chat.server_port}/hook"
        run = passes(cluster, "upgrade", "--input", webhook)
        words = ("--input", webhook, "--input", "text=all is well")
        alone = cluster.data("playbook", "run", "announce", "--cluster", "drill", *words)
        chat.shutdown()
    assert (states(run)["begins-post"], states(run)["over-post"]) == ("passed", "passed")
    assert alone["verdict"] == "pass"
    begins = "esctl, cluster drill: an upgrade begins; expect a hand-over or two of some milliseconds"
    over = "esctl, cluster drill: the upgrade is over; every node runs the new version"
    assert Chat.told == [
        (503, begins),
        (200, begins),
        (200, over),
        (200, "esctl, cluster drill: all is well"),
    ]


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
    cluster: RealCluster, at_home: None, tmp_path: Path
) -> None:
    path = written(tmp_path, "killed", TO_THE_END)
    words = [sys.executable, "-m", "esctl.main", "playbook", "run", path, "--cluster", "drill"]
    with subprocess.Popen(
        words,
        env=cluster.environment,
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
    page = tmp_path / "run.html"
    cluster.data("playbook", "report", run["run"], "--format", "html", "--save", str(page))
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text
    assert run["run"] in text
    again = cluster.run("playbook", "resume", run["run"], "-o", "json")
    assert again.returncode == Exit.REFUSED
    assert json.loads(again.stdout)["errors"][0]["code"] == "ES4522"


def test_a_run_that_fails_is_rolled_back_and_says_so(
    cluster: RealCluster, at_home: None, tmp_path: Path
) -> None:
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
