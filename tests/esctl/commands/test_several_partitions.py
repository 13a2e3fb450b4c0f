"""What people and programs are told of a cluster with several partitions, and what is refused with them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from esctl.chaos.effect import Effect, EffectVerdict
from esctl.clusters import nodelog, state
from esctl.clusters.backends import datadir
from esctl.clusters.backends.interface import RunState
from esctl.commands import leader, snapshot, why
from esctl.commands.fault import injection
from esctl.commands.status import ringtable, table
from esctl.exits import Exit
from esctl.observe.diagnosis import ranking
from esctl.observe.diagnosis.ranking import RingDiagnosis
from esctl.observe.diagnosis.situation import Situation
from esctl.observe.top import board, controls, keys, polling
from esctl.observe.top.rates import Rates
from esctl.observe.top.state import BoardState, Page
from esctl.query import checkup, ringsurvey
from esctl.query.checkup import Checkup
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from esctl.ui import circle
from esctl.ui.answer import Cell, Table, Value
from esctl.ui.terminal import Output, Terminal
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
    "cluster recover --from-node 1", "playbook plan rolling-restart",
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


def test_a_transfer_says_for_how_long_it_stands() -> None:
    placement = {"preferred": 1, "to": 1, "why": "placed", "wait_ms": 0}
    leader_now = node(1, placement=placement)
    (told,) = leader.kept_for(leader_now, 3)
    assert told.text == "node 3 keeps it for 10 min; then it goes back to node 1"
    assert leader.kept_for(leader_now, 1) == []
    assert leader.kept_for(node(1, placement={**placement, "why": "free"}), 3) == []
    assert leader.kept_for(node(1), 3) == []


def test_status_warns_of_a_leader_in_another_ones_place() -> None:
    placement = {"preferred": 2, "to": 2, "why": "asked", "wait_ms": 60_000}
    (warning,) = ringtable.warnings(ring(look(), look(node(1, placement=placement))))
    assert warning.startswith("partition 1: node 1 leads in place of node 2 because an operator asked for it")


# --- faults ------------------------------------------------------------------------------------


def test_a_survey_of_one_partition_is_an_aim_and_one_of_all_has_none() -> None:
    whole = ring(look(), led_by(2))
    assert (whole.only, whole.leader) == (None, None)
    assert ring(look(), look()).leader == 1
    assert replace(whole, partitions=[whole.partitions[1]]).only == 1
    assert RingSurvey(CLUSTER, [look()]).only is None


def test_a_strike_says_which_partition_it_is_aimed_at_and_what_each_shows() -> None:
    whole = ring(look(), led_by(2))
    shown = [[Effect(3, EffectVerdict.APPLIED, "1 message delayed", 1)]] * 2
    data = injection.head_of(whole, "net-1", 1000)
    answer = injection.answer_of(data, "delay", shown, whole, "wait")
    assert [(one["id"], one["partition"]) for one in answer.data["nodes"]] == [(3, 0), (3, 1)]
    assert (answer.data["leader_after"], answer.data["term_after"]) == (None, None)
    assert [row[0] for row in rows_of(answer.views, 0)] == ["0", "1"]
    aimed = replace(whole, partitions=[whole.partitions[1]])
    only = injection.answer_of(injection.head_of(aimed, "net-1", 1000), "delay", shown[:1], aimed, "wait")
    assert (only.data["partition"], only.data["leader_after"]) == (1, 2)
    assert "partition" not in only.data["nodes"][0]


def test_a_strike_at_a_cluster_of_one_partition_says_nothing_of_partitions() -> None:
    one = RingSurvey(CLUSTER, [look()])
    shown = [[Effect(3, EffectVerdict.APPLIED, "1 message delayed", 1)]]
    answer = injection.answer_of(injection.head_of(one, "net-1", 1000), "delay", shown, one, "wait")
    assert "partition" not in str(answer)
    assert (answer.data["leader_after"], answer.data["term_after"]) == (1, look().term)


# --- why ---------------------------------------------------------------------------------------


def diagnosed(*surveys: Survey) -> RingDiagnosis:
    found = ranking.diagnose_all([Situation([survey]) for survey in ring(*surveys).partitions])
    assert isinstance(found, RingDiagnosis)
    return found


def test_why_says_once_what_is_true_of_all_partitions_and_of_which_the_rest_is() -> None:
    found = diagnosed(look(), ONE_GONE, led_by(2, gone(3)))
    assert [finding.what for finding in found.findings] == [
        "partitions 1, 2: node 3 is down: it has never run"
    ]
    answer = why.answer_of(found)
    assert answer.exit_code is Exit.UNHEALTHY
    assert answer.data["findings"][0]["partitions"] == [1, 2]
    assert (answer.data["leader"], answer.data["well"]) == (None, False)
    everywhere = diagnosed(ONE_GONE, ONE_GONE)
    assert [finding.what for finding in everywhere.findings] == ["node 3 is down: it has never run"]


def test_why_names_the_process_of_one_partition_and_not_the_node_that_runs() -> None:
    silent = gone(2, RunState.RUNNING, "the process of partition 1 does not run: ES3103: no disk")
    paused = replace(silent, process=replace(silent.process, paused_partitions=frozenset({1})))
    for report, what in ((silent, "does not answer"), (paused, "is paused")):
        (finding,) = diagnosed(look(), look(report)).findings
        assert finding.what == f"partition 1: the process of partition 1 of node 2 {what}"


def test_what_why_proposes_for_one_partition_names_it() -> None:
    seen = Situation([ring(look(), look()).partitions[1]])
    assert seen.command("dedup") == "esctl dedup --partition 1 --cluster drill"
    assert seen.command("verify") == "esctl verify --cluster drill"
    assert Situation([look()]).command("dedup") == "esctl dedup --cluster drill"


def test_a_diagnosis_of_one_partition_is_what_it_was() -> None:
    found = ranking.diagnose_all([Situation([ONE_GONE])])
    assert isinstance(found, ranking.Diagnosis)
    assert "partition" not in str(why.answer_of(found))


# --- top and event -----------------------------------------------------------------------------


def test_top_shows_one_partition_and_a_line_of_all(four: FakeNodes) -> None:
    whole = ring(look(), led_by(2), look())
    shown = BoardState(whole.partitions[0], Rates(), selected=1)
    for second in (0.0, 1.0):
        for survey in whole.partitions:
            later = [
                replace(one, status={**(one.status or {}), "uptime_s": second, "next_offset": second * 100})
                for one in survey.reports
            ]
            shown.rates_of(survey.partition).add(replace(survey, reports=later), None, second)
    shown.ring = whole
    width, height = 80, 24
    lines = Terminal(Output.TABLE, color=False).rendered(board.body(shown, width, height), width)
    assert (
        lines[0].rstrip()
        == ("drill: 300 events/s in all; node 1 leads partitions 0, 2; node 2 leads partition 1")[: width - 1]
        + "…"
    )
    assert lines[1].startswith("partition 0: node 1 leads")
    assert len(lines) + len(board.foot(shown, width)) <= height
    record = board.record(shown)
    assert record["partition"] == 0
    assert [(one["id"], one["leader"], one["events_per_s"]) for one in record["partitions"]] == [
        (0, 1, 100.0), (1, 2, 100.0), (2, 1, 100.0),
    ]  # fmt: skip
    polling.turn_to(shown, 1)
    assert (shown.survey.partition, shown.rates.events_per_s[-1]) == (1, 100.0)
    assert shown.rates_of(0).events_per_s[-1] == 100.0
    transfer = controls.control("t", shown.survey, 1)
    assert transfer is not None
    assert transfer.text == "esctl leader transfer --to 1 --partition 1"


def test_top_of_one_partition_has_the_words_that_it_had() -> None:
    shown = BoardState(look(), Rates(), selected=1)
    assert "partition" not in str(board.record(shown))
    assert "tab" not in dict(keys.keys(several=False))
    assert "tab" in dict(keys.keys(several=True))
    assert ("tab", "next") not in keys.hints(Page.BOARD, broken=False)


def test_the_source_of_a_probe_is_one_that_its_partition_owns(four: FakeNodes) -> None:
    cluster = four.cluster
    home = trio.run(ringsurvey.owner_of, cluster, "esctl/trace")
    assert trio.run(ringsurvey.source_of, cluster, home, "esctl/trace") == "esctl/trace"
    for partition in range(4):
        source = trio.run(ringsurvey.source_of, cluster, partition, "esctl/trace")
        assert trio.run(ringsurvey.owner_of, cluster, source) == partition
    assert trio.run(ringsurvey.owner_of, replace(cluster, partitions=1), "esctl/trace") is None


@pytest.mark.parametrize("line", ["event 0", "event trace 0", "event trace --live"])
def test_an_offset_is_one_of_a_partition(four: FakeNodes, line: str) -> None:
    (error,) = Run(*line.split(), "-o", "json").document["errors"]
    assert (error["code"], error["next"].startswith("esctl event")) == ("ES4009", True)


# --- playbooks ---------------------------------------------------------------------------------

PLAYBOOKS = sorted(path.stem for path in (Path(__file__).parents[3] / "playbooks").glob("*.toml"))
INPUTS = {
    "announce": ("-i", "text=hello"),
    "lost-quorum": ("-i", "survivor=1"),
    "replace-a-node": ("-i", "node=2"),
}


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_refuses_a_cluster_that_it_does_not_know(
    four: FakeNodes, name: str, verb: str
) -> None:
    run = Run("playbook", verb, name, *INPUTS.get(name, ()), "--cluster", "four", "-o", "json")
    (error,) = run.document["errors"]
    assert error["code"] == "ES4017", error


# --- monitors, exports, snapshots, loads --------------------------------------------------------


def test_a_snapshot_is_of_each_process_and_its_answer_says_of_which_partition(four: FakeNodes) -> None:
    answer = snapshot._answer(ring(look(), look(gone(3))), {(0, 1): "", (1, 2): "the disk is slow"})
    assert answer.data["nodes"] is None
    first, second = answer.data["partitions"]
    assert [node.get("kept") for node in first["nodes"]] == [True, None, None]
    assert [(node["up"], node["why"]) for node in second["nodes"]] == [
        (True, None), (True, "the disk is slow"), (False, "not running"),
    ]  # fmt: skip
    assert [row[:2] for row in rows_of(answer.views, 0)][3:] == [["1", "1"], ["1", "2"], ["1", "3"]]
    assert answer.exit_code is Exit.ERROR


def test_an_offset_to_export_from_is_one_of_a_partition(four: FakeNodes, tmp_path: Path) -> None:
    run = Run("export", "--save", str(tmp_path / "x.db"), "--from", "5", "-o", "json")
    (error,) = run.document["errors"]
    assert error["next"].endswith("--from 5 --partition 0 --cluster four")
    run = Run("bench", "failover", "--yes", "-o", "json")
    assert run.document["errors"][0]["next"].endswith("--partition 0 --cluster four")
