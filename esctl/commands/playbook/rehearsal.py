"""`esctl playbook rehearse`: the same file on a cluster of its own, which nobody misses afterwards.

The cluster has faults allowed and is destroyed at the end, after Ctrl-C too. Everything else is `run`.
"""

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.commands.playbook import options, runner
from esctl.errors import CleanUpIncomplete, MachineRefused
from esctl.exits import exit_of
from esctl.ui.answer import Answer, Line, Trouble

if TYPE_CHECKING:
    from esctl.playbook.answers import PlannedRehearsalAnswer, RunAnswer
    from esctl.playbook.execution import Reply

NODES: Final = 3
START_TIMEOUT_S: Final = 90.0
DESTROY_TIMEOUT_S: Final = 30.0


def rehearse(
    run: Invocation,
    playbook: options.PlaybookArgument,
    inputs: options.Inputs = None,
    answers: runner.Answers = None,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, max=15, help="Number of nodes", show_default=False)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the cluster at the end")] = False,
    dry_run: DryRun = False,
) -> "Answer[RunAnswer | PlannedRehearsalAnswer]":
    """Run a playbook on a temporary cluster that allows faults, before you run it on an important one"""
    from esctl.playbook import inputs as taking
    from esctl.playbook import plan as planning
    from esctl.playbook.execution import ChildProcesses

    book = options.safe(playbook)
    values = taking.take(book, options.given(inputs))
    name = f"rehearsal-{secrets.token_hex(2)}"
    size = nodes or max(NODES, book.requires.nodes)
    if dry_run:
        data: PlannedRehearsalAnswer = {"playbook": book.id, "cluster": name, "nodes": size, "dry_run": True}
        return Answer(
            data, [Line(f"would run {book.id} on a new cluster of {size} nodes, and destroy it then")]
        )
    esctl = ChildProcesses(name, consent=True)
    consent = runner.Consent(options.given(answers, "--answer STEP=TEXT"), yes=True)

    def command(*words: str, timeout_s: float) -> "Reply":
        return run.trio(lambda: esctl.run(words, timeout_s))

    answer: Answer[RunAnswer] | None = None
    try:
        survey = None
        if book.requires.nodes:
            with run.terminal.progress(f"starting {size} nodes of {name}"):
                up = command(
                    "cluster", "up", name, "--faults", "--nodes", str(size), timeout_s=START_TIMEOUT_S
                )
            if not up.ok:
                raise MachineRefused(f"the cluster to rehearse on did not start: {up.why}")
            survey = _survey(run, name)
        planned = planning.plan(book, values, survey)
        runner.check(planned)
        answer = runner.carry_out(run, name, consent, planned, rehearsal=True)
    finally:
        left = _destroyed(command, name, keep=keep)
        if left and answer is None:  # the error that ended it is told in its place
            run.terminal.warn(f"{left}; next: {left.next_step}")
    if left:
        return replace(answer, errors=[Trouble.of(left), *answer.errors], exit_code=exit_of(left))
    return answer


def _survey(run: Invocation, name: str) -> Any:
    from esctl.query import survey as surveys

    cluster = state.load(name)
    return run.trio(lambda: surveys.ask(cluster))


def _destroyed(command: Any, name: str, *, keep: bool) -> CleanUpIncomplete | None:
    """Why the cluster is still there; None when it is not, or shall be."""
    if keep or name not in state.names():
        return None
    reply = command("cluster", "destroy", name, "--confirm", name, timeout_s=DESTROY_TIMEOUT_S)
    if reply.ok:
        return None
    return CleanUpIncomplete(
        f"the cluster {name} of the rehearsal is still there: {reply.why}",
        next_step=f"esctl cluster destroy {name} --confirm {name}",
    )
