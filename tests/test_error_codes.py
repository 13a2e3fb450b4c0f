"""What the other side's code of an error becomes on this side."""

from esnode.errors import Bug, ConnectionLost, NotLeader
from esnode.transport.connection import error_of


def test_every_code_becomes_the_error_that_it_stands_for() -> None:
    assert type(error_of(NotLeader.code, "no")) is NotLeader
    assert not error_of("ES1103", "gone").definite


def test_a_bug_of_the_other_side_is_not_one_of_this_side() -> None:
    error = error_of(Bug.code, "a broken invariant")
    assert type(error) is ConnectionLost
    assert not error.definite
