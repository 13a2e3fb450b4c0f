"""`esctl playbook plan`: every step of a run, its command and what the quorum would be; nothing is done."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.commands.playbook import options
from esctl.commands.playbook.ls import RISK_TONES
from esctl.exits import exit_of
from esctl.playbookerrors import RequirementsUnmet, UnplannableStep
from esctl.ui.answer import Answer, Cell, Fields, Line, Lines, Table, Tone, Trouble, Value, View
from esctl.ui.escape import quoted

if TYPE_CHECKING:
    from esctl.playbook.answers import PlanAnswer
    from esctl.playbook.plan import Plan, PlannedStep
    from esctl.playbook.schema import Playbook
    from esctl.query.survey import Survey

_IMPACT_TONES = {"ro": Tone.NORMAL, "rw": Tone.WARN, "destructive": Tone.BAD}


def plan(
    run: Invocation,
    playbook: options.PlaybookArgument,
    inputs: options.Inputs = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="File to write the plan to, for run --plan")
    ] = None,
) -> "Answer[PlanAnswer]":
    """Show every step of a run on this cluster, without doing it: its command, impact, undo, and how many
    more nodes may fail after it"""
    from esctl.playbook import inputs as taking
    from esctl.playbook import plan as planning

    book = options.safe(playbook)
    values = taking.take(book, options.given(inputs))
    survey = survey_of(run, book)
    try:
        planned = planning.plan(book, values, survey)
    except UnplannableStep as error:
        if missing := planning.unmet(book, survey):
            raise _unfit(book, missing) from error
        raise
    if save is not None:
        state.write_atomically(save, json.dumps(planned.as_data(), indent=2) + "\n")
        run.terminal.note(f"the plan is in {save}")
    views = views_of(planned, survey)
    if not planned.unmet:
        name = survey.cluster.name if survey is not None else run.cluster_name
        cluster = f" --cluster {name}" if name else ""
        words = "".join(f" --input {shlex.quote(word)}" for word in inputs or ())
        next_step = f"esctl playbook run {quoted(playbook)}{words}{cluster}"
        return Answer(planned.as_data(), [*views, Fields([("to run it", next_step)])])
    unfit = _unfit(book, planned.unmet)
    return Answer(planned.as_data(), views, [Trouble.of(unfit)], exit_of(unfit))


def views_of(planned: "Plan", survey: "Survey | None") -> list[View]:
    """The plan on a screen; `esctl playbook run` shows the same before it asks."""
    from esctl.playbook import nodechoice
    from esctl.playbook.plan import shown_inputs
    from esctl.ui.duration import Duration

    book = planned.playbook
    pairs: list[tuple[str, Value]] = [
        ("playbook", Cell(f"{book.id} {book.version}: {book.title}", Tone.STRONG)),
        ("risk", Cell(book.risk.value, RISK_TONES[book.risk])),
        ("at most", str(Duration(book.max_duration_ms))),
    ]
    pairs += nodechoice.told(shown_inputs(book, planned.inputs), planned.chosen).items()
    if survey is not None:
        pairs += [("cluster", survey.cluster.name), ("quorum now", survey.state_text)]
    table = Table(["step", "impact", "what it does, and what becomes of the quorum"], _rows(planned))
    return [Fields(pairs), table, _verdict(planned)]


def _rows(planned: "Plan") -> list[list[Value]]:
    return [
        [
            f"{'  ' * one.depth}{one.step.id}",
            Cell(one.step.impact.value, _IMPACT_TONES[one.step.impact.value]),
            Lines(_told(one)),
        ]
        for one in planned.steps
    ]


def _told(one: "PlannedStep") -> list[str]:
    from esctl.commands.playbook.show import command_text

    step = one.step
    lines = [one.command or command_text(step.action) or step.title or _expected(one)]
    lines += [f"only if {step.when}"] if step.when else []
    lines += [f"asks: {step.confirm}"] if step.confirm else []
    lines += [f"then: {one.quorum.text}"] if one.quorum is not None else []
    if one.undo:
        lines.append(f"undo: {one.undo}")
    elif step.irreversible:
        lines.append("undo: none, it cannot be undone")
    return [lines[0], *(f"- {line}" for line in lines[1:])]


def _expected(one: "PlannedStep") -> str:
    return f"expects {', '.join(one.step.expect)}" if one.step.expect else one.step.action.kind.value


def _verdict(planned: "Plan") -> Line:
    lost = [one.step.id for one in planned.steps if one.quorum is not None and not one.quorum.kept]
    if lost:
        names = ", ".join(lost)
        return Line(f"no quorum after {names}: nothing is acked meanwhile", Tone.WARN)
    if planned.fingerprint is None:
        return Line("there is no cluster yet, so nothing is said of a quorum", Tone.DIM)
    return Line("a majority is there all along", Tone.GOOD)


def survey_of(run: Invocation, book: "Playbook") -> "Survey | None":
    """The cluster as it is now; None for a playbook that wants none, where there is none."""
    from esctl.query import survey as surveys  # loaded late: it brings trio and the client

    if not book.requires.nodes and (run.cluster_name or state.DEFAULT_NAME) not in state.names():
        return None
    cluster = run.cluster(None if book.requires.nodes else run.cluster_name or state.DEFAULT_NAME)
    return run.trio(lambda: surveys.ask(cluster))


def _unfit(book: "Playbook", missing: Sequence[str]) -> RequirementsUnmet:
    """The error, with the command that makes a cluster which fits."""
    wanted = book.requires
    faults = " --faults" if wanted.faults else ""
    return RequirementsUnmet(
        f"{book.id} cannot be run on this cluster: {'; '.join(missing)}",
        next_step=f"esctl cluster up drill{faults} --nodes {max(3, wanted.nodes)}, for a cluster of its own",
    )
