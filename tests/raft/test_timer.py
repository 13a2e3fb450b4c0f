"""The election timer: patience, and haste when the leader's connection has closed."""

import random

from esnode import limits
from esnode.config import Raft as Timers
from esnode.raft.timer import ElectionTimer

TIMERS = Timers(heartbeat_ms=100, election_ms=300, jitter_ms=50)


def test_the_timeout_lies_between_the_bounds() -> None:
    for seed in range(200):
        timer = ElectionTimer(TIMERS, random.Random(seed))
        timer.tick(299)
        assert not timer.has_expired
        timer.tick(50)
        assert timer.has_expired


def test_hearing_from_the_leader_starts_the_wait_anew() -> None:
    timer = ElectionTimer(TIMERS, random.Random(1))
    leases = []
    for elapsed_ms in (299, 1):
        timer.tick(elapsed_ms)
        leases.append(timer.within_lease)
    timer.heard()
    leases.append(timer.within_lease)
    assert leases == [True, False, True]
    timer.tick(299)
    assert not timer.has_expired


def test_survivors_hurry_by_rank() -> None:
    step = limits.HASTY_ELECTION_STEP_MS
    for rank in range(4):
        for seed in range(50):
            timer = ElectionTimer(TIMERS, random.Random(seed))
            timer.hurry(rank)
            timer.tick(rank * step - 1)
            assert rank == 0 or not timer.has_expired
            timer.tick(step + 1)
            assert timer.has_expired


def test_haste_tries_again_soon_and_ends_after_a_few_tries() -> None:
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.hurry(0)
    for _ in range(limits.MAX_HASTY_ELECTIONS):
        timer.retry()
        timer.tick(limits.HASTY_RETRY_MS - 1)
        assert not timer.has_expired
        timer.tick(limits.HASTY_RETRY_MS)
        assert timer.has_expired
    timer.retry()
    timer.tick(299)
    assert not timer.has_expired
    timer.stand_again(0)
    assert not timer.has_expired


def test_a_leader_ends_the_haste() -> None:
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.hurry(0)
    timer.restart()
    timer.heard()
    timer.tick(299)
    assert not timer.has_expired


def test_whoever_loses_an_election_stands_again_by_rank() -> None:
    for rank in range(4):
        timer = ElectionTimer(TIMERS, random.Random(rank))
        timer.heard()
        timer.restart()
        timer.stand_again(rank)
        timer.tick(rank * limits.HASTY_ELECTION_STEP_MS - 1)
        assert rank == 0 or not timer.has_expired
        timer.tick(limits.HASTY_ELECTION_STEP_MS + 1)
        assert timer.has_expired


def test_who_grants_a_pre_vote_gives_way_once() -> None:
    """And not again: one that asks for ever may never win."""
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.heard()
    timer.tick(349)
    timer.give_way()
    timer.tick(limits.GIVE_WAY_MS - 1)
    assert not timer.has_expired
    timer.give_way()
    timer.tick(1)
    assert timer.has_expired


def test_giving_way_makes_nobody_stand_earlier() -> None:
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.give_way()
    timer.tick(299)
    assert not timer.has_expired


def test_a_silent_leader_is_in_doubt_before_it_is_given_up() -> None:
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.tick(300 - 2 * limits.TICK_MS - 1)
    assert not timer.is_close
    timer.tick(1)
    assert timer.is_close
    assert timer.within_lease
