"""What a node's log says of elections is read in one way, and a line that no node wrote tells nothing."""

from typing import Any

import pytest

from esctl.chaos.failover.election import election_in, terms_led
from esctl.clusters.nodelog import LogLine
from esctl.clusters.rolechanges import ElectionNews, FirstCommit, RoleChange, VoteCast, news_of
from esctl.observe.diagnosis.lastwords import campaigns

AT = "2013-01-01T00:00:05.000000Z"


def line(event: str, **fields: Any) -> LogLine:
    return LogLine(AT, 2, "info", event, {"event": event, **fields})


@pytest.mark.parametrize(
    ("said", "news"),
    [
        (
            line(
                "state_changed",
                role="follower",
                new_term=5,
                leader=1,
                why="heard of a leader",
                by=1,
                silence_ms=7,
            ),
            RoleChange(AT, 2, 5, "follower", 1, "heard of a leader", 1, 7),
        ),
        (
            line("state_changed", role="pre-candidate", new_term=5, leader=None),
            RoleChange(AT, 2, 5, "pre-candidate"),
        ),
        (line("vote_cast", new_term=5, vote=3), VoteCast(AT, 2, 5, 3)),
        (line("first_commit", new_term=5), FirstCommit(AT, 2, 5)),
        (line("node_started", new_term=5, role="leader"), None),
    ],
)
def test_each_event_of_an_election_is_read(said: LogLine, news: ElectionNews | None) -> None:
    assert news_of(said) == news


STRANGE = [
    line("state_changed"),
    line("state_changed", role="leader"),
    line("state_changed", role="leader", new_term="5"),
    line("state_changed", role="leader", new_term=True),
    line("state_changed", role="leader", new_term=2**80),
    line("state_changed", role="king", new_term=5),
    line("state_changed", role=["leader"], new_term=5),
    line("vote_cast", new_term=5),
    line("first_commit", new_term=None),
]


@pytest.mark.parametrize("said", STRANGE)
def test_a_line_that_no_node_writes_tells_nothing_and_ends_no_command(said: LogLine) -> None:
    assert news_of(said) is None
    assert campaigns([said], "") == []
    assert terms_led([said]) == set()
    assert election_in([said], 1, 4, 0.0) is None


def test_what_is_strange_beside_a_role_and_a_term_is_left_out() -> None:
    said = line("state_changed", role="leader", new_term=5, leader="2", why=7, by=[1], silence_ms=0.5)
    assert news_of(said) == RoleChange(AT, 2, 5, "leader")
