"""`esctl bench produce`: what it counts, what it says of an overload, and the run as it is typed."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esctl.bench.generator import Generator
from esctl.bench.runner import Load, TrialPlan
from esctl.bench.trial import kept_up, run_trial
from esctl.clusters import state
from esctl.commands.bench import produce as bench
from esctl.commands.bench import screens
from esctl.errors import InvalidArgument, MachineRefused
from esctl.exits import Exit
from esctl.ui.answer import Answer, Line, Table, Tone
from esctl.ui.terminal import Output, Terminal
from esnode.errors import EventStreamError, NoQuorum, OperationTimeout, WindowFull
from esnode.events import decode_events
from tests.esctl import conftest as clusters
from tests.esctl import contract
from tests.esctl.fake_log import RUN, Log, Nodes
from tests.esctl.results import CLUSTER, MACHINE
from tests.esctl.sink_node import SinkNode, sink


async def answered(log: Log, plan: TrialPlan, *, runs: int = 1, nodes: Nodes | None = None) -> Answer[Any]:
    """What the command says of so many runs on `log`."""
    nodes = nodes or Nodes()
    trials = [
        await run_trial(log, nodes.look, Generator(RUN, 128, plan.events_a_batch), plan) for _ in range(runs)
    ]
    result = bench.result_of(trials, MACHINE, CLUSTER, session=False, generator_us=0.5)
    return contract.checked("bench produce", bench.answer_of(result, [one.load for one in trials], plot=True))


def figures(answer: Answer[Any]) -> dict[str, Any]:
    found = answer.data["figures"]
    assert isinstance(found, dict)
    return found


async def loaded(log: Log, plan: TrialPlan) -> Load:
    load = Load(log, Generator(RUN, 128, plan.events_a_batch), plan)
    await load.run()
    return load


# --- figures -------------------------------------------------------------------------------------


async def test_a_closed_loop_keeps_its_window_full(autojump_clock: trio.abc.Clock) -> None:
    answer = await answered(Log(), TrialPlan(seconds=2, warmup_s=1, rate=0, batch=10, window=4))
    found = figures(answer)
    assert found["events_per_s"] == pytest.approx(4 * 10 / 0.01, rel=0.02)
    assert found["payload_mb_per_s"] == pytest.approx(4000 * 128 / 1e6, rel=0.02)
    assert found["acked"] == pytest.approx(8_000, rel=0.02)
    assert answer.data["detail"]["acked_in_all"] == [pytest.approx(12_000, rel=0.02)]
    assert (found["failed"], found["unknown"]) == (0, 0)
    assert found["p50_ms"] == found["raw_p50_ms"] == pytest.approx(10, rel=0.01)
    assert answer.exit_code == Exit.OK


async def test_the_cost_of_an_event_is_that_of_the_measured_time(autojump_clock: trio.abc.Clock) -> None:
    # 4,000 events a second; the leader takes 0.5 s of processor time a second, the followers 0.2 and 0.3.
    found = figures(await answered(Log(), TrialPlan(seconds=2, warmup_s=1, rate=0, batch=10, window=4)))
    assert found["leader_cpu_us_per_event"] == pytest.approx(125, rel=0.02)
    assert found["follower_cpu_us_per_event"] == pytest.approx(75, rel=0.02)
    assert found["client_cpu_us_per_event"] == pytest.approx(62.5, rel=0.02)
    assert (found["leader_rss_bytes"], found["follower_rss_bytes"]) == (100_000_001, 100_000_003)


async def test_a_rate_is_kept_and_a_stall_is_charged_to_every_event_it_delayed(
    autojump_clock: trio.abc.Clock,
) -> None:
    plan = TrialPlan(seconds=10, warmup_s=1, rate=1000, batch=64, window=64)
    assert plan.events_a_batch == 1
    answer = await answered(Log(still_from=5, still_to=6), plan)
    found = figures(answer)
    assert found["events_per_s"] == pytest.approx(1000, rel=0.01)
    # A tenth of the events was meant to be sent while the log stood still for a second.
    assert found["p99_ms"] > 800
    assert found["p50_ms"] == pytest.approx(10, rel=0.5)
    assert found["raw_p99_ms"] == pytest.approx(10, rel=0.1)
    detail = answer.data["detail"]
    assert detail["window_full_ms"][0] > 500
    assert detail["generator_late_ms"] == [0]  # the log was slow, and not this process


async def test_a_client_that_is_held_up_says_so_itself(autojump_clock: trio.testing.MockClock) -> None:
    async def hold_up() -> None:
        await trio.sleep(3)
        autojump_clock.jump(0.5)  # as when something else has the processor

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_up)
        answer = await answered(Log(), TrialPlan(seconds=4, warmup_s=1, rate=100, batch=64, window=64))
    assert answer.data["detail"]["generator_late_ms"][0] == pytest.approx(500, abs=20)


@pytest.mark.parametrize("rate", [7.0, 1_000.0, 1_001.0, 3_333.0, 33_333.0])
async def test_nothing_is_unfinished_where_everything_was_acked(
    autojump_clock: trio.abc.Clock, rate: float
) -> None:
    found = figures(await answered(Log(), TrialPlan(seconds=1, warmup_s=0.3, rate=rate, batch=64, window=64)))
    assert found["unfinished"] == 0


async def test_the_curves_show_the_second_in_which_the_log_stood_still(
    autojump_clock: trio.abc.Clock,
) -> None:
    plan = TrialPlan(seconds=6, warmup_s=1, rate=1000, batch=64, window=2000)
    series = (await answered(Log(still_from=3, still_to=4), plan)).data["series"]
    # The measured time begins a second after the log does.
    rates = dict(series["events_per_s"])
    assert list(rates) == [0, 1, 2, 3, 4, 5]
    assert rates[0] == pytest.approx(1000, rel=0.02)
    assert rates[2] < 50
    assert rates[3] == pytest.approx(2000, rel=0.02)
    slowest = max(series["p99_ms"], key=lambda point: point[1])
    assert slowest[0] in (1, 2)
    assert slowest[1] > 900


async def test_several_runs_give_the_median_and_the_range(autojump_clock: trio.abc.Clock) -> None:
    log = Log(still_from=4, still_to=5)  # in the second run
    answer = await answered(log, TrialPlan(seconds=2, warmup_s=1, rate=0, batch=10, window=4), runs=3)
    rates = [run["events_per_s"] for run in answer.data["runs"]]
    assert rates[1] == pytest.approx(2000, rel=0.05)
    assert figures(answer)["events_per_s"] == sorted(rates)[1]
    assert f"(3 runs: {min(rates):,.0f} to {max(rates):,.0f})" in str(answer.views[2])
    table = answer.views[3]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows][1:] == ["  lowest run", "  highest run"]
    assert [x for x, _ in answer.data["series"]["events_per_s"]] == [0, 1, 2, 3, 4, 5]


def test_a_batch_at_a_rate_holds_what_falls_due_in_a_millisecond() -> None:
    assert TrialPlan(1, 0, rate=60_000, batch=64, window=1).events_a_batch == 60
    assert TrialPlan(1, 0, rate=10_000_000, batch=64, window=1).events_a_batch == 64
    assert TrialPlan(1, 0, rate=10, batch=64, window=1).events_a_batch == 1
    assert TrialPlan(1, 0, rate=0, batch=64, window=1).events_a_batch == 64


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "failed"), [(WindowFull("full"), True), (OperationTimeout("late"), False)])
async def test_events_without_an_ack_are_counted_by_what_is_known_of_them(
    error: EventStreamError, failed: bool, autojump_clock: trio.abc.Clock
) -> None:
    log = Log()
    log.error = error
    answer = await answered(log, TrialPlan(seconds=1, warmup_s=0, rate=0, batch=10, window=1))
    found = figures(answer)
    assert found["failed" if failed else "unknown"] == pytest.approx(100, abs=10)
    assert found["unknown" if failed else "failed"] == 0
    assert answer.data["detail"]["errors_by_code"] == [{error.code: pytest.approx(100, abs=10)}]
    missing = found["failed"] + found["unknown"]
    assert Line(f"{missing:,} events got no ack, and are in no latency", Tone.WARN) in answer.views
    assert [trouble.code for trouble in answer.errors] == [error.code]
    assert answer.exit_code == Exit.ERROR


@pytest.mark.parametrize("delay_s", [0.01, 1000])
async def test_events_that_never_left_are_not_unknown(delay_s: float, autojump_clock: trio.abc.Clock) -> None:
    log = Log(delay_s)
    log.leads, log.error = False, NoQuorum("nobody leads")
    log.fails_every = 1
    load = await loaded(log, TrialPlan(seconds=1, warmup_s=0, rate=0, batch=10, window=1))
    assert (load.acked, load.unknown) == (0, 0)
    assert load.failed == load.sent


async def test_an_overload_is_called_one(autojump_clock: trio.abc.Clock) -> None:
    plan = TrialPlan(seconds=2, warmup_s=0, rate=1000, batch=64, window=1)
    answer = await answered(Log(delay_s=0.1), plan)
    assert figures(answer)["events_per_s"] < 20
    assert any("did not keep up" in str(view) for view in answer.views)
    assert answer.data["detail"]["rate_reached"] is False
    assert answer.exit_code is Exit.INCONCLUSIVE
    (error,) = answer.errors
    assert error.code == "ES4303"
    assert "the rate was not reached" in error.message
    assert "of 1,000 events/s" in error.message


async def test_one_run_of_several_that_is_an_overload_makes_it_inconclusive(
    autojump_clock: trio.abc.Clock,
) -> None:
    plan = TrialPlan(seconds=4, warmup_s=1, rate=1000, batch=64, window=64)
    answer = await answered(Log(still_from=6, still_to=11), plan, runs=3)
    assert figures(answer)["events_per_s"] == pytest.approx(1000, rel=0.02)  # the median
    assert answer.exit_code is Exit.INCONCLUSIVE


async def test_a_rate_that_is_reached_is_conclusive_and_a_closed_loop_has_none(
    autojump_clock: trio.abc.Clock,
) -> None:
    for rate, reached in ((1000, True), (0, None)):
        answer = await answered(Log(), TrialPlan(seconds=2, warmup_s=1, rate=rate, batch=64, window=64))
        assert answer.exit_code is Exit.OK
        assert answer.data["detail"]["rate_reached"] is reached


@pytest.mark.parametrize(
    ("events_per_s", "seconds", "reached"),
    [(990, 100, True), (989, 100, False), (900, 1, True), (890, 1, False), (None, 1, False)],
)
def test_a_hundredth_may_be_missing_and_a_moment_at_the_end(
    events_per_s: float | None, seconds: float, reached: bool
) -> None:
    assert kept_up({"events_per_s": events_per_s}, 1000, seconds) is reached


async def test_nothing_acked_is_an_error_and_its_latencies_are_empty(autojump_clock: trio.abc.Clock) -> None:
    plan = TrialPlan(seconds=1, warmup_s=0, rate=0, batch=10, window=2)
    answer = await answered(Log(delay_s=1000), plan)
    assert answer.exit_code == Exit.ERROR
    found = figures(answer)
    assert found["unknown"] == 20
    assert {found[name] for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")} == {None}
    assert found["leader_cpu_us_per_event"] is None
    Terminal(Output.TABLE).show("bench produce", answer)  # every view can be drawn


async def test_costs_are_unknown_where_the_leadership_moved(autojump_clock: trio.abc.Clock) -> None:
    nodes = Nodes()
    plan = TrialPlan(seconds=2, warmup_s=1, rate=0, batch=10, window=4)

    async def move() -> None:
        await trio.sleep(2)
        nodes.leader = 2

    async with trio.open_nursery() as nursery:
        nursery.start_soon(move)
        found = figures(await answered(Log(), plan, nodes=nodes))
    assert (found["leader_cpu_us_per_event"], found["follower_cpu_us_per_event"]) == (None, None)
    assert found["client_cpu_us_per_event"] == pytest.approx(62.5, rel=0.02)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineRefused, match="cannot write"):
        screens.check_place(tmp_path / "file" / "result.json")
    with pytest.raises(InvalidArgument, match="directory") as caught:
        screens.check_place(tmp_path)
    assert caught.value.next_step == f"--save {tmp_path}/result.json"
    screens.check_place(tmp_path / "new" / "result.json")
    assert not list((tmp_path / "new").iterdir())  # nothing is left where nothing was measured
    screens.check_place(None)


# --- as it is typed ------------------------------------------------------------------------------


def test_making_an_event_costs_little() -> None:
    assert 0 < bench.generator_cost_us(100, 64) < 50  # 0.4 on a quiet machine


@pytest.mark.slow
async def test_a_bench_prints_its_figures_and_sends_each_event_once(tmp_path: Path) -> None:
    node = SinkNode(tells=True)
    saved = tmp_path / "results" / "produce.json"
    words = ["bench", "produce", "--duration", "0.5s", "--warmup", "0.1", "--rate", "2000", "--runs", "2"]
    async with sink(tmp_path, node):
        run: subprocess.CompletedProcess[bytes] = await trio.run_process(
            [sys.executable, "-m", "esctl.main", *words, "--save", str(saved), "-o", "json"],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    data = json.loads(run.stdout)["data"]
    # A machine that is busy with other work may not reach the rate: that is what it has to say then.
    reached = data["detail"]["rate_reached"]
    assert reached is not False or min(one["events_per_s"] for one in data["runs"]) < 2000
    assert run.returncode == (Exit.INCONCLUSIVE if reached is False else Exit.OK), run.stderr
    assert json.loads(saved.read_text()) == data
    assert sum(data["detail"]["acked_in_all"]) == len(node.offsets)
    assert run.stderr.decode().splitlines()[:2] == [
        f"{len(node.offsets):,} generated events stay in sink;"
        " for a throw-away cluster: esctl cluster up bench",
        f"the result is in {saved}",
    ]
    for found in data["runs"]:
        assert reached is False or found["acked"] > 0
        assert found["acked"] < len(node.offsets)
        assert found["failed"] == found["unknown"] == 0
        assert found["p50_ms"] <= found["p999_ms"] <= found["max_ms"]
        assert found["client_cpu_us_per_event"] > 0
        assert found["leader_cpu_us_per_event"] > 0
    assert data["settings"]["size_bytes"] == 100
    assert data["settings"]["events_a_batch"] == 2
    assert data["cluster"]["nodes"] == 1


async def test_a_bench_says_what_may_be_in_the_log_and_how_its_own_cluster_goes(
    autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    load = await loaded(Log(delay_s=1000), TrialPlan(seconds=1, warmup_s=0, rate=0, batch=10, window=2))
    own = clusters.plan("bench", tmp_path)
    assert screens.added([load], own) == (
        "0 generated events, and up to 20 more, stay in bench; next: esctl cluster destroy bench"
    )


async def test_an_interrupted_bench_says_what_was_acked(autojump_clock: trio.abc.Clock) -> None:
    load = await loaded(Log(), TrialPlan(seconds=1, warmup_s=0, rate=0, batch=10, window=1))
    answer = contract.checked("bench produce", screens.without_figures([load]))
    assert answer.data == {"acked_in_all": load.acked, "failed": 0, "unknown": 0}
    assert screens.without_figures([]) == Answer()


def test_the_help_of_bench_says_that_its_events_stay() -> None:
    assert "The events stay in the log" in " ".join((inspect.getdoc(bench.produce) or "").split())


def test_the_smallest_events_of_a_bench_are_whole_cloudevents() -> None:
    events = decode_events(Generator(RUN, 100, 2).next_batch().payload)
    assert [sorted(event) for event in events] == [["data", "id", "source", "specversion", "type"]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["produce", "consume", "e2e", "sweep", "soak"])
def test_a_cluster_that_is_down_is_refused_before_anything_is_measured(kind: str, tmp_path: Path) -> None:
    state.add(clusters.plan("down", tmp_path))
    run = subprocess.run(
        [sys.executable, "-m", "esctl.main", "bench", kind, "-o", "json"], capture_output=True, timeout=100
    )
    assert run.returncode == Exit.UNREACHABLE
    (error,) = json.loads(run.stdout)["errors"]
    assert error["next"] == "esctl cluster start down"
    assert not run.stderr
