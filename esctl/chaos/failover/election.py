"""What the nodes' own logs tell of an election: who noticed, who stood, who won, what committed first.

Goes by the wall clock that all nodes of one machine share.
Believes no order but that of the clock: where a step seems to come before the one that causes it, the
clock was set, and nothing is told. Pure. Called by `drill.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from esctl.cli import timearguments
from esctl.clusters.nodelog import LogLine
from esctl.clusters.rolechanges import (
    FOLLOWER,
    LEADER,
    ElectionNews,
    FirstCommit,
    RoleChange,
    news_of,
    role_changes,
)


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
    said = [(at_s, news) for at_s, news in _timed(lines) if at_s >= since_s]
    commits = [(at_s, news) for at_s, news in said if isinstance(news, FirstCommit) and news.term > old_term]
    if not commits:
        return None
    committed_s, served = commits[0]
    leader, term = served.node, served.term
    changes = [(at_s, news) for at_s, news in said if isinstance(news, RoleChange)]
    before = [(at_s, change) for at_s, change in changes if at_s <= committed_s]
    survivors = [(at_s, change) for at_s, change in before if change.node != old_leader]
    stood_s = _first(at_s for at_s, change in survivors if change.role != FOLLOWER)
    noticed_s = _first(at_s for at_s, change in survivors if change.leader is None or change.role != FOLLOWER)
    elected_s = _first(
        at_s for at_s, one in before if (one.node, one.term, one.role) == (leader, term, LEADER)
    )
    if stood_s is None or noticed_s is None or elected_s is None or not stood_s <= elected_s:
        return None
    stepped_down_s = _first(
        at_s for at_s, change in changes if change.node == old_leader and change.role != LEADER
    )
    return MeasuredElection(leader, term, noticed_s, stood_s, elected_s, committed_s, stepped_down_s)


def phases_of(election: MeasuredElection, struck_s: float, acked_s: float) -> Phases | None:
    """`acked_s` is the first ack after the first commit, on the same clock; None when that was set."""
    times_s = (struck_s, election.stood_s, election.elected_s, election.committed_s, acked_s)
    parts = [after - before for before, after in pairwise(times_s)]
    return Phases(*(round(part * 1000, 3) for part in parts)) if min(parts) >= 0 else None


def terms_led(lines: Iterable[LogLine]) -> set[int]:
    """The terms in which a node says that it has begun to lead."""
    return {change.term for change in role_changes(lines) if change.role == LEADER}


def _timed(lines: Iterable[LogLine]) -> Iterator[tuple[float, ElectionNews]]:
    for line in lines:
        news = news_of(line)
        if news is not None and (at_s := timearguments.seconds(news.time)) is not None:
            yield at_s, news


def _first(times_s: Iterable[float]) -> float | None:
    return next(iter(times_s), None)
