"""A client that sends the events of one source in order, several batches at once, over one connection.

As the client library does it: what is sent together is a run, of which a leader takes a beginning. Once a
batch is refused, the client waits until nothing of the run is due, and begins a new one with the first batch
without an ack: to the same partition, or to the one that owns the source by then. Where a connection breaks,
all that was due may be stored.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from esnode.dedup.batch import UNKNOWN_OFFSET, Batch
from esnode.dedup.ownership import ring_of
from esnode.raft.appendorder import AppendOrder
from esnode.raft.messages import Decision, Propose
from esnode.refusal import Refusal
from tests.simulation.host import Host
from tests.simulation.schedule import MS, between

from .invariants import token_of_source

if TYPE_CHECKING:
    from .clients import RingClient

AT_ONCE: Final = 4
TRAVEL_NS: Final = (50_000, 2_000_000)
PAUSE_MS: Final = (10, 80)
PATIENCE_MS: Final = 3_000
ROUNDS: Final = 200
"""So often a batch is refused before it is given up."""


@dataclass(slots=True)
class Link:
    """A connection to a node, as far as it works."""

    host: Host
    life: int
    order: AppendOrder = field(default_factory=AppendOrder)
    run: int = 0
    broken: bool = False
    arrives_ns: int = 0
    answers_ns: int = 0


@dataclass(slots=True, eq=False)
class Flying:
    """A batch that is on its way."""

    batch: Batch
    over: Callable[[bool], None]
    sent_to: int = 0
    sent_after: int = UNKNOWN_OFFSET
    unsure_in: set[int] = field(default_factory=set)
    due: bool = False
    refusals: int = 0


class Lane:
    """What one client sends of one source."""

    def __init__(self, client: "RingClient", source: int) -> None:
        self._client = client
        self._world = client.world
        self._token = token_of_source(source)
        self._waiting: deque[Flying] = deque()
        self._flying: list[Flying] = []
        self._partition = 0
        self._link: Link | None = None
        self._run_over = False

    def put(self, batch: Batch, over: Callable[[bool], None]) -> None:
        """Send it behind all that was put before; `over` is told whether it was acked."""
        self._world.under_way += 1
        self._waiting.append(Flying(batch, over))
        self._fill()

    def _fill(self) -> None:
        if self._run_over:
            return
        if self._link is None:
            self._connect()
        while self._waiting and len(self._flying) < AT_ONCE:
            self._flying.append(self._waiting.popleft())
            self._send(self._flying[-1])

    def _connect(self) -> None:
        self._partition = ring_of(*self._client.ring).owner(self._token)
        host = self._world.groups[self._partition].hosts[self._client.random.randint(1, 3)]
        self._link = Link(host, host.life)

    # --- there -----------------------------------------------------------------------------------

    def _send(self, one: Flying) -> None:
        client, link, world = self._client, self._link, self._world
        assert link is not None
        if not one.unsure_in:
            one.sent_to, one.sent_after = self._partition, client.ends.get(self._partition, 0)
        here = one.sent_to == self._partition
        known = (
            (UNKNOWN_OFFSET, None) if not one.unsure_in else (one.sent_after, None if here else one.sent_to)
        )
        kept = (one.batch.count, one.batch.keys, one.batch.payload, None, self._partition)
        one.due = True
        if not world.is_calm and client.random.random() < world.groups[0].weather.load.loses / 4:
            link.broken = True  # this, and all that follows
        if not link.broken:
            link.arrives_ns = max(link.arrives_ns, world.schedule.now_ns + between(client.random, TRAVEL_NS))
            delay_ns = link.arrives_ns - world.schedule.now_ns
            world.schedule.after(delay_ns, self._arrive, link, link.run, one, Batch(*kept, *known))
        world.schedule.after(PATIENCE_MS * MS, self._too_late, link, link.run, one)

    def _arrive(self, link: Link, run: int, one: Flying, batch: Batch) -> None:
        ask = partial(self._ask, link, run, one, batch)
        if link.life != link.host.life or not link.host.ask(ask):
            self._break(link)

    def _ask(self, link: Link, run: int, one: Flying, batch: Batch, host: Host) -> None:
        if link.life != host.life:
            return
        settle = partial(self._settle, link, run, one, host)
        if not host.propose(lambda token: Propose(token, batch, link.order, run), settle):
            link.order.end(run)
            self._answer(link, self._refused, link, run, one, Refusal.NOT_LEADER, (0, 0))

    def _settle(self, link: Link, run: int, one: Flying, host: Host, decision: Decision) -> None:
        process = host.process
        assert process is not None
        if decision.refusal is None:
            host.world.invariants.acked(host, one.batch.keys, decision.ranges)
            self._answer(link, self._acked, link, one, process.view.next_offset)
            return
        self._world.counts[f"refused.{decision.refusal.name}"] += 1
        self._answer(link, self._refused, link, run, one, decision.refusal, process.view.ring)

    def _answer(self, link: Link, call: Callable[..., None], *arguments: object) -> None:
        world = self._world
        if not world.is_calm and self._client.random.random() < world.groups[0].weather.load.loses / 4:
            link.broken = True
        if not link.broken:
            link.answers_ns = max(
                link.answers_ns, world.schedule.now_ns + between(self._client.random, TRAVEL_NS)
            )
            world.schedule.after(link.answers_ns - world.schedule.now_ns, call, *arguments)

    # --- back ------------------------------------------------------------------------------------

    def _acked(self, link: Link, one: Flying, log_end: int) -> None:
        client = self._client
        if link is self._link:
            client.ends[self._partition] = max(client.ends.get(self._partition, 0), log_end)
            self._over(one, True)

    def _refused(self, link: Link, run: int, one: Flying, why: Refusal, ring: tuple[int, int]) -> None:
        if link is not self._link or run != link.run or not one.due:
            return
        one.due = False
        one.refusals += 1
        self._client.learn(ring)
        if why is Refusal.LEADERSHIP_LOST:
            one.unsure_in.add(self._partition)
        self._run_over = True
        if why in (Refusal.WINDOW_PASSED, Refusal.WINDOW_FULL) or one.refusals > ROUNDS:
            self._over(one, False)
        elif why in (Refusal.NOT_LEADER, Refusal.LEADERSHIP_LOST):
            link.broken = True  # somebody else leads
        self._begin_when_quiet()

    def _too_late(self, link: Link, run: int, one: Flying) -> None:
        if link is self._link and run == link.run and one.due:
            self._break(link)

    def _break(self, link: Link) -> None:
        """Another connection; what was due on this one may be stored."""
        if link is not self._link:
            return
        link.broken = self._run_over = True
        for one in self._flying:
            if one.due:
                one.due = False
                one.unsure_in.add(self._partition)
        self._begin_when_quiet()

    def _begin_when_quiet(self) -> None:
        if not any(one.due for one in self._flying):
            pause_ns = between(self._client.random, PAUSE_MS) * MS
            self._world.schedule.after(pause_ns, self._begin_anew, self._link, self._link and self._link.run)

    def _begin_anew(self, link: Link | None, run: int | None) -> None:
        """A new run, with the first batch that has no ack."""
        if link is not self._link or link is None or link.run != run or not self._run_over:
            return
        owner = ring_of(*self._client.ring).owner(self._token)
        if owner != self._partition:
            self._world.counts["ring.lane goes elsewhere"] += bool(self._flying)
            for one in list(self._flying):
                if len(one.unsure_in) > 1:  # one place is all that it can name
                    self._over(one, False)
        if link.broken or owner != self._partition:
            self._connect()
        else:
            link.run += 1
        self._run_over = False
        for one in self._flying:
            self._send(one)
        self._fill()

    def _over(self, one: Flying, acked: bool) -> None:
        if one not in self._flying:
            return
        self._flying.remove(one)
        self._world.under_way -= 1
        self._world.counts["op.in order" if acked else "op.in order unknown"] += 1
        one.over(acked)
        if acked and self._run_over:
            self._begin_when_quiet()
        self._fill()
