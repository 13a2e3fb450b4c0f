"""What a diagnosis is made of: findings, each with what shows it and the command to type next.

Pure values. `next` is always one command that can be typed as it stands; what a person has to do by hand
before it is in `first`. Called by the rules, the ranking and `esctl why`.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, NotRequired, TypedDict

from esctl.ui.values import Count, NodeId


class Severity(enum.IntEnum):
    """How bad it is; a note is nothing that is wrong."""

    NOTE = 0
    WARNING = 1
    """It will become a problem."""
    DEGRADED = 2
    """Events are taken and read; less can fail than should."""
    CRITICAL = 3
    """Events are not taken, or a promise is in doubt."""


class ProblemKind(enum.StrEnum):
    """What is wrong. The order is that of what to look at first among equally bad ones."""

    TWO_LEADERS = "two-leaders"
    SPLIT_HISTORY = "split-history"
    LOG_SHORTENED = "log-shortened"
    NO_QUORUM = "no-quorum"
    FAULT = "fault"
    FILES_GONE = "files-gone"
    SETTINGS_DIFFER = "settings-differ"
    DISK_FULL = "disk-full"
    DISK_FAILED = "disk-failed"
    BAD_CONFIG = "bad-config"
    PORT_TAKEN = "port-taken"
    NEWER_FORMAT = "newer-format"
    DAMAGE = "damage"
    NODE_DOWN = "node-down"
    NODE_PAUSED = "node-paused"
    NODE_SILENT = "node-silent"
    REJOINING = "rejoining"
    CUT_OFF = "cut-off"
    NO_LEADER = "no-leader"
    NOT_SERVING = "not-serving"
    LAGGING = "lagging"
    OUTVOTED = "outvoted-leader"
    SLOW_DISK = "slow-disk"
    CLOCK_OFF = "clock-off"
    WINDOW_SHRUNK = "window-shrunk"
    WINDOW_FULL = "window-full"
    DISK_LOW = "disk-low"
    RETENTION = "retention"


class ProblemData(TypedDict):
    """A finding, what shows it, and what to type next."""

    kind: ProblemKind
    severity: Literal["note", "warning", "degraded", "critical"]
    what: str
    nodes: list[NodeId]
    partitions: NotRequired[Annotated[list[Count], "Which of several it is true of"]]
    evidence: list[str]
    first: str | None
    next: str
    also: list[str]
    because: "list[ProblemData]"
    so: "list[ProblemData]"


_SEVERITIES: Final[tuple[Literal["note", "warning", "degraded", "critical"], ...]] = (
    "note", "warning", "degraded", "critical",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth knowing."""

    kind: ProblemKind
    severity: Severity
    what: str
    """One sentence without a full stop."""
    evidence: Sequence[str]
    next: str
    """A command line that can be typed as it is, but for a word in capitals, such as DIR."""
    first: str = ""
    """What a person does before, by hand; empty when there is nothing."""
    also: Sequence[str] = ()
    """Commands that tell more, or the other way to go."""
    nodes: frozenset[int] = frozenset()
    """The nodes that it is about."""
    because: Sequence["Problem"] = ()
    """What makes it so: these are mended by `next` too, or one after the other."""
    so: Sequence["Problem"] = ()
    """What follows from it, and goes away with it."""
    partitions: Sequence[int] = ()
    """Which of several it is true of; empty where there is one."""

    @property
    def wrong(self) -> bool:
        """Is it more than a note?"""
        return self.severity is not Severity.NOTE

    def as_data(self) -> ProblemData:
        """For the JSON answer."""
        data: ProblemData = {
            "kind": self.kind,
            "severity": _SEVERITIES[self.severity],
            "what": self.what,
            "nodes": sorted(self.nodes),
            "evidence": list(self.evidence),
            "first": self.first or None,
            "next": self.next,
            "also": list(self.also),
            "because": [finding.as_data() for finding in self.because],
            "so": [finding.as_data() for finding in self.so],
        }
        if self.partitions:
            data["partitions"] = list(self.partitions)
        return data
