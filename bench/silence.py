"""How long a cluster has no leader that can commit, when its leader falls silent: cores in simulated time.

    python -m bench.silence [--times 4000] [--voters 3] [--disk-ms 2] [--closed] [--seed 1]

Each time a new cluster of real cores, led and under load, whose leader stops at a random moment of its
heartbeat period; what it has sent still arrives. Simulated are links (0.1 to 1 ms, in order), syncs (a tenth
of DISK-MS to DISK-MS, one at a time, what waits goes together), the driver's way to its inbox, and the ticks
of `esnode/loop/clocks.py`. With `--closed` the process ends instead: each survivor sees its connection close,
some ms apart. Milliseconds to the first commit of the new leader; terms beyond the first are elections lost.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from esnode import limits
from esnode.config import Raft as Timers
from esnode.raft.core import Core
from esnode.raft.log import RaftLog
from esnode.raft.messages import (
    Beat,
    HardState,
    Input,
    Outgoing,
    PeerClosed,
    PeerConnected,
    Persisted,
    Propose,
    Received,
    Role,
    Tick,
    TimeoutNow,
    Write,
)
from tests.raft.machine import Machine, batch_of
from tests.simulation.schedule import MS, SECOND, Schedule, between

TIMERS: Final = Timers()
LINK_NS: Final = (MS // 10, MS)
TURN_NS: Final = (10_000, 300_000)
"""How long the driver takes to get to its inbox."""
NOTICED_NS: Final = (MS, 4 * MS)
"""When a survivor sees that the leader's connection has closed: after all that came through it."""
LOAD_NS: Final = 50 * MS
"""So long before the leader stops, clients begin to send."""
BATCHES_APART_NS: Final = (MS, 7 * MS)
GIVE_UP_NS: Final = 30 * SECOND


class Node:
    """One core with its disk, its clocks and its inbox."""

    def __init__(self, node_id: int, cluster: "Cluster") -> None:
        self.id = node_id
        self.cluster = cluster
        self.stopped = False
        self.machine = Machine()
        self.core = Core(
            node_id,
            cluster.ids,
            hard_state=HardState(0, None),
            log=RaftLog(),
            admission=self.machine.admission,
            timers=TIMERS,
            random=random.Random(cluster.source.random()),
        )
        self.inbox: list[Input] = [PeerConnected(peer) for peer in cluster.ids if peer != node_id]
        self._awake = False
        self._submitted: list[tuple[Write | None, Sequence[Outgoing]]] = []
        self._syncing = False
        self._ticked_ns = 0
        self._had_leader = False
        self._ticks = 0
        cluster.after((0, limits.TICK_MS * MS), self._tick, 0)
        cluster.after((0, TIMERS.heartbeat_ms * MS), self._beat)

    def hear(self, item: Input) -> None:
        """Something arrives in the inbox, and the driver wakes up."""
        self.inbox.append(item)
        if not self._awake:
            self._awake = True
            self.cluster.after(TURN_NS, self._turn)

    def _turn(self) -> None:
        if self.stopped:
            return
        self._awake = False
        items, self.inbox = self.inbox, []
        for item in items:
            self.core.step(item)
        ready = self.core.ready()
        for outgoing in ready.messages:
            self.cluster.send(self, outgoing)
        if ready.write is not None or ready.messages_after:
            self._submitted.append((ready.write, ready.messages_after))
            self._sync()
        for entry in ready.committed:
            self.machine.apply(entry)
        if ready.committed:
            self.core.applied_to(ready.committed[-1].index)
            if self.core.role is Role.LEADER and ready.committed[-1].term == self.core.term:
                self.cluster.committed_in_term = max(self.cluster.committed_in_term, self.core.term)
        if ready.soft_state is not None:
            self._state_changed()

    def _tick(self, number: int) -> None:
        """As `run_election`: each chain of ticks has a number, and ends when another has begun."""
        if self.stopped or number != self._ticks:
            return
        self._pass_time()
        fine = self.core.leader is None or self.core.doubts_its_leader
        wait_ms = limits.FINE_TICK_MS if fine else limits.TICK_MS
        self.cluster.schedule.after(wait_ms * MS, self._tick, number)

    def drift(self) -> None:
        """A leadership lasts: by now the nodes' clocks have nothing to do with each other."""
        self._ticks += 1
        self.cluster.after((0, limits.TICK_MS * MS), self._tick, self._ticks)

    def _pass_time(self) -> None:
        whole_ms = (self.cluster.schedule.now_ns - self._ticked_ns) // MS
        if whole_ms:
            self._ticked_ns += whole_ms * MS
            self.hear(Tick(whole_ms))

    def _state_changed(self) -> None:
        """The clock wakes up; time from before the leader went counts for no one's turn."""
        had, self._had_leader = self._had_leader, self.core.leader is not None
        if had and not self._had_leader:
            self._ticked_ns = self.cluster.schedule.now_ns
        self._ticks += 1
        self._tick(self._ticks)

    def _beat(self) -> None:
        if not self.stopped:
            self.hear(Beat())
            self.cluster.schedule.after(TIMERS.heartbeat_ms * MS, self._beat)

    # --- its disk ------------------------------------------------------------------------------

    def _sync(self) -> None:
        """Begin a sync of all that waits, unless one is under way."""
        if self._syncing or not self._submitted:
            return
        batch, self._submitted = self._submitted, []
        if all(write is None for write, _ in batch):
            self._release(batch)
            return
        self._syncing = True
        self.cluster.after(self.cluster.sync_ns, self._synced, batch)

    def _synced(self, batch: list[tuple[Write | None, Sequence[Outgoing]]]) -> None:
        if self.stopped:
            return
        self._syncing = False
        self._release(batch)
        self._sync()

    def _release(self, batch: list[tuple[Write | None, Sequence[Outgoing]]]) -> None:
        for write, messages in batch:
            if write is not None and self.core.role is Role.FOLLOWER:
                self.inbox.append(Persisted(write.write_id))
            elif write is not None:
                self.hear(Persisted(write.write_id))
            for outgoing in messages:
                self.cluster.send(self, outgoing)


class Cluster:
    """Some nodes, the links between them, and one strike."""

    def __init__(self, voters: int, disk_ms: float, source: random.Random) -> None:
        self.ids = range(1, voters + 1)
        self.source = source
        self.schedule = Schedule()
        self.sync_ns = (int(disk_ms * MS / 10), int(disk_ms * MS))
        self.committed_in_term = 0
        self._arrivals: dict[tuple[int, int], int] = {}
        self.nodes = {node_id: Node(node_id, self) for node_id in self.ids}

    def after(self, bounds_ns: tuple[int, int], call: Callable[..., object], *arguments: object) -> None:
        """Call it at some time between the bounds."""
        self.schedule.after(between(self.source, bounds_ns), call, *arguments)

    def send(self, sender: Node, outgoing: Outgoing) -> None:
        """A message on its way: none overtakes another of the same link."""
        link = sender.id, outgoing.to
        arrival_ns = max(self.schedule.now_ns + between(self.source, LINK_NS), self._arrivals.get(link, 0))
        self._arrivals[link] = arrival_ns
        heard = Received(sender.id, outgoing.message)
        self.schedule.after(arrival_ns - self.schedule.now_ns, self.nodes[outgoing.to].hear, heard)

    def strike(self, *, closed: bool) -> tuple[float, int]:
        """Stop the leader once; ms to the new one's first commit, and how many terms that took."""
        leader = self._lead()
        for node in self.nodes.values():
            node.drift()
        now_ns = self.schedule.now_ns
        self.schedule.run_until(now_ns + between(self.source, (300 * MS, 450 * MS)))
        self._load(leader, 0)
        self.schedule.run_until(self.schedule.now_ns + LOAD_NS)
        leader.stopped = True
        struck_ns, term = self.schedule.now_ns, leader.core.term
        if closed:
            for node in self.nodes.values():
                self.after(NOTICED_NS, node.hear, PeerClosed(leader.id))
        self.schedule.run_until(struck_ns + GIVE_UP_NS, lambda: self.committed_in_term > term)
        return (self.schedule.now_ns - struck_ns) / MS, self.committed_in_term - term

    def _lead(self) -> Node:
        """Any node, made leader as by a transfer."""
        leader = self.nodes[self.source.choice(self.ids)]
        leader.hear(Received(1 + leader.id % len(self.ids), TimeoutNow(0)))
        self.schedule.run_until(SECOND, lambda: self.committed_in_term > 0)
        assert leader.core.role is Role.LEADER, "the cluster did not begin"
        return leader

    def _load(self, leader: Node, number: int) -> None:
        if not leader.stopped:
            leader.hear(Propose(number, batch_of(f"event {number}")))
            self.after(BATCHES_APART_NS, self._load, leader, number + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.silence")
    parser.add_argument("--times", type=int, default=4000, metavar="N", help="how often the leader stops")
    parser.add_argument("--voters", type=int, default=3, metavar="N", help="nodes of the cluster")
    parser.add_argument("--disk-ms", type=float, default=2.0, metavar="MS", help="the longest sync")
    parser.add_argument("--closed", action="store_true", help="its connections close, as after kill -9")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number, other draws")
    wanted = parser.parse_args(arguments)
    took: list[float] = []
    terms: Counter[int] = Counter()
    for number in range(wanted.times):
        source = random.Random(f"{wanted.seed}:{number}")
        took_ms, needed = Cluster(wanted.voters, wanted.disk_ms, source).strike(closed=wanted.closed)
        took.append(took_ms)
        terms[needed] += 1
    took.sort()
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    told = [
        f"{name} {took[min(len(took) - 1, int(share * len(took)))]:.0f}" for name, share in shares.items()
    ]
    again = sum(count for needed, count in terms.items() if needed != 1)
    what = "connections closed" if wanted.closed else "silence"
    say(f"{what}, {wanted.voters} voters, syncs of {wanted.disk_ms / 10:g} to {wanted.disk_ms:g} ms")
    say(f"  ms to the first commit   min {took[0]:.0f}, {', '.join(told)}, max {took[-1]:.0f}")
    say(f"  more than one election   {again} of {wanted.times}")
    return 0


def say(line: str) -> None:
    """One line of the result."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
