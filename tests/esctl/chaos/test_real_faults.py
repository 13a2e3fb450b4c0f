"""Faults on real nodes, as an operator sets them: they hit, they end by themselves, and nothing is lost."""

import json
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from esctl.chaos import nodes
from esctl.chaos.storm import draw, kinds_of
from esctl.clusters import state
from esctl.clusters.state import Cluster
from esctl.faults import leases
from esctl.query import checkup
from esnode.client import connect
from tests.esctl.conftest import FLIGHTS, FLIGHTS_COUNT, RealCluster

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0
T = TypeVar("T")


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes that allow faults; each test heals what it breaks."""
    cluster = RealCluster(tmp_path_factory.mktemp("fragile"))
    try:
        cluster.data("cluster", "up", "fragile", "--faults")
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "fragile", "--confirm", "fragile")


def ask(cluster: RealCluster, question: Callable[[Cluster], Awaitable[T]]) -> T:
    """Ask from here, without the time that a process takes: leases are short, and machines busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(cluster.home))
        return trio.run(question, state.resolve(None))


def active(cluster: RealCluster) -> list[dict[str, Any]]:
    """As `esctl fault ls` has them."""

    async def look(loaded: Cluster) -> list[dict[str, Any]]:
        by_node, _ = await nodes.active(loaded)
        found = [{"node": number, **fault} for number, faults in by_node.items() for fault in faults]
        return [*found, *({"node": one.node, **one.as_data()} for one in leases.active(loaded))]

    return ask(cluster, look)


def wait_active(cluster: RealCluster, count: int) -> list[dict[str, Any]]:
    """Wait until so many faults are active on all nodes together."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := active(cluster)) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def leader(cluster: RealCluster) -> int:
    return int(cluster.data("cluster", "wait")["leader"])


def one_event(tmp_path: Path, name: str) -> str:
    """A file with an event that is not in the log yet."""
    path = tmp_path / "one.ndjson"
    path.write_text(json.dumps({"id": name, "source": "/test", "type": "t"}) + "\n")
    return str(path)


def events_of(cluster: RealCluster, node: int) -> list[tuple[str, str]]:
    """What the node's own log says of faults."""
    done = cluster.run("logs", "--node", str(node), "-o", "json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(line["event"], line["fault"]) for line in lines if line["event"].startswith("fault_")]


def test_a_partition_outlives_a_killed_esctl_ends_with_its_lease_and_loses_nothing(
    fragile: RealCluster,
) -> None:
    old = leader(fragile)
    load = fragile.begin("produce", str(FLIGHTS), "--rate", "4000", "-o", "json")
    cut = fragile.begin("fault", "partition", "isolate-leader", "--lease", "6s")
    found = wait_active(fragile, 3)
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    assert cut.returncode in (-signal.SIGKILL, 0)
    assert {fault["kind"] for fault in found} == {"block"}
    flaws = [reason for stage in ask(fragile, checkup.examine).stages for reason, _ in stage.flaws]
    assert any("broken on purpose" in reason for reason in flaws)
    wait_active(fragile, 0)
    said, complained = load.communicate(timeout=60)
    assert load.returncode == 0, said + complained
    assert fragile.data("status", "health", "--wait", "20")["healthy"]
    assert leader(fragile) != old
    assert [event for event, _ in events_of(fragile, old)] == ["fault_set", "fault_expired"]
    proof = fragile.data("verify", "--input", str(FLIGHTS), "--exact", "--wait", "20")
    assert proof["verdict"] == "passed", proof
    assert fragile.data("status")["nodes"][0]["next_offset"] == FLIGHTS_COUNT
    told(fragile, old)


def told(cluster: RealCluster, old: int) -> None:
    """What the timeline and the trace say of that partition."""
    story = cluster.data("timeline", "--since", "10m")
    cut = next(one for one in story["happenings"] if one["kind"] == "fault")
    later = [one for one in story["happenings"] if one["kind"] == "election" and one["begin"] > cut["begin"]]
    assert (cut["nodes"], cut["details"]["how"]) == ([1, 2, 3], "expired")
    assert (later[0]["details"]["before"], later[0]["details"]["why"]) == (old, "silence")
    new = later[0]["details"]["leader"]
    assert new != old
    assert {new} < {int(voter) for voter in later[0]["details"]["votes"]}
    assert any(gap["begin"] <= later[0]["begin"] for gap in story["leaderless"])
    drawn = cluster.run("timeline", "--format", "mermaid").stdout
    term = later[0]["details"]["term"]
    at = 0  # the first election, which made the old leader, is drawn before all that
    for words in (
        f"fault {cut['details']['fault']}",
        f"n{new}: {later[0]['begin'][11:19]}",
        f"leads term {term}",
    ):
        at = drawn.find(words, at)
        assert at >= 0, (words, drawn)
    way = cluster.data("event", "trace", "--live")
    steps = {(step["step"], step["node"]) for step in way["steps"]}
    assert steps >= {("applied", node) for node in (1, 2, 3)} | {("appended", way["leader"]), ("acked", None)}
    assert all((step["after_ms"] or -1e9) <= step["before_ms"] for step in way["steps"])
    trace = cluster.data("event", "trace", "--source", "esctl/trace", "--id", way["event"]["id"])
    assert (trace["offset"], trace["entry"]["index"], trace["equal"]) == (way["offset"], way["index"], True)
    assert trace["led_by"]["node"] == way["leader"]
    assert all(node["durable"] and node["applied"] and node["equal"] for node in trace["nodes"])


@pytest.mark.parametrize(
    "words",
    [
        ["partition", "majority"],
        ["partition", "isolate", "2"],
        ["partition", "one-way"],
        ["net", "all", "--delay", "30ms", "--jitter", "20ms", "--drop", "30%", "--duplicate", "30%"],
        ["net", "all", "--rate", "20k"],
        ["net", "all", "--reset", "20%"],
        ["net", "all", "--reorder", "40%"],
        ["net", "all", "--stall"],
    ],
    ids=" ".join,
)
def test_a_fault_of_the_network_is_shown_to_hit_and_to_be_gone(
    fragile: RealCluster, words: list[str]
) -> None:
    assert fragile.data("status", "health", "--wait", "20")["healthy"]
    struck = fragile.data("fault", *words, "--lease", "60s", "--yes")
    assert struck["effect"] == "applied"
    assert all(node["evidence"] for node in struck["nodes"])
    would = fragile.data("fault", "heal", struck["fault"], "--dry-run")["faults"]
    assert {(one["node"], one["id"]) for one in would} == {
        (one["node"], one["id"]) for one in struck["orders"]
    }
    healed = fragile.data("fault", "heal", struck["fault"])
    assert healed["recovered"]
    assert len(healed["healed"]) == len(struck["orders"])
    assert active(fragile) == []
    assert fragile.data("status", "health", "--wait", "20")["healthy"]


def test_a_slow_disk_is_unknown_until_something_is_written(fragile: RealCluster, tmp_path: Path) -> None:
    follower = leader(fragile) % 3 + 1
    idle = fragile.data("fault", "disk", "slow", str(follower), "--delay", "50ms", "--lease", "30s", code=12)
    assert idle["effect"] == "unknown"
    fragile.data("produce", one_event(tmp_path, "slow"))
    found = fragile.data("fault", "ls")["faults"]
    assert [(fault["node"], fault["kind"], fault["hits"] > 0) for fault in found] == [
        (follower, "disk-slow", True)
    ]
    fragile.data("fault", "heal", "--all")
    fragile.data("fault", "heal", idle["fault"], code=1)


@pytest.mark.parametrize("how", ["fail", "full"])
def test_a_disk_that_refuses_ends_its_node_and_a_start_brings_it_back(fragile: RealCluster, how: str) -> None:
    follower = leader(fragile) % 3 + 1
    striking = fragile.begin("fault", "disk", how, str(follower), "--lease", "30s", "-o", "json")
    wait_active(fragile, 1)

    async def write(loaded: Cluster) -> None:
        async with connect(loaded.addresses, cluster=loaded.identity) as log:
            await log.append({"id": how, "source": "/test", "type": "t"})

    ask(fragile, write)  # while the command looks
    out, _ = striking.communicate(timeout=30)
    assert json.loads(out)["data"].get("effect") == "applied", out
    said = fragile.run("logs", "--node", str(follower), "--level", "error", "-o", "json").stdout
    assert "ES3103" in said.splitlines()[-1]
    fragile.data("node", "start", str(follower))
    assert active(fragile) == []


def test_a_paused_leader_goes_on_after_a_killed_esctl_and_a_killed_node_is_started_again(
    fragile: RealCluster,
) -> None:
    old = leader(fragile)
    pausing = fragile.begin("fault", "pause", str(old), "--lease", "3s")
    wait_active(fragile, 1)
    pausing.send_signal(signal.SIGKILL)
    pausing.communicate()
    wait_active(fragile, 0)
    assert fragile.data("status", "health", "--wait", "20")["healthy"]
    number = leader(fragile)
    killed = fragile.data("fault", "kill", str(number), "--lease", "3s")
    assert killed["effect"] == "applied"
    assert killed["leader_after"] not in (None, number)
    wait_active(fragile, 0)
    assert fragile.data("status", "health", "--wait", "20")["healthy"]


def test_damage_at_rest_is_found_and_repaired_and_every_event_is_there_again(
    fragile: RealCluster, tmp_path: Path
) -> None:
    fragile.data("produce", one_event(tmp_path, "at rest"))
    status = fragile.data("status")
    follower, events = status["leader"] % 3 + 1, status["nodes"][status["leader"] - 1]["next_offset"]
    for how, shows in (("torn", "it cut the half record"), ("flip", f"fetched {events:,} events")):
        done = fragile.data("fault", "disk", how, str(follower), "--yes")
        assert (done["effect"], done["damage"]["file"][:4]) == ("applied", "log.")
        assert [node["id"] for node in done["nodes"]] == [follower]
        assert shows in done["nodes"][0]["evidence"]
    assert fragile.data("verify", "--wait", "20")["verdict"] == "passed"


def test_a_clock_that_is_set_is_seen_in_status_and_moves_nothing_else(fragile: RealCluster) -> None:
    before = fragile.data("status")
    number = before["leader"]
    struck = fragile.data("fault", "clock", "jump", str(number), "--by", "-2h", "--lease", "60s")
    assert struck["effect"] == "applied"
    off = {node["id"]: node["clock_off_ms"] for node in fragile.data("status")["nodes"]}
    assert off[number] == pytest.approx(-7_200_000, abs=60_000)
    assert all(abs(value) < 1_000 for other, value in off.items() if other != number)
    drift = fragile.data("fault", "clock", "drift", str(number), "--rate", "200", "--lease", "60s")
    assert drift["effect"] == "applied"
    fragile.data("fault", "heal", "--all")
    after = fragile.data("status")
    assert all(abs(node["clock_off_ms"]) < 1_000 for node in after["nodes"])
    assert (after["leader"], after["term"]) == (number, before["term"])


def test_a_frozen_cluster_goes_on_and_a_storm_passes_and_both_are_counted(
    fragile: RealCluster, tmp_path: Path
) -> None:
    frozen = fragile.data("fault", "freeze", "--lease", "3s", "--yes")
    assert (frozen["effect"], len(frozen["nodes"])) == ("applied", 3)
    assert fragile.data("status", "health", "--wait", "30")["healthy"]
    file = tmp_path / "storm.json"
    drawn = draw(4, (1, 2, 3), 5_000, kinds_of("isolate,drop,delay,duplicate,reorder"), 20)
    file.write_text(json.dumps(drawn.as_data()))
    passed = fragile.data("fault", "storm", "--replay", str(file), "--yes")
    assert (passed["verdict"], passed["acked_lost"], passed["duplicates"]) == ("passed", 0, 0)
    assert passed["storm"] == drawn.as_data()
    assert passed["acked"] == passed["sent"] > 0
    assert any(fault["hits"] for fault in passed["faults"])
    met = {row["way"]: row for row in fragile.data("fault", "coverage")["faults"]}
    assert met["freeze"]["times"] >= 1
    isolated = [scheduled for scheduled in drawn.schedule if scheduled.kind == "isolate"]
    assert met["partition isolate"]["times"] >= len(isolated) > 0
    assert met["partition ring"]["times"] == 0


def test_what_would_be_cut_is_shown_and_not_done(fragile: RealCluster) -> None:
    number = leader(fragile)
    plan = fragile.data("fault", "partition", "isolate", str(number), "--dry-run")
    assert plan["dry_run"]
    others = [n for n in (1, 2, 3) if n != number]
    assert {tuple(side["nodes"]): side["quorum"] for side in plan["sides"]} == {
        (number,): False,
        tuple(others): True,
    }
    assert active(fragile) == []


def test_words_that_do_not_fit_are_refused_before_anything_is_struck(fragile: RealCluster) -> None:
    for words in (
        ["heal"],
        ["net"],
        ["net", "1-9", "--stall"],
        ["partition", "ring"],
        ["partition", "isolate"],
    ):
        fragile.data("fault", *words, code=2)
    fragile.data("fault", "disk", "slow", "1", "--lease", "11m", code=2)
    fragile.data("fault", "pause", "9", code=1)
    assert active(fragile) == []


def test_a_cluster_that_was_not_made_for_it_refuses_every_fault(real_cluster: RealCluster) -> None:
    for words in (["partition", "isolate-leader"], ["net", "all", "--stall"], ["disk", "fail", "1"]):
        done = real_cluster.run("fault", *words, "-o", "json")
        (error,) = json.loads(done.stdout)["errors"]
        assert (done.returncode, error["code"]) == (13, "ES3003")
        assert "[faults] allowed = true" in error["message"]
        assert "esctl cluster up" in error["next"]
    drill = real_cluster.run("bench", "failover", "--kind", "partition", "--yes", "-o", "json")
    assert (drill.returncode, json.loads(drill.stdout)["errors"][0]["code"]) == (13, "ES3003")
    assert real_cluster.data("fault", "ls")["allowed"] == []
    assert real_cluster.data("fault", "heal", "--all")["healed"] == []
    assert real_cluster.data("status", "health", "--wait", "20")["healthy"]
