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
    ("ls", ls.ls, "List the playbooks that are shipped, and those in ./playbooks"),
    ("show", show.show, "Show a playbook as a document"),
    ("new", new.new, "Write a playbook to start from: a copy of a shipped one, or a small one"),
    ("lint", lint.lint, "Check playbooks for what would do harm; exit 2 on errors"),
    ("plan", plan.plan, "Show what a run would do, and what the quorum would be"),
    ("rehearse", rehearsal.rehearse, "Run it on a cluster of its own, which is destroyed afterwards"),
    ("run", runner.run, "Run it: steps, guards, verdict, and the undoing"),
    ("resume", runner.resume, "Go on with a run that was cut off"),
    ("abort", runner.abort, "Undo what a run did, the last step first"),
    ("runs", runs.runs, "List the runs, the newest first"),
    ("report", runs.report, "Tell what a run did, as text, JSON, Markdown or one HTML page"),
)
"""Name, function, and the line in the list of commands; the full help is the function's own."""

for _name, _function, _line in LISTED:
    command(app, _name, short_help=_line)(_function)
