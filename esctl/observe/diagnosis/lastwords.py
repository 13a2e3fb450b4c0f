"""How a node's process ended, and what happened to it before, from the last lines of its log.

Pure: works on lines that were read already. A process that was killed has no last word, and that is what
its log shows. Called by `collect.py`.
"""

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from esctl.clusters.nodelog import RAW, LogLine
from esctl.clusters.rolechanges import FOLLOWER, RoleChange, role_changes

_REPORT: Final = re.compile(r"^esnode: (ES\d{4}): (.*)")
"""What a node prints that cannot even open its log: the configuration is wrong."""
_NEXT: Final = re.compile(r"^next: (.*)")


class EndKind(enum.Enum):
    """How a process ended."""

    STOPPED = "stopped"
    """It was asked to, and said so."""
    FAILED = "failed"
    """It said why."""
    CRASHED = "crashed"
    """It left something else than lines of its log, such as a traceback."""
    CUT_SHORT = "cut short"
    """Its log ends in the middle: it was killed, or the machine went down."""
    NEVER = "never"
    """There is no log: it never ran."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """The end of a log. `code`, `reason` and `helps` are what the node said itself; empty if nothing."""

    end: EndKind
    time: str = ""
    code: str = ""
    reason: str = ""
    helps: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """A node that found its own disk not to be believed, and what became of it."""

    begun: str
    """When, as the log has it."""
    code: str
    reason: str
    done: str = ""
    """When it was sound again; empty while it is not."""


def last_words(lines: Sequence[LogLine]) -> LastWords:
    """How the process that wrote these lines ended, if it has ended."""
    raw: list[str] = []
    for line in reversed(lines):
        if line.event != RAW:
            return _of_raw(raw, line.time) if raw else _of_line(line)
        raw.insert(0, str(line.fields["text"]))
    return _of_raw(raw, "") if any(text.strip() for text in raw) else LastWords(EndKind.NEVER)


def last_repair(lines: Sequence[LogLine]) -> Repair | None:
    """The latest repair that the lines tell of."""
    done = ""
    for line in reversed(lines):
        if line.event == "rejoin_done":
            done = done or line.time
        elif line.event == "rejoin_begun":
            return Repair(
                line.time, str(line.fields.get("code", "")), str(line.fields.get("reason", "")), done
            )
    return None


def campaigns(lines: Sequence[LogLine], since: str) -> list[RoleChange]:
    """Who campaigned or led in which term, from the time `since` on."""
    return [change for change in role_changes(lines) if change.time >= since and change.role != FOLLOWER]


def _of_line(line: LogLine) -> LastWords:
    said = {name: str(line.fields.get(name, "")) for name in ("code", "reason", "next")}
    if line.event == "node_failed":
        return LastWords(EndKind.FAILED, line.time, said["code"], said["reason"], said["next"])
    return LastWords(EndKind.STOPPED if line.event == "node_stopped" else EndKind.CUT_SHORT, line.time)


def _of_raw(texts: Sequence[str], time: str) -> LastWords:
    """The report of a node that could not begin, or whatever else stands at the end."""
    helps = next((match[1] for text in texts if (match := _NEXT.match(text))), "")
    for text in texts:
        if match := _REPORT.match(text):
            return LastWords(EndKind.FAILED, time, match[1], match[2], helps)
    written = [text for text in texts if text.strip()]
    return LastWords(EndKind.CRASHED, time, reason=written[-1].strip() if written else "")
