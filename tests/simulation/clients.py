"""Those who use the cluster: they append, retry with the same keys, read, and write down what they are told.

A client asks whom it takes for the leader, and anybody else when that does not help; it gives up in the
end, and then knows nothing. Requests and answers may get lost. Used by tier A.
"""

import hashlib
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import cbor2

from esctl.verify.operations import Operations
from esnode.dedup.batch import Batch, ProducerStamp
from esnode.dedup.producers import FIRST_EPOCH, Opened
from esnode.limits import KEY_BYTES
from esnode.raft.messages import Decision, OpenProducer, Propose, ReadGrant
from esnode.refusal import Refusal

from .outcome import Violation
from .schedule import MS, between
from .tape import Operation

if TYPE_CHECKING:
    from .host import Host
    from .world import World

INDEFINITE: Final = (Refusal.LEADERSHIP_LOST,)
"""Refusals that leave open whether the batch is in the log."""
SESSION_IS_WRONG: Final = (Refusal.OUT_OF_SEQUENCE, Refusal.UNKNOWN_PRODUCER)
RETRY_MS: Final = 50
MISBEHAVES: Final = 0.05
NAMED: Final = 0.5
RESTARTS: Final = 0.3
GAP: Final = 1 << 20
TRAVEL_NS: Final = (50_000, 2_000_000)


def key_of(event: int) -> bytes:
    """The key of an event, which looks like any other."""
    return hashlib.blake2b(event.to_bytes(8, "big"), digest_size=KEY_BYTES).digest()


class Client:
    """One of them. Its producer session carries one batch at a time, in order."""

    def __init__(self, number: int, world: "World") -> None:
        self.number = number
        self.world = world
        self.leader = 0
        self.random = random.Random(f"{world.seed}:client:{number}")
        self._name = f"client-{number}" if self.random.random() < NAMED else ""
        self._producer_id = 0
        self._epoch = 0
        self._holder = 0
        self._last_id = self._last_epoch = 0
        self._sequence = 0
        self._possible = {0}
        """What the log may expect next: that depends on whether it has a batch that was given up."""
        self._in_session: deque[Operation] = deque()
        self._session_is_busy = False

    def begin(self, operation: Operation) -> None:
        """Do it; nobody waits for it."""
        if not operation.events:
            Reading(self, operation.to).try_again()
        elif operation.session:
            self._in_session.append(operation)
            self._go_on()
        else:
            Appending(self, operation.to, self.batch_of(operation, None), nothing).try_again()

    def _go_on(self) -> None:
        """The next batch of the session, or a session first."""
        if self._session_is_busy or not self._in_session:
            return
        self._session_is_busy = True
        if not self._epoch:
            self._open(self._in_session[0].to)
            return
        operation = self._in_session.popleft()
        count = len(operation.events)
        if self.random.random() < MISBEHAVES:
            wrong = self.random.choice(
                (
                    (self._epoch, self._sequence + GAP),
                    (self._epoch + GAP, self._sequence),
                    (self._epoch - 1 or self._epoch + GAP, self._sequence),
                )
            )
            stamp = ProducerStamp(self._producer_id, *wrong, count)
            Misbehaving(self, operation.to, self.batch_of(operation, stamp), self._misbehaved).try_again()
            return
        stamp = ProducerStamp(self._producer_id, self._epoch, self._sequence, count)
        Appending(self, operation.to, self.batch_of(operation, stamp), partial(self._over, count)).try_again()

    def _open(self, to: int) -> None:
        """Open a session, or go on with the one that there was; sometimes as a new process of that name."""
        if self._name and (not self._producer_id or self.random.random() < RESTARTS):
            self._producer_id, self._holder = 0, self._holder + 1
        if not self._name and not self._producer_id:
            self._possible = {0}
        wanted = partial(OpenProducer, name=self._name, producer_id=self._producer_id, holder=self._holder)
        Opening(self, to, wanted, self._opened).try_again()

    def _opened(self, opened: Opened | None) -> None:
        """A session goes on; None: nobody answers, and the next one is new, or taken over by its name."""
        self._session_is_busy = False
        if opened is None:
            self._producer_id = 0
            if self._in_session:
                self._in_session.popleft()
            return
        session = opened.opening
        if session.next_sequence not in self._possible:
            raise Violation("sessions", f"{session} is opened, and may be at {self._possible} only")
        if session.producer_id == self._last_id and session.epoch <= self._last_epoch:
            raise Violation("sessions", f"{session} has had its epoch before")
        self.world.counts["op.session" if session.epoch == FIRST_EPOCH else "op.session goes on"] += 1
        self._producer_id, self._epoch = session.producer_id, session.epoch
        self._last_id, self._last_epoch = session.producer_id, session.epoch
        self._sequence, self._possible = session.next_sequence, {session.next_sequence}
        self._go_on()

    def _over(self, count: int, sent: int) -> None:
        """A batch of `count` was acked; with 0 sent nobody knows, and the log is asked."""
        self._session_is_busy = False
        self._possible = {self._sequence + count} | (set() if sent else {self._sequence})
        self._sequence += sent
        if not sent:
            self._epoch = 0
        self._go_on()

    def _misbehaved(self, sent: int) -> None:
        self._session_is_busy = False
        self._go_on()

    def batch_of(self, operation: Operation, stamp: ProducerStamp | None) -> Batch:
        keys = b"".join(map(key_of, operation.events))
        payload = cbor2.dumps([b"%d" % event for event in operation.events])
        return Batch(len(operation.events), keys, payload, stamp)


class Trying:
    """A request that is sent again until it is answered or given up."""

    kind = ""

    def __init__(self, client: Client, to: int) -> None:
        world = client.world
        self.client = client
        self.world = world
        self.history: Operations = world.history
        self._to = client.leader or to
        self._attempt = 0
        self._give_up_ns = world.schedule.now_ns + world.weather.load.give_up_ms * MS
        self._done = False
        self.is_answered = False
        self.is_turned_away = False

    def try_again(self) -> None:
        """One more attempt."""
        if self._done:
            return
        if self.world.schedule.now_ns >= self._give_up_ns:
            self.world.counts[f"op.{self.kind} unknown"] += 1
            self._done = True
            self.gave_up()
            return
        self._attempt += 1
        number = self.begins()
        self._travel(self._arrive, self._to, partial(self.ask, number, self._attempt))
        load = self.world.weather.load
        wait_ms = int(load.attempt_ms * self.client.random.uniform(0.8, 1.2))
        self.world.schedule.after(wait_ms * MS, self._too_late, self._attempt)

    def is_over(self) -> bool:
        """Answered, turned away or given up."""
        return self._done

    def begins(self) -> int:
        """Write the attempt down; returns its number in the history."""
        raise NotImplementedError

    def ask(self, number: int, attempt: int, host: "Host") -> None:
        """The request is at the node."""
        raise NotImplementedError

    def gave_up(self) -> None:
        """It ends without an answer."""
        raise NotImplementedError

    def succeed(self) -> bool:
        """It is answered; False when it was before."""
        first = not self._done
        self._done = self.is_answered = True
        if first:
            self.world.counts[f"op.{self.kind}"] += 1
            self.client.leader = self._to
        return first

    def answer(self, call: Callable[..., None], *arguments: object) -> None:
        """An answer leaves the node."""
        self._travel(call, *arguments)

    def refused(self, attempt: int) -> None:
        """Somebody else may do it."""
        if attempt == self._attempt and not self._done:
            self._elsewhere()
            self.world.schedule.after(RETRY_MS * MS, self._again, attempt)

    def _travel(self, call: Callable[..., None], *arguments: object) -> None:
        source = self.client.random
        if source.random() < self.world.weather.load.loses and not self.world.is_calm:
            self.world.counts["net.client lost"] += 1
            return
        self.world.schedule.after(between(source, TRAVEL_NS), call, *arguments)

    def _arrive(self, to: int, request: "Callable[[Host], None]") -> None:
        attempt = self._attempt
        if not self.world.hosts[to].ask(request):
            self.refused(attempt)

    def _too_late(self, attempt: int) -> None:
        if attempt == self._attempt and not self._done:
            self._elsewhere()
            self.try_again()

    def _again(self, attempt: int) -> None:
        if attempt == self._attempt:
            self.try_again()

    def _elsewhere(self) -> None:
        self.client.leader = 0
        self._to = self.client.random.choice(self.world.voters)


class Appending(Trying):
    """A batch, with or without a session."""

    kind = "append"

    def __init__(self, client: Client, to: int, batch: Batch, over: Callable[[int], None]) -> None:
        super().__init__(client, to)
        self._batch = batch
        self._over = over

    def begins(self) -> int:
        return self.history.append_begins(self._batch.keys, self.world.schedule.now_ns)

    def ask(self, number: int, attempt: int, host: "Host") -> None:
        settle = partial(self._settle, number, attempt, host)
        if not host.propose(lambda token: Propose(token, self._batch), settle):
            self.history.refused(number)
            self.answer(self.refused, attempt)

    def _settle(self, number: int, attempt: int, host: "Host", decision: Decision) -> None:
        if decision.refusal is None:
            self.world.invariants.acked(host, self._batch.keys, decision.ranges)
            host.note(f"acks {decision.ranges}")
            self.answer(self._acked, number, decision)
            return
        self.world.counts[f"refused.{decision.refusal.name}"] += 1
        if decision.refusal not in INDEFINITE:
            self.history.refused(number)
            # A leader that was deposed and does not know it yet lacks what its successor has taken.
            newest = host.process is not None and host.process.core.term >= self.world.invariants.newest_term
            if decision.refusal is Refusal.PRODUCER_FENCED:
                # A late copy of its own opening has raised the epoch once more: it goes on with the session.
                self.answer(self._turned_away)
                return
            if decision.refusal in SESSION_IS_WRONG and newest and not self._done:
                raise Violation("sessions", f"a session in order is refused: {self._batch.producer}")
            if decision.refusal is Refusal.WINDOW_FULL:
                self.answer(self._turned_away)
                return
        self.answer(self.refused, attempt)

    def _turned_away(self) -> None:
        """Asking again would not help: the client leaves it."""
        if not self._done:
            self._done = self.is_turned_away = True
            self.gave_up()

    def _acked(self, number: int, decision: Decision) -> None:
        now_ns = self.world.schedule.now_ns
        self.history.acked(number, decision.ranges, now_ns, decision.duplicates)
        self.world.counts["op.duplicate events"] += decision.duplicates
        self.world.counts["op.events"] += self._batch.count
        if self.succeed():
            self._over(self._batch.count)

    def gave_up(self) -> None:
        self._over(0)


class Misbehaving(Appending):
    """A batch that must be refused: it leaves a gap in its session, or is of an epoch that never was."""

    kind = "misbehaviour"

    def _settle(self, number: int, attempt: int, host: "Host", decision: Decision) -> None:
        stamp = self._batch.producer
        if decision.refusal is None or decision.refusal is Refusal.LEADERSHIP_LOST:
            raise Violation("sessions", f"node {host.id} takes what does not belong into a session: {stamp}")
        if decision.refusal in (*SESSION_IS_WRONG, Refusal.PRODUCER_FENCED):
            self.history.refused(number)
            self.answer(self._told_off)
        else:
            self.answer(self.refused, attempt)

    def _told_off(self) -> None:
        if self.succeed():
            self._over(0)


class Opening(Trying):
    """A producer session."""

    kind = "open"

    def __init__(
        self,
        client: Client,
        to: int,
        wanted: Callable[[int], OpenProducer],
        opened: Callable[[Opened | None], None],
    ) -> None:
        super().__init__(client, to)
        self._wanted = wanted
        self._opened = opened

    def begins(self) -> int:
        return 0

    def ask(self, number: int, attempt: int, host: "Host") -> None:
        if not host.propose(self._wanted, partial(self._settle, attempt)):
            self.answer(self.refused, attempt)

    def _settle(self, attempt: int, decision: Decision) -> None:
        if decision.opened is not None:
            self.answer(self._acked, decision.opened)
        else:
            self.answer(self.refused, attempt)

    def _acked(self, opened: Opened) -> None:
        if self.succeed():
            self._opened(opened)

    def gave_up(self) -> None:
        self._opened(None)


class Reading(Trying):
    """A linearizable read of where the log ends."""

    kind = "read"

    def begins(self) -> int:
        return self.history.read_begins(self.world.schedule.now_ns)

    def ask(self, number: int, attempt: int, host: "Host") -> None:
        host.read(partial(self._answered, number, attempt))

    def _answered(self, number: int, attempt: int, grant: ReadGrant, next_offset: int) -> None:
        if grant.refusal is None:
            self.answer(self._read, number, next_offset)
        else:
            self.answer(self.refused, attempt)

    def _read(self, number: int, next_offset: int) -> None:
        self.history.read_ends(number, next_offset, self.world.schedule.now_ns)
        self.succeed()

    def gave_up(self) -> None:
        return


def nothing(sent: int) -> None:
    """Nobody waits for it."""
