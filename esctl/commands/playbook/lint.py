"""`esctl playbook lint`: what would do harm or fail in a playbook, before anybody runs it; nothing is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli.invocation import Invocation
from esctl.commands.playbook.options import names_that_begin
from esctl.errors import Inconclusive
from esctl.exits import Exit, exit_of
from esctl.playbook import catalog
from esctl.playbookerrors import InvalidPlaybook, UnsafePlaybook
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Trouble, Value, View
from esctl.ui.escape import quoted
from esctl.ui.terminal import Output

if TYPE_CHECKING:
    from esctl.playbook.answers import LintAnswer, LintedFile
    from esctl.playbook.lintrules import LintFinding

UNREADABLE = "unreadable"
"""The rule of a file that the reader refuses, in a row of findings."""


def lint(
    run: Invocation,
    playbooks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLAYBOOK...]",
            help="Files or ids; by default, the shipped playbooks and those in ./playbooks",
            autocompletion=names_that_begin,
        ),
    ] = None,
) -> "Answer[LintAnswer]":
    """Check playbooks for mistakes that would do harm or make a run fail; exit with code 2 on errors

    Examples: a step that changes something has no undo, a fault has no lease, there is no exactly-once check
    at the end, or a name or a command does not exist"""
    paths = [catalog.find(name) for name in playbooks] if playbooks else list(catalog.every().values())
    files = [(path, *_findings(path)) for path in paths]
    rows: list[list[Value]] = []
    lines: list[View] = []
    data: list[LintedFile] = []
    for path, found, broken in files:
        errors = sum(one.severity == "error" for one in found)
        data.append(
            {
                "path": str(path),
                "readable": not broken,
                "errors": errors,
                "warnings": len(found) - errors,
                "findings": [one.as_data() for one in found],
            }
        )
        for one in found:
            tone = Tone.BAD if one.severity == "error" else Tone.WARN
            place = f"{one.path}:{one.line}" if one.line is not None else one.path
            where = f"{place.removeprefix(f'{path.parent}/')}{f', {one.step}' if one.step else ''}"
            rows.append([Cell(one.severity, tone), where, one.code, f"{one.message}: {one.advice}"])
            lines.append(Line(f"{place}: {one.code}: {one.message}: {one.advice}"))
    errors, warnings = sum(each["errors"] for each in data), sum(each["warnings"] for each in data)
    how_many = f"{len(files)} playbook{'s' if len(files) != 1 else ''}"
    if not files:
        nothing = Inconclusive("no playbooks are found", next_step="esctl playbook lint FILE")
        return Answer({"files": data}, [], [Trouble.of(nothing)], exit_of(Inconclusive))
    if not rows:
        return Answer({"files": data}, [Line(f"{how_many}: nothing to object to", Tone.GOOD)])
    views: list[View] = [Table(["", "where", "rule", "what, and what to do"], rows)]
    if run.terminal.output is Output.PLAIN:  # as compilers say it, so that an editor finds the place
        views = lines
    views.append(Line(f"{how_many}: {_count(errors, 'error')}, {_count(warnings, 'warning')}"))
    if not errors:
        return Answer({"files": data}, views)
    worst = next(str(path) for path, found, _ in files if any(one.severity == "error" for one in found))
    trouble = Trouble(
        UnsafePlaybook.code,
        f"{_count(errors, 'error')} in {how_many}",
        UnsafePlaybook.title,
        f"fix what is listed, then: esctl playbook lint {quoted(worst)}",
    )
    return Answer({"files": data}, views, [trouble], Exit(exit_of(UnsafePlaybook)))


def _findings(path: Path) -> tuple[list["LintFinding"], bool]:
    """Of one file, and whether it could not be read."""
    from esctl.playbook import lint, parser
    from esctl.playbook.lines import lines_of
    from esctl.playbook.lintrules import LintFinding, LintSeverity

    advice = "esctl docs playbooks"
    try:
        text = parser.content(path)
        return lint.lint(parser.parse(text, path), lines_of(text)), False
    except InvalidPlaybook as error:
        if not error.problems:
            return [LintFinding(LintSeverity.ERROR, UNREADABLE, "", str(error), advice, path=str(path))], True
        return [
            LintFinding(
                LintSeverity.ERROR,
                UNREADABLE,
                one.where.removeprefix("step "),
                f"`{one.key}` {one.text}" if one.key else one.text,
                advice,
                path=one.path,
                line=one.line,
            )
            for one in error.problems
        ], True


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
