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
    for number in range(limits.MAX_HASTY_ELECTIONS):
        timer.retry(pre=bool(number % 2))
        timer.tick(limits.HASTY_RETRY_MS - 1)
        assert not timer.has_expired
        timer.tick(limits.HASTY_RETRY_MS)
        assert timer.has_expired
    timer.retry(pre=True)
    timer.tick(299)
    assert not timer.has_expired


def test_a_leader_ends_the_haste() -> None:
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.hurry(0)
    timer.restart()
    timer.heard()
    timer.retry(pre=False)
    timer.tick(299)
    assert not timer.has_expired


def test_the_silence_of_a_leader_makes_only_pre_votes_hasty() -> None:
    """A real candidate needs the disks of a majority, however slow they are."""
    timer = ElectionTimer(TIMERS, random.Random(1))
    timer.heard()
    timer.tick(400)
    timer.retry(pre=True)
    timer.tick(2 * limits.HASTY_RETRY_MS)
    assert timer.has_expired
    timer.retry(pre=False)
    timer.tick(299)
    assert not timer.has_expired
