"""`esctl bench failover` as it is typed: who is refused, how it ends, what the screen and the file say."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from esctl.bench.comparison import FigureVerdict, compare
from esctl.bench.generator import Generator
from esctl.bench.result import Result
from esctl.chaos.failover.drill import Drill
from esctl.chaos.failover.kinds import StrikeKind
from esctl.chaos.failover.outcome import DrillOutcome
from esctl.chaos.steadyload import SteadyLoad
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import load as load_cluster
from esctl.commands.bench import failover, strikes
from esctl.commands.bench.failover import FailoverMeasurement
from esctl.errors import Inconclusive
from esctl.exits import Exit
from esctl.main import app
from esctl.ui import plain
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, View
from esctl.verify.reading import ReadOutcome
from esctl.verify.verdict import Flaw, LogFinding, LogFindings, LogVerdict
from esnode import limits
from esnode.client import link, runs
from esnode.client.timers import Timers
from tests.esctl import contract
from tests.esctl.conftest import FakeNodes, RealCluster
from tests.esctl.failing_ring import Ring
from tests.esctl.results import CLUSTER, MACHINE

GIVEN = strikes.Given(
    machine=MACHINE,
    cluster={**CLUSTER, "heartbeat_ms": 150, "election_ms": 450, "election_jitter_ms": 150},
    settings={"strike": StrikeKind.KILL, "rate_per_s": 1000.0, "events_a_batch": 1, "size_bytes": 100,
              "window": 64, "x": "strike"},
    client={"dials_at_once": ["node:1", "node:2"], "timers": failover.timers_of(Timers())},
)  # fmt: skip
CLEAN = LogVerdict(
    events=10, next_offset=10, lost=0, duplicates=0, changed=0, expected=0, unjudged=0, unexpected=0,
    hashes_equal=True, nodes={}, counts={}, examples=(),
)  # fmt: skip


# --- how it ends ------------------------------------------------------------------------------------


async def drilled(times: int = 2, kind: StrikeKind = StrikeKind.KILL, **settings: Any) -> Drill:
    """A drill that is over, on a ring in memory."""
    async with trio.open_nursery() as nursery:
        ring = Ring(nursery, **settings)
        load = SteadyLoad(ring, Generator("0123456789abcdef", 100, 1), 1000)
        drill = Drill(ring, load, kind, times, dict, clock=trio.current_time)
        await drill.run()
    return drill


def outcome_of(*flaws: Flaw, verdict: LogVerdict = CLEAN, reading: ReadOutcome | None = None) -> DrillOutcome:
    findings = LogFindings()
    for flaw in flaws:
        findings.add(LogFinding(flaw, 0, 7, f"{flaw} at offset 7"))
    return DrillOutcome(reading or ReadOutcome(), verdict, findings)


def end(
    drill: Drill, outcome: DrillOutcome | None, failure: Inconclusive | None = None
) -> tuple[list[str], int]:
    errors, code = failover._end(FailoverMeasurement(GIVEN, drill, outcome), 2, failure)
    return [error.code for error in errors], code


async def test_strikes_that_hit_and_cost_nothing_end_with_0(autojump_clock: trio.abc.Clock) -> None:
    assert end(await drilled(), outcome_of()) == ([], Exit.OK)


@pytest.mark.parametrize("flaw", [Flaw.LOST, Flaw.DUPLICATE, Flaw.OFFSET_CHANGED])
async def test_whatever_is_lost_or_doubled_ends_with_11(flaw: Flaw, autojump_clock: trio.abc.Clock) -> None:
    drill = await drilled(kills=False)
    drill.left_out = "node 1 is down"
    codes, code = end(drill, outcome_of(flaw))
    assert code == Exit.VERDICT_FAILED
    assert codes[:2] == ["ES4302", "ES4202"]


async def test_nodes_that_differ_end_with_11(autojump_clock: trio.abc.Clock) -> None:
    differ = replace(CLEAN, hashes_equal=False)
    assert end(await drilled(), outcome_of(verdict=differ))[1] == Exit.VERDICT_FAILED


def never(drill: Drill) -> Drill:
    """The same drill, with a last strike from which nobody recovered."""
    last = drill.strikes[-1]
    last.never_s, last.unavailable_ms, last.next_ack_ms = 30.0, 30_000.0, 30_000.0
    last.phases = last.election = None
    return drill


async def test_a_cluster_that_never_recovers_ends_with_11_whatever_else_is_known(
    autojump_clock: trio.abc.Clock,
) -> None:
    drill = never(await drilled())
    assert end(drill, outcome_of()) == (["ES4307"], Exit.VERDICT_FAILED)
    assert end(drill, None, Inconclusive("not level"))[1] == Exit.VERDICT_FAILED
    contract.checked("bench failover", failover._interrupted(FailoverMeasurement(GIVEN, drill)))
    (error, *_), _ = failover._end(FailoverMeasurement(GIVEN, drill, outcome_of()), 2, None)
    assert "1 of 2 times, node 2 struck, for over 30 s" in error.message


async def test_a_strike_that_was_never_recovered_from_is_in_the_figures(
    autojump_clock: trio.abc.Clock,
) -> None:
    result = strikes.result_of(GIVEN, never(await drilled(3)), outcome_of())
    assert [run["never"] for run in result.runs] == [0, 0, 1]
    assert result.runs[2]["unavailable_ms"] == 30_000
    assert [strike["never_over_s"] for strike in result.detail["strikes"]] == [None, None, 30.0]
    spread = result.detail["spreads"]["next_ack_ms"]
    assert spread is not None
    assert spread["count"] == 3
    (table,) = [view for view in strikes.views(result) if isinstance(view, Table)]
    assert [cell.value for cell in table.rows[0] if isinstance(cell, Cell)][3:] == ["never", "never"]
    text = shown(strikes.views(result))
    assert "2 of 3; never (over 30 s): 1" in text
    contract.checked("bench failover", Answer(result.to_json()))
    recovered = strikes.result_of(GIVEN, await drilled(3), outcome_of())
    (change,) = [one for one in compare(recovered, result).changes if one.name == "never"]
    assert change.verdict is FigureVerdict.WORSE


async def test_events_without_an_ack_stand_beside_the_times(autojump_clock: trio.abc.Clock) -> None:
    drill = await drilled(1)
    drill.load.sent += 7
    drill.load.errors["ES1006"] = 7
    result = strikes.result_of(GIVEN, drill, outcome_of())
    assert result.detail["never_acked"] == 7
    assert f"7 of {drill.load.sent:,} events (ES1006 7)" in shown(strikes.views(result))


async def test_a_node_that_stays_down_ends_with_14(autojump_clock: trio.abc.Clock) -> None:
    drill = await drilled()
    drill.left_out = "node 1 is down: it does not start"
    assert end(drill, outcome_of()) == (["ES4202"], Exit.CLEANUP_INCOMPLETE)


async def test_what_proves_nothing_ends_with_12(autojump_clock: trio.abc.Clock) -> None:
    drill = await drilled()
    assert end(drill, None)[1] == Exit.INCONCLUSIVE
    assert end(drill, outcome_of(reading=ReadOutcome(troubles={2: "down"}))) == (
        ["ES4303"],
        Exit.INCONCLUSIVE,
    )
    assert end(drill, outcome_of(reading=ReadOutcome(confirmed=False)))[1] == Exit.INCONCLUSIVE
    assert end(drill, outcome_of(), Inconclusive("it stands still")) == (["ES4303"], Exit.INCONCLUSIVE)
    assert end(await drilled(kills=False), outcome_of())[1] == Exit.INCONCLUSIVE
    assert end(await drilled(1), outcome_of())[1] == Exit.INCONCLUSIVE
    drill.load.rate = 1e6
    assert end(drill, outcome_of())[1] == Exit.INCONCLUSIVE


# --- what is told -----------------------------------------------------------------------------------


def shown(views: list[View]) -> str:
    return "\n".join(text for view in views for text in plain.lines(view))


async def test_the_result_has_a_run_a_strike_and_can_be_read_again(autojump_clock: trio.abc.Clock) -> None:
    result = strikes.result_of(GIVEN, await drilled(3), outcome_of())
    document = json.loads(json.dumps(result.to_json()))
    again = Result.from_json(document, "here")
    assert again.figures == result.figures
    assert len(again.runs) == 3
    assert [run["lost"] for run in again.runs] == [run["duplicates"] for run in again.runs] == [0, 0, 0]
    spread = document["detail"]["spreads"]["leaderless_ms"]
    assert spread["min"] == spread["max"] == pytest.approx(15, abs=0.01)
    for strike in document["detail"]["strikes"]:
        assert sum(strike[name] for name in strikes.PHASES) == pytest.approx(strike["next_ack_ms"], abs=0.01)
        assert strike["elections"] == 1
    assert [point[0] for point in document["series"]["unavailable_ms"]] == [1, 2, 3]


async def test_the_screen_has_a_row_a_phase_and_the_proof(autojump_clock: trio.abc.Clock) -> None:
    drill = await drilled(3)
    views = strikes.views(strikes.result_of(GIVEN, drill, outcome_of()))
    (table,) = [view for view in views if isinstance(view, Table)]
    assert [cell.value for row in table.rows if isinstance(cell := row[0], Cell)] == list(
        strikes.ROWS.values()
    )
    text = shown(views)
    assert "kill of the leader, 3 times, at 1,000 events/s of 100 bytes, 1 a batch" in text
    assert "3 of 3 hit: node 1 ×1, node 2 ×1, node 3 ×1" in text
    assert f"{drill.load.acked:,} acked, 0 lost, 0 duplicates, equal hashes" in text
    assert "lost" in shown(strikes.views(strikes.result_of(GIVEN, drill, outcome_of(Flaw.LOST))))


async def test_figures_that_nobody_knows_have_no_row(autojump_clock: trio.abc.Clock) -> None:
    transfer = strikes.views(strikes.result_of(GIVEN, await drilled(1, StrikeKind.TRANSFER), None))
    assert strikes.ROWS["return_ms"] not in shown(transfer)
    assert "not judged" in shown(transfer)
    drill = await drilled(1)
    drill.strikes[0].phases = drill.strikes[0].election = drill.strikes[0].next_ack_ms = None
    silent = strikes.views(strikes.result_of(GIVEN, drill, outcome_of()))
    assert any(isinstance(view, Line) and "log_level" in view.text for view in silent)
    assert strikes.ROWS["detect_ms"] not in shown(silent)


async def test_the_timers_on_the_screen_are_those_that_the_client_uses(
    autojump_clock: trio.abc.Clock,
) -> None:
    views = strikes.views(strikes.result_of(GIVEN, await drilled(1), outcome_of()))
    fields = dict(pair for view in views if isinstance(view, Fields) for pair in view.pairs)
    told = str(fields["client's timers"])
    for seconds in (limits.RECONNECT_MIN_S, link.ASK_WHEN_DUE_S, runs.RETRY_S):
        assert f"{seconds * 1000:g} ms" in told
    for seconds in (limits.RECONNECT_MAX_S, link.HANG_UP_S):
        assert f"{seconds:g} s" in told
    assert "node:1, node:2" in str(fields["client dials"])


# --- who is refused ---------------------------------------------------------------------------------


def refusal(*words: str) -> str:
    done = CliRunner().invoke(app, ["bench", "failover", *words, "-o", "json"])
    assert done.exit_code == Exit.REFUSED, done.output
    (error,) = json.loads(done.stdout)["errors"]
    assert error["code"] == "ES4204"
    assert error["next"].startswith("esctl ")
    return str(error["message"])


def test_a_cluster_that_cannot_spare_a_node_is_left_alone(
    fakes: FakeNodes, make_fakes: Callable[..., FakeNodes]
) -> None:
    assert "node 1 is down" in refusal("-c", "fake")
    trio.run(fakes.backend.start, fakes.cluster, fakes.numbers, 30.0)
    fakes.backend.pause(fakes.cluster, 3)
    assert "node 3 is paused" in refusal("-c", "fake")
    fakes.backend.resume(fakes.cluster, 3)
    assert "every node to be well" in refusal("-c", "fake")  # they run, and do not speak the protocol
    alone = make_fakes("alone", 1)
    trio.run(alone.backend.start, alone.cluster, alone.numbers, 30.0)
    assert "3 nodes at least" in refusal("-c", "alone")
    assert fakes.states() == ["running"] * 3


# --- for real ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes with an empty log."""
    cluster = RealCluster(tmp_path_factory.mktemp("real"))
    try:
        cluster.data("cluster", "up", "drill", "--faults")
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "drill", "--confirm", "drill")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "times"), [("kill", 2), ("pause", 1), ("partition", 1), ("transfer", 1)])
def test_a_leader_that_is_struck_costs_no_event(
    kind: str, times: int, real: RealCluster, tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    words = ["--kind", kind, "--times", str(times), "--rate", "200", "--save", str(file), "--yes"]
    data = real.data("bench", "failover", *words)
    assert data["kind"] == "failover"
    assert (data["figures"]["lost"], data["figures"]["duplicates"]) == (0, 0)
    assert data["detail"]["equal_hashes"] is True
    assert len(data["detail"]["strikes"]) == times
    for strike in data["detail"]["strikes"]:
        assert strike["missed"] is None
        assert strike["new_leader"] != strike["node"]
        assert sum(strike[name] for name in strikes.PHASES) == pytest.approx(strike["next_ack_ms"], abs=0.01)
    assert json.loads(file.read_text())["figures"] == data["figures"]
    assert {node["state"] for node in real.data("node", "ls")["nodes"]} == {"running"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "state", "number"),
    [("pause", RunState.PAUSED, signal.SIGINT), ("kill", RunState.DOWN, signal.SIGTERM)],
)
def test_whoever_interrupts_it_finds_every_node_running(
    kind: str, state: RunState, number: signal.Signals, real: RealCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(real.home))
    cluster = load_cluster("drill")
    backend = backend_named(cluster.backend)

    words = ["bench", "failover", "--kind", kind, "--times", "50", "--rate", "200", "--yes", "-o", "json"]
    with real.begin(*words) as bench:
        deadline = time.monotonic() + 60
        while state not in {process.state for process in backend.nodes(cluster)}:
            assert time.monotonic() < deadline
            time.sleep(0.005)  # a process does not tell that it was struck
        bench.send_signal(number)
        out, err = bench.communicate(timeout=60)
    assert bench.returncode == Exit.INTERRUPTED, out + err
    assert json.loads(out)["errors"][0]["code"] == "ES4203"
    assert {str(process.state) for process in backend.nodes(cluster)} == {"running"}


@pytest.mark.slow
def test_a_dry_run_says_what_the_quorum_will_be(real: RealCluster) -> None:
    data = real.data("bench", "failover", "--kind", "pause", "--times", "7", "--dry-run")
    assert data["quorum"] == {"needed": 2, "running_before": 3, "running_after": 2, "kept": True}
    assert (data["dry_run"], data["times"]) == (True, 7)
