"""What an action comes down to: the words after `esctl`, as a person would type them.

The cluster is never named here, nor the form of the output: who runs the command adds them. A kind
that is no command of ours (`check`, `wait`, `http`, ...) has no words. Called by the plan, the linter
and the run, so that what was planned is what is done.
"""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from esctl.playbook import parameters, stepkinds
from esctl.playbook.schema import Action, ActionKind


def command_of(action: Action) -> list[str]:
    """The words after `esctl`, those of this version; empty where there is no command."""
    action, _ = stepkinds.current(action)
    given = action.arguments
    match action.kind:
        case ActionKind.ESCTL:
            return [str(word) for word in given["argv"]]
        case ActionKind.FAULT:
            return parameters.words(("fault", str(given["type"])), given)
        case ActionKind.HEAL:
            return ["fault", "heal", "--all" if given.get("all") is True else str(given["fault"])]
        case ActionKind.BENCH:
            return _bench(given)
        case ActionKind.BACKUP:
            return _backup(given)
        case _:
            return []


def shown(action: Action) -> str:
    """For people: the line to type, or what is done instead of one; empty when nothing is."""
    words, given = command_of(action), action.arguments
    if words:
        return typed(["esctl", *words])
    match action.kind:
        case ActionKind.HTTP:
            return f"{given.get('method', 'GET')} {given['url']}"
        case _:
            return ""


def typed(words: Iterable[str]) -> str:
    """One line for a shell. What is still to be filled in stays readable."""
    return " ".join(word if word.startswith("${") else shlex.quote(word) for word in words)


def _bench(given: Mapping[str, Any]) -> list[str]:
    if given.get("background") is True:
        return parameters.words(("bench", "start"), {"name": "load", **given})
    return parameters.words(("bench", str(given["mode"])), given)


def _backup(given: Mapping[str, Any]) -> list[str]:
    words = parameters.words(("backup", str(given["action"])), given)
    return words + [str(word) for word in given.get("options", ())]
