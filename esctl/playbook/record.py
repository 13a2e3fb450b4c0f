"""A run as it is written down while it goes: each event first on the disk, then in the progress, then shown.

Also gives expressions what the run itself knows: inputs, what was captured, what earlier steps answered, how
much time is left. Secrets are taken out of every text before it is written. Called by the run and its parts.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import trio

from esctl.errors import MachineRefused, StateUnreadable
from esctl.playbook import expression, playbookjson
from esctl.playbook.expression import Expression
from esctl.playbook.journal import Event, Journal
from esctl.playbook.names import OWN
from esctl.playbook.progress import RunProgress, StepState
from esctl.playbook.schema import InputType, Playbook, Scalar
from esctl.playbook.values import Values
from esctl.playbookerrors import NotEvaluable, RunUnreadable


class Record:
    """One run, from the process that drives it. `deadline` is on trio's clock."""

    def __init__(
        self,
        playbook: Playbook,
        inputs: Mapping[str, Scalar],
        journal: Journal,
        progress: RunProgress,
        values: Values,
        tell: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self.playbook = playbook
        self.inputs = inputs
        self.progress = progress
        self.deadline = float("inf")
        self.undoing = False
        """From now on a journal that cannot be written stops nothing: to undo is worth more."""
        self.unwritten: MachineRefused | None = None
        """Why a line of that time is not on the disk."""
        self._journal = journal
        self._values = values
        self._tell = tell
        secret = {spec.name for spec in playbook.inputs if spec.type is InputType.SECRET}
        self._secrets = {name: value for name, value in inputs.items() if name in secret}

    @property
    def left_ms(self) -> int:
        """What is left of the run's duration."""
        left_ms = 1000 * (self.deadline - trio.current_time())  # before the steps and after them: endless
        return round(max(0, min(self.playbook.max_duration_ms, left_ms)))

    def write(self, event: str, **facts: Any) -> None:
        """One more event: on the disk when this returns. Raises `MachineRefused`."""
        told = self._without_secrets(facts)
        try:
            line = self._journal.write(event, **told)
        except MachineRefused as error:
            if not self.undoing:
                raise
            self.unwritten = error
            line = {"n": -1, "at": time.time(), "event": event, **told}
        self.progress.take(line)
        self._tell(line)

    def known(self, step: str | None = None, *, then: bool = False) -> dict[str, Any]:
        """What the run itself knows, as expressions read it; `answer` and the like are those of `step`.

        `then`: with what was captured when that step began, though later steps captured it anew.
        """
        progress = self.progress
        mine = progress.steps.get(step) if step is not None else None
        values: dict[str, Any] = {
            "inputs": self.inputs,
            "captured": {**progress.captured, **(mine.captured if mine is not None and then else {})},
            "run": {"left_ms": self.left_ms, "id": progress.run},
            "step": {
                one.id: {"ok": one.state is StepState.PASSED, "data": one.answer}
                for one in progress.steps.values()
                if one.state not in (StepState.WAITING, StepState.RUNNING)
            },
        }
        if mine is not None and mine.answer:
            values |= dict.fromkeys(OWN, mine.answer)
            values["bench"] = {**mine.answer, **mine.answer.get("figures", {})}
        return values

    async def look(
        self, expressions: Sequence[Expression], step: str | None = None, wait_s: float = 0.0
    ) -> Mapping[str, Any]:
        """All that these expressions read, as it is now."""
        roots = {root for one in expressions for root in one.roots}
        return {**await self._gathered(roots, wait_s), **self.known(step)}

    async def holds(
        self, texts: Collection[str], step: str | None = None, wait_s: float = 0.0
    ) -> tuple[bool, str]:
        """Do all hold? If not, why. Raises `NotEvaluable` when one cannot be judged and none is false."""
        parsed = [expression.parse(text) for text in texts]
        values = await self.look(parsed, step, wait_s)
        return judged(parsed, values)

    async def _gathered(self, roots: Collection[str], wait_s: float) -> Mapping[str, Any]:
        try:
            values = await self._values.gather(roots, wait_s) if roots else {}
        except (RunUnreadable, StateUnreadable) as error:
            raise NotEvaluable(str(error)) from error
        if "verify" in values:
            self.write("audit", facts=values["verify"])
        return values

    def _without_secrets(self, value: Any) -> Any:
        """The same, a secret's value nowhere in it."""
        if not self._secrets:
            return value
        match value:
            case str():
                return playbookjson.hidden(value, self._secrets)
            case list() | tuple():
                return [self._without_secrets(one) for one in value]
            case Mapping():
                return {key: self._without_secrets(one) for key, one in value.items()}
            case _:
                return value


def judged(expressions: Collection[Expression], values: Mapping[str, Any]) -> tuple[bool, str]:
    """Do all hold, and if not, why. What is false is false, whatever else cannot be judged.

    Raises `NotEvaluable` when one cannot be judged and none is false.
    """
    unknown: NotEvaluable | None = None
    for one in expressions:
        try:
            if not one.holds(values):
                return False, one.explain(values)
        except NotEvaluable as error:
            unknown = unknown or error
    if unknown is not None:
        raise unknown
    return True, ""
