"""`esctl playbook run`, `resume` and `abort`: a playbook carried out, gone on with, and taken back.

What happens is decided in `esctl/playbook/run.py`. Here it is confirmed, locked, told and answered: exit 0 is
a pass, 11 a fail, 12 no verdict, 13 refused, 14 a clean-up that is not complete, 130 interrupted.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli import guard
from esctl.cli.arguments import DryRun, Yes
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.commands.playbook import options, outcome
from esctl.commands.playbook import plan as planning_command
from esctl.errors import InvalidArgument, NotConfirmed
from esctl.exits import Exit
from esctl.playbookerrors import PlanIsStale, RequirementsUnmet
from esctl.ui.answer import Answer, Line, Trouble
from esctl.ui.escape import quoted
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.playbook.answers import PlannedAbortAnswer, PlannedResumeAnswer, PlannedRunAnswer, RunAnswer
    from esctl.playbook.journal import Journal
    from esctl.playbook.plan import Plan
    from esctl.playbook.progress import RunProgress
    from esctl.playbook.run import Run
    from esctl.playbook.schema import Playbook, Scalar
    from esctl.query.survey import Survey

RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="Id of the run; by default, the newest", show_default=False),
]
Answers = Annotated[
    list[str] | None,
    typer.Option(
        "--answer", metavar="STEP=TEXT", help="Answer to a step that would ask a question; repeatable"
    ),
]
LOOKS: Final = 3
_PLAYBOOK_TEXT: Final = "playbook.toml"


@dataclass(frozen=True, slots=True)
class Consent:
    """What the command line has said yes to."""

    answers: Mapping[str, str]
    yes: bool = False


def run(
    run: Invocation,
    playbook: options.PlaybookArgument,
    inputs: options.Inputs = None,
    answers: Answers = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE",
            help="Plan that plan --save wrote; the run is refused if the cluster has changed since",
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(
            "--confirm", metavar="CLUSTER", help="Cluster name, required if the playbook's risk is severe"
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[RunAnswer | PlannedRunAnswer]":
    """Run the steps of a playbook, watch its guards, give a verdict, and undo temporary changes"""
    from esctl.playbook import inputs as taking
    from esctl.playbook import plan as planning

    book = options.safe(playbook)
    values = taking.take(book, options.given(inputs))
    consent = Consent(options.given(answers, "--answer STEP=TEXT"), yes=yes)
    survey = planning_command.survey_of(run, book)
    planned = planning.plan(book, values, survey)
    if dry_run:
        would: PlannedRunAnswer = {**planned.as_data(), "dry_run": True}
        return Answer(would, planning_command.views_of(planned, survey))
    check(planned)
    if plan is not None:
        _hold_to(planned, plan)
    _confirmed(run, planned, survey, confirm=confirm, yes=yes)
    name = survey.cluster.name if survey is not None else run.cluster_name or state.DEFAULT_NAME
    return carry_out(run, name, consent, planned)


def resume(
    run: Invocation,
    name: RunArgument = None,
    inputs: options.Inputs = None,
    answers: Answers = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[RunAnswer | PlannedResumeAnswer]":
    """Continue an interrupted run; first check again that the results of its steps still hold"""
    from esctl.playbook import journal, playbookjson
    from esctl.playbook.progress import progress_of
    from esctl.playbook.resumption import decided, resumption_of
    from esctl.playbookerrors import RunIsOver

    directory = journal.find(name)
    consent = Consent(options.given(answers, "--answer STEP=TEXT"), yes=yes)
    book = playbookjson.read(directory)
    with _held(book, directory) as opened:
        progress = progress_of(journal.read(directory))
        if progress.verdict is not None:
            left = "" if progress.clean else f"; what is not undone: esctl playbook abort {progress.run}"
            raise RunIsOver(
                f"the run {progress.run} is over, {progress.words}",
                next_step=f"esctl playbook report {progress.run}{left}",
            )
        _still_the_same(progress)
        fates = decided(resumption_of(book, progress), consent.answers)
        if dry_run:
            told = {step: str(fate.value) for step, fate in fates.fates.items()}
            lines = [Line(f"{step}: {fate}") for step, fate in told.items()]
            resumed: PlannedResumeAnswer = {"run": progress.run, "dry_run": True, "steps": told}
            return Answer(resumed, lines)
        values = playbookjson.inputs_again(book, progress.inputs, _secrets(book, options.given(inputs)))
        left_ms = max(0, progress.max_duration_ms - progress.spent_ms)

        async def work(one: "Run") -> None:
            await one.resume(left_ms, fates)

        return _driven(run, book, values, progress, directory, opened, consent, work)


def abort(
    run: Invocation,
    name: RunArgument = None,
    inputs: options.Inputs = None,
    dry_run: DryRun = False,
) -> "Answer[RunAnswer | PlannedAbortAnswer]":
    """Undo the steps of a run, in reverse order; if the run is still active, stop it with Ctrl-C first"""
    from esctl.playbook import journal, playbookjson
    from esctl.playbook.progress import progress_of

    directory = journal.find(name)
    book = playbookjson.read(directory)
    with _held(book, directory) as opened:
        progress = progress_of(journal.read(directory))
        pending = [step.id for step in progress.pending]
        if dry_run:
            text = ", ".join(pending) or "nothing"
            data: PlannedAbortAnswer = {"run": progress.run, "dry_run": True, "steps": pending}
            return Answer(data, [Line(f"would undo {text}, in this order")])
        values = playbookjson.inputs_again(book, progress.inputs, _secrets(book, options.given(inputs)))
        consent = Consent({}, yes=True)

        async def work(one: "Run") -> None:
            await one.abort()

        return _driven(run, book, values, progress, directory, opened, consent, work, aborting=True)


def carry_out(
    run: Invocation,
    cluster: str,
    consent: Consent,
    planned: "Plan",
    *,
    rehearsal: bool = False,
) -> "Answer[RunAnswer]":
    """A new run, from its directory to its answer. Raises `RunUnderWay`, `PlanIsStale`."""
    from esctl.playbook import journal, playbookjson
    from esctl.playbook.plan import shown_inputs
    from esctl.playbook.progress import RunProgress

    book, values = planned.playbook, planned.inputs
    directory = journal.runs_root() / journal.new_id(book.id)
    with ExitStack() as stack:
        stack.enter_context(_alone(book, cluster, directory))
        _still_as_planned(run, planned, cluster)  # before there is a run: one that is refused leaves none
        opened = stack.enter_context(closing(journal.Journal(directory)))
        playbookjson.write(directory, book)
        state.write_atomically(directory / _PLAYBOOK_TEXT, _text_of(book))
        progress = RunProgress()
        identity = planned.fingerprint.identity if planned.fingerprint is not None else ""
        begins = opened.write(
            "run-begins",
            run=directory.name,
            playbook={name: getattr(book, name) for name in ("id", "version", "title", "digest", "path")},
            cluster=cluster,
            identity=identity,
            inputs=shown_inputs(book, values),
            chosen=planned.chosen,
            max_duration_ms=book.max_duration_ms,
            rehearsal=rehearsal,
        )
        progress.take(begins)

        async def work(one: "Run") -> None:
            await one.begin(book.max_duration_ms)

        return _driven(run, book, values, progress, directory, opened, consent, work)


def check(planned: "Plan") -> None:
    """Raises `RequirementsUnmet`."""
    book = planned.playbook
    if planned.unmet:
        error = RequirementsUnmet(f"{book.id} cannot be run on this cluster: {'; '.join(planned.unmet)}")
        raise error


# --- what stands before a run --------------------------------------------------------------------


def _hold_to(planned: "Plan", path: Path) -> None:
    """Raises `PlanIsStale` when a saved plan stands no longer, `InvalidArgument` for a file that is none."""
    from esctl.playbook.plan import SCHEMA, Fingerprint, shown_inputs

    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["schema"] != SCHEMA:
            raise ValueError(f"its schema is {saved['schema']!r}, not {SCHEMA!r}")
        then = Fingerprint.from_data(saved["fingerprint"]) if saved["fingerprint"] is not None else None
        digest, inputs = saved["digest"], dict(saved["inputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            f"{path} is no plan: {error}", next_step="esctl playbook plan ID --save FILE"
        ) from error
    book, now = planned.playbook, planned.fingerprint
    found = [] if digest == book.digest else [f"{book.path} has changed"]
    found += [
        f"the input {name} was {inputs.get(name)}, and is {value} now"
        for name, value in shown_inputs(book, planned.inputs).items()
        if inputs.get(name) != value
    ]
    if (then is None) is not (now is None):
        found.append("the cluster was made or removed")
    elif then is not None and now is not None:
        found += then.differences(now)
    if found:
        raise PlanIsStale(
            f"{path} no longer stands: {'; '.join(found)}; nothing was done",
            next_step=f"esctl playbook plan {book.id} --save {quoted(path)}",
        )


def _still_as_planned(run: Invocation, planned: "Plan", cluster: str) -> None:
    """The last look before the first step; raises `PlanIsStale`."""
    from esctl.playbook import nodechoice
    from esctl.playbook.plan import Fingerprint
    from esctl.query import survey as surveys

    then = planned.fingerprint
    if then is None:
        return
    found, differences = state.load(cluster), [""]
    for _ in range(LOOKS):  # a node that is busy may miss one look
        survey = run.trio(lambda: surveys.ask(found))
        now = Fingerprint.of(survey)
        # What was planned for fewer nodes than there are is safe with more.
        differences = then.differences(replace(now, up=tuple(n for n in now.up if n in then.up)))
        differences += nodechoice.differences(planned.chosen, planned.inputs, survey)
        if not differences:
            break
    if differences:
        raise PlanIsStale(
            f"{cluster} changed while the run was prepared: {'; '.join(differences)}; nothing was done",
            next_step=f"esctl playbook plan {planned.playbook.id} --cluster {cluster}",
        )


def _still_the_same(progress: "RunProgress") -> None:
    """A run does not go on on another cluster of the same name; raises `PlanIsStale`."""
    name, then = progress.cluster, progress.identity
    if not then or name not in state.names():
        return  # its steps may be those that make it
    now = state.load(name).identity
    if now != then:
        raise PlanIsStale(
            f"{name} is another cluster now: {now}, not {then}; nothing was done",
            next_step=f"esctl playbook report {progress.run}; then: esctl playbook abort {progress.run}",
        )


def _confirmed(
    run: Invocation, planned: "Plan", survey: "Survey | None", *, confirm: str | None, yes: bool
) -> None:
    """By the playbook's risk: low asks nothing, moderate asks a person, severe wants the cluster's name."""
    from esctl.playbook.schema import Risk

    book = planned.playbook
    terminal = run.terminal
    if book.risk is Risk.LOW:
        return
    if terminal.interactive and not (yes or confirm):
        for view in planning_command.views_of(planned, survey):
            terminal.view(view)
    where = f" on {survey.cluster.name}" if survey is not None else ""
    if book.risk is Risk.MODERATE or survey is None:
        guard.moderate(terminal, f"run {book.id}{where}: {book.title}.", yes=yes, typed=run.typed)
        return
    name = survey.cluster.name
    if confirm is None and terminal.interactive:
        terminal.warn(f"{book.id} is of severe risk: {book.title}")
        confirm = terminal.ask(f"Type {name} to confirm:")
    if confirm != name:
        raise NotConfirmed(
            f"{book.id} is of severe risk and was not confirmed for {name}; nothing was done",
            next_step=f"esctl playbook run {book.id} --cluster {name} --confirm {name}",
        )


def _secrets(book: "Playbook", given: Mapping[str, str]) -> "dict[str, Scalar]":
    """The secrets that are given again; raises `InvalidInput`, also for any other input."""
    from esctl.playbook import inputs as taking
    from esctl.playbook.schema import InputType
    from esctl.playbookerrors import InvalidInput

    specs = {spec.name: spec for spec in book.inputs if spec.type is InputType.SECRET}
    for name in given:
        if name not in specs:
            raise InvalidInput(f"{name} cannot be given again: a run keeps the inputs that it began with")
    return {name: taking.of_text(specs[name], text) for name, text in given.items()}


def _text_of(book: "Playbook") -> str:
    """The file as it is now; a playbook that was read from it a moment ago has its digest."""
    return Path(book.path).read_text(encoding="utf-8")


@contextmanager
def _held(book: "Playbook", directory: Path) -> Iterator["Journal"]:
    """The journal of a run that is there, held as `_alone` says. Raises `RunUnderWay`."""
    from esctl.playbook import journal
    from esctl.playbook.progress import progress_of

    cluster = progress_of(journal.read(directory)).cluster
    with _alone(book, cluster, directory), closing(journal.Journal(directory)) as opened:
        yield opened


def _alone(book: "Playbook", cluster: str, directory: Path) -> AbstractContextManager[None]:
    """The cluster's lock for playbooks, if it wants that one. Raises `RunUnderWay`."""
    from esctl.playbook import journal

    return journal.holding(cluster, directory.name) if book.lock else nullcontext()


# --- the run itself ------------------------------------------------------------------------------


def _driven(
    run: Invocation,
    book: "Playbook",
    values: "Mapping[str, Scalar]",
    progress: "RunProgress",
    directory: Path,
    opened: "Journal",
    consent: Consent,
    work: "Callable[[Run], Awaitable[None]]",
    *,
    aborting: bool = False,
) -> "Answer[RunAnswer]":
    """Drive the run in this process, tell it, and answer."""
    import trio

    from esctl.commands.playbook.liveview import AtTerminal, Teller
    from esctl.playbook.actions import Actor
    from esctl.playbook.execution import ChildProcesses
    from esctl.playbook.record import Record
    from esctl.playbook.run import CLEAN_UP_S, Run, loads_of
    from esctl.playbook.schema import Risk
    from esctl.playbook.values import LiveValues

    teller = Teller(run.terminal, book, progress, directory)
    live = LiveValues(progress.cluster, lambda: loads_of(directory))
    record = Record(book, values, opened, progress, live, teller.tell)
    person = AtTerminal(run.terminal, consent.answers, yes=consent.yes)
    actor = Actor(
        # A playbook of low risk asked nothing when it began: what its steps would ask is not answered then.
        ChildProcesses(progress.cluster, consent=consent.yes or book.risk is not Risk.LOW),
        person,
        lambda step, text: record.write("note", step=step, text=text),
    )
    one = Run(record, actor, directory)
    run.intend(progress.cluster)
    run.on_interrupt(lambda: outcome.cut_short(progress, directory), f"esctl playbook report {progress.run}")
    if not aborting:
        teller.begin()

    async def drive() -> None:
        async with trio.open_nursery() as nursery:
            with run.terminal.pane() as pane:
                nursery.start_soon(teller.redraw, pane)
                await work(one)
                nursery.cancel_scope.cancel()

    try:
        run.trio(drive, CLEAN_UP_S)
    except KeyboardInterrupt:
        if progress.clean:
            raise
    except EventStreamError as error:
        answer = outcome.answer_of(progress, directory, aborted=aborting)
        if answer.exit_code != Exit.CLEANUP_INCOMPLETE:
            raise
        return replace(answer, errors=[*answer.errors, Trouble.of(error)])
    return outcome.answer_of(progress, directory, aborted=aborting)
