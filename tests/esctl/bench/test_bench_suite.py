"""`python -m bench.suite`: a scenario a file, and no cluster left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import suite
from esctl.bench import result
from esctl.cli.commandtable import ROWS, load

ROOT = Path(__file__).resolve().parents[3]


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.suite", *words],
        env={**os.environ, "XDG_STATE_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("scenario", suite.SCENARIOS, ids=lambda one: one.name)
def test_every_measurement_of_the_suite_can_be_typed(scenario: suite.Scenario) -> None:
    bench = load(next(row for row in ROWS if row.name == "bench"))
    command, *words = suite.words_of(scenario, 20.0, 3)
    bench.commands[command].make_context(command, [*words, "--save", "x.json", "--cluster", "c"])


def test_no_two_measurements_have_one_name() -> None:
    names = [scenario.name for scenario in suite.SCENARIOS]
    assert len(names) == len(set(names))


def test_a_measurement_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "produce-closed,nothing")
    assert done.returncode == 2
    assert "no such measurement: nothing" in done.stderr


@pytest.mark.slow
def test_the_suite_measures_and_leaves_no_cluster_behind(tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = run(
        tmp_path, "--only", "one-node-closed", "--seconds", "0.5", "--runs", "1", "--directory", str(results)
    )
    assert done.returncode == 0, done.stderr
    found = result.read(results / "one-node-closed.json")
    assert (found.kind, found.cluster["nodes"]) == ("produce", 1)
    headings, measured = (line.split("\t")[0].strip() for line in done.stdout.splitlines())
    assert (headings, measured) == ("measurement", "one-node-closed")
    clusters = tmp_path / "esctl" / "clusters"
    assert not list(clusters.glob("*/cluster.json"))


@pytest.mark.slow
def test_a_suite_that_is_told_to_end_takes_its_cluster_with_it(tmp_path: Path) -> None:
    words = ["--only", "one-node-closed", "--seconds", "600", "--directory", str(tmp_path / "results")]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.suite", *words],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("one-node-closed: esctl bench") for line in process.stderr)
        process.terminate()
        process.stderr.read()
        assert process.wait(60) == 130
    assert not list((tmp_path / "esctl" / "clusters").glob("*/cluster.json"))


@pytest.mark.slow
def test_a_cluster_that_is_still_there_from_before_is_named_and_kept(tmp_path: Path) -> None:
    directory = tmp_path / "esctl" / "clusters" / f"{suite.NAME}-1"
    directory.mkdir(parents=True)
    (directory / "cluster.json").write_text(json.dumps({"schema": "esctl-cluster/v1"}))
    done = run(tmp_path, "--only", "one-node-closed", "--directory", str(tmp_path))
    assert done.returncode == 1
    assert f"esctl cluster destroy {suite.NAME}-1 --confirm {suite.NAME}-1" in done.stderr
    assert directory.exists()
