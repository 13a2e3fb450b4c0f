"""Which node is to lead a partition, and when its leader hands over: decided from what it sees."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits
from esnode.raft.elections import Appointment
from esnode.upkeep.placement import Peer, Placement, Verdict, Why, spread

ME, HOME, OTHER = 2, 1, 3
"""Partition 0 of three nodes is for node 1; the tests look at it from node 2."""


def fit(life: int = 7) -> Peer:
    return Peer(life, keeps_up=True)


BEHIND = Peer(7, keeps_up=False)
GONE = Peer(None, keeps_up=False)


class Watched:
    """Node 2, and what it sees from second to second."""

    def __init__(self) -> None:
        self.placement = Placement(ME, 0, 4, (1, 2, 3))
        self.now = 100.0
        self.leader: int | None = ME
        self.term = 1
        self.appointment: Appointment | None = None
        self.peers: dict[int, Peer] = {HOME: fit(), OTHER: fit()}

    def look(self) -> Verdict:
        return self.placement.look(self.now, self.leader, self.term, self.peers, self.appointment)

    def leads(self, leader: int | None, *, asked_by: int | None = None, operator: bool = False) -> Verdict:
        self.term += 1
        self.leader = leader
        if asked_by is not None:
            self.appointment = Appointment(self.term, asked_by, operator)
        return self.look()

    def run(self, seconds: float, peers: Mapping[int, Peer] | None = None) -> Verdict:
        """Look every half second; stops at the first hand-over."""
        self.peers |= peers or {}
        verdict = self.look()
        for _ in range(round(2 * seconds)):
            if verdict.why is Why.NOW:
                break
            self.now += 0.5
            verdict = self.look()
        return verdict

    def seconds_to_a_hand_over(self, most: float = 1000) -> float:
        """So long it takes until the leadership goes to node 1, and it goes."""
        begun = self.now
        assert self.run(most) == Verdict(Why.NOW, HOME)
        self.placement.hands_over(self.now, HOME)
        return self.now - begun

    def lost_by_home(self, after_s: float, *, gives_back: bool = False) -> None:
        """Node 1 takes over, and does not lead any more some time later."""
        self.leads(HOME)
        self.now += after_s
        self.leads(ME, asked_by=HOME if gives_back else None)


# --- who is to lead ------------------------------------------------------------------------------


def test_partition_k_is_for_node_k_of_the_sorted_ids_and_begins_again() -> None:
    assert spread(4, [3, 1, 2]) == (1, 2, 3, 1)
    assert spread(7, [20, 5, 9]) == (5, 9, 20, 5, 9, 20, 5)
    assert spread(2, [1, 2, 3, 4, 5]) == (1, 2)


@pytest.mark.parametrize(
    ("away", "leaders"),
    [((1,), (2, 2, 3, 3)), ((2,), (1, 3, 3, 1)), ((3,), (1, 2, 2, 1)), ((1, 2), (3, 3, 3, 3))],
)
def test_the_partitions_of_nodes_that_are_away_go_to_those_with_the_fewest(
    away: tuple[int, ...], leaders: tuple[int, ...]
) -> None:
    assert spread(4, (1, 2, 3), away) == leaders


@given(
    st.integers(1, 64),
    st.sets(st.integers(1, 1000), min_size=1, max_size=9).flatmap(
        lambda nodes: st.tuples(st.just(nodes), st.sets(st.sampled_from(sorted(nodes))))
    ),
)
def test_whoever_is_away_the_others_lead_about_as_many_and_keep_their_own(
    partitions: int, found: tuple[set[int], set[int]]
) -> None:
    nodes, away = found
    if away == nodes:
        away = set()
    own, leaders = spread(partitions, nodes), spread(partitions, nodes, away)
    assert all(now == before for now, before in zip(leaders, own, strict=True) if before not in away)
    counts = Counter(dict.fromkeys(nodes - away, 0))
    counts.update(leaders)
    assert set(counts) == nodes - away
    assert max(counts.values()) - min(counts.values()) <= 1


# --- when it is handed over ----------------------------------------------------------------------


def test_the_node_that_is_to_lead_stays() -> None:
    placement = Placement(1, 0, 4, (1, 2, 3))
    assert placement.look(0.0, 1, 1, {2: fit(), 3: fit()}) == Verdict(Why.PLACED, 1)


def test_a_follower_does_nothing() -> None:
    node = Watched()
    node.leader = OTHER
    assert node.run(100).why is Why.FOLLOWS
    node.leader = None
    assert node.run(100).why is Why.FOLLOWS


def test_another_leader_hands_over_once_the_node_was_fit_for_a_while() -> None:
    node = Watched()
    assert node.look() == Verdict(Why.WAITS, HOME, limits.LEADER_FIT_S)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_S
    assert node.look().why is Why.UNDER_WAY


@pytest.mark.parametrize("trouble", [BEHIND, GONE, fit(life=8)], ids=["behind", "gone", "another process"])
def test_what_interrupts_the_while_begins_it_anew(trouble: Peer) -> None:
    node = Watched()
    node.run(limits.LEADER_FIT_S - 0.5)
    assert node.run(0, {HOME: trouble}).why in {Why.UNFIT, Why.WAITS}
    left_s = node.run(0, {HOME: fit(trouble.life or 9)}).wait_s
    assert left_s == limits.LEADER_FIT_S


def test_a_new_leader_begins_to_count_when_it_leads() -> None:
    node = Watched()
    node.leader = OTHER
    node.run(60)
    assert node.leads(ME) == Verdict(Why.WAITS, HOME, limits.LEADER_FIT_S)


def test_a_leader_that_is_elected_again_counts_anew() -> None:
    node = Watched()
    node.run(limits.LEADER_FIT_S - 0.5)
    assert node.leads(ME) == Verdict(Why.WAITS, HOME, limits.LEADER_FIT_S)


@pytest.mark.parametrize("trouble", [BEHIND, GONE])
def test_nothing_goes_to_a_node_that_is_behind_or_not_there(trouble: Peer) -> None:
    node = Watched()
    assert node.run(3600, {HOME: trouble}) == Verdict(Why.PLACED, ME)


def test_while_the_node_is_away_for_longer_its_place_is_taken_and_given_back() -> None:
    # Without node 1, partition 3 is for node 3, and partition 0 for node 2.
    node = Watched()
    node.placement = Placement(ME, 3, 4, (1, 2, 3))
    node.peers[HOME] = GONE
    assert node.run(limits.LEADER_AWAY_S - 0.5) == Verdict(Why.UNFIT, HOME, 0.5)
    assert node.run(20) == Verdict(Why.NOW, OTHER)
    assert node.now == 100 + limits.LEADER_AWAY_S
    node.run(0, {OTHER: BEHIND})
    assert node.run(1, {HOME: fit(8)}) == Verdict(Why.WAITS, HOME, limits.LEADER_FIT_S - 1)


def test_a_substitute_hands_over_to_the_node_that_is_back() -> None:
    node = Watched()
    node.run(30, {HOME: GONE})
    node.peers[HOME] = fit(8)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_S


# --- not again and again -------------------------------------------------------------------------


def test_a_hand_over_that_nobody_takes_is_tried_again_after_pauses_that_grow() -> None:
    node = Watched()
    pauses = [node.seconds_to_a_hand_over() for _ in range(12)]
    node.now += limits.TRANSFER_TIMEOUT_S
    assert pauses[:4] == [2, 2 + 4, 2 + 8, 2 + 16]
    assert pauses[-1] == limits.TRANSFER_TIMEOUT_S + limits.LEADER_DECLINED_S
    assert pauses == sorted(pauses)


def test_another_process_of_the_node_need_not_wait_for_what_the_one_before_has_not_taken() -> None:
    node = Watched()
    for _ in range(12):
        node.seconds_to_a_hand_over()
    node.run(limits.TRANSFER_TIMEOUT_S)
    node.peers[HOME] = fit(8)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_AGAIN_S


def test_a_node_that_loses_the_leadership_soon_has_to_be_fit_for_longer_but_not_for_ten_seconds() -> None:
    node = Watched()
    pauses = []
    for _ in range(8):
        pauses.append(node.seconds_to_a_hand_over())
        node.lost_by_home(after_s=5)
    assert pauses[:3] == [2, 4, 6]
    assert max(pauses) == limits.LEADER_FIT_AGAIN_S


def test_a_node_that_gives_the_leadership_back_soon_gets_it_ever_more_rarely() -> None:
    node = Watched()
    pauses = []
    for _ in range(12):
        pauses.append(node.seconds_to_a_hand_over())
        node.lost_by_home(after_s=5, gives_back=True)
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses[-1] == limits.LEADER_DECLINED_S


def test_a_node_that_has_led_for_long_is_as_good_as_any() -> None:
    node = Watched()
    for _ in range(4):
        node.seconds_to_a_hand_over()
        node.lost_by_home(after_s=5)
    node.seconds_to_a_hand_over()
    node.lost_by_home(after_s=limits.LEADER_LASTS_S)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_S


def test_a_third_node_has_seen_that_it_was_lost() -> None:
    node = Watched()
    node.leader = OTHER
    node.look()
    node.leads(HOME)
    node.now += 5
    node.leads(None)
    node.leads(OTHER)
    node.now += 5
    node.leads(ME)
    assert node.seconds_to_a_hand_over() == 2 * limits.LEADER_FIT_S


# --- what an operator wants ----------------------------------------------------------------------


def test_whom_an_operator_has_chosen_leads_for_ten_minutes() -> None:
    node = Watched()
    node.leader = HOME
    node.run(100)
    assert node.leads(ME, asked_by=HOME, operator=True) == Verdict(Why.ASKED, HOME, limits.LEADER_KEPT_S)
    assert node.seconds_to_a_hand_over() == limits.LEADER_KEPT_S


def test_a_choice_ends_when_the_node_that_it_was_taken_from_was_restarted() -> None:
    node = Watched()
    node.leader = HOME
    node.run(100)
    assert node.leads(ME, asked_by=HOME, operator=True).why is Why.ASKED
    assert node.run(5, {HOME: GONE}).why is Why.ASKED, "it is stopped, as it was to be"
    node.peers[HOME] = fit(life=8)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_S


def test_a_broken_connection_ends_no_choice() -> None:
    node = Watched()
    node.leads(ME, asked_by=HOME, operator=True)
    node.run(5, {HOME: GONE})
    assert node.run(5, {HOME: fit()}).why is Why.ASKED, "it is the same process"


def test_a_node_that_was_away_when_another_was_chosen_ends_no_choice() -> None:
    node = Watched()
    node.peers[HOME] = GONE
    node.leads(ME, asked_by=OTHER, operator=True)
    assert node.run(5, {HOME: fit(life=8)}).why is Why.ASKED


def test_a_choice_ends_with_the_leadership() -> None:
    node = Watched()
    node.leads(ME, asked_by=OTHER, operator=True)
    node.leads(OTHER)
    node.leads(ME)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_S


def test_a_leader_that_another_has_handed_over_to_for_its_own_reasons_is_no_operators_choice() -> None:
    node = Watched()
    node.leads(ME, asked_by=OTHER)
    assert node.seconds_to_a_hand_over() == limits.LEADER_FIT_S
