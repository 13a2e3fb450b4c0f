"""The least that an action does to a cluster: whether it only reads, changes something, or takes data away.

A table of commands and kinds; what is in no table changes something. The linter holds what a step says of
itself to it. Pure. Called by the linter.
"""

from typing import Final

from esctl.playbook.schema import Action, Impact, Kind, Step

_READS: Final = frozenset(
    {
        "audit", "backup ls", "backup verify", "bench compare", "bench consume",
        "bench report", "bench stop", "check", "cluster ls", "cluster wait", "completion", "consume",
        "dedup explain", "dedup stats", "doctor", "event", "explain", "fault coverage", "fault ls", "health",
        "leader show", "logs", "node ls", "playbook lint", "playbook ls", "playbook plan", "playbook show",
        "snapshot inspect", "snapshot ls", "status", "timeline", "trace", "verify", "version", "why",
    }
)  # fmt: skip
_DESTROYS: Final = frozenset({"backup prune", "cluster destroy"})
_DRY: Final = frozenset({"--dry-run", "-n"})
_CHANGES: Final = frozenset({"--fix"})
_ORDER: Final = list(Impact)


def at_least(impact: Impact, least: Impact) -> bool:
    """Does a step that says `impact` of itself say enough?"""
    return _ORDER.index(impact) >= _ORDER.index(least)


def least_of(action: Action) -> Impact:
    """Of one action; of a step that holds others nothing is known by its kind."""
    given = action.arguments
    match action.kind:
        case Kind.FAULT | Kind.HEAL | Kind.SHELL:
            return Impact.WRITES
        case Kind.BENCH:
            return Impact.READS if given.get("mode") == "consume" else Impact.WRITES
        case Kind.BACKUP:
            return of_words(["backup", str(given.get("action"))])
        case Kind.HTTP:
            return Impact.READS if given.get("method", "GET") in ("GET", "HEAD") else Impact.WRITES
        case Kind.ESCTL:
            return of_words([str(word) for word in given.get("argv", ())])
        case _:
            return Impact.READS


def least_within(step: Step) -> Impact:
    """Of a step and of all that is within it."""
    found = [least_of(step.action), *(inner.impact for inner in step.steps), *map(least_within, step.steps)]
    return max(found, key=_ORDER.index)


def of_words(words: list[str]) -> Impact:
    """Of a command of `esctl`."""
    names = {" ".join(words[:1]), " ".join(words[:2])}
    if _DRY & set(words):
        return Impact.READS
    if names & _DESTROYS:
        return Impact.DESTROYS
    return Impact.READS if names & _READS and not _CHANGES & set(words) else Impact.WRITES
