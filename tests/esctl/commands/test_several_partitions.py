"""What people and programs are told of a cluster with several partitions, and what is refused with them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from esctl.clusters import nodelog, state
from esctl.clusters.backends import datadir
from esctl.clusters.backends.interface import RunState
from esctl.commands.status import ringtable, table
from esctl.exits import Exit
from esctl.query import checkup
from esctl.query.checkup import Checkup
from esctl.query.survey import Report
from esctl.ui import circle
from esctl.ui.answer import Cell, Table, Value
from esnode.ring import TOKENS, Ring
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes
from tests.esctl.query.test_ringsurvey import LED_BY_NOBODY, ONE_GONE, led_by, ring
from tests.esctl.situations import CLUSTER, gone, look, node


@pytest.fixture
def four(make_fakes: Callable[..., FakeNodes]) -> FakeNodes:
    """A cluster of four partitions that is described and does not run."""
    return make_fakes("four", partitions=4)


def text(value: Value) -> str:
    return str(value.value if isinstance(value, Cell) else value)


def rows_of(views: Sequence[object], which: int) -> list[list[str]]:
    tables = [view for view in views if isinstance(view, Table)]
    return [[text(value) for value in row] for row in tables[which].rows]


# --- status and health -------------------------------------------------------------------------


def test_status_has_a_row_for_each_partition_with_what_ails_each_node() -> None:
    silent = gone(3, RunState.RUNNING, "runs, no answer in 2 s")
    views = ringtable.answer_of(ring(look(), led_by(2, silent), LED_BY_NOBODY)).views
    first, second, third = rows_of(views, 0)
    assert first[:2] == ["0", "node 1"]
    assert first[4:] == ["8", "leader", "follower", "follower"]
    assert second[1] == "node 2"
    assert second[5:] == ["follower", "leader", "no answer"]
    assert third[1] == "none"
    assert third[4:] == ["None", "candidate", "follower", "follower"]
    assert [row[:3] for row in rows_of(views, 1)] == [
        ["1", "running", "1"], ["2", "running", "1"], ["3", "running", "0"],
    ]  # fmt: skip


def test_status_tells_programs_what_the_contract_says_of_the_ring() -> None:
    data = ringtable.answer_of(ring(look(), led_by(3))).data
    assert data["ring"] == {"version": 1, "partitions": 2, "moving": False}
    assert [(one["id"], one["leader"], one["next_offset"]) for one in data["partitions"]] == [
        (0, 1, 8), (1, 3, 8),
    ]  # fmt: skip
    assert sum(one["share"] for one in data["partitions"]) == pytest.approx(1)
    assert [one["role"] for one in data["partitions"][1]["nodes"]] == ["follower", "follower", "leader"]
    assert (data["leader"], data["term"]) == (None, None)
    assert all(one["next_offset"] is None for one in data["nodes"])


def test_a_cluster_of_one_partition_is_a_ring_of_one_beside_all_that_was_told_of_it() -> None:
    data = table.answer_of(look()).data
    assert data["ring"]["partitions"] == 1
    (only,) = data["partitions"]
    assert (only["share"], only["leader"], only["next_offset"]) == (1.0, data["leader"], 8)
    assert [one["next_offset"] for one in only["nodes"]] == [one["next_offset"] for one in data["nodes"]]


def test_what_is_wrong_with_one_process_of_a_node_is_said_of_its_partition() -> None:
    ended = gone(2, RunState.RUNNING, "the process of partition 1 does not run: ES3103: no disk")
    found = ring(look(), look(ended))
    assert ringtable.answer_of(found).data["nodes"][1]["why"] == f"partition 1: {ended.why}"
    assert not ringtable.answer_of(found).data["nodes"][1]["up"]
    (warning,) = ringtable.warnings(found)
    assert warning.startswith("partition 1: node 2 is down: the process of partition 1 does not run: ES3103")


def test_what_is_wrong_with_the_whole_node_is_said_once() -> None:
    (warning,) = ringtable.warnings(ring(ONE_GONE, ONE_GONE))
    assert warning == "node 3 is down: not running; next: esctl node start 3 --cluster drill"


def test_nobody_that_answers_is_an_error_and_the_rows_are_there() -> None:
    none = look(gone(1), gone(2), gone(3))
    answer = ringtable.answer_of(ring(none, none))
    assert answer.exit_code is Exit.UNREACHABLE
    assert len(rows_of(answer.views, 0)) == 2


def test_of_many_nodes_only_those_that_lag_are_named() -> None:
    nodes = tuple(replace(CLUSTER.nodes[0], id=n) for n in range(1, 6))
    cluster = replace(CLUSTER, nodes=nodes, partitions=2)
    whole = [node(1), *(_as(node(2), n) for n in range(2, 6))]
    lagging = [*whole[:4], _as(gone(2), 5)]
    surveys = [
        replace(look(), cluster=cluster, reports=reports, partition=n)
        for n, reports in enumerate((whole, lagging))
    ]
    answer = ringtable.answer_of(replace(ring(look(), look()), cluster=cluster, partitions=surveys))
    assert [row[5:] for row in rows_of(answer.views, 0)] == [["all follow"], ["node 5 down"]]


def _as(report: Report, number: int) -> Report:
    """The same of a node with another number."""
    process = replace(report.process, node=replace(report.node, id=number))
    return replace(report, process=process)


def test_health_says_of_which_partitions_a_flaw_is_one() -> None:
    found = ring(look(), ONE_GONE, LED_BY_NOBODY)
    each = [
        [checkup.ready(one, None), checkup._quorum(one)]  # what `examine` does for each partition
        for one in found.partitions
    ]
    stages = checkup._together(each)
    told = Checkup(found.worst, stages, found)
    assert [reason for reason, _ in stages[1].flaws] == ["partition 2: a majority answers and nobody leads"]
    assert told.leaders == (1, 1, None)
    assert told.quorum_text.startswith("in partition 2, 3 of 3 up")


# --- the ring ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "token", "owner"),  # of docs/protocol.md
    [("/s", "3513551b", 3), ("/airport/JFK", "7ef0d429", 1), ("/föö", "f019447a", 2)],
)
def test_where_a_source_belongs_is_known_while_no_node_runs(
    four: FakeNodes, source: str, token: str, owner: int
) -> None:
    run = Run("ring", "where", "--source", source, "--cluster", "four", "-o", "json")
    assert run.data == {
        "cluster": "four", "source": source, "token": token, "partition": owner, "leader": None,
    }  # fmt: skip
    assert f"nobody leads partition {owner}" in run.err


def test_a_source_that_no_event_can_have_is_nowhere(four: FakeNodes) -> None:
    for source in ("", "x" * 1025):
        run = Run("ring", "where", "--source", source, "-o", "json")
        assert (run.code, run.document["errors"][0]["code"]) == (Exit.USAGE, "ES4009")


def test_the_shares_of_the_ring_are_those_of_the_nodes_ring(four: FakeNodes) -> None:
    data = Run("ring", "show", "-o", "json").data
    shares = Ring(1, range(4)).shares()
    assert [one["share"] for one in data["partitions"]] == [round(share, 6) for share in shares.values()]
    assert sum(one["of_mean"] for one in data["partitions"]) == pytest.approx(4, abs=0.001)
    assert data["points"] == 512


def test_the_longest_bar_is_the_largest_share(four: FakeNodes) -> None:
    lines = Run("ring", "show", "-o", "table").out.splitlines()
    bars = {line.split()[0]: line.count("█") for line in lines if "█" in line}
    shares = Ring(1, range(4)).shares()
    assert max(bars, key=lambda partition: bars[partition]) == str(max(shares, key=lambda n: shares[n]))
    assert max(bars.values()) == 32
    assert all(len(line.rstrip()) <= 80 for line in lines)


def test_the_circle_begins_at_the_top_and_goes_clockwise() -> None:
    lines = [
        "".join(part for part, _ in line) for line in circle.draw([0.25, 0.5, 0.75, 1.0], [0, 1, 2, 3], [])
    ]
    half = circle.HEIGHT // 2
    assert set("".join(line[circle.HEIGHT :] for line in lines[:half])) == {" ", "0"}
    assert set("".join(line[circle.HEIGHT :] for line in lines[half + 1 :])) == {" ", "1"}
    assert set("".join(line[: circle.HEIGHT] for line in lines[half + 1 :])) == {" ", "2"}
    assert set("".join(line[: circle.HEIGHT] for line in lines[:half])) == {" ", "3"}


def test_each_character_of_the_circle_is_who_owns_the_most_of_its_part() -> None:
    assert {part for line in circle.draw([0.5, 0.5001, 1.0], [0, 1, 0], []) for part in "".join(
        mark for mark, _ in line)} == {" ", "0"}  # fmt: skip
    owned = Ring(1, range(64)).owned()
    ends = [arc.last / TOKENS for arc, _ in owned]
    drawn = circle.draw(ends, [owner for _, owner in owned], ["in the middle"])
    assert any("in the middle" in mark for line in drawn for mark, _ in line)
    assert all(sum(len(mark) for mark, _ in line) == 2 * circle.HEIGHT for line in drawn)


# --- what does not know partitions yet ----------------------------------------------------------

REFUSED = (
    "verify", "why", "top", "timeline", "status metrics", "snapshot ls", "snapshot create",
    "bundle --save x.tar.gz", "event 0", "event dedup --source s --id i", "event trace 0",
    "export --save x.db", "fault ls", "fault heal --all", "fault pause 1", "fault kill 1",
    "fault partition isolate 1", "fault storm --yes", "compact --before 1", "backup create",
    "node drain 1", "node replace 1", "cluster restart --rolling", "cluster recover --from-node 1",
    "bench consume", "bench e2e", "bench failover --yes", "bench start", "playbook plan rolling-restart",
)  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_a_command_that_does_not_know_partitions_says_so_and_does_nothing(four: FakeNodes, line: str) -> None:
    run = Run(*line.split(), "--cluster", "four", "-o", "json")
    (error,) = run.document["errors"]
    assert error["code"] == "ES4017", error
    assert "does not work with several partitions yet, and four has 4; nothing was done" in error["message"]
    assert error["next"].endswith("--cluster four")


@pytest.mark.parametrize("line", ["leader transfer", "dedup"])
def test_a_question_about_one_partition_wants_its_number(four: FakeNodes, line: str) -> None:
    run = Run(*line.split(), "-o", "json")
    (error,) = run.document["errors"]
    assert error["code"] == "ES4009"
    assert error["message"].startswith("four has the partitions 0 to 3, and none is named")
    assert error["next"] == f"esctl {line} --partition 0 --cluster four"
    beyond = Run(*line.split(), "--partition", "4", "-o", "json")
    assert beyond.document["errors"][0]["message"] == "four has no partition 4; it has 4"


@pytest.mark.parametrize("count", ["0", "65"])
def test_a_ring_that_cannot_be_is_refused_with_the_reason(count: str) -> None:
    run = Run("cluster", "up", "much", "--partitions", count)
    assert run.code == Exit.USAGE
    assert "it goes from 1 to 64" in run.err
    assert "much" not in state.names()


# --- files -------------------------------------------------------------------------------------


def test_the_description_of_a_cluster_of_one_partition_is_what_it_was(
    four: FakeNodes, make_fakes: Callable[..., FakeNodes]
) -> None:
    assert state.load("four").partitions == 4
    one = make_fakes("one")
    description = one.cluster.directory / "cluster.json"
    assert "partitions" not in json.loads(description.read_text(encoding="utf-8"))
    assert state.load("one").partitions == 1


@pytest.mark.parametrize("number", [0, 65, "4", True])
def test_a_description_with_a_ring_that_cannot_be_is_told_and_not_used(
    four: FakeNodes, number: object
) -> None:
    description = four.cluster.directory / "cluster.json"
    document = json.loads(description.read_text(encoding="utf-8")) | {"partitions": number}
    description.write_text(json.dumps(document), encoding="utf-8")
    run = Run("node", "ls", "--cluster", "four", "-o", "json")
    assert run.document["errors"][0]["code"] == "ES4105"


def test_the_last_words_of_a_partition_are_its_own(tmp_path: Path) -> None:
    lines = [
        {"event": "node_failed", "partition": 1, "code": "ES3103", "reason": "no disk"},
        {"event": "partition_ended", "partition": 1},
        {"event": "term_changed", "partition": 0},
    ]
    path = tmp_path / "node.log"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert nodelog.last_error(path, 1) == "ES3103: no disk"
    assert nodelog.last_error(path, 0) == nodelog.last_error(path, 2) == ""


def test_a_partition_whose_directory_is_gone_has_lost_its_log_and_the_others_have_not(
    four: FakeNodes,
) -> None:
    lost = four.cluster.nodes[0]
    lost.log.write_text(
        "".join(json.dumps({"event": "storage_opened", "partition": n}) + "\n" for n in (0, 1)),
        encoding="utf-8",
    )
    (lost.data_dir / "partition-0").mkdir()
    (lost.data_dir / "partition-0" / "log.sqlite").touch()
    assert [datadir.has_lost_its_log(lost, n) for n in (0, 1, 2)] == [False, True, False]
    assert not datadir.too_few_logs(four.cluster)
    for other in four.cluster.nodes[1:]:
        other.log.write_text(json.dumps({"event": "storage_opened", "partition": 1}) + "\n", encoding="utf-8")
    assert datadir.too_few_logs(four.cluster)
    assert not datadir.too_few_logs(four.cluster, up=[1, 2])
