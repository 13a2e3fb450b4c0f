"""`esctl playbook`: drills and runbooks that a person reads from top to bottom and a machine runs.

One module a command; the language is in `esctl/playbook`, and none of it is decided here.
"""

from typing import Final

from esctl.cli.invocation import command, new_typer
from esctl.commands.playbook import lint, ls, new, plan, rehearsal, runner, runs, show

app = new_typer()


@app.callback()
def playbook() -> None:
    """Read, check, plan and run drills and runbooks"""


LISTED: Final = (
    ("ls", ls.ls, "List the shipped playbooks and those in ./playbooks"),
    ("show", show.show, "Show a playbook as a document"),
    ("new", new.new, "Write a playbook to start from: a copy of a shipped one, or a small example"),
    ("lint", lint.lint, "Check playbooks for mistakes; exit with code 2 on errors"),
    ("plan", plan.plan, "Show what a run would do, without doing it"),
    ("rehearse", rehearsal.rehearse, "Run a playbook on a temporary cluster"),
    ("run", runner.run, "Run a playbook"),
    ("resume", runner.resume, "Continue an interrupted run"),
    ("abort", runner.abort, "Undo the steps of a run, in reverse order"),
    ("runs", runs.runs, "List the runs, newest first"),
    ("report", runs.report, "Report on a run, as text, JSON, Markdown or HTML"),
)
"""Name, function, and the line in the list of commands; the full help is the function's own."""

for _name, _function, _line in LISTED:
    command(app, _name, short_help=_line)(_function)
