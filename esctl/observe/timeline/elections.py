"""Elections as a whole: who missed the leader and why, who stood, who voted, who won, and how long it took.

Only what the logs say: a vote is seen when the voter's log has it. A node that asks for votes, and neither is
elected nor votes for the one that is, has asked in vain. Pure. Called by `story.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from esctl.clusters.rolechanges import FOLLOWER, LEADER, STANDS, FirstCommit, RoleChange, VoteCast
from esctl.observe.timeline.lanes import Lane, Stretch
from esctl.observe.timeline.moments import Moment

NEAR_S = 1.0
"""Who stands in an election and loses hears of the winner within this."""


@dataclass(frozen=True, slots=True)
class Election:
    """One that was won. Times in seconds since 1970."""

    term: int
    leader: int
    begin_s: float
    """The first of those who then voted did not know a leader any more."""
    noticed_by: int
    why: str
    before: int | None
    """Who led before, as far as the logs tell."""
    silence_ms: int | None
    stood: Sequence[int]
    votes: Mapping[int, float]
    """When each node that voted for the leader did so."""
    elected_s: float
    committed_s: float | None

    @property
    def end_s(self) -> float:
        """When the new leader could ack; when it was elected, if nothing was committed."""
        return self.elected_s if self.committed_s is None else self.committed_s


@dataclass(frozen=True, slots=True)
class Attempt:
    """A node that asked for votes in vain, until it heard of a leader; `end_s` is None when it never did."""

    node: int
    begin_s: float
    end_s: float | None
    term: int | None


@dataclass(frozen=True, slots=True)
class _Search:
    """A time in which a node knew no leader, and what it did then."""

    node: int
    begin_s: float
    end_s: float
    stretches: Sequence[Stretch] = field(default_factory=tuple)

    @property
    def stood(self) -> list[Stretch]:
        return [one for one in self.stretches if one.state in STANDS]


def elections(moments: Sequence[Moment], every: Mapping[int, Lane]) -> list[Election]:
    """Those that were won, in order."""
    searches = [search for lane in every.values() for search in _searches(lane)]
    return [
        _election(moment.at_s, moment.news, moments, every, searches)
        for moment in moments
        if isinstance(moment.news, RoleChange) and moment.news.role == LEADER
    ]


def attempts(won: Sequence[Election], every: Mapping[int, Lane], end_s: float) -> list[Attempt]:
    """Nodes that stood and were no part of an election that was won."""
    found = []
    for lane in every.values():
        for search in _searches(lane):
            if not search.stood or any(_is_part(search, election) for election in won):
                continue
            begin_s = search.stood[0].begin_s
            over = search.end_s < end_s
            found.append(Attempt(lane.node, begin_s, search.end_s if over else None, search.stood[0].term))
    return found


def _is_part(search: _Search, election: Election) -> bool:
    if search.node == election.leader or search.node in election.votes:
        return search.begin_s <= election.elected_s and search.end_s >= election.begin_s
    return election.begin_s - NEAR_S <= search.begin_s and search.end_s <= election.end_s + NEAR_S


def _election(
    won_s: float,
    won: RoleChange,
    moments: Sequence[Moment],
    every: Mapping[int, Lane],
    searches: Sequence[_Search],
) -> Election:
    leader, term = won.node, won.term
    votes = {
        one.news.node: one.at_s
        for one in moments
        if isinstance(one.news, VoteCast) and (one.news.vote, one.news.term) == (leader, term)
    }
    looked = [
        one for one in searches
        if (one.node == leader or one.node in votes) and one.begin_s <= won_s <= one.end_s + NEAR_S
        and any(stretch.begin_s <= won_s for stretch in one.stretches)
    ]  # fmt: skip
    newest: dict[int, _Search] = {}
    for one in looked:
        newest[one.node] = max(one, newest.get(one.node, one), key=lambda search: search.begin_s)
    first = min(newest.values(), key=lambda one: one.begin_s, default=None)
    committed = (
        one.at_s
        for one in moments
        if isinstance(one.news, FirstCommit) and (one.news.node, one.news.term) == (leader, term)
    )
    reason = first.stretches[0] if first is not None else Stretch(won_s, won_s, FOLLOWER)
    begin_s = reason.begin_s
    return Election(
        term=term,
        leader=leader,
        begin_s=begin_s,
        noticed_by=first.node if first is not None else leader,
        why=reason.why,
        before=reason.by if reason.by is not None else _led_before(every, begin_s),
        silence_ms=reason.silence_ms,
        stood=sorted({one.node for one in searches if _stood_between(one, begin_s, won_s)}),
        votes=votes,
        elected_s=won_s,
        committed_s=next(committed, None),
    )


def _stood_between(search: _Search, begin_s: float, end_s: float) -> bool:
    return any(begin_s <= one.begin_s <= end_s for one in search.stood)


def _led_before(every: Mapping[int, Lane], at_s: float) -> int | None:
    """Who led last of those that ended before, or still did."""
    led = [(s.term or 0, lane.node) for lane in every.values() for s in lane.stretches
           if s.state == LEADER and s.begin_s < at_s]  # fmt: skip
    return max(led)[1] if led else None


def _searches(lane: Lane) -> Iterator[_Search]:
    """The times in which the node knew no leader, each from when it lost one to when it heard of one."""
    looking: list[Stretch] = []
    for stretch in lane.stretches:
        is_looking = stretch.state in STANDS or (stretch.state == FOLLOWER and stretch.leader is None)
        if is_looking:
            looking.append(stretch)
        elif looking:
            yield _Search(lane.node, looking[0].begin_s, stretch.begin_s, tuple(looking))
            looking = []
    if looking:
        yield _Search(lane.node, looking[0].begin_s, looking[-1].end_s, tuple(looking))


def as_data(election: Election) -> dict[str, Any]:
    """For the JSON answer; durations in milliseconds from the beginning."""

    def after_ms(at_s: float | None) -> float | None:
        return None if at_s is None else round((at_s - election.begin_s) * 1000, 3)

    return {
        "term": election.term,
        "leader": election.leader,
        "before": election.before,
        "noticed_by": election.noticed_by,
        "why": election.why,
        "silence_ms": election.silence_ms,
        "stood": list(election.stood),
        "votes": {str(node): after_ms(at_s) for node, at_s in election.votes.items()},
        "elected_ms": after_ms(election.elected_s),
        "committed_ms": after_ms(election.committed_s),
    }
