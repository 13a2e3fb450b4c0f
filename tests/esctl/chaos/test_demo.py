"""The tour: what it proves and what it must not claim, and that it leaves nothing behind."""

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from esctl.chaos import tour
from esctl.chaos.tour import TourStory, read_events
from esctl.clusters import state
from esctl.clusters.backends import nodeprocess
from esctl.clusters.state import Cluster
from esctl.commands import demo
from esctl.errors import ClusterExists, InputUnreadable, MachineRefused
from esctl.exits import Exit
from esctl.verify.history import History
from esctl.verify.reading import ReadOutcome
from esctl.verify.verdict import LogVerdict
from esnode.events import encode_event, key_of
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import plan
from tests.esctl.wire_node import event, record

FLIGHTS = Path(__file__).resolve().parents[3] / "examples" / "flights-2013-01.ndjson.gz"


def a_good_story() -> TourStory:
    story = TourStory(total=100, leader_before=2, leader_after=3)
    story.first.sent = story.first.acked = 100
    story.second.sent = story.second.acked = story.second.duplicates = 100
    story.killed_pid, story.killed_after, story.killed_s = 7, 34, 5.0
    story.acks_s = [4.8, 4.9, 5.1, 5.4, 5.5]
    story.reading = ReadOutcome(target=100)
    story.verdict = verdict_of(100)
    return story


def verdict_of(count: int) -> LogVerdict:
    """Three nodes that agree on so many events of the 100 that are expected."""
    history = History([1, 2, 3])
    for n in range(count):
        history.expect(key_of(event(n)), encode_event(event(n)), 0, n)
    for node in (1, 2, 3):
        history.begin(node, 0)
    for node in (1, 2, 3):
        history.add(node, record(0, [event(n) for n in range(count)]))
        history.finish(node)
    return history.verdict(exact=True)


def test_the_gap_is_the_longest_time_without_an_ack_from_the_kill_on() -> None:
    story = a_good_story()
    assert story.gap_s == pytest.approx(0.3)
    story.acks_s = [1.0, 4.0, 4.9]
    assert story.gap_s is None
    story.killed_pid = None
    assert story.gap_s is None


@pytest.mark.parametrize("after", [None, 0, 100])
def test_a_kill_that_was_not_in_mid_stream_proves_nothing(after: int | None) -> None:
    story = a_good_story()
    assert story.conclusive
    story.killed_after = after
    assert not story.conclusive


def test_a_good_story_ends_well(tmp_path: Path) -> None:
    answer = demo._end(a_good_story(), plan("demo", tmp_path), False, [], None)
    assert answer.exit_code == Exit.OK
    assert answer.data["ok"] is True
    assert not answer.errors


def test_an_event_without_ack_or_a_node_that_was_not_read_proves_nothing(tmp_path: Path) -> None:
    story = a_good_story()
    story.first.acked = 99
    assert not story.conclusive
    story = a_good_story()
    assert story.reading is not None
    story.reading.troubles[2] = "not running"
    answer = demo._end(story, plan("demo", tmp_path), True, [], None)
    assert answer.exit_code == Exit.INCONCLUSIVE
    assert answer.data["ok"] is False
    assert answer.errors[0].cause == "node 2: not running"


def test_a_log_of_another_length_than_the_input_fails_the_proof(tmp_path: Path) -> None:
    story = a_good_story()
    story.verdict = verdict_of(99)
    answer = demo._end(story, plan("demo", tmp_path), False, [], None)
    assert answer.exit_code == Exit.VERDICT_FAILED
    assert "the log has 99 events, not 100" in answer.errors[0].cause


def test_a_second_sending_that_was_not_recognised_fails_the_proof(tmp_path: Path) -> None:
    story = a_good_story()
    story.second.duplicates = 98
    answer = demo._end(story, plan("demo", tmp_path), False, [], None)
    assert answer.exit_code == Exit.VERDICT_FAILED


def test_what_could_not_be_cleared_away_is_named_after_the_verdict(tmp_path: Path) -> None:
    answer = demo._end(a_good_story(), plan("demo", tmp_path), False, [tmp_path / "node-1"], None)
    assert answer.exit_code == Exit.CLEANUP_INCOMPLETE
    assert [error.next for error in answer.errors] == ["esctl cluster destroy demo --confirm demo"]


def test_an_input_that_is_no_input_is_refused_before_anything_starts(tmp_path: Path) -> None:
    assert len(read_events(FLIGHTS)) == 27_004
    with pytest.raises(InputUnreadable, match="No such file"):
        read_events(tmp_path / "absent")
    (tmp_path / "bad").write_text('{"id": "1"}\n')
    with pytest.raises(InputUnreadable, match="line 1: ES1001"):
        read_events(tmp_path / "bad")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputUnreadable, match="no event"):
        read_events(tmp_path / "empty")


def test_its_cluster_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    assert demo._free_name(None) == "demo"
    assert demo._free_name("mine") == "mine"
    taken: list[Cluster] = [plan("demo", tmp_path), plan("demo-2", tmp_path)]
    for cluster in taken:
        state.add(cluster)
    assert demo._free_name(None) == "demo-3"
    with pytest.raises(ClusterExists):
        demo._free_name("demo")


def some_flights(path: Path, count: int) -> Path:
    lines = gzip.decompress(FLIGHTS.read_bytes()).splitlines(keepends=True)[:count]
    path.write_bytes(b"".join(lines))
    return path


def nodes_below(home: Path) -> list[int]:
    """The processes of nodes whose files are or were there: whatever any list says."""
    return [process.pid for process, config in nodeprocess.every_node() if home in config.parents]


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 3])
def test_ctrl_c_while_the_nodes_are_being_started_leaves_no_process(
    tmp_path: Path, state_home: Path, nodes: int
) -> None:
    words = command("demo", "--input", str(some_flights(tmp_path / "flights", 100)), "-o", "plain")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(nodes_below(state_home)) < nodes:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert nodes_below(state_home) == []
    assert clusters() == []


def test_a_clean_up_that_fails_is_told_and_the_cluster_stays_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object) -> None:
        raise MachineRefused("node 1 (pid 7) was killed and does not go: it hangs in the kernel")

    async def at_once(_: object) -> None:
        return None

    monkeypatch.setattr(tour, "clear", hangs)
    monkeypatch.setattr(tour.Tour, "run", at_once)
    ended = Run("demo", "--input", str(some_flights(tmp_path / "flights", 10)), "-o", "json")
    assert ended.code == Exit.ERROR
    assert state.names() == ["demo"]
    assert [error["code"] for error in ended.document["errors"]] == ["ES4106", "ES4202"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "esctl.main", *words]


def clusters() -> list[Any]:
    listed = subprocess.run(command("cluster", "ls", "-o", "json"), capture_output=True, text=True)
    found = json.loads(listed.stdout)["data"]["clusters"]
    assert isinstance(found, list)
    return found


@pytest.mark.slow
def test_the_tour_proves_that_nothing_was_lost_and_leaves_nothing(tmp_path: Path, state_home: Path) -> None:
    words = ["demo", "-o", "json", "--input", str(some_flights(tmp_path / "flights", 6_000))]
    ended = subprocess.run(command(*words), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    data = json.loads(ended.stdout)["data"]
    assert data["ok"]
    assert data["conclusive"]
    assert data["leader_after"] != data["leader_before"]
    assert 0 < data["killed_after_acks"] < data["events"] == 6_000
    assert data["gap_ms"] > 0
    assert data["first"]["acked"] == data["second"]["duplicates"] == 6_000
    assert data["verify"] == {
        "ok": True,
        "events": 6_000,
        "acked_lost": 0,
        "duplicates": 0,
        "hashes_equal": True,
        "nodes": data["verify"]["nodes"],
    }
    assert [node["next_offset"] for node in data["verify"]["nodes"]] == [6_000] * 3
    assert len({node["hash"] for node in data["verify"]["nodes"]}) == 1
    assert nodes_below(state_home) == []
    assert clusters() == []
    assert [path.name for path in (state_home / "esctl" / "clusters").iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_ctrl_c_ends_the_tour_and_clears_away(tmp_path: Path, state_home: Path) -> None:
    words = command("demo", "--input", str(some_flights(tmp_path / "flights", 20_000)), "-o", "plain")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("3 nodes, 20,000 events")
        assert "nodes are up" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert "stopping" in stderr
    assert nodes_below(state_home) == []
    assert clusters() == []
