"""What a step is about to do, made ready and named before it is done, so that it can be written down first.

Everything is filled in. A fault gets an id that nobody else has, and a lease no longer than what is left of
the run; a load gets the run's directory and ends with the run; `heal` of a step becomes the ids of its
faults. So what was cut off in the middle can be undone by name. Pure. Called by `stepper.py`, `undo.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from esctl.playbook import stepkinds
from esctl.playbook.commands import command_of
from esctl.playbook.progress import EVERY_FAULT
from esctl.playbook.schema import Action, ActionKind, Impact, Step
from esctl.playbookerrors import InvalidPlaybook
from esctl.ui.duration import Duration, milliseconds

LEAST_LEFT_MS: Final = 1000
"""With less than this left of the run, nothing that needs a lease is begun."""
LONGEST_FAULT_ID: Final = 60
DEFAULT_LEASE_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class PreparedAction:
    """One action, ready to be done. `commands` are words of `esctl`; empty where it is no command."""

    action: Action
    commands: tuple[tuple[str, ...], ...] = ()
    changes: bool = False
    temporary: bool = False
    """It is undone after a pass too: a fault, a background load."""
    faults: tuple[str, ...] = ()
    heals: tuple[str, ...] = ()
    loads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the run knows that the playbook does not."""

    left_ms: int
    """Of the run's duration."""
    faults_of: Callable[[str], Sequence[str]]
    """The ids of the faults that a step has set."""
    new_id: Callable[[], str]
    """A few characters that make an id unique."""
    load_directory: Callable[[str], str]
    """A new directory for the files of the load of this name."""


def prepare(step: Step, values: Mapping[str, Any], known: Circumstances) -> PreparedAction:
    """What the step will do. Raises `NotEvaluable`, `InvalidPlaybook`."""
    made = _made(stepkinds.filled(step.action, values), step.id, known)
    return replace(made, changes=step.impact is not Impact.READS)


def prepare_undo(step: Step, values: Mapping[str, Any], known: Circumstances) -> PreparedAction:
    """What undoes the step, which has an undo. Raises `NotEvaluable`, `InvalidPlaybook`."""
    undo = undo_action(step)
    assert undo is not None
    return replace(_made(stepkinds.filled(undo, values), step.id, known), changes=True)


def undo_action(step: Step) -> Action | None:
    """The undo that is written down, or the one that goes without saying; None when there is none."""
    given = step.action.arguments
    if step.undo is not None:
        return step.undo
    if step.action.kind is ActionKind.FAULT:
        return Action(ActionKind.HEAL, {"fault": step.id})
    if step.action.kind is ActionKind.BENCH and given.get("background") is True:
        return Action(ActionKind.ESCTL, {"argv": ["bench", "stop", given.get("name", step.id)]})
    return None


def _made(action: Action, step: str, known: Circumstances) -> PreparedAction:
    match action.kind:
        case ActionKind.FAULT:
            return _fault(action, step, known)
        case ActionKind.HEAL:
            return _heal(action, known)
        case ActionKind.BENCH if action.arguments.get("background") is True:
            return _load(action, step, known)
        case _:
            words = command_of(action)
            return PreparedAction(action, (tuple(words),) if words else (), loads=_stopped(words))


def _fault(action: Action, step: str, known: Circumstances) -> PreparedAction:
    if known.left_ms < LEAST_LEFT_MS:
        raise InvalidPlaybook("max_duration is as good as over, so that no fault may be set any more")
    lease = action.arguments.get("lease", Duration(DEFAULT_LEASE_MS))
    asked_ms = round(milliseconds(lease)) if isinstance(lease, str) else int(lease)
    given = {**action.arguments, "lease": _within(asked_ms, known)}
    fault = f"{step[: LONGEST_FAULT_ID - 10]}-{known.new_id()}"
    words = [*command_of(Action(action.kind, given)), "--id", fault]
    lasts = given.get("how") not in stepkinds.ONE_OFF
    return PreparedAction(Action(action.kind, given), (tuple(words),), temporary=lasts, faults=(fault,))


def _heal(action: Action, known: Circumstances) -> PreparedAction:
    if action.arguments.get("all") is True:
        return PreparedAction(action, (tuple(command_of(action)),), heals=(EVERY_FAULT,))
    ids = tuple(known.faults_of(str(action.arguments["fault"])))
    lines = tuple(tuple(command_of(Action(action.kind, {"fault": fault}))) for fault in ids)
    return PreparedAction(action, lines, heals=ids)


def _load(action: Action, step: str, known: Circumstances) -> PreparedAction:
    name = str(action.arguments.get("name", step))
    given = {**action.arguments, "name": name}
    asked = given.pop("seconds", given.get("duration", f"{known.left_ms}ms"))  # `seconds` is the old word
    given["duration"] = _within(max(1000, round(milliseconds(str(asked)))), known)
    words = [*command_of(Action(action.kind, given)), "--into", known.load_directory(name)]
    return PreparedAction(Action(action.kind, given), (tuple(words),), temporary=True, loads=(name,))


def _within(asked_ms: int, known: Circumstances) -> Duration:
    """What was asked for, or what is left of the run: in whole seconds, since people read and type it."""
    return Duration(asked_ms if asked_ms <= known.left_ms else max(1000, known.left_ms // 1000 * 1000))


def _stopped(words: Sequence[str]) -> tuple[str, ...]:
    """The load that `esctl bench stop` ends."""
    return tuple(words[2:3]) or ("load",) if list(words[:2]) == ["bench", "stop"] else ()
