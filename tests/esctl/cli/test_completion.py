"""Completion as the shells ask for it: by the variables that their functions set, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import typer

from esctl.cli import candidates, settings
from esctl.clusters import state
from esctl.faults import leases
from tests.esctl.conftest import FakeNodes


def completed(words: str, shell: str = "bash") -> str:
    """What the shell is told for the last word of `words`, which may be empty."""
    variables = {
        "_ESCTL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    run = subprocess.run(
        [sys.executable, "-m", "esctl.main"], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_told_the_nodes_of_the_cluster_that_is_named(
    make_fakes: Callable[..., FakeNodes], shell: str
) -> None:
    make_fakes("one", count=1)
    three = make_fakes("three")
    told = completed("esctl -c three node drain ", shell)
    assert [line[:2].strip('" \t') for line in told.replace("_arguments '*: :((", "").splitlines()] == [
        "1",
        "2",
        "3",
    ]
    if shell != "bash":  # the others show what a word means
        assert three.cluster.nodes[0].client.rpartition(":")[2] in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("esctl clus", ["cluster"]),
        ("esctl status ", ["health", "metrics"]),
        ("esctl status --time", ["--timeout"]),
        ("esctl status health --wai", ["--wait"]),
        ("esctl event tr", ["trace"]),
        ("esctl event 5 --sou", ["--source"]),
        ("esctl config context a", ["add"]),
        ("esctl cluster rest", ["restart"]),
        ("esctl config explain no_", ["no_color", "no_input"]),
        ("esctl schema bench f", ["failover"]),
        ("esctl explain ES4120", ["ES4120"]),
        ("esctl playbook show leader-l", ["leader-loss-drill"]),
        ("esctl playbook new my-drill --from slow", ["slow-follower"]),
    ],
)
def test_commands_keys_and_codes_are_completed(words: str, told: list[str]) -> None:
    assert completed(words).split() == told


def context(**parameters: object) -> typer.Context:
    made = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    made.params = dict(parameters)
    return made


def test_the_default_cluster_is_completed_for_too(fakes: FakeNodes) -> None:
    assert [word for word, _ in candidates.nodes(context(), "")] == ["1", "2", "3"]
    assert candidates.nodes(context(cluster="gone"), "") == []
    state.remove("fake")
    assert candidates.nodes(context(), "") == []


def test_a_broken_configuration_ends_in_no_candidates(fakes: FakeNodes) -> None:
    path = settings.user_file()
    path.parent.mkdir(parents=True)
    path.write_text("nonsense = 1\n")
    assert candidates.nodes(context(), "") == []


def test_faults_that_go_on_are_completed_while_the_nodes_are_down(fakes: FakeNodes) -> None:
    notes = fakes.cluster.directory / "faults"
    notes.mkdir()
    one = leases.StoppedNode("kill-1a2b", "kill", 1, 60_000, 4e9, struck=True)
    state.write_atomically(notes / "kill-1a2b.json", json.dumps(asdict(one)))
    assert candidates.faults(context(), "kill") == [("kill-1a2b", "kill")]
    assert candidates.faults(context(), "cut") == []


def test_the_words_of_a_schema_are_completed_one_by_one() -> None:
    first = [word for word, _ in candidates.commands_with_schema(context(), "")]
    assert first.count("cluster") == 1
    assert ("up", "") in candidates.commands_with_schema(context(words=["cluster"]), "u")


def test_there_are_no_candidates_outside_of_any_cluster(tmp_path: Path) -> None:
    assert candidates.nodes(context(), "") == candidates.faults(context(), "") == []
