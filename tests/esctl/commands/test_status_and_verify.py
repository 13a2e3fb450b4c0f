"""What people and programs are told: status, health and verify, from what was found."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters.backends.interface import NodeProcess, RunState
from esctl.clusters.state import Cluster, Node
from esctl.commands import leader, verify
from esctl.commands.status import health, table
from esctl.commands.verify.proof import Expected, PartitionProof, Proof, answer_of
from esctl.errors import InvalidArgument, NodeNotFound, NodeNotRunning
from esctl.exits import Exit
from esctl.query.checkup import Checkup, Stage
from esctl.query.survey import Report, Survey
from esctl.ui.answer import Answer, Cell, Line, Table
from esctl.verify.history import History
from esctl.verify.reading import ReadOutcome
from esctl.verify.window import DedupWindow
from esnode.errors import NoQuorum
from esnode.events import encode_event, key_of
from tests.esctl.wire_node import WireNode, event, log, record


def cluster(count: int = 3) -> Cluster:
    home = Path("/tmp/none")
    nodes = tuple(
        Node(n, f"127.0.0.1:{7100 + n}", f"127.0.0.1:{7200 + n}", home, home, home)
        for n in range(1, count + 1)
    )
    return Cluster("drill", "drill-0a1b2c3d", "process", "sqlite", "2013-01-01T00:00:00Z", home, nodes)


def report(number: int, state: RunState = RunState.RUNNING, **changes: Any) -> Report:
    """Node `number`; with `role=None` it does not answer."""
    node = cluster(9).node(number)
    running = state is not RunState.DOWN
    process = NodeProcess(node, state, 900 + number if running else None, 1_000 if running else None, 61.0)
    if changes.get("role", "") is None:
        return Report(process, None, "no answer")
    return Report(process, WireNode(number, log(8)).status() | changes)


def survey(*reports: Report) -> Survey:
    return Survey(cluster(len(reports)), reports)


HEALTHY = survey(report(1, role="leader", term=4), report(2, term=4), report(3, term=4))
ONE_DOWN = survey(HEALTHY.reports[0], HEALTHY.reports[1], report(3, RunState.DOWN, role=None))
TWO_DOWN = survey(
    HEALTHY.reports[0], report(2, RunState.DOWN, role=None), report(3, RunState.PAUSED, role=None)
)
NONE_UP = survey(*(report(n, RunState.DOWN, role=None) for n in (1, 2, 3)))


def rows_of(answer: Answer[Any]) -> list[list[Any]]:
    tables = [view for view in answer.views if isinstance(view, Table)]
    return [[c.value if isinstance(c, Cell) else c for c in row] for row in tables[0].rows]


# --- who leads ---------------------------------------------------------------------------------


def test_the_claim_in_the_highest_term_leads() -> None:
    both = survey(report(1, role="leader", term=3), report(2, role="leader", term=4), report(3, term=4))
    assert both.leader is not None
    assert both.leader.node.id == 2
    assert both.term == 4


def test_a_claim_that_a_majority_has_outvoted_is_no_leader() -> None:
    asleep = survey(report(1, role="leader", term=3), report(2, term=4), report(3, term=4))
    assert asleep.leader is None
    assert rows_of(table.answer_of(asleep))[0][1] == "old leader"


def test_a_single_node_in_a_higher_term_does_not_unseat_the_leader() -> None:
    lonely = survey(report(1, role="leader", term=3), report(2, term=3), report(3, role="candidate", term=9))
    assert lonely.leader is not None


# --- status ------------------------------------------------------------------------------------


def test_status_tells_programs_what_the_contract_says() -> None:
    answer = table.answer_of(HEALTHY)
    assert answer.exit_code is Exit.OK
    assert (answer.data["leader"], answer.data["term"]) == (1, 4)
    assert answer.data["quorum"] == {
        "needed": 2, "up": 3, "counted": 3, "total": 3, "may_fail": 1, "held": True
    }  # fmt: skip
    names = (
        "id",
        "pid",
        "up",
        "role",
        "term",
        "last_index",
        "commit_index",
        "applied_index",
        "next_offset",
        "rss_bytes",
    )
    for node in answer.data["nodes"]:
        known = {name for name, value in node.items() if value is not None}
        assert known >= set(names)


def test_a_node_that_is_down_is_a_row_with_its_reason() -> None:
    answer = table.answer_of(ONE_DOWN)
    assert answer.exit_code is Exit.OK
    node = answer.data["nodes"][2]
    assert (node["id"], node["up"], node["why"], node["role"], node["next_offset"]) == (
        3,
        False,
        "no answer",
        None,
        None,
    )
    assert len(rows_of(answer)) == 3
    (warning,) = table.warnings(ONE_DOWN)
    assert "esctl node start 3 --cluster drill" in warning


def test_a_paused_node_wants_to_be_resumed() -> None:
    assert any("esctl node resume 3" in warning for warning in table.warnings(TWO_DOWN))


def test_a_paused_node_is_called_paused_and_not_down() -> None:
    assert [row[1] for row in rows_of(table.answer_of(TWO_DOWN))] == ["leader", "down", "paused"]
    assert "node 3 is paused; next: esctl node resume 3 --cluster drill" in table.warnings(TWO_DOWN)


def test_without_a_majority_nobody_is_told_to_wait() -> None:
    alone = survey(report(1, role="pre-candidate"), *TWO_DOWN.reports[1:])
    assert alone.leader is None
    assert not any("--wait" in warning for warning in table.warnings(alone))


def test_when_nobody_answers_the_rows_are_there_and_the_exit_says_so() -> None:
    answer = table.answer_of(NONE_UP)
    assert answer.exit_code is Exit.UNREACHABLE
    assert [node["up"] for node in answer.data["nodes"]] == [False, False, False]
    assert answer.errors[0].next == "esctl cluster start drill"


def test_a_follower_lags_behind_the_leader_and_never_ahead_of_it() -> None:
    lagging = survey(
        report(1, role="leader", applied_index=50, next_offset=640),
        report(2, applied_index=40, next_offset=600),
        report(3, applied_index=51, next_offset=650),
    )
    nodes = table.answer_of(lagging).data["nodes"]
    assert [(node["lag_entries"], node["lag_events"]) for node in nodes] == [(0, 0), (10, 40), (0, 0)]


def test_a_window_that_shrank_is_a_warning() -> None:
    shrunk = survey(report(1, role="leader", dedup={"forgotten_early": 7}), report(2), report(3))
    assert "7 keys" in table.warnings(shrunk)[0]
    full = {"full": True, "when_full": "refuse"}
    (warning,) = table.warnings(survey(report(1, role="leader", dedup=full), report(2), report(3)))
    assert warning.startswith(
        "node 1 refuses new events: its deduplication window is full; next: esctl dedup"
    )


def test_a_node_that_rejoins_is_shown_so_and_is_no_vote() -> None:
    one = survey(report(1, role="leader"), report(2), report(3, rejoining=True))
    answer = table.answer_of(one)
    assert [row[1] for row in rows_of(answer)] == ["leader", "follower", "rejoining"]
    assert [node["rejoining"] for node in answer.data["nodes"]] == [False, False, True]
    assert answer.data["nodes"][2]["role"] == "follower"
    assert answer.data["quorum"] == {
        "needed": 2, "up": 3, "counted": 2, "total": 3, "may_fail": 0, "held": True
    }  # fmt: skip
    assert one.quorum_text == "3 of 3 up, 1 rejoining, 2 needed: none more may fail"
    (warning,) = table.warnings(one)
    assert "node 3 is rejoining" in warning
    assert "esctl status health --wait 1m --cluster drill" in warning


# --- health ------------------------------------------------------------------------------------


def checkup(found: Survey, *broken: str) -> Checkup:
    stages = [
        Stage(name, "asks", [(f"{name} is not well", f"mend {name}")] if name in broken else [])
        for name in ("alive", "ready", "quorum", "deep")
    ]
    return Checkup(found, stages)


def test_a_healthy_cluster_ends_with_zero() -> None:
    answer = health.answer_of(checkup(HEALTHY))
    assert (answer.exit_code, answer.data["healthy"], answer.data["serving"]) == (Exit.OK, True, True)


def test_an_unhealthy_cluster_has_reasons_and_the_next_command() -> None:
    answer = health.answer_of(checkup(ONE_DOWN, "alive"))
    assert (answer.exit_code, answer.data["healthy"], answer.data["serving"]) == (Exit.UNHEALTHY, False, True)
    assert answer.data["stages"][0]["reasons"] == ["alive is not well"]
    assert (answer.errors[0].code, answer.errors[0].next) == ("ES4301", "mend alive")


def test_a_cluster_that_nobody_can_reach_is_not_called_unhealthy_but_unreachable() -> None:
    assert (
        health.answer_of(checkup(NONE_UP, "alive", "ready", "quorum", "deep")).exit_code is Exit.UNREACHABLE
    )


# --- leader ------------------------------------------------------------------------------------


def test_a_transfer_to_the_leader_itself_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="leads already"):
        leader.check(HEALTHY, HEALTHY.reports[0], 1)


def test_a_transfer_to_a_node_that_is_down_is_refused() -> None:
    with pytest.raises(NodeNotRunning, match="it is down") as caught:
        leader.check(ONE_DOWN, ONE_DOWN.reports[0], 3)
    assert caught.value.next_step == "esctl node start 3 --cluster drill"


def test_a_transfer_to_a_node_that_does_not_exist_is_refused() -> None:
    with pytest.raises(NodeNotFound):
        leader.check(HEALTHY, HEALTHY.reports[0], 9)


def test_a_transfer_that_nobody_could_take_is_refused() -> None:
    with pytest.raises(NoQuorum, match="nobody could take over"):
        leader.check(TWO_DOWN, TWO_DOWN.reports[0], None)


def test_without_a_majority_of_the_data_nobody_is_told_to_start_what_is_left() -> None:
    def gone(*numbers: int) -> Answer[Any]:
        reports = [replace(r, without_data=r.node.id in numbers) for r in NONE_UP.reports]
        return table.answer_of(survey(*reports))

    assert gone(3).errors[0].next == "esctl cluster start drill"
    assert gone(1, 3).errors[0].next == "esctl why --cluster drill"


# --- verify ------------------------------------------------------------------------------------


def proof(
    logs: dict[int, list[bytes]],
    *,
    reading: ReadOutcome | None = None,
    expected: int = 0,
    files: tuple[str, ...] = (),
    window: DedupWindow | None = None,
) -> Proof:
    history = History([1, 2, 3])
    if window is not None:
        history.allow(window)
    for number in range(expected):
        history.expect(key_of(event(number)), encode_event(event(number)), 0, number + 1)
    for node in logs:
        history.begin(node, 0)
    for node, records in logs.items():
        for one in records:
            history.add(node, one)
    up = reading or ReadOutcome(target=8, up=set(logs))
    part = PartitionProof(up, history.verdict(strict=True))
    return Proof(cluster(), Expected(list(files)), [part], 0.5)


TEN_MINUTES = DedupWindow(ttl_ms=600_000, max_keys=2_000_000, shrinks=True)


def test_a_proof_that_holds_ends_with_zero() -> None:
    answer = answer_of(proof({n: log(8) for n in (1, 2, 3)}, expected=8, files=("in",)))
    assert answer.exit_code is Exit.OK
    assert not answer.errors
    data = answer.data
    assert (data["ok"], data["events"], data["acked_lost"], data["duplicates"], data["changed"]) == (
        True,
        8,
        0,
        0,
        0,
    )
    assert data["hashes_equal"]
    assert len({node["hash"] for node in data["nodes"]}) == 1
    assert len(data["nodes"][0]["hash"] or "") == 32
    assert {node["next_offset"] for node in data["nodes"]} == {8}


def test_an_empty_log_proves_nothing_unless_events_should_be_there() -> None:
    empty = answer_of(proof({n: [] for n in (1, 2, 3)}, reading=ReadOutcome(target=0, up={1, 2, 3})))
    assert (empty.exit_code, empty.data["verdict"]) == (Exit.INCONCLUSIVE, "inconclusive")
    assert empty.data["doubts"] == ["the log holds no event, so there is nothing to compare"]
    assert empty.errors[0].next == (
        "esctl produce FILE --cluster drill; then esctl verify --input FILE --cluster drill"
    )
    one_empty = proof({1: [], 2: log(8), 3: log(8)}, reading=ReadOutcome(target=8, up={1, 2, 3}))
    assert not any("holds no event" in doubt for doubt in one_empty.doubts)
    wanted = answer_of(proof({n: [] for n in (1, 2, 3)}, expected=1, files=("sent.ndjson",)))
    assert wanted.exit_code is Exit.VERDICT_FAILED


def test_a_lost_event_fails_the_verdict_and_names_its_line() -> None:
    answer = answer_of(proof({n: log(8) for n in (1, 2, 3)}, expected=9, files=("sent.ndjson",)))
    assert answer.exit_code is Exit.VERDICT_FAILED
    assert (answer.data["ok"], answer.data["acked_lost"]) == (False, 1)
    assert answer.data["findings"][0]["text"] == "line 9 of sent.ndjson: it is on no node"
    assert answer.errors[0].code == "ES4302"
    assert answer.errors[0].next == "esctl produce sent.ndjson --cluster drill"


def test_a_duplicate_wants_the_disks_to_be_kept() -> None:
    doubled = [*log(6), record(6, [event(1), event(2)])]
    answer = answer_of(proof(dict.fromkeys((1, 2, 3), doubled)))
    assert (answer.exit_code, answer.data["duplicates"]) == (Exit.VERDICT_FAILED, 2)
    assert answer.errors[0].code == "ES4302"
    assert "keep the data directories" in answer.errors[0].message


def test_an_event_stored_again_after_the_window_passes_and_is_listed_when_asked_for() -> None:
    late = record(6, [event(1)], at_ms=35 * 60_000)
    answer = answer_of(proof({n: [*log(6), late] for n in (1, 2, 3)}, window=TEN_MINUTES))
    assert (answer.exit_code, answer.errors) == (Exit.OK, [])
    assert (answer.data["duplicates"], answer.data["stored_again"]) == (0, 1)
    assert answer.data["stored_again_at"] == [{"offset": 6, "earlier_offset": 1, "after_ms": 2_100_000}]
    lines = [view.text for view in answer.views if isinstance(view, Line)]
    assert lines == ["stored again: the event at offset 6 is also at offset 1, 35 min of log time later"]


def test_a_node_that_is_down_leaves_the_verdict_open() -> None:
    reading = ReadOutcome(target=8, troubles={3: "Connection refused"}, up={1, 2})
    answer = answer_of(proof({1: log(8), 2: log(8)}, reading=reading))
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert answer.errors[0].code == "ES4303"
    assert answer.data["verdict"] == "inconclusive"
    node = answer.data["nodes"][2]
    assert (node["id"], node["up"], node["next_offset"], node["why"]) == (
        3,
        False,
        None,
        "Connection refused",
    )
    assert node["hash"] is None


def test_a_verdict_that_waiting_cannot_change_does_not_say_to_wait() -> None:
    found = proof({1: log(8), 2: log(8), 3: log(8)}, expected=8, files=("flights.gz",))
    found.expected.malformed = 1
    (error,) = answer_of(found).errors
    assert error.cause == "1 line of the input could not be read as an event"
    assert error.next == (
        "fix the lines that are not events; then esctl verify --input flights.gz --cluster drill"
    )


def test_a_verdict_left_open_names_what_brings_the_missing_nodes_back() -> None:
    down = ReadOutcome(target=8, troubles={3: "Connection refused"}, up={1, 2})
    found = proof({1: log(8), 2: log(8)}, reading=down, expected=8, files=("my flights.gz",))
    paused = replace(found, mending=("esctl node resume 3",))
    again = "then esctl verify --input 'my flights.gz'"
    assert answer_of(found).errors[0].next == (
        f"esctl status --cluster drill; {again} --wait 30s --cluster drill"
    )
    assert answer_of(paused).errors[0].next == (
        f"esctl node resume 3 --cluster drill; {again} --cluster drill"
    )


def test_only_a_node_that_did_not_answer_is_to_be_started() -> None:
    behind = ReadOutcome(target=8, troubles={2: "3 events behind", 3: "Connection refused"}, up={1, 2})
    assert verify.mending_of(cluster(), [behind]) == ["esctl node start 3"]
    assert verify.mending_of(cluster(), [ReadOutcome(target=8, up={1, 2, 3})]) == []


def test_a_failed_verdict_stays_failed_when_a_node_is_down_too() -> None:
    reading = ReadOutcome(target=8, troubles={3: "Connection refused"}, up={1, 2})
    answer = answer_of(proof({1: log(8), 2: log(8)[:1] + log(8)[2:]}, reading=reading))
    assert answer.exit_code is Exit.VERDICT_FAILED


def test_an_end_that_nobody_confirmed_leaves_the_verdict_open() -> None:
    reading = ReadOutcome(target=8, confirmed=False, up={1, 2, 3})
    assert answer_of(proof({n: log(8) for n in (1, 2, 3)}, reading=reading)).exit_code is Exit.INCONCLUSIVE


def test_no_node_at_all_is_unreachable_and_proves_nothing() -> None:
    reading = ReadOutcome(troubles=dict.fromkeys((1, 2, 3), "Connection refused"))
    answer = answer_of(proof({}, reading=reading))
    assert answer.exit_code is Exit.UNREACHABLE
    assert not answer.data["ok"]
