"""Messages that are lost while their connection stays up: nobody is told, and the follower is helped."""

import pytest

from esnode import limits
from esnode.raft.messages import AppendReject

from .network import Network
from .solo import Solo

WINDOW = 4


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_INFLIGHT_APPENDS", WINDOW)


def led_by_1_with_3_behind_a_full_window() -> Network:
    """What node 3 was sent is lost, as much as its window takes, and more is committed without it."""
    network = Network(3)
    network.campaign(1)
    network.settle()
    network.sever(1, 3)
    for number in range(2 * WINDOW):
        network.propose(1, f"e{number}")
        network.deliver()
        network.persist(1)
        network.persist(2)
    network.settle()
    leadership = network.core(1).leadership
    assert leadership is not None
    assert not leadership.progress[3].may_send()
    return network


@pytest.mark.parametrize("cut_after_healing", [True, False])
def test_a_follower_whose_window_was_lost_gets_a_snapshot_when_the_prefix_is_cut_past_it(
    *, cut_after_healing: bool
) -> None:
    network = led_by_1_with_3_behind_a_full_window()
    if cut_after_healing:
        network.heal()
    network.cut_prefix(1)
    network.persist(1)
    network.heal()
    network.pass_time(1_000)
    assert network.core(3).log.applied == network.core(1).log.last_index


def test_a_follower_whose_window_was_lost_is_sent_it_again() -> None:
    network = led_by_1_with_3_behind_a_full_window()
    network.heal()
    network.pass_time(1_000)
    assert network.core(3).log.applied == network.core(1).log.last_index


def test_a_rejection_of_where_every_log_begins_changes_nothing() -> None:
    """It would ask for a snapshot that nobody has made: the leader's process would end by it."""
    solo = Solo()
    solo.lead_with_commit()
    ready = solo.receive(3, AppendReject(1, rejected_index=0, hint_index=0, hint_term=0))
    assert not ready.snapshots
    assert solo.core.leadership is not None
    assert solo.core.leadership.progress[3].match_index == 0
