"""In which order partitions are read whose ring has changed: the events of each source in their order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esctl.query.tenures import (
    RingTurn,
    Tenure,
    agree,
    in_order,
    next_owner,
    owner_under,
    tenures_of,
    turn_after,
    turn_at,
    turns_of,
)

SOURCES = [f"/sensor/{n}" for n in range(12)]
Stored = tuple[str, int]
"""An event: its source, and its number in it."""


@dataclass
class Log:
    """What a partition has stored; None at an offset that an adopted key has taken."""

    events: list[Stored | None] = field(default_factory=list)
    switches: list[list[int]] = field(default_factory=list)

    @property
    def ring(self) -> dict[str, Any]:
        if not self.switches:
            return {"version": 1, "partitions": 1, "since_offset": 0}
        version, partitions, offset = self.switches[-1]
        return {
            "version": version, "partitions": partitions, "since_offset": offset, "switches": self.switches,
        }  # fmt: skip


class Rings:
    """A cluster in small: its logs, and plans that make partitions switch one by one."""

    def __init__(self) -> None:
        self.logs = [Log() for _ in range(5)]
        self.version, self.partitions = 1, 1
        self.counts = dict.fromkeys(SOURCES, 0)
        self.left: list[int] = []
        """Who has yet to switch to the newest ring."""

    def plan(self, partitions: int) -> None:
        while self.left:
            self.switch()
        if partitions == self.partitions:
            return
        before, self.partitions, self.version = self.partitions, partitions, self.version + 1
        kept, most = sorted((before, partitions))
        losers, gainers = range(kept), range(kept, most)
        self.left = [*losers, *gainers] if partitions > before else [*gainers, *losers]

    def switch(self) -> None:
        if self.left:
            number = self.left.pop(0)
            log = self.logs[number]
            log.events.append(None)  # a key that it has adopted
            log.switches.append([self.version, self.partitions, len(log.events)])

    def store(self, source: str) -> None:
        """In the partition that takes it now; in none while it moves."""
        for number, log in enumerate(self.logs):
            ring = log.ring
            if owner_under(ring["version"], ring["partitions"], source) == number:
                log.events.append((source, self.counts[source]))
                self.counts[source] += 1
                return


steps = st.lists(st.one_of(st.sampled_from(SOURCES), st.integers(1, 5), st.just("switch")), max_size=60)


def done(rings: Rings, step: str | int) -> None:
    if step == "switch":
        rings.switch()
    elif isinstance(step, int):
        rings.plan(step)
    else:
        rings.store(step)


def read(rings: Rings, tenures: list[Tenure]) -> list[Stored]:
    found = (event for one in tenures for event in rings.logs[one.partition].events[one.begin : one.end])
    return [event for event in found if event is not None]


@given(steps)
def test_the_events_of_each_source_are_read_in_order_however_often_it_has_moved(
    does: list[str | int],
) -> None:
    rings = Rings()
    for step in does:
        done(rings, step)
    tenures = [
        tenure
        for number, log in enumerate(rings.logs)
        for tenure in tenures_of(number, turns_of(log.ring), 0, len(log.events))
    ]
    everything = read(rings, in_order(tenures))
    for source in SOURCES:
        wanted = [(source, n) for n in range(rings.counts[source])]
        assert [event for event in everything if event[0] == source] == wanted
        of_one = read(rings, in_order(tenures, source))
        assert [event for event in of_one if event[0] == source] == wanted


class Follower:
    """A reader that reads on whenever it is let."""

    def __init__(self, rings: Rings, source: str) -> None:
        self.rings, self.source = rings, source
        self.at = {n: len(log.events) for n, log in enumerate(rings.logs)}
        self.turns = {n: turn_at(turns_of(log.ring), self.at[n]) for n, log in enumerate(rings.logs)}
        self.read: list[Stored | None] = []

    def go_on(self) -> None:
        """One look, and what is there of one partition."""
        owner = next_owner(self.turns, self.source)
        log = self.rings.logs[owner]
        self.read += log.events[self.at[owner] :]
        self.at[owner] = len(log.events)
        newest = max(turn.version for turn in self.turns.values())
        self.turns[owner] = turn_after(
            owner, self.source, self.turns[owner], turns_of(log.ring), self.at[owner], newest
        )


@given(steps, st.lists(st.one_of(st.sampled_from(SOURCES), st.integers(1, 5), st.sampled_from(
    ["switch", "look"])), max_size=60))  # fmt: skip
def test_a_source_that_is_followed_is_read_in_order_over_all_its_moves(
    before: list[str | int], does: list[str | int]
) -> None:
    rings = Rings()
    for step in before:
        done(rings, step)
    begun = dict(rings.counts)
    followers = {source: Follower(rings, source) for source in SOURCES[:4]}
    for step in does:
        if step == "look":
            for follower in followers.values():
                follower.go_on()
        else:
            done(rings, step)
    for source, follower in followers.items():
        for _ in range(2 * rings.version + 2):  # two looks for each move
            follower.go_on()
        wanted = [(source, n) for n in range(begun[source], rings.counts[source])]
        assert [event for event in follower.read if event is not None and event[0] == source] == wanted


def test_a_log_that_tells_of_its_last_switch_only_has_two_tenures() -> None:
    turns = turns_of({"version": 3, "partitions": 4, "since_offset": 70})
    assert turns == [RingTurn(2, None, 0), RingTurn(3, 4, 70)]
    assert [(one.begin, one.end) for one in tenures_of(1, turns, 20, 90)] == [(20, 70), (70, 90)]
    assert [(one.begin, one.end) for one in tenures_of(1, turns, 80, 90)] == [(80, 90)]
    assert turns[0].owns(1, "whatever"), "nobody knows that it did not"


def test_what_follows_itself_in_a_partition_is_read_at_once() -> None:
    turns = [RingTurn(1, None, 0), RingTurn(2, 2, 10), RingTurn(3, 3, 20)]
    others = [RingTurn(1, None, 0), RingTurn(2, 2, 0), RingTurn(3, 3, 5)]
    source = next(one for one in SOURCES if owner_under(2, 2, one) == owner_under(3, 3, one) == 0)
    each = tenures_of(0, turns, 0, 30) + tenures_of(1, others, 0, 9)
    assert [(one.partition, one.begin, one.end) for one in in_order(each, source)] == [(0, 0, 30)]


@pytest.mark.parametrize(
    ("turns", "same"),
    [
        ({0: RingTurn(2, 2, 0), 1: RingTurn(2, 2, 0)}, True),
        ({0: RingTurn(3, 1, 5), 1: RingTurn(2, 2, 0)}, True),
        ({0: RingTurn(2, 2, 0), 1: RingTurn(3, 1, 5)}, False),
        ({0: RingTurn(2, 2, 0), 1: RingTurn(2, 2, 0), 2: RingTurn(1, 1, 0)}, True),
    ],
    ids=["all the same", "one that was taken away", "not yet taken over", "one that is not yet in the ring"],
)
def test_partitions_agree_when_all_of_the_newest_ring_go_by_it(
    turns: Mapping[int, RingTurn], same: bool
) -> None:
    assert agree(turns) is same
