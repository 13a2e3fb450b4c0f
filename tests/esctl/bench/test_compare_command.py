"""`esctl bench compare` as it is typed: the table, the exit code, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from esctl.bench.comparison import compare
from esctl.bench.result import AnyResult, save
from esctl.commands.bench.compare import answer_of
from esctl.ui.answer import Table
from esctl.ui.terminal import Output
from tests.esctl.commands.test_commands import Run
from tests.esctl.results import MACHINE, SETTINGS, of, result

STEADY = [
    {"events_per_s": 450_000.0 + n, "p99_ms": 5.0, "leader_rss_bytes": 9e7, "acked": 9.0} for n in range(3)
]
SLOW = [{**run, "p99_ms": 8.0} for run in STEADY]
LOSSY = [{**STEADY[0], "p99_ms": None}] * 3


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Paths of results, by what they are."""
    made: dict[str, AnyResult] = {
        "base": result(*STEADY),
        "same": result(*STEADY),
        "slow": result(*SLOW),
        "lossy": result(*LOSSY),
        "single": result(STEADY[0]),
        "again": result({**STEADY[0], "events_per_s": 380_000.0, "p99_ms": 9.0}),
        "broken": result({**STEADY[0], "events_per_s": 300_000.0}),
        "pair": result(*STEADY[:2]),
        "noisy": result(*({**run, "p99_ms": p99} for run, p99 in zip(STEADY, (3.0, 5.0, 9.0), strict=True))),
        "moved": result(*STEADY, machine={**MACHINE, "cpus": 64, "eventstreamcore": "0.2.0"}),
        "other": result(*SLOW, settings={**SETTINGS, "rate_per_s": 60_000.0}),
        "soak": of("p99_ms", [5.0], kind="soak"),
    }
    for name, one in made.items():
        save(one, tmp_path / f"{name}.json")
    return {name: str(tmp_path / f"{name}.json") for name in made}


def verdicts(run: Run) -> list[str]:
    return [compared["verdict"] for compared in run.document["data"]["comparisons"]]


def test_no_regression_ends_with_0_and_says_so(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["base"], files["same"], "-o", "json")
    assert run.code == 0
    assert verdicts(run) == ["same"]
    assert run.document["errors"] == []
    assert "no regression: 3 figures" in Run("bench", "compare", files["base"], files["same"]).out


def test_a_regression_ends_with_15_and_names_the_figure(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["base"], files["slow"], "-o", "json")
    assert run.code == 15
    assert verdicts(run) == ["worse"]
    (error,) = run.document["errors"]
    assert error["code"] == "ES4305"
    assert "p99_ms 1.60 times" in error["message"]
    assert error["next"] == f"esctl bench report {files['base']} {files['slow']}"
    figures = {one["name"]: one for one in run.document["data"]["comparisons"][0]["figures"]}
    assert figures["p99_ms"] == {
        "name": "p99_ms", "of": "median", "base": 5.0, "other": 8.0, "ratio": 1.6,
        "band_percent": 5.0, "band_from": "tolerance", "verdict": "worse",
    }  # fmt: skip
    assert figures["acked"]["verdict"] == "told"


def test_a_tolerance_can_be_wider_than_the_regression(files: dict[str, str]) -> None:
    assert Run("bench", "compare", files["base"], files["slow"], "--tolerance", "60").code == 0
    assert Run("bench", "compare", files["base"], files["slow"], "--tolerance", "59").code == 15
    assert Run("bench", "compare", files["base"], files["slow"], "--tolerance", "-1").code == 2


def test_the_plain_table_has_a_line_a_figure(files: dict[str, str]) -> None:
    lines = Run("bench", "compare", files["base"], files["slow"]).unpadded.splitlines()
    assert lines[0] == f"base   {files['base']}: produce, 3 runs, 2013-01-01T00:00:00+00:00"
    assert "p99_ms\t5\t8\t1.6\t±5.0% least\tworse" in lines
    assert "acked\t9\t9\t1.0\t-\ttold" in lines


def test_people_see_units_and_what_is_judged_in_80_columns(files: dict[str, str]) -> None:
    names = ("follower_cpu_us_per_event", "leader_rss_bytes", "payload_mb_per_s", "acked", "raw_p99_ms")
    one = result(dict.fromkeys(names, 123_456_789.0))
    answer = answer_of([Path("a"), Path("b")], [compare(one, one)], Output.TABLE)
    (table,) = [view for view in answer.views if isinstance(view, Table)]
    assert [row[0] for row in table.rows] == [
        "follower cpu, µs an event", "leader rss, MB", "payload, MB/s"
    ]  # fmt: skip
    assert table.rows[1][1] == pytest.approx(123.4568)


def test_a_missing_figure_is_inconclusive(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["base"], files["lossy"], "-o", "json")
    assert run.code == 12
    assert "lacks p99_ms" in run.document["errors"][0]["message"]


def test_of_several_files_the_first_is_the_base_and_a_regression_outweighs_doubt(
    files: dict[str, str],
) -> None:
    run = Run("bench", "compare", *(files[name] for name in ("base", "same", "lossy", "slow")), "-o", "json")
    assert run.code == 15
    assert verdicts(run) == ["same", "missing", "worse"]
    assert [error["code"] for error in run.document["errors"]] == ["ES4303", "ES4305"]


@pytest.mark.parametrize(("name", "runs"), [("single", "a single run"), ("pair", "only 2 runs")])
def test_too_few_runs_have_no_band_and_that_is_inconclusive(
    name: str, runs: str, files: dict[str, str]
) -> None:
    run = Run("bench", "compare", files["base"], files[name])
    assert run.code == 12
    assert "±25.0% coarse" in run.out
    assert "warning: fewer than 3 runs" in run.out
    assert f"no band: {runs}; repeat with --runs 3" in run.err


def test_two_single_runs_of_the_same_code_are_no_regression(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["single"], files["again"], "-o", "json")
    assert run.code == 12
    assert verdicts(run) == ["undecided"]
    assert [error["code"] for error in run.document["errors"]] == ["ES4303"]


def test_a_coarse_change_of_single_runs_is_a_regression(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["single"], files["broken"], "-o", "json")
    assert run.code == 15
    assert "by more than single runs are trusted to differ" in run.document["errors"][0]["message"]


def test_single_runs_are_judged_by_a_tolerance_that_is_given(files: dict[str, str]) -> None:
    assert Run("bench", "compare", files["base"], files["single"], "--tolerance", "5").code == 0
    assert Run("bench", "compare", files["single"], files["again"], "--tolerance", "5").code == 15


def test_runs_that_differ_too_much_to_see_anything_are_inconclusive(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["noisy"], files["noisy"], "-o", "json")
    assert run.code == 12
    assert "too noisy to see a change in p99_ms" in run.document["errors"][0]["message"]
    figures = {one["name"]: one["verdict"] for one in run.document["data"]["comparisons"][0]["figures"]}
    assert (figures["p99_ms"], figures["events_per_s"]) == ("undecided", "same")


def test_another_machine_is_a_warning(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["base"], files["moved"], "-o", "json")
    assert run.code == 0
    machine, versions = run.document["data"]["comparisons"][0]["warnings"]
    assert machine.startswith("another machine: cpus 2 → 64;")
    assert versions == "other versions: eventstreamcore 0.1.0 → 0.2.0"


@pytest.mark.parametrize(
    ("name", "difference"), [("other", "rate_per_s 0.0 → 60000.0"), ("soak", "kind produce → soak")]
)
def test_what_does_not_measure_the_same_is_refused_unless_meant(
    name: str, difference: str, files: dict[str, str]
) -> None:
    run = Run("bench", "compare", files["base"], files[name], "-o", "json")
    assert run.code == 2
    (error,) = run.document["errors"]
    assert error["code"] == "ES4014"
    assert difference in error["message"]
    assert error["next"] == f"esctl bench compare --anyway {files['base']} {files[name]}"
    meant = Run(*error["next"].split()[1:], "-o", "json")
    assert meant.code in {12, 15}
    assert difference in meant.document["data"]["comparisons"][0]["warnings"][0]


@pytest.mark.parametrize("command", ["compare", "report"])
@pytest.mark.parametrize(
    ("content", "code"),
    [("{", "ES4013"), ('{"schema": "esctl-bench/9"}', "ES4013"), (None, "ES4011")],
)
def test_a_wrong_file_is_an_error_with_a_next_step(
    command: str, content: str | None, code: str, files: dict[str, str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir() if content is None else wrong.write_text(content)
    out = tmp_path / "page.html"
    extra = ["--save", str(out)] if command == "report" else []
    run = Run("bench", command, files["base"], str(wrong), *extra, "-o", "json")
    assert run.code == 2
    (error,) = run.document["errors"]
    assert (error["code"], str(wrong) in error["message"]) == (code, True)
    assert error["next"]
    assert not out.exists()


def test_one_file_alone_is_compared_with_nothing(files: dict[str, str]) -> None:
    run = Run("bench", "compare", files["base"], "-o", "json")
    assert run.code == 2
    assert run.document["errors"][0]["next"] == f"esctl bench compare {files['base']} OTHER.json"
    assert Run("bench", "compare").code == 2


def test_a_name_with_control_characters_moves_no_cursor(files: dict[str, str], tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(Path(files["base"]).read_text())
    document["runs"] = [{"\x1b[2J_ms": 1.0}]
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(document))
    run = Run("bench", "compare", str(odd), str(odd), "-o", "table")
    assert "\x1b[2J" not in run.out + run.err
    assert run.code == 12
