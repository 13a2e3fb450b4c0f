"""A storm over a network of cores: at each step something random happens, then the weather clears.

One seed gives one storm, on every machine. Used by the soak test and the state machine of the
property test, which share its idea of how a cluster must recover.
"""

import random
from collections import Counter

from esnode.raft.quorum import majority

from .disk import Image
from .network import Network, seeded

RECOVERY_MS = 3_000
"""Time after which a healed cluster must have committed again on every node: a few election timeouts."""

ACTIONS = {
    "deliver": 120,
    "persist": 60,
    "tick": 20,
    "propose": 20,
    "reorder": 6,
    "duplicate": 4,
    "drop": 4,
    "again": 3,
    "read": 3,
    "beat": 3,
    "silence": 2,
    "cut_prefix": 1,
    "crash": 1,
    "restart": 4,
    "copy_disk": 1,
    "lose_disk": 1,
    "close": 1,
    "connect": 1,
    "unreachable": 1,
    "transfer": 1,
    "isolate": 1,
    "one_way": 1,
    "heal": 2,
}


class Storm:
    """A network, and what may happen to it."""

    def __init__(self, seed: int, voters: int = 3) -> None:
        self.random = random.Random(f"storm {seed}")
        self.network = Network(voters, cache_bytes=600, randoms=seeded(seed))
        self.counts: Counter[str] = Counter()
        self._copies: dict[int, Image] = {}
        self._names = 0

    def blow(self, steps: int) -> None:
        """Let `steps` things happen."""
        for name in self.random.choices(list(ACTIONS), weights=list(ACTIONS.values()), k=steps):
            self.counts[name] += bool(getattr(self, f"_{name}")())

    def clear_up(self) -> None:
        """Heal and restart everything; all nodes must soon apply something new."""
        network = self.network
        network.heal()
        for node in network.nodes.values():
            if not node.up:
                network.start(node.id)
                self._greet(node.id)
        self._recover()

    def _recover(self) -> None:
        """First all that was begun ends, with no help from new events; then a new one is acked at once."""
        network = self.network
        for _ in range(RECOVERY_MS // 50):
            network.pass_time(50)
            if self._is_level():
                break
        assert self._is_level(), f"{RECOVERY_MS} ms after the storm: {self._state()}"
        network.pass_time(500)  # a transfer that was begun ends, too
        leader = network.leader()
        assert leader is not None
        token = self._propose_to(leader)
        network.pass_time(100)
        assert network.results[token].startswith("acked"), network.results[token]
        assert self._is_level(), f"after the last event: {self._state()}"

    def _is_level(self) -> bool:
        """Whether a leader leads all, and everybody has applied everything and has a sound disk."""
        leader = self.network.leader()
        if leader is None:
            return False
        nodes = self.network.nodes.values()
        term, last_index = self.network.core(leader).term, self.network.core(leader).log.last_index
        # One that sits in a higher term will soon depose the leader, even when all else is well.
        return all(
            (node.core.term, node.machine.index, node.disk.rejoining) == (term, last_index, False)
            for node in nodes
        )

    def _state(self) -> list[str]:
        nodes = self.network.nodes.values()
        return [
            f"{n.id} {n.core.role} {n.core.term} {n.core.log.last_index} {n.machine.index} {n.core.rejoining}"
            for n in nodes
        ]

    # --- what may happen; each tells whether it did --------------------------------------------

    def _any(self, *, up: bool = True) -> int:
        """A node, of the wanted kind if there is one; else 0."""
        found = [node.id for node in self.network.nodes.values() if node.up is up]
        return self.random.choice(found) if found else 0

    def _pair(self) -> tuple[int, int]:
        sender, to = self.random.sample(self.network.ids, 2)
        return sender, to

    def _propose_to(self, node_id: int) -> int:
        self._names += 1
        names = [f"e{self._names}"]
        if self._names > 1 and self.random.random() < 0.3:
            names.append(f"e{self.random.randrange(1, self._names)}")
        return self.network.propose(node_id, *names, size=self.random.choice((0, 0, 100)))

    def _deliver(self) -> bool:
        """The oldest message of a random link arrives, as TCP would have it."""
        pool = self.network.pool
        if pool:
            link = self.random.choice(pool).link
            self.network.deliver(link, limit=1)
            return True
        return False

    def _reorder(self) -> bool:
        pool = self.network.pool
        if pool:
            self.network.deliver_one(self.random.randrange(len(pool)))
            return True
        return False

    def _duplicate(self) -> bool:
        pool = self.network.pool
        if pool:
            self.network.deliver_one(self.random.randrange(len(pool)), keep=True)
            return True
        return False

    def _drop(self) -> bool:
        pool = self.network.pool
        if pool:
            self.network.drop_one(self.random.randrange(len(pool)))
            return True
        return False

    def _persist(self) -> bool:
        node_id = self._any()
        if node_id:
            self.network.persist(node_id, writes=self.random.choice((1, 1, 10)))
        return bool(node_id)

    def _tick(self) -> bool:
        node_id = self._any()
        if node_id:
            self.network.tick(node_id, self.random.choice((10, 10, 20, 50)))
        return bool(node_id)

    def _silence(self) -> bool:
        """Long enough for a node to lose patience."""
        node_id = self._any()
        if node_id:
            self.network.tick(node_id, self.random.choice((450, 600)))
        return bool(node_id)

    def _beat(self) -> bool:
        node_id = self._any()
        if node_id:
            self.network.beat(node_id)
        return bool(node_id)

    def _propose(self) -> bool:
        leader = self.network.leader()
        if leader is not None:
            self._propose_to(leader)
        return leader is not None

    def _again(self) -> bool:
        """A client sends events that it sent before, to whoever leads now."""
        leader = self.network.leader()
        if leader is None or not self._names:
            return False
        self.network.propose(leader, f"e{self.random.randrange(self._names) + 1}")
        return True

    def _read(self) -> bool:
        node_id = self._any()
        if node_id:
            self.network.read(node_id)
        return bool(node_id)

    def _cut_prefix(self) -> bool:
        node_id = self._any()
        if node_id:
            self.network.cut_prefix(node_id)
        return bool(node_id)

    def _crash(self) -> bool:
        node_id = self._any()
        if node_id:
            self.network.crash(node_id, keep=self.random.choice((0, 1, 100)))
            if self.random.random() < 0.7:
                self.network.close(node_id)
        return bool(node_id)

    def _copy_disk(self) -> bool:
        """An operator copies a directory, or a file system takes a snapshot of it."""
        node_id = self.random.choice(self.network.ids)
        disk = self.network.nodes[node_id].disk
        if not disk.rejoining:
            self._copies[node_id] = disk.image()
        return not disk.rejoining

    def _lose_disk(self) -> bool:
        """A disk is replaced by an empty one or by its last copy; a majority always stays sound."""
        nodes = self.network.nodes.values()
        sound = [node.id for node in nodes if not node.disk.rejoining]
        node_id = self.random.choice(self.network.ids)
        if node_id in sound and len(sound) - 1 < majority(len(nodes)):
            return False
        self.network.lose_disk(node_id, self.random.choice((None, self._copies.get(node_id))))
        if self.random.random() < 0.7:
            self.network.close(node_id)
        return True

    def _restart(self) -> bool:
        node_id = self._any(up=False)
        if node_id:
            self.network.start(node_id)
            if self.random.random() < 0.7:
                self._greet(node_id)
        return bool(node_id)

    def _greet(self, node_id: int) -> None:
        for other in self.network.ids:
            if other != node_id:
                self.network.connect(other, node_id)
                self.network.connect(node_id, other)

    def _close(self) -> bool:
        """The connections of a node break, and it lives."""
        self.network.close(self.random.choice(self.network.ids))
        return True

    def _connect(self) -> bool:
        if len(self.network.ids) == 1:
            return False
        node_id, peer = self._pair()
        self.network.connect(node_id, peer)
        return True

    def _unreachable(self) -> bool:
        if len(self.network.ids) == 1:
            return False
        node_id, peer = self._pair()
        self.network.unreachable(node_id, peer)
        return True

    def _transfer(self) -> bool:
        leader = self.network.leader()
        if leader is not None:
            self.network.transfer(leader, self.random.choice((None, *self.network.ids)))
        return leader is not None

    def _isolate(self) -> bool:
        self.network.isolate(self.random.choice(self.network.ids))
        return True

    def _one_way(self) -> bool:
        if len(self.network.ids) == 1:
            return False
        self.network.sever(*self._pair())
        return True

    def _heal(self) -> bool:
        self.network.heal()
        return True
