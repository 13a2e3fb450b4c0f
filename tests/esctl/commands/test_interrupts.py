"""Ctrl-C in the middle: whatever a command answers then fits its schema, early and late.

Each place that says what an interrupt is answered with is interrupted here, at its first wait and when there
is something to tell; a new one without a command line in the list below fails a test of its own.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from esctl import commands
from tests.esctl import contract
from tests.esctl.conftest import FLIGHTS, RealCluster

COMMANDS: dict[tuple[str, str], list[str]] = {
    ("bench/consume.py", "consume"): ["bench consume --runs 1000"],
    ("bench/e2e.py", "e2e"): ["bench e2e --rate 500 --warmup 0.2 --duration 5s"],
    ("bench/failover.py", "_measure_all"): ["bench failover --kind transfer --rate 200 --times 2 --yes"],
    ("bench/produce.py", "produce"): ["bench produce --rate 500 --warmup 0.2 --duration 5s"],
    ("bench/soak.py", "soak"): ["bench soak --minutes 1 --rate 500 --warmup 0.2"],
    ("bench/sweep.py", "sweep"): ["bench sweep --rates 500 --warmup 0.2 --duration 5s"],
    ("cluster/stopping.py", "_roll"): ["cluster restart --rolling"],
    ("consume.py", "consume"): ["consume --from 26900 --follow"],
    ("demo.py", "demo"): ["demo"],
    ("export.py", "export"): ["export --save {directory}/events.db --max 5000"],
    ("fault/disk.py", "_at_rest"): ["fault disk flip 2 --yes"],
    ("fault/processes.py", "_stop"): ["fault pause 2 --lease 5s --yes", "fault freeze --lease 5s --yes"],
    ("fault/storm.py", "_run_storm"): ["fault storm --seed 1 --duration 3s --kinds delay --yes"],
    ("fault/injection.py", "strike"): [
        "fault net 1-2 --delay 5ms",
        "fault disk slow 2",
        "fault partition isolate-leader --yes",
    ],
    ("node.py", "_replace"): ["node replace 2"],
    ("playbook/runner.py", "_driven"): ["playbook run planned-hand-over --yes"],
    ("produce.py", "produce"): [f"produce {FLIGHTS} --window 1"],
}
"""Files below `esctl/commands` and the functions in them that call `on_interrupt`, with command lines."""
LINES = [line for lines in COMMANDS.values() for line in lines]
EARLY, LATER = 1, 40
"""How often a command has waited, for an answer, a disk or a timer, when Ctrl-C comes."""


def places() -> Iterator[tuple[str, str]]:
    """Where `on_interrupt` is called with something to tell."""
    directory = Path(commands.__file__).parent
    for path in sorted(directory.rglob("*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(function, ast.FunctionDef) and any(map(_tells, ast.walk(function))):
                yield str(path.relative_to(directory)), function.name


def _tells(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "on_interrupt"
        and ast.unparse(node.args[0]) != "lambda: None"
    )


def test_each_answer_to_an_interrupt_is_tried_here() -> None:
    assert set(COMMANDS) == set(places())


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    cluster = RealCluster(tmp_path_factory.mktemp("interrupted"))
    try:
        cluster.data("cluster", "up", "drill", "--faults")
        cluster.data("produce", str(FLIGHTS))
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "drill", "--confirm", "drill")


def interrupted(line: str, waits: int, cluster: RealCluster) -> subprocess.CompletedProcess[str]:
    """The command, as it ended; the cluster is well again."""
    words = [sys.executable, "-m", "tests.esctl.interrupted", str(waits), *line.split(), "-o", "json"]
    done = subprocess.run(
        words, env=cluster.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=cluster.patience_s,
    )  # fmt: skip
    cluster.run("fault", "heal", "--all")
    try:
        cluster.data("status", "health", "--wait", "1m")
    except AssertionError:
        cluster.run("cluster", "start", "drill")  # what this one left behind is no finding of the next
        raise
    return done


@pytest.mark.slow
@pytest.mark.parametrize("waits", [EARLY, LATER])
@pytest.mark.parametrize("line", LINES)
def test_what_an_interrupted_command_answers_fits_its_schema(
    line: str, waits: int, breakable: RealCluster, tmp_path: Path
) -> None:
    done = interrupted(line.format(directory=tmp_path), waits, breakable)
    assert done.returncode == 130 or waits == LATER, done.stdout + done.stderr  # else it may be over by then
    if line.split()[0] in contract.STREAMS:
        for record in done.stdout.splitlines():
            contract.check_record(line.split()[0], json.loads(record))
        return
    errors = contract.check(json.loads(done.stdout))["errors"]
    assert (done.returncode == 130) is ("ES4203" in {error["code"] for error in errors})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["produce", "e2e", "sweep", "soak"])
def test_a_first_run_that_is_interrupted_tells_what_was_acked(kind: str, breakable: RealCluster) -> None:
    (line,) = COMMANDS[f"bench/{kind}.py", kind]
    done = interrupted(line, LATER, breakable)
    data = contract.check(json.loads(done.stdout))["data"]
    assert set(data) == {"acked_in_all", "failed", "unknown"}
    assert done.returncode == 130
