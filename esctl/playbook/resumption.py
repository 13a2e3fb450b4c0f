"""What becomes of each step when a run goes on that was cut off: kept, looked at, done again, or asked about.

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
from esctl.playbook.kinds import NESTING
from esctl.playbook.progress import Progress, State, StepRun, ends
from esctl.playbook.schema import Kind, Playbook, Step
from esctl.playbookerrors import CannotRepeat

REPEATABLE: Final = frozenset(
    {Kind.CHECK, Kind.ASSERT, Kind.WAIT, Kind.HEAL, Kind.FAULT, Kind.BENCH, Kind.NOTE, Kind.APPROVE, Kind.ASK}
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


def every_step(playbook: Playbook, progress: Progress) -> dict[str, Step]:
    """All steps by id in the order of the file, with those of the rounds that have begun."""
    return {step.id: step for step in _with_rounds(playbook.steps, progress)}


def resumption_of(playbook: Playbook, progress: Progress) -> Resumption:
    """The fates of the steps of a run that was cut off."""
    everything = every_step(playbook, progress)
    steps = [step for step in everything.values() if step.action.kind not in NESTING]
    runs = [progress.steps.get(step.id) for step in steps]
    passed = [run for run in runs if run is not None and run.state is State.PASSED]
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
        if run.state is State.PASSED and run.temporary:
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
    if run.state is State.PASSED and run.temporary:
        return Fate.TAKE if run.id in lasting else Fate.KEEP
    if run.state is State.PASSED:
        gone = [other for other in under if other not in lasting]
        return Fate.KEEP if gone or not step.expect else Fate.LOOK_AGAIN
    if run.state in (State.CUT_OFF, State.RUNNING) and run.acts and step.action.kind not in REPEATABLE:
        return Fate.ASK
    return Fate.TAKE


def _begun(run: StepRun | None) -> bool:
    return run is not None and run.state in (State.RUNNING, State.CUT_OFF, State.PASSED)


def _ended_later(run: StepRun, passed: Sequence[StepRun]) -> bool:
    """Did a later step end what this one began?"""
    return any(ends(other, run) for other in passed[passed.index(run) + 1 :])


def _with_rounds(steps: Sequence[Step], progress: Progress) -> Iterator[Step]:
    for step in steps:
        yield step
        if step.action.kind is Kind.FOREACH:
            for one in nesting.rounds(step, progress.rounds.get(step.id, [])):
                yield from _with_rounds(one, progress)
        else:
            yield from _with_rounds(step.steps, progress)
