"""What a node's log says of elections: who stood, who voted for whom, who leads, and what it committed first.

The one reader of the events `state_changed`, `vote_cast` and `first_commit`. A line that lacks something, or
has it in a form that no node writes, tells nothing: it comes from a file. What is made of it is decided by
those who call: `why`, drills, `esctl timeline`, and whoever asks who led in a term. Pure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from esctl.clusters.nodelog import LogLine, whole

FOLLOWER: Final = "follower"
PRE_CANDIDATE: Final = "pre-candidate"
CANDIDATE: Final = "candidate"
LEADER: Final = "leader"
ROLES: Final = (FOLLOWER, PRE_CANDIDATE, CANDIDATE, LEADER)
STANDS: Final = (PRE_CANDIDATE, CANDIDATE)
ROLE_CHANGED: Final = "state_changed"


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A node took another role, or heard of another term or leader."""

    time: str
    """As the log has it."""
    node: int
    term: int
    role: str
    leader: int | None = None
    """Whom it follows, or itself; None while it knows none."""
    why: str = ""
    by: int | None = None
    """The node that caused it."""
    silence_ms: int | None = None
    """For how long it had heard nothing of the leader."""


@dataclass(frozen=True, slots=True)
class VoteCast:
    """A node voted for the node `vote`."""

    time: str
    node: int
    term: int
    vote: int


@dataclass(frozen=True, slots=True)
class FirstCommit:
    """A new leader's first entry is on a majority: from here on it acks."""

    time: str
    node: int
    term: int


ElectionNews = RoleChange | VoteCast | FirstCommit


def news_of(line: LogLine) -> ElectionNews | None:
    """What the line tells of elections; None when that is nothing."""
    term = whole(line.fields.get("new_term"))
    if term is None:
        return None
    match line.event:
        case "state_changed" if line.fields.get("role") in ROLES:
            said = line.fields
            why = said.get("why")
            return RoleChange(
                line.time,
                line.node,
                term,
                said["role"],
                whole(said.get("leader")),
                why if isinstance(why, str) else "",
                whole(said.get("by")),
                whole(said.get("silence_ms")),
            )
        case "vote_cast" if (vote := whole(line.fields.get("vote"))) is not None:
            return VoteCast(line.time, line.node, term, vote)
        case "first_commit":
            return FirstCommit(line.time, line.node, term)
        case _:
            return None


def role_changes(lines: Iterable[LogLine]) -> Iterator[RoleChange]:
    """Those that the lines tell of, in the order of the lines."""
    for line in lines:
        news = news_of(line)
        if isinstance(news, RoleChange):
            yield news
