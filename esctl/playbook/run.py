"""A run of a playbook: its steps in order, its guards beside them, its verdict, and then its clean-up.

THE MAP: `stepper.py` takes one step, `guards.py` looks at the guards, `undo.py` cleans up, `record.py`
writes down. Decided here: what comes after what, what follows a failure, and the verdict, which is on the
disk before anything is undone. The clean-up is shielded from Ctrl-C and bounded. Never prints. Called by the
commands `run`, `resume`, `abort` and `rehearse`.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from esctl.errors import NotConfirmed
from esctl.playbook import expression, nesting, template
from esctl.playbook.actions import Actor
from esctl.playbook.guards import watch
from esctl.playbook.prepared import Circumstances
from esctl.playbook.progress import RunVerdict, StepState
from esctl.playbook.record import Record
from esctl.playbook.resumption import Fate, Resumption, every_step
from esctl.playbook.schema import ActionKind, Guard, OnBreach, OnFail, Step
from esctl.playbook.stepkinds import NESTING
from esctl.playbook.stepper import StepOutcome, Stepper
from esctl.playbook.undo import Undoer
from esctl.playbookerrors import NoLongerHolds, NotEvaluable
from esnode.errors import EventStreamError

CLEAN_UP_S: Final = 150.0
"""For verdict and clean-up after Ctrl-C: more than all undos together may take."""
LOADS: Final = "loads"
_CHOICES: Final = ("retry", "continue", "rollback", "stop")


@dataclass(slots=True)
class _End:
    """What ended the steps, other than that they were all taken."""

    why: str
    verdict: RunVerdict
    undo: bool = True
    """Or leave everything as it is."""


class Run:
    """One run in this process."""

    def __init__(self, record: Record, actor: Actor, directory: Path) -> None:
        self.record = record
        self._actor = actor
        self._directory = directory
        self._steps = every_step(record.playbook, record.progress)
        self._stepper = Stepper(record, actor, self._known)
        self._undoer = Undoer(record, actor, self._known, self._steps)
        self._resumption = Resumption()
        self._end: _End | None = None
        self._refusal: EventStreamError | None = None

    async def begin(self, left_ms: int) -> None:
        """Take all steps. Cancelled, it is concluded all the same."""
        self.record.write("session-begins", why="run")
        await self._drive(left_ms, self._all_steps)

    async def resume(self, left_ms: int, resumption: Resumption) -> None:
        """Go on with what is left. Raises `NoLongerHolds`: nothing was decided, and it can go on later."""
        self.record.write("session-begins", why="resume")
        self._resumption = resumption

        async def work() -> None:
            await self._undoer.undo_all(temporary=True)
            await self._all_steps()

        await self._drive(left_ms, work)
        if self._refusal is not None:
            raise self._refusal

    async def abort(self) -> None:
        """Undo all that is not undone; a run without a verdict has none to come.

        Raises `MachineRefused` afterwards when not all of it could be written down.
        """
        self.record.undoing = True
        self.record.write("session-begins", why="abort")
        if self.record.progress.verdict is None:
            self.record.write("verdict", verdict=RunVerdict.INCONCLUSIVE, why="it was aborted by a person")
        with trio.CancelScope(shield=True):
            await self._undoer.undo_all(temporary=False)
        self.record.write("session-ends", how="aborted")
        if self.record.unwritten is not None:
            raise self.record.unwritten

    # --- the whole ---------------------------------------------------------------------------------

    async def _drive(self, left_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        self.record.deadline = trio.current_time() + left_ms / 1000
        concluded = False
        try:
            with trio.CancelScope(deadline=self.record.deadline) as in_time:
                async with trio.open_nursery() as nursery:
                    for guard in self.record.playbook.guards:
                        nursery.start_soon(watch, guard, self.record, self._breach_ends(nursery.cancel_scope))
                    await work()
                    nursery.cancel_scope.cancel()
            if in_time.cancelled_caught and self._end is None:
                self._end = _End("max_duration was over before the last step was", RunVerdict.FAIL)
            concluded = True
        finally:
            with trio.CancelScope(shield=True):
                await self._conclude(interrupted=not concluded)

    def _breach_ends(self, steps: trio.CancelScope) -> Callable[[Guard, str], None]:
        def breached(guard: Guard, text: str) -> None:
            why = f"the guard {guard.expr} was breached: {text}"
            self._end = self._end or _End(why, RunVerdict.FAIL, undo=guard.on_breach is OnBreach.ROLLBACK)
            steps.cancel()

        return breached

    async def _conclude(self, *, interrupted: bool) -> None:
        """The verdict first, then the clean-up; that comes where the verdict cannot be written, too."""
        record = self.record
        record.undoing = True
        if self._refusal is not None:
            await self._undoer.undo_all(temporary=True)
            record.write("session-ends", how="refused")
            return
        finished = self._end is None and not interrupted
        verdict, why = self._verdict(interrupted)
        record.write("verdict", verdict=verdict, why=why)
        if self._end is None or self._end.undo:
            await self._undoer.undo_all(temporary=finished)
        record.write("session-ends", how="interrupted" if interrupted else "over")
        if record.unwritten is not None and not interrupted:
            raise record.unwritten

    def _verdict(self, interrupted: bool) -> tuple[RunVerdict, str]:
        if self._end is not None:
            return self._end.verdict, self._end.why
        if interrupted:
            return RunVerdict.INCONCLUSIVE, "it was interrupted"
        for state, verdict in (
            (StepState.FAILED, RunVerdict.FAIL),
            (StepState.INCONCLUSIVE, RunVerdict.INCONCLUSIVE),
        ):
            for step in self.record.progress.steps.values():
                if step.state is state:
                    return verdict, f"step {step.id}: {step.why}"
        steps = self.record.progress.steps.values()
        if not any(step.state is StepState.PASSED and step.kind not in NESTING for step in steps):
            return RunVerdict.INCONCLUSIVE, "no step was taken: nothing was shown"
        return RunVerdict.PASS, "every step passed"

    # --- the order of the steps --------------------------------------------------------------------

    async def _all_steps(self) -> None:
        try:
            await self._sequence(self.record.playbook.steps)
        except NoLongerHolds as error:
            self._refusal = error

    async def _sequence(self, steps: Sequence[Step]) -> bool:
        """Take them one after the other; False when one of them ends the run."""
        for step in steps:
            if not await self._one(step):
                return False
        return True

    async def _one(self, step: Step) -> bool:
        """Take one step, whatever is in it; False when it ends the run."""
        nested = step.action.kind in NESTING
        match self._resumption.of(step):
            case Fate.KEEP:
                return True
            case Fate.LOOK_AGAIN:
                await self._look_again(step)
                return True
            case Fate.IS_DONE:
                self._stepper.end(step, StepOutcome(StepState.PASSED, "a person says that it is done"))
                return True
            case Fate.ENTER:
                outcome = None
            case _:
                outcome = await self._stepper.unmet(step)
        while True:
            if outcome is None:
                outcome = await (self._nested(step) if nested else self._stepper.take(step))
            else:
                self._stepper.end(step, outcome)
            if self._end is not None:
                return False
            if outcome.state in (StepState.PASSED, StepState.SKIPPED):
                return True
            if not await self._again(step, outcome):
                return self._end is None
            outcome = None

    async def _again(self, step: Step, outcome: StepOutcome) -> bool:
        """What follows a step that did not pass: True to take it again; sets `_end` where that is the end."""
        verdict = RunVerdict.FAIL if outcome.state is StepState.FAILED else RunVerdict.INCONCLUSIVE
        why = f"step {step.id}: {outcome.why}"
        follows = str(step.on_fail)
        if step.on_fail is OnFail.ASK:
            follows = await self._ask(step, outcome)
        if follows == OnFail.STOP:
            self._end = _End(why, verdict, undo=False)
        elif follows == OnFail.ROLLBACK:
            self._end = _End(why, verdict)
        return follows == "retry"

    async def _ask(self, step: Step, outcome: StepOutcome) -> str:
        """What a person says; without one it is rolled back."""
        question = f"step {step.id} {outcome.state}: {outcome.why}. What now?"
        try:
            answer = await self._actor.person.choose(step.id, question, _CHOICES)
        except NotConfirmed:
            return str(OnFail.ROLLBACK)
        self.record.write("asked", step=step.id, question=question, answer=answer)
        return answer

    async def _look_again(self, step: Step) -> None:
        outcome = await self._stepper.still_holds(step)
        if outcome.state is not StepState.PASSED:
            run = self.record.progress.run
            raise NoLongerHolds(
                f"step {step.id} had passed, and now: {outcome.why}; nothing more was done",
                next_step=f"fix that and: esctl playbook resume {run}; or: esctl playbook abort {run}",
            )

    # --- steps within steps ------------------------------------------------------------------------

    async def _nested(self, step: Step) -> StepOutcome:
        self.record.write("step-begins", **self._stepper.facts(step, 1))
        outcome = StepOutcome(StepState.CUT_OFF)
        try:
            if step.action.kind is ActionKind.FOREACH:
                await self._foreach(step)
            else:
                await self._sequence(step.steps)
            outcome = self._of_inner(step)
        except NotEvaluable as error:
            outcome = StepOutcome(StepState.INCONCLUSIVE, str(error))
        finally:  # cancelled, it is cut off
            self._stepper.end(step, outcome)
        return outcome

    async def _foreach(self, step: Step) -> None:
        items = self.record.progress.rounds.get(step.id)
        if items is None:
            given = step.action.arguments["items"]
            reads = [str(path.parts[0]) for path in template.references(given)]
            if isinstance(given, str) and not reads:
                reads = [given]
            values = await self.record.look([expression.parse(text) for text in reads], step.id)
            items = nesting.items_of(step, values)
            self.record.write("foreach", step=step.id, over=items)
        for one in nesting.rounds(step, items):
            self._steps |= {inner.id: inner for inner in nesting.in_a_row(one)}
            if not await self._sequence(one):
                return

    def _of_inner(self, step: Step) -> StepOutcome:
        """What the steps inside come to."""
        inner = self._inner_ids(step)
        for state in (StepState.FAILED, StepState.INCONCLUSIVE, StepState.CUT_OFF):
            for one in self.record.progress.steps.values():
                if one.id in inner and one.state is state:
                    return StepOutcome(state, f"step {one.id}: {one.why}")
        return StepOutcome(StepState.PASSED)

    def _inner_ids(self, step: Step) -> set[str]:
        if step.action.kind is not ActionKind.FOREACH:
            return {one.id for one in nesting.in_a_row(step.steps)}
        turns = nesting.rounds(step, self.record.progress.rounds.get(step.id, []))
        return {one.id for turn in turns for one in nesting.in_a_row(turn)}

    def _known(self) -> Circumstances:
        steps = self.record.progress.steps
        return Circumstances(
            left_ms=self.record.left_ms,
            faults_of=lambda step: steps[step].faults if step in steps else (),
            new_id=lambda: secrets.token_hex(2),
            load_directory=self._load_directory,
        )

    def _load_directory(self, name: str) -> str:
        """One that is not there yet."""
        home = self._directory / LOADS
        taken = len(list(home.glob(f"{name}*"))) if home.is_dir() else 0
        return str(home / (name if not taken else f"{name}-{taken + 1}"))


def loads_of(directory: Path) -> list[Path]:
    """The directories of a run's loads, the newest last."""
    found = [path.parent for path in (directory / LOADS).glob("*/plan.json")]
    return sorted(found, key=lambda path: (path / "plan.json").stat().st_mtime_ns)
