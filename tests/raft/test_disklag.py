"""A leader whose own disk is behind the commit hands over; and leadership does not wander for it."""

import pytest

from esnode import limits
from esnode.raft.disklag import DiskLag
from esnode.raft.messages import AppendReply, Propose, Tick, TimeoutNow, Transfer
from esnode.raft.timer import ElectionTimer

from .machine import batch_of
from .network import TIMERS, Network, Steady
from .solo import Solo

TICK_MS = 10


def told_to_stand(solo: Solo, elapsed_ms: int) -> list[int]:
    """Who is, while time passes and both followers go on answering."""
    told = []
    for _ in range(elapsed_ms // TICK_MS):
        ready = solo.step(Tick(TICK_MS))
        told += [out.to for out in ready.messages if isinstance(out.message, TimeoutNow)]
        for peer in (2, 3):
            match = solo.core.leadership.progress[peer].match_index if solo.core.leadership else 0
            ready = solo.receive(peer, AppendReply(solo.core.term, match))
            told += [out.to for out in ready.messages if isinstance(out.message, TimeoutNow)]
    return told


def old_leader() -> Solo:
    """It has led for a while, with a good disk."""
    solo = Solo()
    solo.lead_with_commit()
    for peer in (2, 3):
        solo.receive(peer, AppendReply(1, 1))
    assert told_to_stand(solo, limits.YOUNG_LEADERSHIP_MS) == []
    return solo


def commit_without_own_disk(solo: Solo, name: str) -> None:
    solo.step(Propose(1, batch_of(name)))
    for peer in (2, 3):
        solo.receive(peer, AppendReply(1, solo.core.log.last_index))
    assert solo.core.log.durable < solo.core.log.committed


# --- the measure --------------------------------------------------------------------------------


def test_a_disk_lags_from_when_it_lacks_what_is_committed_until_it_has_that() -> None:
    lag = DiskLag()
    lag.tick(20, 0, 5)
    for _ in range(10):
        lag.tick(20, 4, 9)
    assert lag.lag_ms == 200
    lag.tick(20, 5, 9)  # what was awaited is there; more has come meanwhile
    assert lag.lag_ms == 0
    lag.tick(20, 5, 9)
    assert (lag.lag_ms, lag.is_slow, lag.was_slow) == (20, False, False)


def test_a_disk_that_was_slow_is_remembered_for_a_while() -> None:
    lag = DiskLag()
    lag.tick(0, 0, 1)
    lag.tick(limits.SLOW_DISK_MS, 0, 1)
    assert lag.is_slow
    lag.tick(20, 1, 1)
    assert (lag.is_slow, lag.was_slow) == (False, True)
    lag.tick(limits.SLOW_DISK_MEMORY_MS, 1, 1)
    assert not lag.was_slow


# --- the hand-over ------------------------------------------------------------------------------


def test_a_leader_whose_disk_is_behind_the_commit_hands_over() -> None:
    solo = old_leader()
    commit_without_own_disk(solo, "a")
    assert told_to_stand(solo, limits.SLOW_DISK_MS - TICK_MS) == []
    assert told_to_stand(solo, 3 * TICK_MS)[:1] == [2]
    assert solo.core.yielded is not None
    assert (solo.core.yielded.to, solo.core.yielded.term) == (2, 1)
    assert solo.core.yielded.lag_ms >= limits.SLOW_DISK_MS


def test_a_leader_whose_disk_is_as_slow_as_the_others_stays() -> None:
    """Nothing is committed that it has not: another leader would not be faster."""
    solo = old_leader()
    solo.step(Propose(1, batch_of("a")))
    solo.receive(2, AppendReply(1, 2))
    assert told_to_stand(solo, 4_000) == []
    solo.persist()
    assert told_to_stand(solo, 4_000) == []


def test_nobody_is_handed_the_leadership_whose_disk_was_slow_lately() -> None:
    solo = Solo(voters=5)
    solo.lead_with_commit()
    leadership = solo.core.leadership
    assert leadership is not None
    for peer in (2, 3, 4, 5):
        solo.receive(peer, AppendReply(1, 1))
    solo.step(Propose(1, batch_of("a")))
    solo.persist()

    def pass_time(elapsed_ms: int, matches: dict[int, int]) -> None:
        for _ in range(elapsed_ms // TICK_MS):
            solo.step(Tick(TICK_MS))
            for peer, match in matches.items():
                solo.receive(peer, AppendReply(1, match))

    pass_time(limits.YOUNG_LEADERSHIP_MS, {2: 1, 3: 1, 4: 2, 5: 2})  # the disks of 2 and 3 are slow
    assert leadership.progress[2].disk.is_slow
    pass_time(1_000, dict.fromkeys((2, 3, 4, 5), 2))  # and are not any more
    solo.step(Propose(2, batch_of("b")))
    pass_time(limits.SLOW_DISK_MS + 3 * TICK_MS, dict.fromkeys((2, 3, 4, 5), 3))
    assert leadership.transferee == 4


def test_a_leader_without_a_better_follower_stays() -> None:
    solo = Solo(voters=5)
    solo.lead_with_commit()
    leadership = solo.core.leadership
    assert leadership is not None
    for _ in range(limits.YOUNG_LEADERSHIP_MS // TICK_MS):
        solo.step(Tick(TICK_MS))
        for peer in (2, 3, 4):
            solo.receive(peer, AppendReply(1, 1))
    solo.step(Propose(1, batch_of("a")))
    for peer in (2, 3, 4):
        solo.receive(peer, AppendReply(1, 2))
    for progress in leadership.progress.values():
        progress.match_index = min(progress.match_index, 1)  # they lost it again: nobody has all
    for _ in range(100):
        solo.step(Tick(TICK_MS))
        for peer in (2, 3, 4):
            solo.receive(peer, AppendReply(1, 1))
    assert (leadership.transferee, solo.core.yielded) == (None, None)


def test_a_young_leader_waits_before_it_hands_over_again() -> None:
    """Two whose disks are slow in turn would hand the leadership to each other and ack nothing."""
    solo = Solo()
    solo.lead_with_commit()
    for peer in (2, 3):
        solo.receive(peer, AppendReply(1, 1))
    commit_without_own_disk(solo, "a")
    assert told_to_stand(solo, limits.YOUNG_LEADERSHIP_MS - 2 * TICK_MS) == []
    assert told_to_stand(solo, 4 * TICK_MS)[:1] == [2]


def test_a_hand_over_that_an_operator_began_is_left_alone() -> None:
    solo = old_leader()
    solo.step(Propose(1, batch_of("a")), Transfer(3))
    for peer in (2, 3):
        solo.receive(peer, AppendReply(1, 2))
    told_to_stand(solo, 400)
    assert solo.core.yielded is None


# --- who stands -----------------------------------------------------------------------------------


def test_a_node_whose_disk_was_slow_stands_one_time_out_later() -> None:
    timer = ElectionTimer(TIMERS, Steady(1))
    timer.stands_late = True
    timer.tick(TIMERS.election_ms + TIMERS.jitter_ms)
    assert not timer.has_expired
    timer.tick(TIMERS.election_ms)
    assert timer.has_expired
    timer.stands_late = False
    timer.hurry(0)
    timer.tick(limits.HASTY_ELECTION_STEP_MS)
    assert timer.has_expired


@pytest.mark.parametrize("closed", [True, False])
def test_the_survivor_with_the_slow_disk_lets_the_other_one_stand(closed: bool) -> None:
    network = Network(3)
    network.campaign(1)
    network.settle()
    network.core(2).disk.tick(0, 0, 1)
    network.core(2).disk.tick(limits.SLOW_DISK_MS, 0, 1)
    network.pass_time(100)
    network.crash(1)
    if closed:
        network.close(1)
    network.pass_time(900)
    assert network.leader() == 3


def test_a_node_whose_disk_was_slow_leads_where_nobody_else_can() -> None:
    network = Network(3)
    network.campaign(1)
    network.settle()
    network.core(2).disk.tick(0, 0, 1)
    network.core(2).disk.tick(limits.SLOW_DISK_MS, 0, 1)
    network.isolate(3)
    network.propose(1, "a")
    network.settle()
    network.crash(1)
    network.heal()  # node 3 lacks what was acked
    network.pass_time(2_000)
    assert (network.leader(), network.core(2).disk.was_slow) == (2, True)
