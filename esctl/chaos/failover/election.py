"""What the nodes' own logs tell of an election: who noticed, who stood, who won, what committed first.

Reads the events `state_changed` and `first_commit`, on the wall clock that all nodes of one machine share.
Believes no order but that of the clock: where a step seems to come before the one that causes it, the
clock was set, and nothing is told. Pure. Called by `drill.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from esctl.clusters.nodelog import LogLine


@dataclass(frozen=True, slots=True)
class MeasuredElection:
    """Times in seconds of the epoch."""

    leader: int
    term: int
    noticed_s: float
    """A survivor did not know of any leader any more, or stood."""
    stood_s: float
    """A survivor asked whether it could win (pre-vote), or for votes."""
    elected_s: float
    committed_s: float
    """The new leader's first entry is on a majority: from here on it acks."""
    stepped_down_s: float | None
    """The old leader said that it does not lead any more; None where it could not."""


@dataclass(frozen=True, slots=True)
class Phases:
    """The time from a strike to the first ack that the new leader gave, cut in four. Milliseconds."""

    detect_ms: float
    elect_ms: float
    first_commit_ms: float
    client_ms: float


def election_in(
    lines: Iterable[LogLine], old_leader: int, old_term: int, since_s: float
) -> MeasuredElection | None:
    """The first election after `since_s` whose leader committed something; None where the logs tell of none.

    `lines` are those of all nodes, in the order of time.
    """
    said = [(at_s, line) for at_s, line in _timed(lines) if at_s >= since_s]
    served = next(((at_s, line) for at_s, line in said if _term(line, "first_commit") > old_term), None)
    if served is None:
        return None
    committed_s, line = served
    leader, term = line.node, _term(line, "first_commit")
    changes = [(at_s, line) for at_s, line in said if line.event == "state_changed" and at_s <= committed_s]
    survivors = [(at_s, line.fields) for at_s, line in changes if line.node != old_leader]
    stood_s = _first(at_s for at_s, fields in survivors if fields.get("role") != "follower")
    noticed_s = _first(at_s for at_s, fields in survivors if _knows_no_leader(fields))
    elected_s = _first(at_s for at_s, line in changes if line.node == leader and _leads_in(line.fields, term))
    if stood_s is None or noticed_s is None or elected_s is None or not stood_s <= elected_s:
        return None
    stepped_down_s = _first(
        at_s
        for at_s, line in said
        if line.node == old_leader and line.fields.get("role", "leader") != "leader"
    )
    return MeasuredElection(leader, term, noticed_s, stood_s, elected_s, committed_s, stepped_down_s)


def phases_of(election: MeasuredElection, struck_s: float, acked_s: float) -> Phases | None:
    """`acked_s` is the first ack after the first commit, on the same clock; None when that was set."""
    times_s = (struck_s, election.stood_s, election.elected_s, election.committed_s, acked_s)
    parts = [after - before for before, after in pairwise(times_s)]
    return Phases(*(round(part * 1000, 3) for part in parts)) if min(parts) >= 0 else None


def terms_led(lines: Iterable[LogLine]) -> set[int]:
    """The terms in which a node says that it has begun to lead."""
    return {
        int(line.fields["new_term"])
        for line in lines
        if line.event == "state_changed" and line.fields.get("role") == "leader"
    }


def _timed(lines: Iterable[LogLine]) -> Iterator[tuple[float, LogLine]]:
    for line in lines:
        if line.event in ("state_changed", "first_commit"):
            yield datetime.fromisoformat(line.time).timestamp(), line


def _term(line: LogLine, event: str) -> int:
    return int(line.fields["new_term"]) if line.event == event else -1


def _knows_no_leader(fields: dict[str, Any]) -> bool:
    return fields.get("leader") is None or fields.get("role") != "follower"


def _leads_in(fields: dict[str, Any], term: int) -> bool:
    return fields.get("role") == "leader" and fields.get("new_term") == term


def _first(times_s: Iterable[float]) -> float | None:
    return next(iter(times_s), None)
