"""The audit log: what is noted of a command, that none is forgotten, and that an edit shows."""

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from esctl.cli import auditlog
from esctl.cli.auditlog import AuditLog, NotedCommand
from esctl.cli.commandtable import every_command
from esctl.cli.invocation import Invocation, SharedOptions, command, new_typer
from esctl.cli.timearguments import moment
from esctl.clusters import state
from esctl.errors import InvalidTime
from esctl.ui.answer import Answer
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes, plan

COMMANDS = every_command()
CHANGES = {name for name, one in COMMANDS.items() if one.callback.declared.changes}


# --- no command forgets --------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_with_a_dry_run_is_in_the_audit_log(name: str) -> None:
    options = {parameter.name for parameter in COMMANDS[name].params}
    assert "dry_run" not in options or name in CHANGES


def test_the_commands_that_change_a_cluster_are_known_to_be_such() -> None:
    reading = {
        "cluster": {"ls", "wait"},
        "node": {"ls"},
        "leader": {"show"},
        "fault": {"ls", "coverage"},
    }
    for name in COMMANDS:
        group, _, verb = name.partition(" ")
        if group in reading:
            assert (name in CHANGES) is (verb not in reading[group]), name


def test_a_command_that_takes_the_lock_without_saying_so_is_found_out(fakes: FakeNodes) -> None:
    with (
        pytest.raises(AssertionError, match="changes=True"),
        Invocation("sneaky", SharedOptions()).changing(),
    ):
        pytest.fail("it has the lock")


# --- what is noted -------------------------------------------------------------------------------


def test_a_command_is_noted_before_it_acts_and_after(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = state.locked

    def looking(name: str, waiting: Callable[[str], None]) -> Any:
        seen.append([json.loads(line)["what"] for line in AuditLog("fake").lines()])
        return real(name, waiting)

    monkeypatch.setattr(state, "locked", looking)
    assert Run("node", "stop", "1", "--timeout", "2.5", "-o", "json").code == 0
    assert seen == [["intent"]]
    (entry,) = AuditLog("fake").entries()
    assert entry.line == "esctl node stop 1 --timeout 2.5s"
    assert (entry.command, entry.cluster, entry.pid, entry.exit_code) == ("node stop", "fake", os.getpid(), 0)
    assert entry.user == auditlog.user()
    assert abs(datetime.fromisoformat(entry.time) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_dry_run_and_a_question_are_not_noted(fakes: FakeNodes) -> None:
    for words in (["node", "stop", "1", "-n"], ["node", "ls"], ["audit"]):
        assert Run(*words).code == 0
    assert AuditLog("fake").entries() == []


def test_a_refusal_is_noted_with_its_error(fakes: FakeNodes) -> None:
    assert Run("cluster", "destroy", "--no-input").code == 13
    (entry,) = AuditLog("fake").entries()
    assert (entry.exit_code, entry.error) == (13, "ES4201")
    _, row = Run("audit").unpadded.splitlines()
    assert row.split("\t")[1:] == [auditlog.user(), "esctl cluster destroy", "exit 13 ES4201"]


def test_the_audit_log_outlives_the_cluster_and_goes_on_with_the_next_of_its_name(
    fakes: FakeNodes, make_fakes: Callable[..., FakeNodes]
) -> None:
    assert Run("cluster", "destroy", "--confirm", "fake").code == 0
    assert state.names() == []
    assert [e["command"] for e in Run("audit", "-o", "json").data["entries"]] == ["cluster destroy"]
    make_fakes("fake")
    assert Run("node", "stop", "2").code == 0
    entries = Run("audit", "-c", "fake", "-o", "json").data["entries"]
    assert [entry["command"] for entry in entries] == ["cluster destroy", "node stop"]
    assert Run("audit", "--verify").code == 0


def test_a_bug_is_noted_as_one(fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esctl.commands.node._look", lambda *_: 1 / 0)
    assert Run("node", "stop", "1").code == 1
    (entry,) = AuditLog("fake").entries()
    assert (entry.exit_code, entry.error) == (1, "ES9001")


def test_paths_and_secrets_are_left_out_of_the_line() -> None:
    app = new_typer()
    lines: list[str] = []

    @command(app, "go", changes=True)
    def go(
        run: Invocation,
        file: Annotated[Path, typer.Argument(metavar="FILE")],
        words: Annotated[list[str], typer.Option("--word")],
        api_token: Annotated[str, typer.Option("--api-token")] = "",
        inputs: Annotated[list[str] | None, typer.Option("--input")] = None,
        deep: Annotated[bool, typer.Option("--deep/--no-deep")] = True,
    ) -> Answer[Any]:
        """Try"""
        run.intend("probe")
        lines.extend(entry.line for entry in AuditLog("probe").entries())
        return Answer()

    words = ["my file", "--word", "two words", "--word", "/etc/x", "--api-token", "hunter2", "--no-deep"]
    words += ["--input", "Db_Password=hunter2", "--input", "rate=5"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (line,) = lines
    assert line.endswith(
        "<path> --word 'two words' --word <path> --api-token <secret> --input Db_Password=<secret> --input"
        " rate=5 --no-deep"
    )


def test_a_line_that_is_very_long_is_cut_and_the_chain_holds() -> None:
    found = AuditLog("long")
    NotedCommand(found, "produce", "esctl produce " + "\N{GRINNING FACE}" * 50_000).ended(0, None)
    NotedCommand(found, "node stop", "esctl node stop 1").ended(0, None)
    assert found.breaks() == []
    assert found.entries()[0].line.endswith("\N{GRINNING FACE}...")


def test_a_record_that_lacks_its_parts_is_told_and_passed_over() -> None:
    found = AuditLog("odd")
    found.append({"what": "intent", "time": "now"})
    found.append({"what": "intent", "run": "a", "time": "?", "user": 5, "line": None})
    assert [one.line for one in found.breaks()] == [1]
    state.add(plan("odd", state.clusters_root()))
    for words in ([], ["--since", "1h"], ["--user", "kim"]):
        assert Run("audit", "--cluster", "odd", *words).code == 0
    assert Run("audit", "--cluster", "odd", "--since", "99999999999d", "-o", "json").code == 2


def test_a_command_whose_audit_log_cannot_be_written_warns_and_acts(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AuditLog, "append", full)
    run = Run("node", "stop", "1")
    assert run.code == 0
    assert "not in the audit log: No space left on device" in run.err


def test_a_command_that_was_killed_has_no_outcome(fakes: FakeNodes) -> None:
    NotedCommand(AuditLog("fake"), "cluster restart", "esctl cluster restart --rolling")
    assert "killed, or it runs still" in Run("audit").out


def test_the_audit_log_is_filtered_by_user_and_time(fakes: FakeNodes) -> None:
    NotedCommand(AuditLog("fake"), "node stop", "esctl node stop 1")
    for words, count in (
        (["--user", "nobody-else"], 0),
        (["--user", auditlog.user()], 1),
        (["--since", "1h"], 1),
    ):
        assert len(Run("audit", *words, "-o", "json").data["entries"]) == count
    assert Run("audit", "--since", "2999-01-01", "-o", "json").data["entries"] == []


def test_a_time_is_so_long_ago_or_a_date() -> None:
    now = datetime(2013, 1, 10, tzinfo=UTC)
    assert moment("2d", now) == moment("48h ago", now) == moment("2013-01-08", now)
    with pytest.raises(InvalidTime):
        moment("yesterday", now)


# --- the chain -----------------------------------------------------------------------------------


@pytest.fixture
def chain() -> AuditLog:
    """Three commands, six lines."""
    found = AuditLog("chain")
    for number in range(3):
        NotedCommand(found, "node stop", f"esctl node stop {number}").ended(0, None)
    return found


def rewrite(chain: AuditLog, change: Callable[[list[bytes]], list[bytes]]) -> None:
    chain.path.write_bytes(b"".join(line + b"\n" for line in change(list(chain.lines()))))


def test_each_line_holds_the_hash_of_the_one_before(chain: AuditLog) -> None:
    assert len(list(chain.lines())) == 6
    assert chain.breaks() == []
    assert chain.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda lines: [lines[0].replace(b"stop 0", b"stop 9"), *lines[1:]], 2),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: [*lines[:4], lines[1], *lines[4:]], 5),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:3], lines[4], lines[3], lines[5]], 4),
    ],
    ids=["changed", "taken out", "added", "begun later", "swapped"],
)
def test_an_edit_shows_and_where(
    chain: AuditLog, change: Callable[[list[bytes]], list[bytes]], where: int
) -> None:
    rewrite(chain, change)
    assert chain.breaks()[0].line == where
    run = Run("audit", "-c", "chain", "--verify", "-o", "json")
    assert run.code == 11
    assert run.document["errors"][0]["code"] == "ES4205"
    assert run.document["data"]["breaks"][0]["line"] == where


def test_a_line_that_a_full_disk_cuts_short_is_taken_back(
    chain: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write, left = chain.path.read_bytes(), os.write, [40]

    def full(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[: left[0]])
        left[0] -= written
        return written

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            chain.append({"what": "intent", "run": "1", "line": "esctl node kill 1"})
    assert chain.path.read_bytes() == before
    chain.append({"what": "intent", "run": "2", "line": "esctl node kill 1"})
    assert list(chain.breaks()) == []


def test_a_line_torn_by_a_crash_is_told_and_the_chain_goes_on_after_it(chain: AuditLog) -> None:
    with chain.path.open("ab") as file:
        file.write(b'{"what":"int')
    NotedCommand(chain, "node stop", "esctl node stop 7").ended(0, None)
    assert [one.line for one in chain.breaks()] == [7]
    assert [entry.line for entry in chain.entries()][-1] == "esctl node stop 7"
