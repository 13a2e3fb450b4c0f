"""Several cores, their model disks, and a network that does what it is told.

Nothing happens by itself: time passes when `tick` is called, writes become durable when `persist` is,
messages arrive when they are delivered. What a node says only after its disk is held until then. After
every step the invariants are checked. Used by every test that needs more than one core.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from esnode.config import Raft as Timers
from esnode.raft.core import Core
from esnode.raft.entry import Entry
from esnode.raft.messages import (
    Beat,
    Decision,
    Fetch,
    Fetched,
    HardState,
    Input,
    InstallSnapshot,
    Outgoing,
    PeerClosed,
    PeerConnected,
    PeerMessage,
    PeerUnreachable,
    Persisted,
    PrefixCut,
    Propose,
    ReadIndex,
    Ready,
    Received,
    Role,
    SnapshotSent,
    Tick,
    Transfer,
)
from esnode.raft.rejoin import MAX_NONCE
from esnode.raft.timer import RandomSource

from . import telling
from .disk import Cut, Disk, Image
from .invariants import Invariants
from .machine import Machine, batch_of

TIMERS = Timers()


class Steady:
    """A random source without surprises: node n always draws 10 n, or what is nearest to it.

    Nonces, which must differ, count up from 1.
    """

    def __init__(self, node_id: int) -> None:
        self._value = 10 * node_id
        self._nonces = itertools.count(1)

    def randrange(self, stop: int, /) -> int:
        return next(self._nonces) if stop == MAX_NONCE else min(self._value, stop - 1)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message under way."""

    sender: int
    to: int
    message: PeerMessage
    lives: tuple[int, int] = (0, 0)
    """Which life of its sender it is from, and for which of its receiver."""

    @property
    def link(self) -> tuple[int, int]:
        return self.sender, self.to

    def __str__(self) -> str:
        return f"{self.sender} -> {self.to} {telling.message(self.message)}"


class Node:
    """One core with its disk and its machine; `core` is there only while it runs."""

    def __init__(self, node_id: int) -> None:
        self.id = node_id
        self.up = False
        self.life = 0
        """How many disks it has lost."""
        self.elapsed_ms = 0
        self.disk = Disk()
        self.machine = Machine()
        self.last_write_id = 0
        self.held: deque[tuple[int, tuple[Outgoing, ...]]] = deque()
        self.fetches: list[Fetch] = []
        self.waiting: dict[int, Decision] = {}
        self.read_floors: dict[int, int] = {}
        self.core: Core


class Network:
    """The whole cluster."""

    def __init__(
        self,
        voters: int = 3,
        *,
        cache_bytes: int = 1 << 20,
        randoms: Callable[[int], RandomSource] = Steady,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.ids = tuple(range(1, voters + 1))
        self.nodes = {node_id: Node(node_id) for node_id in self.ids}
        self.pool: list[Envelope] = []
        self.severed: set[tuple[int, int]] = set()
        self._newest_life: dict[tuple[int, int], int] = {}
        """By link: the newest life of the sender that the receiver has heard."""
        self.invariants = Invariants(self.nodes)
        self.results: dict[int, str] = {}
        """What became of each proposal and read, by token."""
        self.acked: dict[bytes, int] = {}
        self._batches: dict[int, tuple[str, ...]] = {}
        self._tokens = 0
        self._acked_index = 0
        self._cache_bytes = cache_bytes
        self._randoms = {node_id: randoms(node_id) for node_id in self.ids}
        self._tell = tell
        for node_id in self.ids:
            self.start(node_id)

    def core(self, node_id: int) -> Core:
        return self.nodes[node_id].core

    def leader(self) -> int | None:
        """Who leads in the highest term, among those that run."""
        leaders = [n for n in self.nodes.values() if n.up and n.core.role is Role.LEADER]
        return max(leaders, key=lambda n: n.core.term).id if leaders else None

    # --- processes -----------------------------------------------------------------------------

    def start(self, node_id: int, welcomed_by: Iterable[int] | None = None) -> None:
        """Start a node from what is durable; all others welcome it, or those that are named."""
        node = self.nodes[node_id]
        assert not node.up
        node.machine = Machine()
        if node.disk.snapshot is not None:
            node.machine.restore(node.disk.snapshot)
        log, replay = node.disk.recover(self._cache_bytes)
        for entry in replay:
            node.machine.apply(entry)
        node.core = Core(
            node_id,
            self.ids,
            hard_state=node.disk.hard_state,
            log=log,
            admission=node.machine.admission,
            timers=TIMERS,
            random=self._randoms[node_id],
            rejoining=node.disk.rejoining,
        )
        node.last_write_id = 0
        node.up = True
        self.invariants.restarted(node)
        for peer in self.ids if welcomed_by is None else welcomed_by:
            if peer != node_id:
                self.connect(node_id, peer)

    def crash(self, node_id: int, keep: int = 0) -> None:
        """End a node's process; of its waiting writes the first `keep` had reached the disk."""
        node = self.nodes[node_id]
        node.disk.crash(keep)
        node.up = False
        node.held.clear()
        node.fetches.clear()
        node.waiting.clear()
        node.read_floors.clear()

    def lose_disk(self, node_id: int, copy: Image | None = None) -> None:
        """End a node's process and take its disk away; `copy`, an older image of it, is put there."""
        self.crash(node_id)
        node = self.nodes[node_id]
        node.life += 1
        node.disk.lose(copy)
        self._say(f"disk {node_id}: {'an older copy' if copy else 'lost'}")

    def plant(self, node_id: int, entries: Iterable[Entry], hard_state: HardState) -> None:
        """Start a node anew with a log that a history outside the test has left on its disk."""
        self.crash(node_id)
        disk = self.nodes[node_id].disk
        disk.hard_state = hard_state
        disk.entries = {entry.index: entry for entry in entries}
        for entry in disk.entries.values():
            before = disk.term_at(entry.index - 1)
            assert before is not None
            self.invariants.chain[entry.index, entry.term] = (before, entry.record)
        self.start(node_id)

    # --- inputs --------------------------------------------------------------------------------

    def step(self, node_id: int, *items: Input) -> None:
        """Step `items`, then carry out what follows, as one turn of a driver would."""
        node = self.nodes[node_id]
        if not node.up:
            return
        for item in items:
            node.core.step(item)
        self._carry_out(node, node.core.ready())
        again = node.core.ready()
        nothing = Ready(None, (), (), (), (), (), (), (), None)
        assert again == nothing, "the first Ready left something behind"
        self.invariants.stepped(node)

    def tick(self, node_id: int, elapsed_ms: int) -> None:
        """Let time pass on a node, ten milliseconds at a time, with its heartbeats."""
        for _ in range(elapsed_ms // 10):
            node = self.nodes[node_id]
            node.elapsed_ms += 10
            beat = node.elapsed_ms % TIMERS.heartbeat_ms == 0
            self.step(node_id, Tick(10), *([Beat()] if beat else []))

    def beat(self, node_id: int) -> None:
        self.step(node_id, Beat())

    def campaign(self, node_id: int) -> None:
        """Let time pass on a node until it asks for votes."""
        while self.core(node_id).role in {Role.FOLLOWER, Role.LEADER}:
            self.step(node_id, Tick(10))

    def propose(self, node_id: int, *names: str, size: int = 0) -> int:
        """A client sends events to a node; returns the token of the request."""
        token = self._next_token()
        self._batches[token] = names
        self.step(node_id, Propose(token, batch_of(*names, size=size)))
        return token

    def read(self, node_id: int) -> int:
        """A client wants a linearizable read; returns the token of the request."""
        token = self._next_token()
        self.nodes[node_id].read_floors[token] = self._acked_index
        self.step(node_id, ReadIndex(token))
        return token

    def transfer(self, node_id: int, to: int | None = None) -> None:
        self.step(node_id, Transfer(to))

    def close(self, node_id: int) -> None:
        """Every other node sees the connections of `node_id` close."""
        for other in self.ids:
            if other != node_id:
                self.step(other, PeerClosed(node_id))

    def connect(self, node_id: int, peer: int) -> None:
        self.step(node_id, PeerConnected(peer))

    def unreachable(self, node_id: int, peer: int) -> None:
        self.step(node_id, PeerUnreachable(peer))

    def cut_prefix(self, node_id: int) -> None:
        """Retention on a node: a snapshot of all that is applied takes the place of the entries."""
        node = self.nodes[node_id]
        node.disk.pending.append(Cut(node.machine.snapshot()))

    def _next_token(self) -> int:
        self._tokens += 1
        return self._tokens

    # --- disks ---------------------------------------------------------------------------------

    def persist(self, node_id: int, writes: int = 1_000_000) -> None:
        """Make the first waiting writes of a node durable, and serve what it wants to read."""
        node = self.nodes[node_id]
        while node.up and writes and node.disk.pending:
            writes -= 1
            item = node.disk.persist_next()
            if isinstance(item, Cut):
                self._say(f"disk {node_id}: cut up to {item.snapshot.index}")
                self.step(node_id, PrefixCut(node.disk.prefix_index))
                continue
            self._say(f"disk {node_id}: #{item.write_id} durable")
            self._release(node, item.write_id)
            self.step(node_id, Persisted(item.write_id))
        self.serve(node_id)

    def serve(self, node_id: int) -> None:
        """Answer a node's fetches from its disk."""
        node = self.nodes[node_id]
        fetches, node.fetches = node.fetches, []
        for fetch in fetches:
            self.step(node_id, Fetched(fetch, node.disk.read(fetch.first_index, fetch.last_index)[:4]))

    def _release(self, node: Node, write_id: int) -> None:
        while node.held and node.held[0][0] <= write_id:
            for outgoing in node.held.popleft()[1]:
                self._send(node, outgoing)

    # --- messages ------------------------------------------------------------------------------

    def deliver(self, link: tuple[int, int] | None = None, limit: int = 1_000_000) -> int:
        """Deliver what is under way now, on one link or on all; returns how many messages."""
        chosen = [envelope for envelope in self.pool if link in {None, envelope.link}][:limit]
        for envelope in chosen:
            self.deliver_one(self.pool.index(envelope))
        return len(chosen)

    def deliver_one(self, position: int, *, keep: bool = False) -> None:
        """Deliver one message, out of order if need be; with `keep` it will arrive again."""
        envelope = self.pool[position]
        if not keep:
            del self.pool[position]
        if envelope.link in self.severed or self._is_of_an_older_life(envelope):
            self._lost(envelope)
            return
        if isinstance(envelope.message, InstallSnapshot):
            self.step(envelope.sender, SnapshotSent(envelope.to, ok=True))
        self.step(envelope.to, Received(envelope.sender, envelope.message))

    def _is_of_an_older_life(self, envelope: Envelope) -> bool:
        """What the transport guarantees: a connection ends with the process at either end of it."""
        sender_life, receiver_life = envelope.lives
        newest = max(sender_life, self._newest_life.get(envelope.link, 0))
        self._newest_life[envelope.link] = newest
        return sender_life < newest or receiver_life < self.nodes[envelope.to].life

    def drop(self, link: tuple[int, int] | None = None) -> int:
        """Lose what is under way, on one link or on all."""
        chosen = [envelope for envelope in self.pool if link in {None, envelope.link}]
        for envelope in chosen:
            self.drop_one(self.pool.index(envelope))
        return len(chosen)

    def drop_one(self, position: int) -> None:
        self._lost(self.pool.pop(position))

    def _lost(self, envelope: Envelope) -> None:
        self._say(f"lost: {envelope}")
        if isinstance(envelope.message, InstallSnapshot):
            self.step(envelope.sender, SnapshotSent(envelope.to, ok=False))

    def sever(self, sender: int, to: int) -> None:
        """One direction of one link is down."""
        self.severed.add((sender, to))

    def isolate(self, node_id: int) -> None:
        for other in self.ids:
            if other != node_id:
                self.severed |= {(node_id, other), (other, node_id)}

    def split(self, *sides: Iterable[int]) -> None:
        """Only nodes of the same side hear each other."""
        side_of = {node_id: number for number, side in enumerate(sides) for node_id in side}
        self.severed = {
            (a, b) for a in self.ids for b in self.ids if a != b and side_of.get(a, a) != side_of.get(b, b)
        }

    def heal(self) -> None:
        self.severed.clear()

    def settle(self, rounds: int = 200) -> None:
        """Persist and deliver until nothing moves."""
        for _ in range(rounds):
            moved = len(self.pool)
            self.deliver()
            for node in self.nodes.values():
                moved += len(node.disk.pending) + len(node.fetches)
                self.persist(node.id)
            if not moved and not self.pool:
                return
        raise AssertionError("the cluster does not come to rest")

    def pass_time(self, elapsed_ms: int) -> None:
        """Time passes everywhere, with everything else at once."""
        for _ in range(elapsed_ms // 10):
            for node_id in self.ids:
                self.tick(node_id, 10)
            self.settle()

    # --- what follows from a step --------------------------------------------------------------

    def _carry_out(self, node: Node, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._say(f"{node.id} is {telling.state(ready.soft_state)}")
        if ready.write is not None:
            self._say(f"{node.id} writes {telling.write(ready.write)}")
            node.last_write_id = ready.write.write_id
            node.disk.pending.append(ready.write)
            self.invariants.wrote(node, ready.write)
        for outgoing in ready.messages:
            self._send(node, outgoing)
        if ready.messages_after:
            node.held.append((node.last_write_id, ready.messages_after))
            if all(isinstance(item, Cut) for item in node.disk.pending):
                self._release(node, node.last_write_id)
        self._apply(node, ready)
        node.fetches += ready.fetches
        for order in ready.snapshots:
            snapshot = node.disk.snapshot
            assert snapshot is not None, "a snapshot is to be sent, and there is none"
            self._send(node, Outgoing(order.peer, InstallSnapshot(order.term, snapshot)))
        self._answer(node, ready)

    def _apply(self, node: Node, ready: Ready) -> None:
        if ready.write is not None and ready.write.snapshot is not None:
            node.machine.restore(ready.write.snapshot)
            self._say(f"{node.id} restores {node.machine.index}")
        for entry in ready.committed:
            node.machine.apply(entry)
        if ready.committed:
            self._say(f"{node.id} applies {telling.entries(ready.committed)}")
            node.core.applied_to(node.machine.index)
        self.invariants.stepped(node)
        self.invariants.applied(node, ready.committed)

    def _answer(self, node: Node, ready: Ready) -> None:
        for decision in ready.decisions:
            if decision.refusal is not None:
                self._result(decision.token, f"refused: {decision.refusal.name}")
            else:
                node.waiting[decision.token] = decision
        for grant in ready.read_grants:
            floor = node.read_floors.pop(grant.token)
            if grant.refusal is not None:
                self._result(grant.token, f"refused: {grant.refusal.name}")
            else:
                assert grant.index >= floor, "a read misses what was acked before it began"
                self._result(grant.token, f"may read at {grant.index}")
        for decision in list(node.waiting.values()):
            if node.core.role is not Role.LEADER or node.core.term != decision.term:
                del node.waiting[decision.token]
                self._result(decision.token, "unknown")
            elif node.machine.index >= decision.wait_index:
                del node.waiting[decision.token]
                self._ack(node, decision)

    def _ack(self, node: Node, decision: Decision) -> None:
        keys = [batch_of(name).keys for name in self._batches[decision.token]]
        offsets = [n for r in decision.ranges for n in range(r.base_offset, r.base_offset + r.count)]
        assert [self.invariants.offsets.get(key) for key in keys] == offsets, "acked, but not committed there"
        self.acked.update(zip(keys, offsets, strict=True))
        self._acked_index = max(self._acked_index, node.machine.index)
        known = f", {decision.duplicates} known before" if decision.duplicates else ""
        self._result(decision.token, f"acked at {', '.join(map(str, offsets))}{known}")

    def _result(self, token: int, result: str) -> None:
        assert token not in self.results, "a request is answered twice"
        self.results[token] = result
        what = " ".join(self._batches.get(token, ("read",)))
        self._say(f"client: {what}: {result}")

    def _send(self, node: Node, outgoing: Outgoing) -> None:
        self.invariants.left(node, outgoing.to, outgoing.message)
        lives = node.life, self.nodes[outgoing.to].life
        envelope = Envelope(node.id, outgoing.to, outgoing.message, lives)
        self._say(str(envelope))
        self.pool.append(envelope)

    def _say(self, text: str) -> None:
        if self._tell is not None:
            self._tell(text)


def seeded(seed: int) -> Callable[[int], RandomSource]:
    """A random source of its own for each node."""
    return lambda node_id: random.Random(f"{seed}:{node_id}")
