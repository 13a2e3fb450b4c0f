"""The quorum functions, as tables."""

import itertools

import pytest

from esnode.raft.quorum import Tally, agreed, majority, tally


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_any_two_majorities_share_a_voter(voters: int, needed: int) -> None:
    assert majority(voters) == needed
    assert 2 * needed > voters
    assert 2 * (needed - 1) <= voters


@pytest.mark.parametrize(
    ("positions", "reached"),
    [
        ([5], 5),
        ([0], 0),
        ([5, 4, 3], 4),
        ([9, 0, 0], 0),
        ([9, 9, 0], 9),
        ([1, 2, 3, 4, 5], 3),
        ([7, 7, 7, 0, 0], 7),
        ([7, 7, 0, 0, 0], 0),
        ([1, 2, 3, 4, 5, 6, 7], 4),
        ([8, 8, 8, 0, 0, 0, 0], 0),
        ([8, 8, 8, 2, 0, 0, 0], 2),
    ],
)
def test_a_position_is_agreed_when_a_majority_has_reached_it(positions: list[int], reached: int) -> None:
    orders = list(itertools.permutations(positions))[:120]
    assert {agreed(order) for order in orders} == {reached}


@pytest.mark.parametrize("voters", [1, 3, 5, 7])
def test_agreed_is_the_highest_position_that_enough_have_reached(voters: int) -> None:
    for positions in itertools.product(range(3), repeat=voters):
        wanted = max(p for p in (0, 1, 2) if sum(q >= p for q in positions) >= majority(voters))
        assert agreed(positions) == wanted


@pytest.mark.parametrize(
    ("voters", "granted", "refused", "result"),
    [
        (1, {1}, set(), Tally.WON),
        (1, set(), {1}, Tally.LOST),
        (1, set(), set(), Tally.OPEN),
        (3, {1}, set(), Tally.OPEN),
        (3, {1, 2}, set(), Tally.WON),
        (3, {1}, {2}, Tally.OPEN),
        (3, {1}, {2, 3}, Tally.LOST),
        (5, {1, 2}, {3, 4}, Tally.OPEN),
        (5, {1, 2, 3}, {4, 5}, Tally.WON),
        (5, {1, 2}, {3, 4, 5}, Tally.LOST),
        (7, {1, 2, 3}, {4, 5, 6}, Tally.OPEN),
        (7, {1, 2, 3, 4}, set(), Tally.WON),
        (7, set(), {4, 5, 6, 7}, Tally.LOST),
        (3, {8, 9}, set(), Tally.OPEN),
    ],
)
def test_votes_are_counted_by_voter(voters: int, granted: set[int], refused: set[int], result: Tally) -> None:
    votes = dict.fromkeys(granted, True) | dict.fromkeys(refused, False)
    assert tally(votes, range(1, voters + 1)) is result


@pytest.mark.parametrize("voters", [1, 3, 5])
def test_an_election_is_never_won_and_lost(voters: int) -> None:
    for answers in itertools.product((True, False, None), repeat=voters):
        votes = {voter: answer for voter, answer in enumerate(answers, 1) if answer is not None}
        won = sum(votes.values()) >= majority(voters)
        lost = voters - (len(votes) - sum(votes.values())) < majority(voters)
        expected = Tally.WON if won else Tally.LOST if lost else Tally.OPEN
        assert tally(votes, range(1, voters + 1)) is expected
