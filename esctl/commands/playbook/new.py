"""`esctl playbook new`: a playbook to be changed, a copy of a shipped one or a small one with notes."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.commands.playbook import options
from esctl.errors import InvalidArgument
from esctl.playbook import catalog, copying
from esctl.ui.answer import Answer, Fields, Line, Tone
from esctl.ui.escape import quoted

if TYPE_CHECKING:
    from esctl.playbook.answers import NewPlaybookAnswer

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


def new(
    run: Invocation,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Id of the new playbook (the file is ./playbooks/NAME.toml), or a file name"
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SHIPPED",
            help="Shipped playbook to copy, with its comments",
            autocompletion=options.shipped_that_begin,
        ),
    ] = None,
    dry_run: DryRun = False,
) -> "Answer[NewPlaybookAnswer]":
    """Write a playbook for you to change: a copy of a shipped one, or a small example that can already
    run: a leadership transfer with its checks"""
    file = Path(name) if name.endswith(catalog.SUFFIX) or "/" in name else catalog.own() / f"{name}.toml"
    if file.suffix != catalog.SUFFIX or not _ID.fullmatch(file.stem):
        raise InvalidArgument(
            f"{file} cannot be a playbook's file: lower case letters, digits and dashes, then .toml",
            next_step="esctl playbook new my-drill",
        )
    if file.exists():
        raise InvalidArgument(
            f"{file} is there already; nothing was done", next_step=f"esctl playbook show {quoted(file)}"
        )
    text = _text(source, file.stem)
    data: NewPlaybookAnswer = {"path": str(file), "id": file.stem, "text": text}
    if source is not None:
        data["copy_of"] = source
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(line) for line in text.splitlines()])
    state.write_atomically(file, text)
    next_steps = Fields(
        [("then", f"esctl playbook lint {quoted(file)}"), ("then", f"esctl playbook plan {quoted(file)}")]
    )
    what = f"{file} is written, a copy of {source}" if source is not None else f"{file} is written"
    return Answer(data, [Line(f"{what}: read it, and change it", Tone.GOOD), next_steps])


def _text(source: str | None, name: str) -> str:
    """What is written; raises `PlaybookNotFound`."""
    if source is None:
        return SKELETON.replace("MY-ID", name)
    return copying.renamed(catalog.find_shipped(source).read_text(encoding="utf-8"), name)


SKELETON: Final = '''# A playbook is read from top to bottom, by people and by `esctl playbook run`.
# `esctl docs playbooks` explains every key; `esctl playbook lint` finds what is missing.
schema = "esctl.playbook/v1"
id = "MY-ID"
version = "0.1.0"
title = "Move the leadership, and prove that nothing is lost"
risk = "low"                        # low, moderate, severe: what can go wrong when this goes well
max_duration = "2m"                 # the run ends then, whatever happens
doc = """
Say here what this is for, when to run it, and what to do when it fails.
"""

[requires]
nodes = 3                           # faults = true, if a step breaks something on purpose

[inputs.wait]                       # read as ${inputs.wait}, given as --input wait=5s
type = "duration"                   # node, int, duration, enum, string, secret
default = "10s"
help = "how long to look at the cluster afterwards"

# Watched from the first step to the last.
[[guard]]
expr = "status.quorum.held"
every = "1s"
for = "5s"                          # a breach is one that lasts as long
on_breach = "rollback"              # or stop

[[step]]
id = "check-healthy"
kind = "check"                      # looks once; what it expects must hold
title = "Check that the cluster is healthy"
expect = ["health.ok", "faults.active == 0"]
capture = { old_leader = "status.leader" }
doc = """
An earlier fault looks like an effect of this playbook. If the check fails, `esctl status health`
says why.
"""

[[step]]
id = "move"
kind = "esctl"                      # a command, without `esctl` and without --cluster
impact = "rw"                       # ro, rw, destructive
title = "Hand the leadership over"
with = { argv = ["leader", "transfer"] }
expect = ["status.leader != null", "status.leader != captured.old_leader"]
timeout = "10s"                     # how long the expectations may take to hold
irreversible = true                 # or undo = { kind = "esctl", with = { argv = [...] } }
doc = """
The leader stops taking events for some milliseconds and tells the follower with the longest log to start an
election. Nothing has to be undone: any node may lead.
"""

[[step]]
id = "settled"
kind = "wait"                       # lets time pass, then looks until it holds
title = "Let it settle"
with = { for = "${inputs.wait}" }
expect = ["health.ok"]
doc = """
A look at `esctl status` meanwhile shows the other node leading, in a higher term.
"""

[[step]]
id = "exactly-once"
kind = "assert"                     # reads every node's log
title = "Prove that nothing was lost or doubled"
expect = ["verify.acked_lost == 0", "verify.duplicates == 0", "verify.hashes_equal"]
timeout = "30s"
doc = """
All nodes must have the same events at the same offsets. If this fails, keep the data directories as they are.
"""
'''
