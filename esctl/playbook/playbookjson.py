"""A playbook as JSON and back, for the run's directory: what was read is what is resumed.

The file may have changed or be gone by then, and what it includes too. Called by the run and by all that go
on with one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from esctl.clusters.state import write_atomically
from esctl.playbook.plan import SECRET
from esctl.playbook.schema import (
    Action,
    ActionKind,
    Guard,
    Impact,
    Input,
    InputType,
    OnBreach,
    OnFail,
    Playbook,
    Requires,
    Retry,
    Risk,
    Scalar,
    Step,
)
from esctl.playbookerrors import RunUnreadable
from esctl.ui.duration import Duration

FILE: Final = "playbook.json"
_NO_LONGER: Final = ("needs", "skip_if")
"""Keys of steps until 0.1: a run that was kept then is read where they said nothing."""


def write(directory: Path, playbook: Playbook) -> None:
    """Keep it; raises `MachineRefused`."""
    write_atomically(directory / FILE, json.dumps(asdict(playbook), indent=1, default=str) + "\n")


def read(directory: Path) -> Playbook:
    """The playbook of a run; raises `RunUnreadable`."""
    path = directory / FILE
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return Playbook(
            **{
                **given,
                "risk": Risk(given["risk"]),
                "steps": tuple(map(_step, given["steps"])),
                "requires": Requires(
                    **{**given["requires"], "backends": tuple(given["requires"]["backends"])}
                ),
                "inputs": tuple(map(_input, given["inputs"])),
                "guards": tuple(
                    Guard(**{**one, "on_breach": OnBreach(one["on_breach"])}) for one in given["guards"]
                ),
            }
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunUnreadable(f"{path} cannot be used: {type(error).__name__}: {error}") from error


def inputs_again(
    playbook: Playbook, kept: Mapping[str, Scalar], given: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """The inputs of a run that goes on: those it began with, and its secrets as they are given now.

    A secret that is not given is left out: only a step that needs it fails.
    """
    values: dict[str, Scalar] = {}
    for spec in playbook.inputs:
        value = given.get(spec.name, kept.get(spec.name))
        if spec.type is InputType.SECRET and spec.name not in given:
            continue
        if spec.type is InputType.DURATION and isinstance(value, str):
            value = Duration.parse(value)
        values[spec.name] = value
    return values


def hidden(text: str, secrets: Mapping[str, Scalar]) -> str:
    """The text with every secret value taken out."""
    for value in secrets.values():
        if isinstance(value, str) and value:
            text = text.replace(value, SECRET)
    return text


def _input(given: Mapping[str, Any]) -> Input:
    spec = Input(**{**given, "type": InputType(given["type"]), "choices": tuple(given["choices"])})
    if spec.type is InputType.DURATION and isinstance(spec.default, int):
        return Input(spec.name, spec.type, spec.help, Duration(spec.default), spec.choices)
    return spec


def _action(given: Mapping[str, Any]) -> Action:
    return Action(ActionKind(given["kind"]), given["arguments"])


def _step(given: Mapping[str, Any]) -> Step:
    return Step(
        **{
            **{name: value for name, value in given.items() if value or name not in _NO_LONGER},
            "action": _action(given["action"]),
            "impact": Impact(given["impact"]),
            "pre": tuple(given["pre"]),
            "expect": tuple(given["expect"]),
            "retry": Retry(**given["retry"]),
            "undo": _action(given["undo"]) if given["undo"] is not None else None,
            "on_fail": OnFail(given["on_fail"]),
            "steps": tuple(map(_step, given["steps"])),
        }
    )
