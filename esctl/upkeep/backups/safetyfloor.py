"""How far the beginning of the log may be cut: the safety floor.

Decides what still needs old events: the slowest node that answers, which would have to be sent a snapshot
and would never have them, and whoever may one day restore: what no backup has is gone for good. Computes on
a survey and a note; never asks and never prints. Called by `esctl compact`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from esctl.query.survey import Survey
from esctl.upkeep.backups.catalog import NotedBackup


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs the events from an offset on."""

    what: str
    offset: int


def needs(survey: Survey, last_backup: NotedBackup | None) -> Sequence[Need]:
    """Everything that holds the log, the most demanding first."""
    found = [
        Need(
            f"node {report.node.id} has come so far",
            report.number("next_offset") or 0,
        )
        for report in survey.up
        if not report.rejoining
    ]
    if last_backup is None:
        found.append(Need("there is no backup of this cluster", 0))
    else:
        found.append(Need(f"the last backup ends there: {last_backup.path}", last_backup.next_offset))
    return sorted(found, key=lambda need: need.offset)


def in_the_way(held: Sequence[Need], before: int) -> list[Need]:
    """What would lose something if the log were cut up to `before`."""
    return [need for need in held if need.offset < before]
