"""The least that an action does to a cluster: whether it only reads, changes something, or takes data away.

A command says it of itself (`@command` in `esctl/cli/invocation.py`); what is no command of ours changes
something. The linter holds what a step says of itself to it. Called by the linter.
"""

from typing import Final

from esctl.cli import arguments, oldwords
from esctl.playbook import commandline
from esctl.playbook.schema import Action, ActionKind, Impact, Step

_DRY: Final = frozenset(arguments.words_of(arguments.DryRun))
_ORDER: Final = list(Impact)


def at_least(impact: Impact, least: Impact) -> bool:
    """Does a step that says `impact` of itself say enough?"""
    return _ORDER.index(impact) >= _ORDER.index(least)


def least_of(action: Action) -> Impact:
    """Of one action; of a step that holds others nothing is known by its kind."""
    given = action.arguments
    match action.kind:
        case ActionKind.FAULT | ActionKind.HEAL:
            return Impact.WRITES
        case ActionKind.BENCH:
            return of_words(["bench", str(given.get("mode"))])
        case ActionKind.BACKUP:
            return of_words(["backup", str(given.get("action"))])
        case ActionKind.HTTP:
            return Impact.READS if given.get("method", "GET") in ("GET", "HEAD") else Impact.WRITES
        case ActionKind.ESCTL:
            return of_words(oldwords.current([str(word) for word in given.get("argv", ())])[0])
        case _:
            return Impact.READS


def least_within(step: Step) -> Impact:
    """Of a step and of all that is within it."""
    found = [least_of(step.action), *(inner.impact for inner in step.steps), *map(least_within, step.steps)]
    return max(found, key=_ORDER.index)


def of_words(words: list[str]) -> Impact:
    """Of a command of `esctl`."""
    if _DRY & set(words):
        return Impact.READS
    command = commandline.find(words)
    if command is None:
        return Impact.WRITES
    declared = command.callback.declared
    option = declared.changes
    idle = isinstance(option, str) and not any(
        set(one.opts) & set(words) for one in command.params if one.name == option
    )
    return Impact.READS if idle else Impact(declared.impact)
