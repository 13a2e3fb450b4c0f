"""`esctl bench sweep`: which rates hold, where the knee is, and what is said when there is none."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio

from esctl.bench.generator import Generator
from esctl.bench.knee import Search
from esctl.bench.runner import TrialPlan
from esctl.bench.trial import run_trial
from esctl.commands.bench import sweep
from esctl.errors import InvalidArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Chart
from esctl.ui.terminal import Output, Terminal
from tests.esctl import contract
from tests.esctl.fake_log import RUN, Log, Nodes, Slow
from tests.esctl.results import CLUSTER, MACHINE

if TYPE_CHECKING:
    from esctl.commands.bench.answers import SweepSettings

BOUND_MS = 20.0
MANY = ",".join(map(str, range(1, 50)))


async def swept(search: Search, log_of: Callable[[], Log]) -> Answer[Any]:
    """What the command says of such logs, each rate measured for a second."""
    steps: list[sweep.SweepStep] = []
    loads = []
    while (rate := search.next_rate()) is not None:
        plan = TrialPlan(seconds=1, warmup_s=0.2, rate=rate, batch=64, window=64)
        trial = await run_trial(log_of(), Nodes().look, Generator(RUN, 128, plan.events_a_batch), plan)
        figures = trial.figures()
        steps.append(sweep.SweepStep(rate, figures, sweep.verdict_on(figures, rate * plan.seconds, BOUND_MS)))
        search.took(rate, good=steps[-1].good)
        loads.append(trial.load)
    settings: SweepSettings = {
        "x": "events/s asked", "bound_p99_ms": BOUND_MS, "seconds": 1, "warmup_s": 0.2, "size_bytes": 128,
        "batch": 64, "window": 64, "runs_a_rate": 1, "refine": 3, "rates": None, "from": None, "to": None,
        "factor": None,
    }  # fmt: skip
    result = sweep.result_of(settings, steps, search, MACHINE, CLUSTER)
    return contract.checked("bench sweep", sweep.answer_of(result, "wire", BOUND_MS, loads))


async def test_the_knee_is_found_below_what_the_log_takes(autojump_clock: trio.abc.Clock) -> None:
    search = Search(first=250, factor=2, refine=3)
    answer = await swept(search, lambda: Slow(1_800))
    assert answer.exit_code is Exit.OK
    knee = answer.data["figures"]["knee_events_per_s"]
    assert 1_400 <= knee <= 1_800
    assert answer.data["figures"]["knee_p99_ms"] <= BOUND_MS
    verdicts = {step["rate"]: step["verdict"] for step in answer.data["detail"]["steps"]}
    assert verdicts[2_000] in ("behind", "p99 over")
    assert verdicts[250] == "within"
    assert [x for x, _ in answer.data["series"]["p99_ms"]] == sorted(verdicts)
    assert f"the knee: {knee:,.0f} events/s" in str(answer.views[-1])
    assert any(isinstance(view, Chart) and view.bound == BOUND_MS for view in answer.views)
    for output in (Output.TABLE, Output.PLAIN):
        Terminal(output).show("bench sweep", answer)


async def test_a_bound_that_no_rate_keeps_is_inconclusive_and_names_a_lower_rate(
    autojump_clock: trio.abc.Clock,
) -> None:
    answer = await swept(Search(first=5_000), lambda: Log(delay_s=0.03))
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert answer.data["figures"] == {"knee_events_per_s": None}
    assert "p99 over" in answer.errors[0].message
    assert "esctl bench sweep --from 500 --cluster wire" in answer.errors[0].next


def test_one_run_with_failures_is_not_hidden_by_two_without() -> None:
    clean: dict[str, float | None] = {"p99_ms": 5.0, "failed": 0, "unknown": 0, "unfinished": 0}
    found = sweep.of_runs([clean, {**clean, "p99_ms": 9.0, "failed": 64}, {**clean, "p99_ms": None}])
    assert found == {"p99_ms": 7.0, "failed": 64, "unknown": 0, "unfinished": 0}
    assert sweep.verdict_on(found, 1_000, BOUND_MS) == "failures"


async def test_rates_that_all_hold_say_that_there_is_more(autojump_clock: trio.abc.Clock) -> None:
    answer = await swept(Search([1_000, 2_000]), Log)
    assert answer.data["figures"]["knee_events_per_s"] == 2_000
    assert "none broke it" in str(answer.views[-1])


async def test_a_log_that_acks_nothing_breaks_every_bound(autojump_clock: trio.abc.Clock) -> None:
    answer = await swept(Search([1_000, 2_000]), lambda: Log(delay_s=1000))
    assert [step["verdict"] for step in answer.data["detail"]["steps"]] == ["nothing acked"]
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert answer.errors[0].cause == "nothing was acked"
    Terminal(Output.TABLE).show("bench sweep", answer)


@pytest.mark.parametrize(
    "text", ["", "a", "10,", "0", "1e12", "-5", "nan", "inf", ",".join(map(str, range(1, 50)))]
)
def test_rates_that_are_none_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        sweep.rates_of(text)
    assert caught.value.next_step == "--rates 10000,20000,40000"
    assert sweep.rates_of(caught.value.next_step.partition(" ")[2]) == [10_000, 20_000, 40_000]


def test_rates_are_sorted_and_each_is_measured_once() -> None:
    assert sweep.rates_of("30,10,20,10") == [10, 20, 30]
    assert sweep.rates_of(None) == []
