"""Undoes what the steps of a run did, the last one that began first.

What is undone already is left alone, and what is not there any more counts as undone: to undo twice does no
harm. Each undo is tried a few times within the run's bounded time for it; what still fails is kept as the
commands that a person would type. One that fails does not keep the others from being tried. Called by the run
at its end, by `resume` and by `abort`.
"""

from collections.abc import Callable, Mapping
from typing import Final

import trio

from esctl.errors import ClusterNotFound, FaultNotFound
from esctl.playbook import expression, template
from esctl.playbook.actions import Actor
from esctl.playbook.prepared import Circumstances, PreparedAction, prepare_undo, undo_action
from esctl.playbook.progress import RunProgress, StepRun, Undo
from esctl.playbook.record import Record
from esctl.playbook.schema import ActionKind, Step
from esctl.playbookerrors import InvalidPlaybook, LoadNotFound, NotEvaluable

ALL_TIMEOUT_S: Final = 120.0
"""For all of it."""
ONE_TIMEOUT_S: Final = 45.0
"""For one try: to start a node again takes longest."""
TRIES: Final = 3
PAUSE_S: Final = 1.0
GONE: Final = frozenset({FaultNotFound.code, LoadNotFound.code, ClusterNotFound.code})
"""Errors that say that there is nothing left to undo."""


class Undoer:
    """Undoes the steps of one run. `steps` are all of its steps by id, those of rounds too."""

    def __init__(
        self, record: Record, actor: Actor, known: Callable[[], Circumstances], steps: Mapping[str, Step]
    ) -> None:
        self._record = record
        self._actor = actor
        self._known = known
        self._steps = steps

    async def undo_all(self, *, temporary: bool) -> None:
        """Undo what is pending; with `temporary` only what a pass leaves nothing of either."""
        deadline = trio.current_time() + ALL_TIMEOUT_S
        for step in self._record.progress.pending:
            if step.temporary or not temporary:
                await self._undo(step, deadline)

    async def _undo(self, step: StepRun, deadline: float) -> None:
        try:
            prepared = await self._prepared(step)
        except (NotEvaluable, InvalidPlaybook) as error:
            self._record.write("undo-ends", step=step.id, ok=False, why=f"nothing was done: {error}")
            return
        typed = [self._actor.executor.typed(words) for words in prepared.commands]
        self._record.write("undo-begins", step=step.id, commands=typed)
        why = "no time was left for it"
        for attempt in range(TRIES):
            left_s = min(ONE_TIMEOUT_S, deadline - trio.current_time())
            if left_s <= 0:
                break
            if attempt:
                await trio.sleep(min(PAUSE_S, left_s))
            why = await self._do(step.id, prepared, deadline)
            if not why:
                break
        self._record.write("undo-ends", step=step.id, ok=not why, why=why)

    async def _do(self, step: str, prepared: PreparedAction, deadline: float) -> str:
        """Do each command by itself: one whose fault is gone says nothing about the others. Why not; empty
        when it is done."""
        if prepared.action.kind is ActionKind.HEAL and not prepared.commands:
            return ""  # the step never came to set a fault
        parts = [PreparedAction(prepared.action, (words,)) for words in prepared.commands] or [prepared]
        failures = []
        for part in parts:
            left_s = max(0.0, min(ONE_TIMEOUT_S, deadline - trio.current_time()))
            done = await self._actor.do(step, part, left_s)
            if done.why and not done.codes & GONE:
                failures.append(done.why)
        return "; ".join(failures)

    async def _prepared(self, step: StepRun) -> PreparedAction:
        declared, undo = self._steps[step.id], undo_action(self._steps[step.id])
        assert undo is not None
        roots = {str(path.parts[0]) for path in template.references(undo.arguments)}
        live = await self._record.look([expression.parse(root) for root in sorted(roots)])
        return prepare_undo(declared, {**live, **self._record.known(step.id, then=True)}, self._known())


def left_over(progress: RunProgress) -> list[str]:
    """The commands that a person would type for what could not be undone, in their order."""
    lines = []
    for step in progress.pending:
        if step.undo is Undo.FAILED:
            lines += step.undo_commands or [f"(step {step.id} has to be undone by hand: {step.undo_why})"]
    return list(dict.fromkeys(lines))
