"""Where there is nothing to judge by, nothing has passed: exit 12."""

from pathlib import Path

import pytest

from esctl.cli import auditlog
from esctl.commands.bench import screens
from esctl.exits import Exit
from esctl.playbook.progress import RunVerdict
from tests.esctl import results
from tests.esctl.commands.test_commands import Run
from tests.esctl.playbook.test_playbook_run import RESTART, stage


def test_a_measurement_in_which_nothing_was_acked_is_inconclusive() -> None:
    for acked in (0.0, None):
        nothing = results.result(
            {"events_per_s": acked}, {"events_per_s": acked}, detail={"rate_reached": None}
        )
        answer = screens.ended(nothing, [], [])
        assert answer.exit_code is Exit.INCONCLUSIVE
        assert answer.errors[0].code == "ES4303"
    some = results.result({"events_per_s": 0.0}, {"events_per_s": 7.0}, detail={"rate_reached": None})
    assert screens.ended(some, [], []).exit_code is Exit.OK


def test_an_audit_log_without_a_line_proves_nothing(tmp_path: Path) -> None:
    run = Run("audit", "--machine", "--verify", "-o", "json")
    assert (run.code, run.document["errors"][0]["code"]) == (12, "ES4303")
    auditlog.NotedCommand(auditlog.AuditLog(auditlog.MACHINE), "config set", "esctl config set a b").ended(
        0, None
    )
    assert Run("audit", "--machine", "--verify").code == 0


@pytest.mark.usefixtures("autojump_clock")
async def test_a_playbook_of_which_no_step_was_taken_has_not_passed(tmp_path: Path) -> None:
    text = RESTART.format(id="if", node=1) + 'when = "status.voters_up == 1"\n'
    progress = await stage(tmp_path, text).begin()
    assert progress.verdict is RunVerdict.INCONCLUSIVE
    assert progress.why == "no step was taken: nothing was shown"
    text += RESTART.format(id="done", node=2)
    assert (await stage(tmp_path / "other", text).begin()).verdict is RunVerdict.PASS
