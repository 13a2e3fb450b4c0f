"""Where an event is, as nodes that speak the protocol show it; what can be seen of a probe from outside."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from esctl.clusters import nodelog, state
from esctl.clusters.rolechanges import RoleChange
from esctl.main import app
from esctl.query import entrycopies
from esctl.query.entrycopies import copies, elected
from esctl.query.probe import ProbeLook, Watched
from esnode.dedup.batch import event_key
from tests.esctl.conftest import plan
from tests.esctl.wire_node import event, record, serving, three

# --- a stored event -------------------------------------------------------------------------------


async def test_each_node_shows_its_own_copy_and_what_it_knows_of_the_key(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].known[event_key("/test", "e3")] = 3
    async with serving(nodes, tmp_path) as cluster:
        found = await copies(cluster, 3)
    assert [(one.node, one.up, one.why) for one in found] == [(1, True, ""), (2, True, ""), (3, True, "")]
    assert len({one.crc for one in found}) == 1
    entry = found[0].entry
    assert entry is not None
    assert (entry.base_offset, entry.count) == (2, 2)
    assert entrycopies.key_at(entry, 1) == event_key("/test", "e3")
    assert [one.key.offset for one in found if one.key is not None] == [3, None, None]
    assert found[0].reached("applied_index", 9) is True
    assert found[0].reached("applied_index", 10) is False
    assert found[0].reached("durable_index", 1) is None


async def test_a_copy_that_is_different_damaged_missing_or_cut_away_is_told_apart(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].records[1] = record(2, [event(2), event(3, data={"n": "other"})])
    nodes[1].records[1] = nodes[1].records[1][:-1] + b"?"
    nodes[2].records = nodes[2].records[:1]
    async with serving(nodes, tmp_path) as cluster:
        other, damaged, behind = await copies(cluster, 3)
    assert other.crc not in ("", three()[0].records[1][:4].hex())
    assert damaged.why.startswith("damaged: ")
    assert (behind.why, behind.up, behind.entry) == ("not applied yet", True, None)


async def test_a_node_that_is_gone_or_mute_is_a_row_with_its_reason(tmp_path: Path) -> None:
    nodes = three()
    nodes[2].mute = True
    async with serving(nodes, tmp_path, absent=[2]) as cluster:
        here, gone, mute = await copies(cluster, 0, timeout_s=0.2)
    assert here.entry is not None
    assert (gone.up, mute.up) == (False, False)
    assert gone.why
    assert mute.why == "no answer in 200 ms"


def test_who_led_in_a_term_is_what_the_logs_say(tmp_path: Path) -> None:
    cluster = plan("led", tmp_path)

    def changed(term: int, role: str) -> str:
        fields = {"time": f"t{term}", "event": "state_changed", "role": role, "new_term": term}
        return json.dumps(fields) + "\n" + json.dumps({"time": "t", "event": "client_dropped"}) + "\n"

    cluster.nodes[0].log.write_text(changed(1, "leader") + changed(2, "follower") + changed(4, "candidate"))
    cluster.nodes[1].log.write_text(changed(1, "follower") + changed(2, "leader") + changed(3, "leader"))
    assert elected(cluster, 2) == RoleChange("t2", 2, 2, "leader")
    assert elected(cluster, 1) == RoleChange("t1", 1, 1, "leader")
    assert elected(cluster, 4) is None


def test_a_log_is_read_backwards_by_whole_lines_across_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "1"
    events = [f"e{number}-{'x' * (number % 700)}" for number in range(1_000)]
    path.write_text("".join(json.dumps({"time": "t", "event": one}) + "\n" for one in events))
    end = nodelog.size(path)
    assert end > 3 * nodelog.NEAR_BYTES
    assert [one.event for one in nodelog.backwards(path, 1, end)] == events[::-1]
    assert [one.event for one in nodelog.backwards(path, 1, end, containing=b'"e7-')] == [events[7]]
    assert list(nodelog.backwards(tmp_path / "none", 1, 10)) == []


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def invoke(tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs `esctl event trace` on a cluster of three nodes that are not there."""
    state.add(plan("nowhere", tmp_path / "nowhere"))

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        done = typer.testing.CliRunner().invoke(app, ["event", "trace", *words, "-o", "json"])
        return done.exit_code, json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    "words",
    [(), ("3", "--live"), ("--source", "a"), ("3", "--source", "a", "--id", "b"), ("3", "-n"), ("-n",)],
)
def test_an_event_is_named_in_one_way_only(invoke: Any, words: tuple[str, ...]) -> None:
    code, answer = invoke(*words)
    assert (code, answer["errors"][0]["code"]) == (2, "ES4009")


def test_a_cluster_that_is_down_says_so_of_each_node_and_a_dry_run_sends_nothing(invoke: Any) -> None:
    code, answer = invoke("3")
    assert code == 20
    assert all(f"node {number}: " in answer["errors"][0]["message"] for number in (1, 2, 3))
    assert answer["errors"][0]["next"] == "esctl status health --cluster nowhere"
    code, answer = invoke("--live", "--dry-run")
    assert (code, answer["data"]["dry_run"]) == (0, True)
    assert answer["data"]["quorum"]["held"] is False


# --- what can be seen of a probe ------------------------------------------------------------------


def look(asked_s: float, heard_s: float, index: int) -> ProbeLook:
    return ProbeLook(asked_s, heard_s, {"applied_index": index, "durable_index": index + 1})


def test_a_step_lies_between_the_last_look_without_it_and_the_first_with_it() -> None:
    watched = Watched(2, [look(9.9, 9.91, 4), look(10.0, 10.004, 4), look(10.004, 10.009, 6)])
    step = watched.step("applied", "applied_index", 5, sent_s=10.0)
    assert step is not None
    assert (step.node, step.after_ms, step.before_ms) == (2, pytest.approx(0), pytest.approx(9))
    early = watched.step("durable", "durable_index", 5, sent_s=10.0)
    assert early is not None
    assert math.isinf(early.after_ms)
    assert early.as_data() == {"step": "durable", "node": 2, "after_ms": None, "before_ms": -90.0}
    assert watched.step("applied", "applied_index", 7, sent_s=10.0) is None
    assert watched.step("unheard of", "unheard_of", 1, sent_s=10.0) is None
    assert watched.has_applied(6)
    assert not watched.has_applied(7)
    assert watched.round_trip_ms == pytest.approx(5)
    assert Watched(3).round_trip_ms is None
