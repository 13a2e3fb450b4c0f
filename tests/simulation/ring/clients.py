"""Those who send events to the partition that owns them, as far as they know, and again until it is acked.

A client goes by the newest ring that it was told of. Refused as `Moved`, it learns the ring of the node: if
the event now is another partition's, it goes there; else the client knows more than the node, and waits. What
may have been stored says so when it is sent again (`sent_after`, `sent_to`).
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

import cbor2

from esnode.dedup.batch import UNKNOWN_OFFSET, Batch, event_key
from esnode.dedup.ownership import ring_of
from esnode.raft.messages import Decision, Propose
from esnode.refusal import Refusal
from tests.simulation.host import Host
from tests.simulation.schedule import MS, SECOND, between
from tests.simulation.tape import Operation

from .invariants import Known, source_name, token_of_source
from .lanes import Lane
from .weather import Sent

if TYPE_CHECKING:
    from .world import RingWorld

RETRY_MS: Final = 50
MOST_DOUBLED: Final = 4
"""How often the pause before it goes again is doubled."""
TRAVEL_NS: Final = (50_000, 2_000_000)
LATE: Final = 0.02
"""The share of requests that are long on their way."""
LATE_NS: Final = (100 * MS, 5 * SECOND)
PATIENCE_NS: Final = 60 * SECOND
DEAF_MS: Final = (50, 500, 2_000, 8_000, 20_000)
HUNTED: Final = 1 << 40
"""Events of those who ask the victim of a hunt have numbers from here on."""
Over = Callable[[bool], None]
"""Called once, with whether it was acked."""


class RingClient:
    """One of them."""

    def __init__(self, number: int, world: "RingWorld") -> None:
        self.number = number
        self.world = world
        self.random = random.Random(f"{world.seed}:ringclient:{number}")
        self.ring = (1, 1)
        """The newest that it knows of: version and partitions."""
        self.ends: dict[int, int] = {}
        """Where the log of each partition ends, or later."""
        self.leaders: dict[int, int] = {}
        self._lanes: dict[int, Lane] = {}
        """By source, where it is sent in order."""

    def begin(self, sent: Sent) -> None:
        """Send it; and let others send the same."""
        for number, source in sent.events:
            known = Known(number, source, alone=not sent.again, ordered=sent.ordered)
            self.world.over_all.known[event_key(source_name(source), str(number))] = known
        if not sent.ordered:
            self._let_others_send(sent)
            self.send(sent.events, nothing, alone=not sent.again)
            return
        source = sent.events[0][1]
        lane = self._lanes.get(source) or self._lanes.setdefault(source, Lane(self, source))
        lane.put(batch_of(sent.events, 0), partial(self._sent_in_order, sent))

    def _let_others_send(self, sent: Sent) -> None:
        for client, after_ns in sent.again:
            again = partial(self.world.clients[client].send, sent.events, nothing)
            self.world.schedule.after(after_ns, again)

    def _sent_in_order(self, sent: Sent, acked: bool) -> None:
        self._let_others_send(sent)
        if acked:
            return
        for number, source in sent.events:  # it may yet come, after what follows
            known = Known(number, source, alone=not sent.again, ordered=False)
            self.world.over_all.known[event_key(source_name(source), str(number))] = known

    def send(
        self, events: tuple[tuple[int, int], ...], over: Over, *, alone: bool = False, deaf: bool = False
    ) -> None:
        """Send these events, those of each owner together; `deaf`: and miss the first ack."""
        deaf = deaf or (alone and self.random.random() < self.world.weather.deaf)
        parts = self.split(events)
        each_over = _all_over(len(parts), over)
        for partition, part in parts:
            Sending(self, part, partition, each_over, deaf=deaf).try_again()

    def split(self, events: tuple[tuple[int, int], ...]) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
        """By their owners under the ring that it knows."""
        ring = ring_of(*self.ring)

        def owner(event: tuple[int, int]) -> int:
            return ring.owner(token_of_source(event[1]))

        return [(number, tuple(part)) for number, part in groupby(sorted(events, key=owner), owner)]

    def learn(self, ring: tuple[int, int]) -> None:
        """There is this ring."""
        self.ring = max(self.ring, ring)


class Sending:
    """Events of one owner, until they are acked, given up, or belong to others."""

    def __init__(
        self,
        client: RingClient,
        events: tuple[tuple[int, int], ...],
        partition: int,
        over: Over,
        give_up_ns: int = 0,
        *,
        deaf: bool = False,
        node: int = 0,
    ) -> None:
        self._client = client
        self._world = client.world
        self._events = events
        self._partition = partition
        self._over = over
        self._give_up_ns = give_up_ns or client.world.schedule.now_ns + PATIENCE_NS
        self._deaf = deaf
        """The first ack is lost."""
        self._node = node or client.leaders.get(partition, 0) or client.random.randint(1, 3)
        self._attempt = 0
        self._done = False
        self._sent_to = partition
        self._sent_after = UNKNOWN_OFFSET
        self._unsure_in: set[int] = set()
        """The partitions that may have it."""
        self._ring = (0, 0) if node else client.ring
        """By this the partition is the owner; with a `node` it was named by one that knows less."""
        self._refusals = 0
        self._world.under_way += 1
        self._batch = batch_of(events, partition)

    def try_again(self) -> None:
        """One more attempt."""
        if self._done or self._goes_elsewhere():
            return
        world = self._world
        if world.schedule.now_ns >= self._give_up_ns:
            self._end(False, "unknown")
            return
        self._attempt += 1
        if not self._unsure_in:
            self._sent_to = self._partition
            self._sent_after = self._client.ends.get(self._partition, 0)
        sent_to = None if self._sent_to == self._partition else self._sent_to
        batch = replace(self._batch, sent_after=self._sent_after, sent_to=sent_to)
        world.counts["ring.sent again elsewhere"] += sent_to is not None
        host = world.groups[self._partition].hosts[self._node]
        self._travel(self._arrive, host, partial(self._ask, self._attempt, batch))
        wait_ms = int(world.groups[0].weather.load.attempt_ms * self._client.random.uniform(0.8, 1.2))
        world.schedule.after(wait_ms * MS, self._too_late, self._attempt)

    # --- at the node -------------------------------------------------------------------------------

    def _arrive(self, host: Host, request: Callable[[Host], None]) -> None:
        if not host.ask(request):
            self._refused(self._attempt, Refusal.NOT_LEADER, (0, 0))

    def _ask(self, attempt: int, batch: Batch, host: Host) -> None:
        if not host.propose(lambda token: Propose(token, batch), partial(self._settle, attempt, host)):
            self._travel(self._refused, attempt, Refusal.NOT_LEADER, (0, 0))

    def _settle(self, attempt: int, host: Host, decision: Decision) -> None:
        process = host.process
        assert process is not None
        if decision.refusal is None:
            host.world.invariants.acked(host, self._batch.keys, decision.ranges)
            host.note(f"acks {decision.ranges}")
            self._travel(self._acked, decision, process.view.next_offset)
            return
        self._world.counts[f"refused.{decision.refusal.name}"] += 1
        self._travel(self._refused, attempt, decision.refusal, process.view.ring, process.view.next_offset)

    # --- back at the client ------------------------------------------------------------------------

    def _acked(self, decision: Decision, log_end: int) -> None:
        client = self._client
        client.ends[self._partition] = max(client.ends.get(self._partition, 0), log_end)
        if self._done:
            return
        if self._deaf:
            self._deaf = False
            self._unsure_in.add(self._partition)
            self._attempt += 1
            after_ms = client.random.choice(DEAF_MS) * client.random.uniform(0.5, 1.5)
            self._world.schedule.after(int(after_ms * MS), self.try_again)
            return
        client.leaders[self._partition] = self._node
        self._world.counts["op.events"] += self._batch.count
        self._world.counts["op.duplicate events"] += decision.duplicates
        self._end(True, "append")

    def _refused(self, attempt: int, refusal: Refusal, ring: tuple[int, int], log_end: int = 0) -> None:
        if attempt != self._attempt or self._done:
            return
        if refusal is Refusal.LEADERSHIP_LOST:
            self._unsure_in.add(self._partition)
        if refusal is Refusal.WINDOW_PASSED and not self._unsure_in:  # an old end of the log was known
            self._world.counts["ring.sent with an old end"] += 1
            self._client.ends[self._partition] = max(self._client.ends.get(self._partition, 0), log_end)
        elif refusal in (Refusal.WINDOW_PASSED, Refusal.WINDOW_FULL):
            self._end(False, refusal.name)
            return
        self._client.learn(ring)
        self._refusals += 1
        if refusal is not Refusal.MOVED or self._client.random.random() < 0.5:
            self._other_node()
        self._attempt += 1
        self._world.schedule.after(RETRY_MS * MS << min(self._refusals, MOST_DOUBLED), self.try_again)

    def _too_late(self, attempt: int) -> None:
        if attempt == self._attempt and not self._done:
            self._unsure_in.add(self._partition)
            self._other_node()
            self.try_again()

    def _goes_elsewhere(self) -> bool:
        """Whether a ring that became known meanwhile gives events of it to others: then they go there."""
        client = self._client
        if client.ring == self._ring or not self._attempt:
            return False
        self._ring = client.ring
        parts = client.split(self._events)
        if [partition for partition, _ in parts] == [self._partition]:
            return False
        self._world.counts["ring.client goes elsewhere"] += 1
        self._done = True
        self._world.under_way -= 1
        over = _all_over(len(parts), self._over)
        for partition, events in parts:
            part = Sending(client, events, partition, over, self._give_up_ns)
            part._sent_to, part._sent_after = self._sent_to, self._sent_after
            part._unsure_in = set(self._unsure_in)
            if len(self._unsure_in) > 1 and partition != self._partition:
                part._end(False, "WINDOW_PASSED for the client")  # one place is all that it can name
            else:
                part.try_again()
        return True

    def _end(self, acked: bool, how: str) -> None:
        self._done = True
        self._world.under_way -= 1
        self._world.counts[f"op.{how}"] += 1
        self._over(acked)

    def _other_node(self) -> None:
        self._client.leaders.pop(self._partition, None)
        self._node = self._client.random.randint(1, 3)

    def _travel(self, call: Callable[..., object], *arguments: object) -> None:
        source, world = self._client.random, self._world
        if not world.is_calm and source.random() < world.groups[0].weather.load.loses:
            world.counts["net.client lost"] += 1
            return
        late = not world.is_calm and source.random() < LATE
        world.schedule.after(between(source, LATE_NS if late else TRAVEL_NS), call, *arguments)


class HuntedAsker:
    """Lets a client ask the victim of a hunt in one group."""

    def __init__(self, number: int, client: RingClient, partition: int) -> None:
        self.number = number
        self.leader = 0
        self._client = client
        self._partition = partition
        self._asked = 0

    def begin(self, operation: Operation) -> None:
        """Send a new event to the node that the client now takes for the leader."""
        world = self._client.world
        self._client.leaders[self._partition] = operation.to
        self._asked += 1
        number = HUNTED + (self.number << 32) + (self._partition << 28) + self._asked
        source = self._client.random.randrange(world.weather.sources)
        self._client.begin(Sent(0, self._client.number, ((number, source),), (), ordered=False))


def batch_of(events: tuple[tuple[int, int], ...], partition: int) -> Batch:
    """These events, each a number and its source."""
    keys = [event_key(source_name(source), str(number)) for number, source in events]
    payload = cbor2.dumps([b"%d" % number for number, _ in events])
    return Batch(len(events), b"".join(keys), payload, partition=partition)


def _all_over(count: int, over: Over) -> Over:
    """What each of so many calls when it is over: the last one calls `over`."""
    left, all_acked = count, True

    def one_over(acked: bool) -> None:
        nonlocal left, all_acked
        left, all_acked = left - 1, all_acked and acked
        if not left:
            over(all_acked)

    return one_over


def nothing(acked: bool) -> None:
    """Nobody waits for it."""
