"""The commands that need no running node, as they are typed: options, errors, and the JSON contract."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from esctl.cli.commandtable import ROWS, load
from esctl.clusters import ports, state
from esctl.main import app
from esnode import __version__
from esnode.errors import declared
from tests.esctl.conftest import FakeNodes, plan


class Run:
    """One run of `esctl`."""

    def __init__(self, *words: str) -> None:
        self.result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
        self.code = self.result.exit_code
        self.out, self.err = self.result.stdout, self.result.stderr

    @property
    def unpadded(self) -> str:
        """What a pipe gets, without the blanks that align the columns."""
        return re.sub(r" +\t", "\t", self.out)

    @property
    def document(self) -> dict[str, Any]:
        loaded = json.loads(self.out)
        assert isinstance(loaded, dict)
        return loaded

    @property
    def data(self) -> dict[str, Any]:
        assert self.document["ok"] is (self.code == 0)
        found = self.document["data"]
        assert isinstance(found, dict)
        return found


@pytest.mark.parametrize(
    "words", [["version", "-o", "json"], ["-o", "json", "version"], ["--json", "version"]]
)
def test_output_options_are_taken_before_and_after_the_command(words: Sequence[str]) -> None:
    run = Run(*words)
    assert run.document["command"] == "version"
    assert run.data["esctl"] == __version__
    assert run.data["sqlite"] == sqlite3.sqlite_version


def test_esctl_alone_names_every_command_that_is_not_hidden_on_one_screen() -> None:
    run = Run()
    lines = run.out.splitlines()
    assert run.code == 0
    assert len(lines) <= 22
    assert {row.name for row in ROWS if not row.hidden} <= set(run.out.split())
    assert "esctl cluster up" in run.out


def test_a_backup_that_is_not_there_is_answered_with_those_that_are() -> None:
    for words in (["verify", "none.esbackup"], ["restore", "none.esbackup", "--name", "new"]):
        run = Run("backup", *words, "-o", "json")
        (error,) = run.document["errors"]
        assert (run.code, error["code"], error["next"]) == (2, "ES4009", "esctl backup ls")


def test_the_nearer_option_wins() -> None:
    assert Run("-o", "json", "version", "-o", "plain").out.startswith("esctl\t")


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name == "rocksdict":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    assert Run("version", "-o", "json").data["rocksdict"] is None


def test_the_environment_picks_the_output_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCTL_OUTPUT", "json")
    assert Run("version").data["esctl"] == __version__


@pytest.mark.parametrize(
    ("words", "command", "message"),
    [
        (["version", "--wrong"], "version", "No such option"),
        (["cluster", "up", "--nodes", "many"], "cluster up", "--nodes"),
        (["node", "kill"], "node kill", "Missing argument"),
        (["vresion"], "", "Did you mean 'version'"),
        (["cluster", "upp"], "cluster upp", "Did you mean 'up'"),
    ],
)
def test_a_wrong_command_line_exits_2_with_the_help_to_read(
    words: list[str], command: str, message: str
) -> None:
    run = Run(*words)
    assert run.code == 2
    assert message in run.err
    assert "--help" in run.err
    document = Run(*words, "-o", "json").document
    assert (document["ok"], document["command"]) == (False, command)
    assert document["errors"][0]["code"] == "ES4000"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_command_of_the_list_loads_and_shows_help(row: Any) -> None:
    assert load(row).name == row.name
    run = Run(row.name, "--help")
    assert run.code == 0
    assert f"esctl {row.name}" in run.out
    assert (f"\n  {row.name} " in Run("--help").out) is not row.hidden
    assert not row.help.endswith(".")


def test_explain_tells_cause_outcome_and_next_step() -> None:
    data = Run("explain", "es1203", "-o", "json").data
    assert data["code"] == "ES1203"
    assert data["definite"] is False
    assert data["exit_code"] == 124
    assert "esctl status health" in data["next"]
    assert "it may have been done" in Run("explain", "ES1203").out
    assert "the check was made, and changed nothing" in Run("explain", "ES4303").out


def test_explain_lists_every_code_and_refuses_an_unknown_one() -> None:
    listed = [error["code"] for error in Run("explain", "-o", "json").data["errors"]]
    assert listed == list(declared())
    run = Run("explain", "ES0000", "-o", "json")
    assert run.code == 2
    assert run.document["errors"][0]["code"] == "ES4010"


@pytest.mark.parametrize(
    ("shell", "word"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_completion_prints_the_shells_script(shell: str, word: str) -> None:
    run = Run("completion", shell)
    assert word in run.out
    assert "_ESCTL_COMPLETE" in run.out


def test_doctor_finds_this_machine_fit_and_measures_its_disk(tmp_path: Path) -> None:
    run = Run("doctor", "--data-dir", str(tmp_path), "-o", "json")
    checks = {check["check"]: check for check in run.data["checks"]}
    # What other tests leave running for a moment is found, too.
    bad = [name for name, check in checks.items() if check["result"] == "bad"]
    assert not [name for name in bad if not name.startswith(("process ", "cluster "))]
    assert run.code == (10 if bad else 0)
    assert checks["python"]["result"] == "ok"
    assert str(tmp_path) in checks["fsync"]["found"]
    assert "median" in checks["fsync"]["found"]


def test_doctor_reports_clusters_whose_files_are_gone(tmp_path: Path) -> None:
    state.add(plan("lost", tmp_path / "gone"))
    run = Run("doctor", "-o", "json")
    assert run.code == 10
    (finding,) = [check for check in run.data["checks"] if check["check"] == "cluster lost"]
    assert finding["result"] == "bad"
    assert finding["next"] == "esctl cluster destroy lost"


def test_doctor_finds_nodes_that_ended_and_cleans_up_when_told(
    fakes: FakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cluster's ports are not held while its node is down: a node of another test may listen there.
    monkeypatch.setattr(ports, "is_free", lambda *_: True)
    note = fakes.cluster.directory / "node-2.pid"
    note.write_text('{"pid": 4194305, "start_ticks": 1, "boot": "x", "marker": "x"}')

    def finding(*words: str) -> dict[str, str]:
        checks = Run("doctor", "-o", "json", *words).data["checks"]
        (found,) = [check for check in checks if check["check"] == "cluster fake"]
        return dict(found)

    assert finding()["result"] == "warning"
    assert note.exists()
    assert finding("--fix")["result"] == "ok"
    assert not note.exists()


def test_doctor_finds_nodes_that_belong_to_no_cluster() -> None:
    words = [sys.executable, "-c", "input()", "esnode", "--config", "/nowhere/node-1.toml"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as stray:
        checks = {check["check"]: check for check in Run("doctor", "-o", "json").data["checks"]}
        stray.communicate(b"\n")
    assert checks[f"process {stray.pid}"]["next"] == f"kill {stray.pid}"


def test_doctor_tells_nobody_to_kill_a_node_that_is_noted_elsewhere(tmp_path: Path) -> None:
    config = tmp_path / "node-1.toml"
    config.touch()
    words = [sys.executable, "-c", "input()", "esnode", "--config", str(config)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as neighbour:
        checks = {check["check"]: check for check in Run("doctor", "-o", "json").data["checks"]}
        neighbour.communicate(b"\n")
    assert f"process {neighbour.pid}" not in checks
    finding = checks["processes"]
    assert (finding["result"], finding["next"]) == ("ok", "")
    assert "XDG_STATE_HOME" in finding["found"]


def test_without_a_cluster_the_error_names_the_command_that_makes_one() -> None:
    for words in (["node", "ls"], ["cluster", "start"], ["logs"], ["cluster", "wait"]):
        run = Run(*words)
        assert run.code == 1
        assert "esctl cluster up" in run.err
    assert Run("cluster", "ls", "-o", "json").data == {"clusters": []}


def test_the_cluster_is_named_by_option_or_environment_or_is_the_only_one(
    make_fakes: Callable[..., FakeNodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fakes("one")
    assert Run("node", "ls", "-o", "json").data["name"] == "one"
    make_fakes("two")
    run = Run("node", "ls", "-o", "json")
    assert run.code == 2
    assert run.document["errors"][0]["code"] == "ES4004"
    assert Run("node", "ls", "-c", "two", "-o", "json").data["name"] == "two"
    assert Run("--cluster", "two", "node", "ls", "-o", "json").data["name"] == "two"
    monkeypatch.setenv("ESCTL_CLUSTER", "one")
    assert Run("node", "ls", "-o", "json").data["name"] == "one"


def test_a_node_that_is_down_is_a_row_too(fakes: FakeNodes) -> None:
    nodes = Run("node", "ls", "-o", "json").data["nodes"]
    assert [(node["id"], node["state"], node["pid"]) for node in nodes] == [
        (n, "down", None) for n in (1, 2, 3)
    ]
    assert Run("node", "ls").unpadded.count("\tdown\t") == 3


def test_up_refuses_a_name_that_is_taken_and_says_what_helps(fakes: FakeNodes) -> None:
    run = Run("cluster", "up", "fake", "-o", "json")
    assert run.code == 1
    (error,) = run.document["errors"]
    assert error["code"] == "ES4001"
    assert "esctl cluster start fake" in error["next"]


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["--nodes", "4"], "ES4009", 2),
        (["a/b"], "ES4005", 2),
        (["--base-port", "TAKEN"], "ES4101", 1),
        (["--data-dir", "OTHERS"], "ES4104", 1),
    ],
)
def test_up_changes_nothing_when_it_cannot_be_done(
    fakes: FakeNodes, words: list[str], code: str, exit_code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"TAKEN": str(taken.getsockname()[1]), "OTHERS": str(fakes.cluster.data_dir)}
        before = sorted(fakes.cluster.data_dir.rglob("*"))
        run = Run("cluster", "up", *(values.get(word, word) for word in words), "-o", "json")
    assert run.code == exit_code
    (error,) = run.document["errors"]
    assert error["code"] == code
    assert error["next"]
    assert state.names() == ["fake"]
    assert sorted(fakes.cluster.data_dir.rglob("*")) == before


def test_dry_runs_say_what_would_be_and_change_nothing(fakes: FakeNodes, tmp_path: Path) -> None:
    would = Run(
        "cluster", "up", "new", "--nodes", "5", "--data-dir", str(tmp_path / "new"), "-n", "-o", "json"
    ).data
    assert would["dry_run"] is True
    assert len(would["addresses"]) == 5
    assert state.names() == ["fake"]
    assert not (tmp_path / "new").exists()
    kill = Run("node", "kill", "1", "--dry-run", "-o", "json").data
    assert kill["quorum"] == {"needed": 2, "running_before": 0, "running_after": 0, "kept": False}
    for words in (["cluster", "start"], ["cluster", "stop"], ["cluster", "destroy"], ["node", "start", "1"]):
        assert Run(*words, "-n", "-o", "json").data["dry_run"] is True
    assert fakes.states() == ["down"] * 3
    assert state.names() == ["fake"]


def test_what_is_said_of_a_nodes_data_is_said_once_and_before_it_runs(fakes: FakeNodes) -> None:
    both = Run("node", "start", "1", "--rejoin", "--trust-copy", "-o", "json")
    assert "contradict each other" in str(both.document["errors"][0])
    pid = Run("node", "start", "1", "-o", "json").data["pid"]
    late = Run("node", "start", "1", "--rejoin", "-o", "json")
    # Not to stop it: it may lead, and be well.
    assert late.document["errors"][0]["next"] == "esctl node replace 1 --cluster fake"
    mixed = Run("cluster", "start", "--trust-copy", "-o", "json")
    assert mixed.document["errors"][0]["next"] == "esctl cluster stop fake"
    assert both.code == late.code == mixed.code == 2
    assert fakes.pids() == [pid, None, None]


def test_a_cluster_that_was_moved_is_started_with_one_word(fakes: FakeNodes) -> None:
    assert Run("cluster", "start", "--trust-copy", "-o", "json").code == 0
    for pid in fakes.pids():
        assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] == b"--trust-copy"


def test_destroy_wants_the_name_and_then_leaves_nothing(fakes: FakeNodes) -> None:
    for words in ([], ["--confirm", "other"], ["--no-input"]):
        run = Run("cluster", "destroy", "fake", *words, "-o", "json")
        assert run.code == 13
        assert run.document["errors"][0]["next"] == "esctl cluster destroy fake --confirm fake"
    assert fakes.cluster.data_dir.exists()
    assert Run("cluster", "destroy", "fake", "--confirm", "fake", "-o", "json").data["name"] == "fake"
    assert not fakes.cluster.data_dir.exists()
    assert state.names() == []


def test_node_commands_refuse_unknown_and_dead_nodes(fakes: FakeNodes) -> None:
    assert Run("node", "kill", "9", "-o", "json").document["errors"][0]["code"] == "ES4006"
    for verb in ("kill", "pause", "resume"):
        run = Run("node", verb, "1", "-o", "json")
        assert run.code == 1
        assert run.document["errors"][0]["next"] == "esctl node start 1 --cluster fake"
    run = Run("cluster", "wait", "-o", "json")
    assert run.document["errors"][0]["code"] == "ES4007"


def test_stopping_what_is_down_is_no_error_and_is_not_called_stopped(fakes: FakeNodes) -> None:
    run = Run("node", "stop", "1")
    assert run.code == 0
    assert run.out == "node 1 is down already: 0 of 3 nodes running, 2 needed: no quorum: nothing is acked\n"


def test_producing_into_a_cluster_that_is_not_started_says_how_to_start_it(
    fakes: FakeNodes, tmp_path: Path
) -> None:
    events = tmp_path / "events.ndjson"
    events.write_text('{"id": "1", "source": "/shop", "type": "order.placed"}\n')
    run = Run("produce", str(events), "--timeout", "0.5", "-o", "json")
    assert run.code == 124
    assert (run.document["data"]["acked"], run.document["data"]["unknown"]) == (0, 0)
    (error,) = run.document["errors"]
    assert error["message"].startswith("no node of cluster fake runs")
    assert error["next"].startswith("esctl cluster start fake;")


@pytest.mark.parametrize("words", ["esctl status --cluster f", "esctl cluster stop f", "esctl -c f"])
def test_a_shell_completes_the_names_of_clusters(fakes: FakeNodes, words: str) -> None:
    last = str(len(words.split()) - 1)
    place = {"COMP_WORDS": words, "COMP_CWORD": last, "_ESCTL_COMPLETE": "complete_bash"}
    shell = subprocess.run(
        [sys.executable, "-m", "esctl.main"],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split() == ["fake"]


def test_a_command_that_does_not_exist_is_answered_with_the_help_of_its_group() -> None:
    for words, helps in ((("cluster", "fly"), "cluster"), (("completion", "tcsh"), "completion")):
        run = Run(*words, "-o", "json")
        assert run.code == 2
        assert run.document["errors"][0]["next"] == f"esctl {helps} --help"
        assert Run(*helps.split(), "--help").code == 0


def test_the_next_step_names_the_cluster_that_was_asked_about(fakes: FakeNodes, tmp_path: Path) -> None:
    state.add(plan("other", tmp_path / "other"))
    run = Run("node", "kill", "9", "-c", "fake", "-o", "json")
    assert run.document["errors"][0]["next"] == "esctl node ls --cluster fake"


def test_flags_are_not_shown_as_if_they_took_a_value() -> None:
    line = next(line for line in Run("produce", "--help").out.splitlines() if "--strict" in line)
    assert "bool" not in line


def test_the_first_page_fits_in_80_columns() -> None:
    usage, _, lead, *lines = Run("--help").out.splitlines()
    assert usage.startswith("Usage:")
    assert "EventStreamCore" in lead
    assert max(map(len, lines)) <= 80


def test_one_damaged_cluster_does_not_hide_the_others(fakes: FakeNodes, tmp_path: Path) -> None:
    damaged = plan("bad", tmp_path / "bad")
    state.add(damaged)
    (damaged.directory / "cluster.json").write_text("{")
    run = Run("cluster", "ls", "-o", "json")
    assert run.code == 1
    assert [each["name"] for each in run.data["clusters"]] == ["fake"]
    assert run.document["errors"][0]["code"] == "ES4105"


def test_logs_are_merged_filtered_and_cut_to_a_tail(fakes: FakeNodes) -> None:
    for node in fakes.cluster.nodes:
        lines = [
            {
                "time": f"2013-01-01T00:00:0{second}.{node.id}00Z",
                "level": level,
                "node": node.id,
                "event": f"e{second}",
            }
            for second, level in enumerate(("info", "debug", "error"))
        ]
        node.log.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def events(*words: str) -> list[tuple[int, str]]:
        lines = [json.loads(line) for line in Run("logs", "-o", "json", *words).out.splitlines()]
        return [(line["node"], line["event"]) for line in lines]

    assert events() == [(node, f"e{second}") for second in range(3) for node in (1, 2, 3)]
    assert events("--level", "error") == [(1, "e2"), (2, "e2"), (3, "e2")]
    assert events("--node", "3", "--node", "1", "--level", "info") == [
        (1, "e0"),
        (3, "e0"),
        (1, "e2"),
        (3, "e2"),
    ]
    assert events("--tail", "2") == [(2, "e2"), (3, "e2")]
    assert "node-2 error" in Run("logs", "--level", "error").out
