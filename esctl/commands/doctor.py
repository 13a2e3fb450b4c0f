"""`esctl doctor`: can this machine run a cluster, and is there anything left of an old one?

Each check has a result, a figure where there is one, and what to do. Nothing is changed without --fix, and
with it only what certainly belongs to nobody is removed: never data.
"""

from pathlib import Path
from typing import Annotated, TypedDict

import typer

from esctl.cli import auditlog
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.errors import InvalidSetting
from esctl.exits import Exit
from esctl.observe.host.checkresult import CheckData
from esctl.observe.host.examination import examine
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value

app = new_typer()


class DoctorAnswer(TypedDict):
    """Whether the machine can run a cluster."""

    healthy: bool
    checks: list[CheckData]


@command(app, "doctor", changes="fix")
def doctor(
    run: Invocation,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Directory whose disk is measured; by default, the directory of new clusters",
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Remove leftovers that certainly belong to no cluster; data is never removed"
        ),
    ] = False,
) -> Answer[DoctorAnswer]:
    """Check that this machine can run a cluster"""
    about = None
    try:
        about = run.cluster_name
    except InvalidSetting as error:  # one more thing that is wrong, and no reason to look at nothing
        run.terminal.warn(f"{error}; next: {error.next_step}")
    with run.terminal.progress("checking"):
        findings = list(examine(data_dir, about))
    if fix:
        run.intend(auditlog.MACHINE)
        findings = [finding.mended() for finding in findings]
    tones = {"ok": Tone.GOOD, "warning": Tone.WARN, "bad": Tone.BAD}
    rows: list[list[Value]] = [[f.check, Cell(f.result, tones[f.result]), f.found, f.next] for f in findings]
    bad = sum(f.result == "bad" for f in findings)
    verdict = f"{bad} of {len(findings)} checks are bad" if bad else "this machine can run a cluster"
    return Answer(
        data={"healthy": not bad, "checks": [finding.as_data() for finding in findings]},
        views=[
            Table(["check", "result", "found", "next"], rows),
            Line(verdict, Tone.BAD if bad else Tone.GOOD),
        ],
        exit_code=Exit.UNHEALTHY if bad else Exit.OK,
    )
