"""What a key of `esctl top` does: a command that one could type, and nothing else.

Pure. So each key has the guards, the quorum text and the traces of its command, and whoever watches learns
the words. Called by `esctl top`.
"""

from dataclasses import dataclass
from typing import Final

from esctl.clusters.backends.interface import RunState
from esctl.query.survey import Survey

LEASE: Final = "10s"
_FAULTS: Final = (
    ("cut off", ("partition", "isolate", "{}")),
    ("mute", ("partition", "one-way", "{}")),
    ("slow links", ("net", "{}", "--delay", "50ms")),
    ("lossy links", ("net", "{}", "--drop", "10%")),
    ("slow disk", ("disk", "slow", "{}")),
    ("wrong clock", ("clock", "jump", "{}", "--by", "+2h")),
    ("pause", ("pause", "{}")),
    ("kill", ("kill", "{}")),
)
"""What can be broken at a node: a name, and the words of `esctl fault`, with its number at {}."""
_OF_PROCESSES: Final = ("pause", "kill")
"""The node need not allow these."""
_ASKS_NOTHING: Final = ("clock",)


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and its plain output."""

    code: int
    stdout: str
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """The words of a command without `esctl`, or why there is none."""

    words: tuple[str, ...] = ()
    refusal: str = ""
    consent: tuple[str, ...] = ()
    """What is added once the operator has said yes, so that the command does not ask again."""
    tells: tuple[str, ...] = ()
    """The names in its plain output that say what came of it; empty: its first line does."""

    @property
    def text(self) -> str:
        """As one would type it."""
        return " ".join(("esctl", *self.words))

    def plan(self, said: Said) -> str:
        """What its dry run said: all of it, since the quorum is in there."""
        if said.code:
            return self.outcome(said)
        return "\n".join("  ".join(filter(None, _cells(line))) for line in said.stdout.splitlines())

    def outcome(self, said: Said) -> str:
        """What came of it, in one line."""
        if said.code and said.stderr.strip():
            return next(line for line in said.stderr.splitlines() if line.strip())
        rows = [_cells(line) for line in said.stdout.splitlines()]
        told = [" ".join(row) for row in rows if row[0] in self.tells]
        first = "  ".join(filter(None, rows[0])) if rows else f"exit code {said.code}"
        return "; ".join(told) or first


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def control(key: str, survey: Survey, selected: int) -> Control | None:
    """What `key` does to the selected node; None for a key without a command."""
    match key:
        case "p":
            return _pause(survey, selected)
        case "t":
            return _transfer(survey, selected)
        case "h":
            return Control(("fault", "heal", "--all"))
        case _:
            return None


def _pause(survey: Survey, selected: int) -> Control:
    verbs = {RunState.RUNNING: "pause", RunState.PAUSED: "resume", RunState.DOWN: "start"}
    verb = verbs[survey.report(selected).process.state]
    return Control(("node", verb, str(selected)), consent=("--yes",) if verb == "pause" else ())


def _transfer(survey: Survey, selected: int) -> Control:
    if survey.leader is None:
        return Control(refusal="nobody leads, so there is nothing to transfer")
    if survey.leader.node.id == selected:
        return Control(("leader", "transfer", *_only(survey)))
    return Control(("leader", "transfer", "--to", str(selected), *_only(survey)))


def _only(survey: Survey) -> tuple[str, ...]:
    """The words for the partition that is shown, where there are several."""
    return () if survey.partition is None else ("--partition", str(survey.partition))


def faults(survey: Survey, selected: int) -> dict[str, Control]:
    """What can be broken at the selected node, by name, each for `LEASE`."""
    status = survey.report(selected).status
    allowed = status is not None and bool(status.get("faults_allowed"))
    return {
        name: Control(
            ("fault", *(word.format(selected) for word in words), "--lease", LEASE, *_only(survey)),
            consent=() if words[0] in _ASKS_NOTHING else ("--yes",),
            tells=("effect", "leader now"),
        )
        for name, words in _FAULTS
        if allowed or words[0] in _OF_PROCESSES
    }
