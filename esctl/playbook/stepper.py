"""One step, from its conditions to its expectations, every attempt; and what it comes to.

In this order: `when`, `confirm`; then each attempt: `pre`, `capture`, the intent on the
disk, the action, its answer, `expect`. A check and an assertion look once; what waits or acts is given until
its timeout. Steps within steps are the parent's. Never undoes anything. Called by `run.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from esctl.errors import NotConfirmed
from esctl.playbook import expression, template
from esctl.playbook.actions import Actor, Done
from esctl.playbook.names import EXPENSIVE, OWN
from esctl.playbook.prepared import Circumstances, PreparedAction, prepare, undo_action
from esctl.playbook.progress import StepState
from esctl.playbook.record import Record
from esctl.playbook.schema import ActionKind, Step
from esctl.playbookerrors import InvalidPlaybook, NotEvaluable

LOOK_EVERY_S: Final = 0.1
SETTLED: Final = OWN | {"inputs", "captured", "step"}
"""What does not change while one looks at it."""
ONCE: Final = frozenset({ActionKind.CHECK, ActionKind.ASSERT})
_JUDGES_THE_END: Final = ("answer.exit", "fault.effect")
"""Who speaks of these in `expect` says itself which end of a command is good."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step, or one attempt at it, came to."""

    state: StepState
    why: str = ""


class Stepper:
    """Takes single steps."""

    def __init__(self, record: Record, actor: Actor, known: Callable[[], Circumstances]) -> None:
        self._record = record
        self._actor = actor
        self._known = known

    async def unmet(self, step: Step) -> StepOutcome | None:
        """Why the step is not to be taken; None when it is. Raises nothing of an expression's."""
        try:
            if step.when and not (await self._record.holds([step.when], step.id))[0]:
                return StepOutcome(StepState.SKIPPED, f"it is only taken if {step.when}")
        except NotEvaluable as error:
            return StepOutcome(StepState.INCONCLUSIVE, str(error))
        return None

    async def take(self, step: Step) -> StepOutcome:
        """All attempts at a step that is to be taken. Cancelled, it is written down as cut off."""
        outcome, cut_off = StepOutcome(StepState.FAILED), True
        self._record.write("step-begins", **self.facts(step, 1))
        try:
            if step.confirm:
                question = await self._worded(step.confirm, step.id)
                await self._actor.person.confirm(step.id, question)
                self._record.write("asked", step=step.id, question=question, answer="yes")
            for attempt in range(1, step.retry.attempts + 1):
                if attempt > 1:
                    await trio.sleep(step.retry.every_ms / 1000)
                    self._record.write("step-begins", **self.facts(step, attempt))
                outcome = await self._attempt(step)
                if outcome.state is StepState.PASSED:
                    break
            cut_off = False
        except NotConfirmed as error:
            outcome, cut_off = StepOutcome(StepState.INCONCLUSIVE, str(error)), False
        finally:
            self.end(step, StepOutcome(StepState.CUT_OFF) if cut_off else outcome)
        return outcome

    def facts(self, step: Step, attempt: int) -> dict[str, object]:
        """What is written down when it begins; in the title, what the run knows already."""
        title = str(template.fill_known(step.title, self._record.known()))
        return {"step": step.id, "kind": step.action.kind, "title": title, "attempt": attempt}

    def end(self, step: Step, outcome: StepOutcome) -> None:
        """Write down what a step came to."""
        if step.id not in self._record.progress.steps:
            self._record.write("step-begins", **self.facts(step, 0))
        self._record.write("step-ends", step=step.id, state=outcome.state, why=outcome.why)

    async def still_holds(self, step: Step) -> StepOutcome:
        """Look again at what a step of an earlier process established; within its timeout."""
        return await self._expectations(step, trio.current_time() + step.timeout_ms / 1000, once=False)

    async def _attempt(self, step: Step) -> StepOutcome:
        deadline = trio.current_time() + step.timeout_ms / 1000
        try:
            good, why = await self._record.holds(step.pre, step.id)
            if not good:
                return StepOutcome(StepState.FAILED, f"nothing was done: {why}")
            await self._capture(step, [name for name, text in step.capture.items() if not _own(text)])
            prepared = await self._prepared(step)
        except (NotEvaluable, InvalidPlaybook) as error:
            return StepOutcome(StepState.INCONCLUSIVE, f"nothing was done: {error}")
        self._intend(step, prepared)
        done = await self._actor.do(step.id, prepared, max(0.0, deadline - trio.current_time()))
        if done.data:
            self._record.write("step-answers", step=step.id, data=dict(done.data), why=done.why)
        if step.action.kind in (ActionKind.APPROVE, ActionKind.ASK) and not done.why:
            answer = done.data.get("answer", "yes")
            self._record.write(
                "asked", step=step.id, question=prepared.action.arguments["question"], answer=answer
            )
        if done.captured:
            self._record.write("step-captures", step=step.id, values=dict(done.captured))
        if done.why and not _judges_the_end(step):
            return _unfinished(step, done)
        try:
            await self._capture(step, [name for name, text in step.capture.items() if _own(text)])
        except NotEvaluable as error:
            return StepOutcome(StepState.INCONCLUSIVE, str(error))
        outcome = await self._expectations(step, deadline, once=step.action.kind in ONCE)
        if done.why and outcome.state is StepState.INCONCLUSIVE:
            return _unfinished(step, done)  # it did not come to answer what it is judged by
        return outcome

    async def _expectations(self, step: Step, deadline: float, *, once: bool) -> StepOutcome:
        """Look until all hold, or the time is over."""
        roots = {root for text in step.expect for root in expression.parse(text).roots}
        once |= bool(EXPENSIVE & roots) or roots <= SETTLED
        outcome = StepOutcome(StepState.PASSED)
        while step.expect:
            try:
                left_s = max(0.0, deadline - trio.current_time())
                good, why = await self._record.holds(step.expect, step.id, left_s)
                outcome = StepOutcome(StepState.PASSED if good else StepState.FAILED, why)
            except NotEvaluable as error:
                outcome = StepOutcome(StepState.INCONCLUSIVE, str(error))
            if outcome.state is StepState.PASSED or once or trio.current_time() >= deadline:
                break
            await trio.sleep(LOOK_EVERY_S)  # nothing tells when a cluster changes
        return outcome

    async def _capture(self, step: Step, names: Sequence[str]) -> None:
        parsed = {name: expression.parse(step.capture[name]) for name in names}
        if not parsed:
            return
        values = await self._record.look(list(parsed.values()), step.id)
        taken = {name: one.evaluate(values) for name, one in parsed.items()}
        self._record.write("step-captures", step=step.id, values=taken)

    async def _prepared(self, step: Step) -> PreparedAction:
        """With everything filled in, live values too where an argument reads them."""
        roots = {str(path.parts[0]) for path in template.references(step.action.arguments)}
        values = await self._record.look([expression.parse(root) for root in sorted(roots)], step.id)
        return prepare(step, values, self._known())

    async def _worded(self, text: str, step: str) -> str:
        """A text for people, filled in as far as it can be."""
        roots = {str(path.parts[0]) for path in template.references(text)}
        values = await self._record.look([expression.parse(root) for root in sorted(roots)], step)
        return str(template.fill_known(text, values))

    def _intend(self, step: Step, prepared: PreparedAction) -> None:
        self._record.write(
            "step-acts",
            step=step.id,
            changes=prepared.changes,
            temporary=prepared.temporary,
            commands=[self._actor.executor.typed(words) for words in prepared.commands],
            faults=list(prepared.faults),
            heals=list(prepared.heals),
            loads=list(prepared.loads),
            undo=undo_action(step) is not None and prepared.changes,
        )


def _own(text: str) -> bool:
    """Does it read what the step's own command answers?"""
    return bool(OWN & expression.parse(text).roots)


def _judges_the_end(step: Step) -> bool:
    return any(name in _JUDGES_THE_END for text in step.expect for name in expression.parse(text).names)


def _unfinished(step: Step, done: Done) -> StepOutcome:
    """A question that nobody answers is no failure of the cluster's."""
    asked = step.action.kind in (ActionKind.APPROVE, ActionKind.ASK)
    return StepOutcome(StepState.INCONCLUSIVE if asked else StepState.FAILED, done.why)
