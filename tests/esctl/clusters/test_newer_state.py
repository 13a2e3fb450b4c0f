"""What a newer esctl has written is refused by name, and no byte of it is changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from esctl.cli import auditlog
from esctl.clusters import state
from esctl.errors import NewerState, StateUnreadable
from esctl.playbook import journal
from tests.esctl.commands.test_commands import Run
from tests.esctl.situations import CLUSTER


def newer_cluster(number: object = 2) -> Path:
    state.add(CLUSTER)
    path = CLUSTER.directory / "cluster.json"
    document = json.loads(path.read_text()) | {"schema": f"esctl-cluster/v{number}", "quorums": [1]}
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("cluster", "start", "drill"),
        ("cluster", "destroy", "drill", "--confirm", "drill"),
        ("node", "start", "1"),
        ("cluster", "up", "drill"),
    ],
)
def test_the_description_of_a_newer_cluster_is_refused_and_untouched(
    state_home: Path, words: tuple[str, ...]
) -> None:
    path = newer_cluster()
    before = path.read_bytes()
    run = Run(*words)
    assert run.code == 1
    assert "ES3134" in run.err
    assert "cluster.json is of format 2, and this esctl reads up to 1" in run.err
    assert path.read_bytes() == before


@pytest.mark.parametrize("number", ["", "x", "-2", 0])
def test_a_description_of_no_known_format_is_unreadable_and_not_newer(
    state_home: Path, number: object
) -> None:
    newer_cluster(number)
    with pytest.raises(StateUnreadable) as caught:
        state.load("drill")
    assert type(caught.value) is StateUnreadable


def test_a_run_that_a_newer_esctl_has_written_is_neither_read_nor_gone_on_with(state_home: Path) -> None:
    directory = journal.runs_root() / "drill-1"
    directory.mkdir(parents=True)
    path = directory / journal.JOURNAL
    path.write_text(json.dumps({"n": 0, "at": 1.0, "event": "run", "format": 2}) + "\nhalf a li")
    before = path.read_bytes()
    doors: list[Callable[[Path], object]] = [journal.read, journal.Journal]
    for door in doors:
        with pytest.raises(NewerState, match="of format 2"):
            door(directory)
        assert path.read_bytes() == before


def test_nothing_is_added_to_the_audit_log_of_a_newer_esctl(state_home: Path) -> None:
    noted = auditlog.NotedCommand(auditlog.AuditLog("drill"), "node stop", "esctl node stop 1")
    with noted._log.path.open("a") as file:
        file.write(json.dumps({"format": 2, "run": "abc", "what": "newer"}) + "\n")
    before = noted._log.path.read_bytes()
    with pytest.raises(NewerState):
        noted.ended(0, None)
    with pytest.raises(NewerState):
        auditlog.AuditLog("drill").entries()
    assert noted._log.path.read_bytes() == before


def test_a_command_goes_on_without_an_audit_log_that_a_newer_esctl_keeps(state_home: Path) -> None:
    state.add(CLUSTER)
    path = auditlog.AuditLog("drill").path
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"format": 2, "run": "abc", "what": "newer"}) + "\n")
    before = path.read_bytes()
    run = Run("cluster", "stop", "drill")
    assert run.code == 0
    assert "this command is not in the audit log" in run.err
    assert path.read_bytes() == before
