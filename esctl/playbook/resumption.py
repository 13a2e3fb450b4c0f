"""What happens to each step when an interrupted run is resumed: kept, checked, repeated, or asked about.

Before a run goes on, what is temporary is undone: faults are healed, loads stopped. So it is begun again
where it was still meant to be there. What ran under a fault that is over for good cannot be looked at again
and is believed. A step that was cut off is repeated when that can do no harm; else a person decides. Pure.
Called by `run.py`.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from esctl.playbook import nesting
from esctl.playbook.progress import RunProgress, StepRun, StepState, ends
from esctl.playbook.schema import ActionKind, Playbook, Step
from esctl.playbook.stepkinds import NESTING
from esctl.playbookerrors import CannotRepeat

REPEATABLE: Final = frozenset(
    {
        ActionKind.CHECK,
        ActionKind.ASSERT,
        ActionKind.WAIT,
        ActionKind.HEAL,
        ActionKind.FAULT,
        ActionKind.BENCH,
        ActionKind.NOTE,
        ActionKind.APPROVE,
        ActionKind.ASK,
    }
)
"""To do it once more does nothing that doing it once does not. A fault replaces itself; a load sends events
that nobody has sent."""
REPEAT, IS_DONE = "repeat", "done"


class Fate(enum.Enum):
    """What becomes of a step."""

    TAKE = "take"
    """It was not taken, or has to be taken again."""
    KEEP = "keep"
    LOOK_AGAIN = "look again"
    """It stays as it is if its expectations still hold."""
    ENTER = "enter"
    """It holds other steps, and they decide each for themselves."""
    IS_DONE = "is done"
    """A person says so."""
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Resumption:
    """The fates of all steps by id; those that are not named are taken."""

    fates: Mapping[str, Fate] = field(default_factory=dict)

    def of(self, step: Step) -> Fate:
        """What becomes of it."""
        return self.fates.get(step.id, Fate.TAKE)

    @property
    def asked(self) -> list[str]:
        """The steps about which a person decides."""
        return [step for step, fate in self.fates.items() if fate is Fate.ASK]


def every_step(playbook: Playbook, progress: RunProgress) -> dict[str, Step]:
    """All steps by id in the order of the file, with those of the rounds that have begun."""
    return {step.id: step for step in _with_rounds(playbook.steps, progress)}


def resumption_of(playbook: Playbook, progress: RunProgress) -> Resumption:
    """The fates of the steps of a run that was cut off."""
    everything = every_step(playbook, progress)
    steps = [step for step in everything.values() if step.action.kind not in NESTING]
    runs = [progress.steps.get(step.id) for step in steps]
    passed = [run for run in runs if run is not None and run.state is StepState.PASSED]
    lasting = {run.id for run in passed if run.temporary and not _ended_later(run, passed)}
    fates = {
        step.id: Fate.ENTER
        for step in everything.values()
        if step.action.kind in NESTING and _begun(progress.steps.get(step.id))
    }
    under: list[str] = []
    """The temporary steps that were under way when a step was taken."""
    for step, run in zip(steps, runs, strict=True):
        if run is None:
            continue
        fates[step.id] = _fate(step, run, lasting, under)
        if run.state is StepState.PASSED and run.temporary:
            under.append(run.id)
        under = [other for other in under if not ends(run, progress.steps[other])]
    return Resumption(fates)


def decided(resumption: Resumption, answers: Mapping[str, str]) -> Resumption:
    """With what a person said of the steps that were cut off; raises `CannotRepeat` where nothing was."""
    fates = dict(resumption.fates)
    for step in resumption.asked:
        match answers.get(step):
            case "repeat":
                fates[step] = Fate.TAKE
            case "done":
                fates[step] = Fate.IS_DONE
            case _:
                helps = f"esctl playbook resume --answer {step}={REPEAT}, or --answer {step}={IS_DONE}"
                raise CannotRepeat(
                    f"the step {step} was cut off: it may be done, done in part, or not done",
                    next_step=f"look whether it is; then {helps}",
                )
    return Resumption(fates)


def _fate(step: Step, run: StepRun, lasting: set[str], under: Sequence[str]) -> Fate:
    if run.state is StepState.PASSED and run.temporary:
        return Fate.TAKE if run.id in lasting else Fate.KEEP
    if run.state is StepState.PASSED:
        gone = [other for other in under if other not in lasting]
        return Fate.KEEP if gone or not step.expect else Fate.LOOK_AGAIN
    if (
        run.state in (StepState.CUT_OFF, StepState.RUNNING)
        and run.acts
        and step.action.kind not in REPEATABLE
    ):
        return Fate.ASK
    return Fate.TAKE


def _begun(run: StepRun | None) -> bool:
    return run is not None and run.state in (StepState.RUNNING, StepState.CUT_OFF, StepState.PASSED)


def _ended_later(run: StepRun, passed: Sequence[StepRun]) -> bool:
    """Did a later step end what this one began?"""
    return any(ends(other, run) for other in passed[passed.index(run) + 1 :])


def _with_rounds(steps: Sequence[Step], progress: RunProgress) -> Iterator[Step]:
    for step in steps:
        yield step
        if step.action.kind is ActionKind.FOREACH:
            for one in nesting.rounds(step, progress.rounds.get(step.id, [])):
                yield from _with_rounds(one, progress)
        else:
            yield from _with_rounds(step.steps, progress)
