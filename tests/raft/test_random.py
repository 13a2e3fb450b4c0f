"""Random histories of several cores: Hypothesis searches and shrinks, the storms go on for longer.

The invariants are checked by the network after every step; here only what happens is chosen.
"""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from esnode.raft.messages import Role

from .disk import Image
from .network import Network, seeded
from .storm import ACTIONS, Storm

NODE = st.integers(1, 3)


class Cluster(RuleBasedStateMachine):
    """Three nodes; at the end everything heals, and must soon be level."""

    def __init__(self) -> None:
        super().__init__()
        self.storm = Storm(0)
        self.network = self.storm.network
        self.names = itertools.count()
        self.copies: dict[int, Image] = {}

    @initialize(seed=st.integers(0, 99), elected=st.booleans())
    def begin(self, seed: int, *, elected: bool) -> None:
        """Most histories are about what happens after the first election."""
        self.storm.network = self.network = Network(3, cache_bytes=600, randoms=seeded(seed))
        if elected:
            self.network.campaign(1)
            self.network.settle()

    @precondition(lambda self: self.network.pool)
    @rule(data=st.data())
    def deliver_one(self, data: st.DataObject) -> None:
        self.network.deliver_one(data.draw(st.integers(0, len(self.network.pool) - 1)))

    @rule()
    def deliver_all(self) -> None:
        self.network.deliver()

    @precondition(lambda self: self.network.pool)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        self.network.deliver_one(data.draw(st.integers(0, len(self.network.pool) - 1)), keep=True)

    @precondition(lambda self: self.network.pool)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.network.drop_one(data.draw(st.integers(0, len(self.network.pool) - 1)))

    @rule(node_id=NODE, writes=st.sampled_from([1, 99]))
    def persist(self, node_id: int, writes: int) -> None:
        self.network.persist(node_id, writes)

    @rule(node_id=NODE, names=st.lists(st.integers(0, 20), min_size=1, max_size=3, unique=True))
    def propose(self, node_id: int, names: list[int]) -> None:
        if self.network.nodes[node_id].up:
            self.network.propose(node_id, *(f"e{name}" for name in names))

    @rule(node_id=NODE)
    def read(self, node_id: int) -> None:
        if self.network.nodes[node_id].up:
            self.network.read(node_id)

    @rule(node_id=NODE, elapsed_ms=st.sampled_from([10, 150, 600]))
    def tick(self, node_id: int, elapsed_ms: int) -> None:
        self.network.tick(node_id, elapsed_ms)

    @rule(node_id=NODE, keep=st.sampled_from([0, 1, 99]))
    def crash(self, node_id: int, keep: int) -> None:
        self.network.crash(node_id, keep)

    @rule(node_id=NODE, copied=st.booleans())
    def lose_disk(self, node_id: int, *, copied: bool) -> None:
        """Another node's disk is sound as long as this one's is in doubt."""
        others = [node for node in self.network.nodes.values() if node.id != node_id]
        if not any(node.disk.rejoining for node in others):
            self.network.lose_disk(node_id, self.copies.get(node_id) if copied else None)

    @rule(node_id=NODE)
    def copy_disk(self, node_id: int) -> None:
        disk = self.network.nodes[node_id].disk
        if not disk.rejoining:
            self.copies[node_id] = disk.image()

    @rule(node_id=NODE)
    def restart(self, node_id: int) -> None:
        if not self.network.nodes[node_id].up:
            self.network.start(node_id)

    @rule(node_id=NODE)
    def close(self, node_id: int) -> None:
        self.network.close(node_id)

    @rule(node_id=NODE, peer=NODE)
    def connect(self, node_id: int, peer: int) -> None:
        if node_id != peer:
            self.network.connect(node_id, peer)

    @rule(node_id=NODE, to=st.none() | NODE)
    def transfer(self, node_id: int, to: int | None) -> None:
        self.network.transfer(node_id, to)

    @rule(node_id=NODE)
    def cut_prefix(self, node_id: int) -> None:
        if self.network.nodes[node_id].up:
            self.network.cut_prefix(node_id)

    def teardown(self) -> None:
        self.storm.clear_up()


TestRandomHistories = Cluster.TestCase
TestRandomHistories.settings = settings(max_examples=50, stateful_step_count=40)


@pytest.mark.parametrize(("voters", "seeds"), [(3, range(25)), (5, range(100, 110)), (1, range(200, 205))])
def test_a_short_storm_breaks_nothing_and_passes(voters: int, seeds: range) -> None:
    for seed in seeds:
        storm = Storm(seed, voters)
        storm.blow(600)
        storm.clear_up()


@pytest.mark.slow
@pytest.mark.timeout(600)  # 220 storms: half a minute alone, minutes where others want the cores
@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
def test_many_storms_break_nothing_and_every_kind_of_weather_was_seen() -> None:
    seen: set[str] = set()
    committed = 0
    for seed in range(1_000, 1_220):
        storm = Storm(seed, voters=(3, 3, 5)[seed % 3])
        storm.blow(1_500)
        storm.clear_up()
        seen |= set(+storm.counts)
        committed += storm.network.invariants.last_committed
        assert any(node.core.role is Role.LEADER for node in storm.network.nodes.values())
    assert seen == set(ACTIONS)
    assert committed > 5_000
