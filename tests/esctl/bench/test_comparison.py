"""What is called better, the same and worse, and what must be known before that is believed."""

import pytest

from esctl.bench import comparison
from esctl.bench.comparison import FigureVerdict, caveats, compare
from esctl.bench.result import AnyResult
from tests.esctl.results import CLUSTER, MACHINE, SETTINGS, of, result


def verdict_of(base: AnyResult, other: AnyResult, tolerance: float | None = None) -> FigureVerdict:
    (change, *_) = compare(base, other, tolerance).changes
    return change.verdict


STEADY = [100.0, 100.0, 100.0]


@pytest.mark.parametrize(
    ("name", "median", "verdict"),
    [
        ("events_per_s", 95, FigureVerdict.SAME),
        ("events_per_s", 94.9, FigureVerdict.WORSE),
        ("events_per_s", 105, FigureVerdict.SAME),
        ("events_per_s", 105.1, FigureVerdict.BETTER),
        ("p99_ms", 105, FigureVerdict.SAME),
        ("p99_ms", 105.1, FigureVerdict.WORSE),
        ("p99_ms", 94.9, FigureVerdict.BETTER),
        ("rss_bytes", 120, FigureVerdict.WORSE),
        ("leader_cpu_us_per_event", 120, FigureVerdict.WORSE),
        ("events_of_floor", 80, FigureVerdict.WORSE),
        ("acked", 1, FigureVerdict.TOLD),
    ],
)
def test_the_unit_says_which_way_is_worse_and_the_edge_is_within_the_band(
    name: str, median: float, verdict: FigureVerdict
) -> None:
    assert verdict_of(of(name, STEADY), of(name, [median] * 3)) is verdict


@pytest.mark.parametrize(("median", "verdict"), [(60.0, FigureVerdict.SAME), (59.0, FigureVerdict.WORSE)])
def test_noisy_runs_hide_what_steady_ones_would_show(median: float, verdict: FigureVerdict) -> None:
    base = of("events_per_s", [90, 100, 110])
    assert verdict_of(base, of("events_per_s", [median - 10, median, median + 10])) is verdict


def test_a_tolerance_that_is_given_replaces_both_usual_ones() -> None:
    assert verdict_of(of("p50_ms", STEADY), of("p50_ms", [103.0] * 3), 2) is FigureVerdict.WORSE
    assert verdict_of(of("p50_ms", [100]), of("p50_ms", [103]), 2) is FigureVerdict.WORSE
    assert verdict_of(of("p50_ms", [100]), of("p50_ms", [102]), 2) is FigureVerdict.SAME


def test_one_lost_event_in_one_run_is_a_regression_whatever_the_tolerance() -> None:
    compared = compare(of("lost", [0, 0, 0]), of("lost", [0, 1, 0]), 50)
    assert compared.verdict is FigureVerdict.WORSE
    (change,) = compared.changes
    assert (change.base, change.other, change.ratio, change.band) == (0, 1, None, None)
    assert change.title == "lost"
    assert verdict_of(of("duplicates", [0, 2]), of("duplicates", [0, 1])) is FigureVerdict.BETTER
    for name in ("failed", "unknown", "undelivered"):
        assert verdict_of(of(name, [0, 0, 0]), of(name, [0, 64, 0])) is FigureVerdict.WORSE


def test_from_nothing_to_something_has_no_ratio_and_is_judged_all_the_same() -> None:
    base = of("stall_ms", [0, 0, 0])
    assert verdict_of(base, of("stall_ms", [0, 0, 0])) is FigureVerdict.SAME
    (change,) = compare(base, of("stall_ms", [3, 3, 3])).changes
    assert (change.verdict, change.ratio, change.band_percent) == (FigureVerdict.WORSE, None, None)


def test_a_figure_that_only_the_base_has_leaves_the_whole_undecided() -> None:
    base = result({"events_per_s": 100.0, "p99_ms": 5.0})
    compared = compare(base, result({"events_per_s": 200.0, "p99_ms": None}))
    assert compared.names(FigureVerdict.MISSING) == ["p99_ms"]
    assert compared.verdict is FigureVerdict.MISSING
    assert compare(base, result({"events_per_s": 10.0})).verdict is FigureVerdict.WORSE


def test_a_figure_that_only_the_other_has_is_new_and_judges_nothing() -> None:
    compared = compare(of("p50_ms", STEADY), result(*[{"p50_ms": 100.0, "p99_ms": 3.0}] * 3))
    assert compared.names(FigureVerdict.NEW) == ["p99_ms"]
    assert compared.verdict is FigureVerdict.SAME


def test_a_figure_that_neither_has_is_not_spoken_of() -> None:
    none = result({"p99_ms": None})
    assert compare(none, none).changes == []
    assert compare(none, none).verdict is FigureVerdict.MISSING


def test_runs_without_a_figure_do_not_count_for_it() -> None:
    (change,) = compare(of("p99_ms", [100, None, 100, 100]), of("p99_ms", [None, 106, 106, 106])).changes
    assert (change.verdict, change.base, change.other) == (FigureVerdict.WORSE, 100, 106)


def test_one_strike_in_three_that_takes_long_is_seen_in_the_worst_and_not_in_the_median() -> None:
    base = of("unavailable_ms", [30.0 + n % 7 for n in range(24)])
    slow = of("unavailable_ms", [600.0 if n % 3 == 0 else 30.0 + n % 7 for n in range(24)])
    median, worst = compare(base, slow).changes
    assert (median.verdict, worst.verdict) == (FigureVerdict.UNDECIDED, FigureVerdict.WORSE)
    assert (worst.title, worst.base, worst.other) == ("unavailable_ms, worst", 36, 600)
    assert compare(slow, base).changes[1].verdict is FigureVerdict.BETTER
    assert compare(base, base).changes[1].verdict is FigureVerdict.SAME


def test_the_worst_run_of_a_throughput_is_its_lowest() -> None:
    base = of("events_per_s", [100.0 + n % 7 for n in range(24)])
    slow = of("events_per_s", [1.0 if n % 3 == 0 else 100.0 + n % 7 for n in range(24)])
    worst = compare(base, slow).changes[1]
    assert (worst.base, worst.other, worst.verdict) == (100, 1, FigureVerdict.WORSE)


# --- whether they may be compared ---------------------------------------------------------------


def test_other_settings_another_cluster_and_another_command_are_other_things() -> None:
    base = of("p50_ms", STEADY)
    assert comparison.of_other_things(base, of("p50_ms", [1.0])) == []
    faster = of("p50_ms", STEADY, settings={**SETTINGS, "rate_per_s": 60000.0})
    assert comparison.listed(comparison.of_other_things(base, faster)) == "rate_per_s 0.0 → 60000.0"
    alone = of("p50_ms", STEADY, cluster={**CLUSTER, "nodes": 1}, settings={"size_bytes": 100, "window": 64})
    assert (
        comparison.listed(comparison.of_other_things(base, alone)) == "rate_per_s 0.0 → unknown, nodes 3 → 1"
    )
    soak = of("p50_ms", STEADY, kind="soak", settings={})
    assert comparison.listed(comparison.of_other_things(base, soak)) == "kind produce → soak"


def test_another_machine_is_named_and_another_version_is_not_one() -> None:
    base = of("p50_ms", STEADY)
    moved = of("p50_ms", STEADY, machine={**MACHINE, "cpus": 8, "python": "3.13.1", "load_average": 9.0})
    assert comparison.listed(comparison.of_machines(base, moved)) == "cpus 2 → 8"
    assert comparison.listed(comparison.of_versions(base, moved)) == "python 3.11.7 → 3.13.1"
    machine, versions = caveats(compare(base, moved))
    assert machine.startswith("another machine: cpus 2 → 8;")
    assert versions == "other versions: python 3.11.7 → 3.13.1"


@pytest.mark.parametrize(("memory", "count"), [(8_100_000_000, 0), (9_000_000_000, 1), (None, 1)])
def test_a_little_more_memory_is_the_same_machine(memory: int | None, count: int) -> None:
    other = of("p50_ms", STEADY, machine={**MACHINE, "memory_bytes": memory})
    assert len(comparison.of_machines(of("p50_ms", STEADY), other)) == count


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("p50_ms", 125, FigureVerdict.UNDECIDED),
        ("p50_ms", 126, FigureVerdict.WORSE),
        ("p50_ms", 100, FigureVerdict.UNDECIDED),
        ("p50_ms", 74, FigureVerdict.BETTER),
        ("events_per_s", 76, FigureVerdict.UNDECIDED),
        ("events_per_s", 74, FigureVerdict.WORSE),
        ("p99_ms", 199, FigureVerdict.UNDECIDED),
        ("p99_ms", 201, FigureVerdict.WORSE),
        ("max_ms", 199, FigureVerdict.UNDECIDED),
        ("lost", 101, FigureVerdict.WORSE),
    ],
)
def test_of_single_runs_only_a_coarse_change_is_one(name: str, value: float, verdict: FigureVerdict) -> None:
    compared = compare(of(name, [100]), of(name, [value]))
    assert compared.changes[0].verdict is verdict
    assert compared.verdict is verdict


def test_what_single_runs_hide_outweighs_what_they_show_to_be_better() -> None:
    base = result({"events_per_s": 100.0, "p50_ms": 5.0})
    compared = compare(base, result({"events_per_s": 200.0, "p50_ms": 5.0}))
    assert compared.names(FigureVerdict.BETTER) == ["events_per_s"]
    assert compared.verdict is FigureVerdict.UNDECIDED


NOISY = [50.0, 100.0, 150.0]


def test_what_is_too_noisy_to_see_leaves_the_whole_undecided() -> None:
    base = result(*({"events_per_s": 100.0, "p99_ms": p99} for p99 in NOISY))
    assert compare(base, base).verdict is FigureVerdict.UNDECIDED
    assert [change.name for change in compare(base, base).undecided] == ["p99_ms"]


@pytest.mark.parametrize("name", ["max_ms", "ack_p999_ms", "detect_ms"])
def test_a_far_tail_or_a_part_of_a_whole_decides_nothing_while_others_do(name: str) -> None:
    base = result(*({"unavailable_ms": 30.0, name: value} for value in NOISY))
    assert compare(base, base).verdict is FigureVerdict.SAME
    assert compare(base, base).names(FigureVerdict.UNDECIDED) == [name]
    assert compare(of(name, NOISY), of(name, NOISY)).verdict is FigureVerdict.UNDECIDED


def test_a_tolerance_that_is_given_hides_no_noise() -> None:
    noisy = of("p99_ms", NOISY)
    assert compare(noisy, noisy, 60).verdict is FigureVerdict.UNDECIDED
    assert compare(of("p99_ms", STEADY), of("p99_ms", [150.0] * 3), 60).verdict is FigureVerdict.SAME


def test_the_figures_of_an_overload_are_said_to_be_that() -> None:
    base, slow = of("p50_ms", STEADY), of("p50_ms", STEADY, detail={"rate_reached": False})
    (caveat,) = caveats(compare(base, slow))
    assert caveat == "the rate was not reached in the other: latencies of an overload"


def test_that_there_is_no_band_is_said() -> None:
    (caveat,) = caveats(compare(of("p50_ms", [100]), of("p50_ms", [100])))
    assert "unknown; only what is beyond ±25% is called a change, of tails ±100%" in caveat
    assert caveats(compare(of("p50_ms", STEADY), of("p50_ms", STEADY))) == []


def test_a_figure_too_noisy_to_judge_is_named() -> None:
    (caveat,) = caveats(compare(of("p99_ms", [50, 100, 150]), of("p99_ms", [50, 100, 150])))
    assert caveat.startswith("too noisy to tell less than 50%: p99_ms;")
