"""`esctl playbook new`: a small playbook that can be run, with a word on each part, to be changed."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.errors import InvalidArgument
from esctl.ui.answer import Answer, Fields, Line, Tone
from esctl.ui.escape import quoted

if TYPE_CHECKING:
    from esctl.playbook.answers import NewPlaybookAnswer

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


def new(
    run: Invocation,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; its name becomes the id")],
    dry_run: DryRun = False,
) -> "Answer[NewPlaybookAnswer]":
    """Write a small playbook that runs as it is, for you to change: a hand-over with its checks and its
    proof"""
    if file.suffix != ".toml" or not _ID.fullmatch(file.stem):
        raise InvalidArgument(
            f"{file} cannot be a playbook's file: lower case letters, digits and dashes, then .toml",
            next_step="esctl playbook new playbooks/my-drill.toml",
        )
    if file.exists():
        raise InvalidArgument(
            f"{file} is there already; nothing was done", next_step=f"esctl playbook show {quoted(file)}"
        )
    text = SKELETON.replace("MY-ID", file.stem)
    data: NewPlaybookAnswer = {"path": str(file), "id": file.stem, "text": text}
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(line) for line in text.splitlines()])
    state.write_atomically(file, text)
    next_steps = Fields(
        [("then", f"esctl playbook lint {quoted(file)}"), ("then", f"esctl playbook plan {quoted(file)}")]
    )
    return Answer(data, [Line(f"{file} is written: read it, and change it", Tone.GOOD), next_steps])


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
id = "well"
kind = "check"                      # looks once; what it expects must hold
title = "Begin with a cluster that is well"
expect = ["health.ok", "faults.active == 0"]
capture = { old_leader = "status.leader" }
doc = """
What was not well before cannot be told apart from what this does. If it fails, `esctl status health`
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
The leader stops taking events for some milliseconds and tells the best follower to stand. There is nothing to
take back: the leadership is as well there as it was here.
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
