"""The random histories again, with the faults that a machine has: disks that fail, links that break.

Adds to the rules of `test_random.py` what happens around the cores; the invariants are checked by the
network after every step. At the end everything heals, and the cluster must soon be level.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from .network import Network
from .storm import Storm
from .test_random import NODE, Cluster


class Machines(Cluster):
    """Three nodes on machines that fail."""

    def failing(self) -> list[int]:
        """The nodes whose disk has something to do."""
        return [node.id for node in self.network.nodes.values() if node.up and node.disk.pending]

    @precondition(lambda self: self.failing())
    @rule(data=st.data(), seen=st.booleans())
    def fail_an_fsync(self, data: st.DataObject, *, seen: bool) -> None:
        """The node ends at the first error; of what it wrote, any part may have made it to the disk."""
        node_id = data.draw(st.sampled_from(self.failing()))
        pending = len(self.network.nodes[node_id].disk.pending)
        before = dict(self.network.results)
        self.network.crash(node_id, data.draw(st.integers(0, pending)))
        assert self.network.results == before, "a node that ends with a failed fsync has answered"
        if seen:
            self.network.close(node_id)

    @rule(node_id=NODE, peer=NODE)
    def sever(self, node_id: int, peer: int) -> None:
        if node_id != peer:
            self.network.sever(node_id, peer)

    @rule(node_id=NODE)
    def isolate(self, node_id: int) -> None:
        self.network.isolate(node_id)

    @rule(alone=NODE)
    def split(self, alone: int) -> None:
        self.network.split([alone], [other for other in self.network.ids if other != alone])

    @rule()
    def heal(self) -> None:
        self.network.heal()

    @rule(node_id=NODE, peer=NODE)
    def report_unreachable(self, node_id: int, peer: int) -> None:
        if node_id != peer:
            self.network.unreachable(node_id, peer)

    @rule(node_id=NODE)
    def beat(self, node_id: int) -> None:
        self.network.beat(node_id)

    @precondition(lambda self: self.network.leader() is not None)
    @rule(names=st.lists(st.integers(0, 20), min_size=1, max_size=3, unique=True), twice=st.booleans())
    def propose_to_the_leader(self, names: list[int], *, twice: bool) -> None:
        """A client whose answer is late sends the same batch again."""
        leader = self.network.leader()
        assert leader is not None
        for _ in range(1 + twice):
            self.network.propose(leader, *(f"e{name}" for name in names))

    @precondition(lambda self: self.network.leader() is not None)
    @rule(data=st.data())
    def fall_behind_a_snapshot(self, data: st.DataObject) -> None:
        """The leader cuts its prefix while one follower hears nothing: it can only be sent a snapshot."""
        leader = self.network.leader()
        assert leader is not None
        deaf = data.draw(st.sampled_from([node for node in self.network.ids if node != leader]))
        self.network.split([deaf], [node for node in self.network.ids if node != deaf])
        self.network.settle()
        if self.network.nodes[leader].up:
            self.network.cut_prefix(leader)
            self.network.persist(leader)


TestMachinesThatFail = Machines.TestCase
TestMachinesThatFail.settings = settings(max_examples=40, stateful_step_count=40)


def test_a_leader_whose_fsync_fails_has_acked_nothing_of_it() -> None:
    """The rule of the machine above, once by hand: what was acked is on the others, what was not may go."""
    network: Network = Storm(0).network
    network.campaign(1)
    network.settle()
    acked = network.propose(1, "kept")
    network.settle()
    token = network.propose(1, "lost")
    network.crash(1, keep=0)
    network.close(1)
    assert network.results[acked].startswith("acked")
    assert token not in network.results
    network.drop()
    network.start(1)
    network.pass_time(1_500)
    leader = network.leader()
    assert leader is not None
    again = network.propose(leader, "kept", "lost")
    network.settle()
    assert network.results[again].startswith("acked")
