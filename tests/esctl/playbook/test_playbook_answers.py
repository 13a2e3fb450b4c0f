"""`esctl playbook run` and what belongs to it, as typed: refusals, exit codes, reports. No node runs."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from http.client import BadStatusLine, InvalidURL
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.cli.auditlog import AuditLog
from esctl.clusters import state
from esctl.commands.playbook import outcome
from esctl.commands.playbook.liveview import AtTerminal, load_line
from esctl.exits import Exit
from esctl.playbook import actions, journal, report
from esctl.playbook.execution import STOP_S, ChildProcesses, Reply, reply_of
from esctl.playbook.page import page
from esctl.playbook.prepared import PreparedAction
from esctl.playbook.progress import progress_of
from esctl.playbook.schema import Action, ActionKind
from esctl.playbookerrors import UndoIncomplete
from esctl.query import survey as surveys
from esctl.query.survey import Survey
from esctl.ui.terminal import Terminal
from tests.esctl.commands.test_commands import Run
from tests.esctl.commands.test_status_and_verify import HEALTHY, ONE_DOWN
from tests.esctl.conftest import plan
from tests.esctl.playbook_world import HEAD, failing

DOC = 'doc = "So that the linter has nothing to say about it here at all"\n'
GOOD = f'[[step]]\nid = "look"\nkind = "check"\nexpect = ["status.voters_up == 3"]\n{DOC}'
BAD = GOOD.replace("== 3", "== 7")
UNASKED = GOOD + 'confirm = "Is that so?"\n'
APPROVED = f'[[step]]\nid = "may"\nkind = "approve"\nwith = {{ question = "May it?" }}\n{DOC}' + GOOD


@pytest.fixture(autouse=True)
def _three_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that was made, and says that all is well."""
    state.add(plan("drill", tmp_path / "drill"))
    looks_like(HEALTHY, monkeypatch)


def looks_like(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: Any, **__: Any) -> Survey:
        return survey

    monkeypatch.setattr(surveys, "ask", ask)


def written(tmp_path: Path, steps: str, head: str = HEAD) -> str:
    path = tmp_path / "drill.toml"
    path.write_text(head + DOC + steps)
    return str(path)


def code_of(run: Run) -> str:
    return str(run.document["errors"][0]["code"])


@pytest.mark.parametrize(
    ("steps", "exit_code", "verdict"),
    [
        (GOOD, Exit.OK, "pass"),
        (BAD, Exit.VERDICT_FAILED, "fail"),
        (UNASKED, Exit.INCONCLUSIVE, "inconclusive"),
    ],
)
def test_the_exit_code_is_the_verdict(tmp_path: Path, steps: str, exit_code: Exit, verdict: str) -> None:
    run = Run("playbook", "run", written(tmp_path, steps), "-o", "json")
    assert run.code == exit_code, run.out + run.err
    assert run.data["verdict"] == verdict
    assert run.data["steps"][0]["step"] == "look"
    assert (tmp_path / "state" / "esctl" / "runs" / run.data["run"] / "playbook.toml").is_file()


def test_without_a_terminal_there_is_a_plain_line_for_each_event(tmp_path: Path) -> None:
    run = Run("playbook", "run", written(tmp_path, BAD))
    assert "\x1b" not in run.out
    assert "✗ look" in run.out
    assert "expected status.voters_up == 7, was 3" in run.out
    assert "verdict: fail" in run.out
    assert "error ES4525" in run.err


def test_an_interrupted_run_is_told_by_one_error_only(tmp_path: Path) -> None:
    assert Run("playbook", "run", written(tmp_path, UNASKED)).code == Exit.INCONCLUSIVE
    (name,) = journal.run_ids()
    directory = journal.runs_root() / name
    progress = progress_of(journal.read(directory))
    assert [error.code for error in outcome.answer_of(progress, directory).errors] == ["ES4526"]
    cut = outcome.cut_short(progress, directory)  # what tells of Ctrl-C adds its own
    assert cut.errors == []
    assert cut.data["verdict"] == "inconclusive"


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    run = Run("playbook", "run", written(tmp_path, GOOD), "--dry-run", "-o", "json")
    assert run.data["dry_run"]
    assert journal.run_ids() == []


def test_a_severe_risk_wants_the_name_of_the_cluster(tmp_path: Path) -> None:
    path = written(tmp_path, APPROVED, HEAD.replace("low", "severe"))
    for words in ([], ["--yes"], ["--confirm", "other"]):
        refused = Run("playbook", "run", path, "-o", "json", *words)
        assert refused.code == Exit.REFUSED
        assert refused.document["errors"][0]["next"].endswith("--cluster drill --confirm drill")
    assert Run("playbook", "run", path, "-o", "json", "--confirm", "drill", "--yes").code == Exit.OK


def test_a_cluster_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "[requires]\nnodes = 5\n" + GOOD)
    refused = Run("playbook", "run", path, "-o", "json")
    assert refused.code == Exit.REFUSED
    assert "wants 5 nodes" in refused.document["errors"][0]["message"]


def test_a_plan_that_no_longer_stands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, saved = written(tmp_path, GOOD), tmp_path / "plan.json"
    assert Run("playbook", "plan", path, "--save", str(saved)).code == Exit.OK
    assert Run("playbook", "run", path, "--plan", str(saved), "-o", "json").code == Exit.OK
    looks_like(ONE_DOWN, monkeypatch)
    refused = Run("playbook", "run", path, "--plan", str(saved), "-o", "json")
    assert (refused.code, code_of(refused)) == (Exit.REFUSED, "ES4524")
    assert "node 3 answers no longer" in refused.document["errors"][0]["message"]
    looks_like(HEALTHY, monkeypatch)
    written(tmp_path, GOOD + "\n# another one\n")
    refused = Run("playbook", "run", path, "--plan", str(saved), "-o", "json")
    assert "has changed" in refused.document["errors"][0]["message"]


def test_a_run_that_is_refused_at_the_last_look_leaves_no_run_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [HEALTHY]

    async def ask(*_: Any, **__: Any) -> Survey:
        return looks.pop() if looks else ONE_DOWN

    monkeypatch.setattr(surveys, "ask", ask)
    refused = Run("playbook", "run", written(tmp_path, GOOD), "-o", "json")
    assert (refused.code, code_of(refused)) == (Exit.REFUSED, "ES4524")
    listed = Run("playbook", "runs", "-o", "json")
    assert (listed.code, listed.data["runs"]) == (Exit.OK, [])


def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a run that was cut off before its verdict."""
    name = str(Run("playbook", "run", written(tmp_path, BAD), "-o", "json").data["run"])
    path = journal.runs_root() / name / journal.JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    begun = next(n for n, line in enumerate(lines) if '"event":"step-begins"' in line)
    path.write_text("".join(lines[: begun + 1]))
    return name


def test_to_go_on_and_to_take_back_are_in_the_audit_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cut_off(tmp_path, monkeypatch)
    assert Run("playbook", "resume", name).code == Exit.VERDICT_FAILED
    assert Run("playbook", "abort", name).code == Exit.OK
    entries = AuditLog("drill").entries()
    assert [(one.command, one.exit_code) for one in entries[-2:]] == [
        ("playbook resume", Exit.VERDICT_FAILED),
        ("playbook abort", Exit.OK),
    ]


def test_a_run_does_not_go_on_on_another_cluster_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cut_off(tmp_path, monkeypatch)
    now = state.load("drill")
    state.remove("drill")
    state.add(replace(now, identity="another"))
    refused = Run("playbook", "resume", name, "-o", "json")
    assert (refused.code, code_of(refused)) == (Exit.REFUSED, "ES4524")
    assert "another" in refused.document["errors"][0]["message"]
    assert f"playbook abort {name}" in refused.document["errors"][0]["next"]


def test_a_cluster_that_outlives_its_rehearsal_is_told_beside_how_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: ChildProcesses, words: Sequence[str], timeout_s: float) -> Reply:
        if words[1] == "up":
            state.add(plan(words[2], tmp_path / words[2]))
        return failing("it is stuck") if words[1] == "destroy" else Reply(0)

    monkeypatch.setattr(ChildProcesses, "run", run)
    path = written(tmp_path, "[requires]\nnodes = 3\n" + BAD)
    judged = Run("playbook", "rehearse", path, "-o", "json")
    assert judged.code == Exit.CLEANUP_INCOMPLETE
    assert judged.data["verdict"] == "fail"
    left, verdict = judged.document["errors"]
    assert left["next"].startswith("esctl cluster destroy rehearsal-")
    assert verdict["code"] == "ES4525"
    written(tmp_path, "[requires]\nnodes = 5\n" + BAD)
    refused = Run("playbook", "rehearse", path)
    assert refused.code == Exit.REFUSED
    assert "esctl cluster destroy rehearsal-" in refused.err


def test_an_answer_that_is_none_is_told_as_an_answer(tmp_path: Path) -> None:
    refused = Run("playbook", "run", written(tmp_path, GOOD), "--answer", "yes", "-o", "json")
    assert refused.code == Exit.USAGE
    assert refused.document["errors"][0]["message"] == "--answer yes: write STEP=TEXT"


def test_one_playbook_at_a_time_runs_on_a_cluster(tmp_path: Path) -> None:
    with journal.holding("drill", "other-run"):
        refused = Run("playbook", "run", written(tmp_path, GOOD), "-o", "json")
        assert (refused.code, code_of(refused)) == (Exit.REFUSED, "ES4521")
        assert "other-run" in refused.document["errors"][0]["message"]
        free = written(tmp_path, GOOD, HEAD + "lock = false\n")
        assert Run("playbook", "run", free, "-o", "json").code == Exit.OK


def test_a_run_that_is_over_is_not_gone_on_with(tmp_path: Path) -> None:
    name = Run("playbook", "run", written(tmp_path, GOOD), "-o", "json").data["run"]
    refused = Run("playbook", "resume", name, "-o", "json")
    assert (refused.code, code_of(refused)) == (Exit.REFUSED, "ES4522")
    assert Run("playbook", "abort", name, "-o", "json").code == Exit.OK, "there is nothing to undo"
    assert Run("playbook", "resume", "no-such-run", "-o", "json").code == Exit.ERROR


def test_runs_are_listed_the_newest_first(tmp_path: Path) -> None:
    assert Run("playbook", "runs").out == "", "none is no line for a program"
    first = Run("playbook", "run", written(tmp_path, BAD), "-o", "json").data["run"]
    second = Run("playbook", "run", written(tmp_path, GOOD), "-o", "json").data["run"]
    listed = Run("playbook", "runs", "-o", "json").data["runs"]
    assert [one["run"] for one in listed] == [second, first]
    assert [one["verdict"] for one in listed] == ["pass", "fail"]


def test_a_report_says_the_same_in_every_form(tmp_path: Path) -> None:
    Run("playbook", "run", written(tmp_path, BAD), "-o", "json")
    why = "expected status.voters_up == 7, was 3"
    for form in ("text", "md"):
        assert why in Run("playbook", "report", "--format", form).out
    document = json.loads(Run("playbook", "report", "--format", "json").out)
    assert document["steps"][0]["why"] == why
    target = tmp_path / "report.html"
    assert Run("playbook", "report", "--format", "html", "--save", str(target)).code == Exit.OK
    text = target.read_text(encoding="utf-8")
    assert why in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_commands_that_are_left_come_before_the_verdict(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [
        {"event": "run-begins", "run": "r", "playbook": {}, "cluster": "c", "identity": "", "inputs": {},
         "max_duration_ms": 1},
        {"event": "session-begins", "why": "run"},
        {"event": "step-begins", "step": "stop", "kind": "esctl", "title": "", "attempt": 1},
        {"event": "step-acts", "step": "stop", "changes": True, "temporary": False, "commands": [],
         "faults": [], "heals": [], "loads": [], "undo": True},
        {"event": "step-ends", "step": "stop", "state": "failed", "why": "no"},
        {"event": "verdict", "verdict": "fail", "why": "step stop: no"},
        {"event": "undo-begins", "step": "stop", "commands": ["esctl node start 2 --cluster c"]},
        {"event": "undo-ends", "step": "stop", "ok": False, "why": "it does not start"},
        {"event": "session-ends", "how": "over"},
    ]  # fmt: skip
    progress = progress_of({"n": n, "at": float(n), **event} for n, event in enumerate(events))
    answer = outcome.answer_of(progress, tmp_path)
    assert answer.exit_code is Exit.CLEANUP_INCOMPLETE
    assert [error.code for error in answer.errors] == [UndoIncomplete.code, "ES4525"]
    assert "esctl node start 2 --cluster c" in answer.errors[0].next
    assert answer.data["verdict"] == "fail"


def test_a_page_holds_texts_as_texts_and_marks_its_faults() -> None:
    sample = {"at": 101.0, "p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 600.0}
    samples = [sample, {**sample, "at": 102.0}]
    step: dict[str, Any] = {
        "step": "<b>cut",
        "title": "a <script>",
        "kind": "fault",
        "state": "passed",
        "why": "",
    }
    step |= {"begun": 100.5, "seconds": 1.5, "commands": ["esctl fault"], "undo": "done", "undo_why": ""}
    history = [{"at": 100.2, "state": "holds", "text": ""}]
    run: dict[str, Any] = {
        "playbook": {"title": "<i>Drill", "id": "drill", "version": "1", "digest": "0" * 64},
        "verdict": "pass",
        "state": "pass",
        "why": "all",
        "clean": True,
        "left": [],
        "run": "r",
        "rehearsal": False,
        "cluster": "c",
        "begun": 100.0,
        "seconds": 3.0,
        "inputs": {},
        "chosen": {},
        "steps": [step],
        "audit": None,
        "notes": [],
        "guards": [{"expr": "a < 1", "state": "holds", "history": history}],
        "loads": [{"name": "load", "rate_per_s": 10.0, "last": {}, "samples": samples}],
    }
    text = page(run)
    assert "<script>" not in text
    assert "<i>Drill" not in text
    assert text.count("<polyline") == 3
    assert text.count('class="line1 mark"') == 2, "through the curves and the step"
    assert "<script>" not in report.markdown(run)
    assert "drawn narrow" not in text
    audit = {**step, "step": "audit", "kind": "audit", "begun": 103.0, "seconds": 600.0}
    long = page({**run, "steps": [step, audit]})
    cut, audited = (float(one) for one in re.findall(r'<rect x="[\d.]+%" width="([\d.]+)%', long))
    assert "long steps are drawn narrow" in long
    assert cut > 20, "it took 1.5 s of 603"
    assert audited < 70


def test_a_reply_is_read_from_the_one_document_of_a_command() -> None:
    document = {"data": {"leader": 2}, "errors": [{"code": "ES4303", "message": "no", "cause": "why"}]}
    reply = reply_of(12, json.dumps(document).encode(), b"")
    assert (reply.exit, reply.data, reply.codes, reply.why) == (12, {"leader": 2}, {"ES4303"}, "no (why)")
    stream = reply_of(0, b'{"a": 1}\n{"a": 2}\n', b"")
    assert stream.ok
    assert stream.data["output"].count("\n") == 2
    assert reply_of(-9, b"", b"").why == "it ended with exit code -9"
    assert reply_of(1, b"", b"first\nlast\n").why == "last"


@pytest.mark.slow
async def test_a_command_that_is_cancelled_ends_as_by_ctrl_c_and_not_later() -> None:
    esctl = ChildProcesses("drill", consent=True)
    begun = trio.current_time()
    reply = await esctl.run(["status", "health", "--wait", "600"], 2.0)
    assert reply.exit == Exit.TIMEOUT
    assert reply.why == "esctl status health --wait 600 --cluster drill was not done within 2 s"
    assert trio.current_time() - begun < 2.0 + STOP_S


def test_a_silent_load_is_told_as_one() -> None:
    sample = {"silence_ms": 2500, "rate_per_s": 0, "p50_ms": None, "p99_ms": None, "longest_gap_ms": 2500.0}
    said = "".join(text for text, _ in load_line(sample))
    assert "silent for 2.5 s" in said
    assert "p50" not in said


@pytest.mark.parametrize(
    "error", [BadStatusLine("hello"), InvalidURL("no"), ValueError("Invalid header value b'hunter\\n2'")]
)
def test_an_answer_that_is_no_http_fails_the_step_and_a_header_is_not_told(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(actions, "_fetch", fetch)
    prepared = PreparedAction(
        Action(ActionKind.HTTP, {"url": "http://here/", "headers": {"token": "hunter\n2"}})
    )
    actor = actions.Actor(
        ChildProcesses("drill", consent=True), AtTerminal(Terminal(), {}, yes=True), lambda *_: None
    )
    done = trio.run(actor.do, "ask", prepared, 5.0)
    assert done.why.startswith("http://here/")
    assert "hunter" not in done.why
    assert done.data == {"exit": Exit.UNREACHABLE}
