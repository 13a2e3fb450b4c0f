"""Nobody there is not yes: whatever asks a person refuses with 13 where nobody can answer, unless --yes."""

import ast
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from esctl.cli.commandtable import every_command
from esctl.exits import Exit
from esctl.playbook.commandline import CONSENT, consenting
from tests.command_line import parse
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import RealCluster

SOURCE = Path(__file__).resolve().parents[3] / "esctl"


def commands_with(option: str) -> set[str]:
    """Every command that has the option, by its full name."""
    return {
        name
        for name, command in every_command().items()
        if any(option in parameter.opts for parameter in command.params)
    }


WHOLE = {
    "cluster restart": [],
    "fault freeze": [],
    "fault disk": ["flip", "2"],
    "fault storm": ["--seed", "1", "--duration", "1s"],
    "fault net": ["all", "--stall"],
    "bench failover": ["--times", "1"],
    "backup prune": ["--keep", "1", "BACKUPS"],
    "playbook run": ["leader-loss-drill"],
    "compact": ["--before", "1"],
}
"""What each command is asked while all nodes run. The first of them would end the quorum, or an event."""
ONE_DOWN = {
    "node stop": ["2"],
    "node kill": ["2"],
    "node pause": ["2"],
    "node restart": ["2"],
    "fault kill": ["2"],
    "fault pause": ["2"],
    "fault partition": ["isolate", "2"],
}
"""What each is asked while node 3 is down: the quorum would go."""
ASKS_IN_ITS_STEPS = {"playbook resume"}
"""It begins nothing: the run was confirmed when it began, and a step that asks refuses by itself."""


def test_every_command_that_may_ask_is_tried_here() -> None:
    assert commands_with(CONSENT) == {*WHOLE, *ONE_DOWN, *ASKS_IN_ITS_STEPS}


def test_only_the_guard_and_the_two_that_know_better_ask_a_person() -> None:
    asking = set()
    for path in SOURCE.rglob("*.py"):
        for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(found, ast.Attribute) and found.attr == "ask":
                owner = ast.unparse(found.value)
                asking |= {str(path.relative_to(SOURCE))} if owner.endswith("terminal") else set()
    assert asking == {"cli/guard.py", "commands/playbook/liveview.py", "commands/playbook/runner.py"}


def test_a_run_that_was_confirmed_tells_its_steps_not_to_ask() -> None:
    assert consenting(["node", "pause", "2"]) == ["node", "pause", CONSENT, "2"]
    assert consenting(["compact", "--before", "7"]) == ["compact", CONSENT, "--before", "7"]
    for words in (
        ["status"],
        ["node", "ls"],
        ["node", "pause", "2", CONSENT],
        ["fly"],
        ["fault", "heal", "x"],
    ):
        assert consenting(words) == words


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes with faults allowed, one event, and two backups of it."""
    found = RealCluster(tmp_path_factory.mktemp("nobody"))
    try:
        found.data("cluster", "up", "drill", "--faults")
        found.data("produce", "-", stdin=json.dumps({"id": "1", "source": "/s", "type": "t"}) + "\n")
        for name in ("one", "two"):
            found.data("backup", "create", "--save", str(found.home / "backups" / f"{name}.esbackup"))
        yield found
    finally:
        found.run("cluster", "destroy", "drill", "--confirm", "drill")


@pytest.fixture
def at_home(cluster: RealCluster, state_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process are about the shared cluster; their standard input is no terminal."""
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.home))


def refuses(cluster: RealCluster, name: str, words: list[str]) -> None:
    """Without a terminal and with --no-input it refuses, and says what to type."""
    backups = str(cluster.home / "backups")
    line = [*name.split(), *(backups if word == "BACKUPS" else word for word in words)]
    for more in ([], ["--no-input"]):
        done = Run(*line, *more, "-o", "json")
        assert done.code == Exit.REFUSED, (name, done.out, done.err)
        (error,) = done.document["errors"]
        assert error["code"] == "ES4201", error
        typed = shlex.split(error["next"])
        assert typed[0] == "esctl"
        assert typed[-1] == CONSENT
        assert set(line) <= set(typed)
        parse(error["next"])


def processes(cluster: RealCluster) -> list[tuple[int, str]]:
    return [(node["pid"], node["state"]) for node in cluster.data("node", "ls")["nodes"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("at_home")
def test_whatever_would_ask_refuses_where_nobody_is_there(cluster: RealCluster) -> None:
    before = processes(cluster)
    for name, words in WHOLE.items():
        refuses(cluster, name, words)
    assert processes(cluster) == before
    assert cluster.data("fault", "ls")["faults"] == []
    assert len(list((cluster.home / "backups").iterdir())) == 2
    cluster.data("node", "kill", "3")  # two of three make a quorum: this asks nothing
    before = processes(cluster)
    for name, words in ONE_DOWN.items():
        refuses(cluster, name, words)
    assert processes(cluster) == before
    paused = cluster.data("node", "pause", "2", CONSENT)
    assert paused["quorum"]["kept"] is False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_name_that_is_wrong_confirms_no_cut_even_where_nothing_is_in_the_way(cluster: RealCluster) -> None:
    for number in ("2", "3"):
        cluster.run("node", "start", number)
        cluster.run("node", "resume", number)
    cluster.data("status", "health", "--wait", "60")
    for words in (["--confirm", "other"], ["--confirm", "other", CONSENT], ["--confirm", ""]):
        done = cluster.run("compact", "--before", "1", *words, "-o", "json")
        assert done.returncode == Exit.REFUSED, done.stdout
        assert json.loads(done.stdout)["errors"][0]["next"].endswith("--cluster drill --confirm drill")
    assert cluster.data("status")["nodes"][0]["first_offset"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_after_a_cut_reading_begins_with_the_first_event_that_is_kept_and_says_so(
    cluster: RealCluster,
) -> None:
    for numbers in (range(2, 7), range(7, 12)):  # an entry each, and only whole ones are cut
        events = [json.dumps({"id": str(number), "source": "/s", "type": "t"}) for number in numbers]
        cluster.data("produce", "-", stdin="\n".join(events) + "\n")
    cluster.data("compact", "--before", "6", "--confirm", "drill")
    first = min(node["first_offset"] for node in cluster.data("status")["nodes"])
    assert first > 0
    for words in ([], ["--max", "2"], ["--node", "1"]):
        read = cluster.run("consume", *words, "-o", "plain")
        assert read.returncode == 0, read.stderr
        assert read.stdout.split("\t")[0] == str(first)
        assert f"the events before {first} are no longer kept" in read.stderr
    assert len(cluster.run("consume", "--max", "2", "-o", "plain").stdout.splitlines()) == 2
    asked = cluster.run("consume", "--from", "0", "-o", "json")
    assert json.loads(asked.stdout)["errors"][0]["next"] == f"esctl consume --from {first} --cluster drill"
