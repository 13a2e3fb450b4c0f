"""Tier A: one cluster under one tape, from its first boot until it has come to rest after all faults.

`run` is the whole of it: a seed in, an `Outcome` out. The core, the driver, the deduplication, the machine
and the log's storage are those that ship; there is no trio, no clock and no thread.
"""

from collections import Counter
from contextlib import ExitStack
from typing import Final
from unittest.mock import patch

import outcome

from esctl.verify.operations import Operations
from esnode import limits

from .clients import RETRY_MS, Appending, Client, Reading, Trying, nothing
from .diskqueue import DISK_SILENCE_NS
from .faults import FOR_EVER_NS
from .group import Group
from .invariants import demand
from .outcome import Outcome, Violation
from .schedule import MS, SECOND, Schedule
from .tape import Operation, Tape, record
from .trace import Listener, Trace
from .weather import Weather, draw

MINUTES: Final = 1.5
CALM_NS: Final = 10 * SECOND

LAST_EVENTS: Final = 1 << 40


class World(Group):
    """One group, clients, and what holds over all of them."""

    def __init__(self, seed: int, weather: Weather, listener: Listener | None) -> None:
        super().__init__(seed, weather, Schedule(), Trace(listener), Counter())
        self.history = Operations()
        self._last_event = LAST_EVENTS
        self.clients = [Client(number, self) for number in range(weather.load.clients)]
        self.askers = self.clients

    def play(self, tape: Tape) -> None:
        """Boot, let everything on the tape happen, heal, and look at what is there."""
        self.boot()
        for fault in tape.faults:
            self.schedule.after(fault.at_ns, self.faults.befall, fault)
        for operation in tape.operations:
            self.schedule.after(operation.at_ns, self.clients[operation.client].begin, operation)
        self.schedule.run_until(self.weather.duration_ms * MS)
        self._settle()
        self._judge()

    # --- the end ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Healthy, a cluster is level soon, acks at once, and keeps its leader; and with any one node in
        trouble it acks all the same (liveness)."""
        self.heal()
        self.demand_level("after the faults", elections=12, grace_ns=15 * SECOND)
        if len(self.voters) > 1:
            dragging = self._trouble_one()
            self._demand_answer("while one node is in trouble", elections=8, grace_ns=DISK_SILENCE_NS)
            if dragging is not None and self.weather.dedup.when_full != "refuse":
                self._demand_another_leader(dragging)
            self.heal()
            self.demand_level("after the last fault", elections=4, grace_ns=2 * SECOND)
            self._lose_in_silence()
            self.demand_level("after a silent loss", elections=4, grace_ns=2 * SECOND)
        self._demand_answer("with all nodes well", elections=4, grace_ns=2 * SECOND)
        self.demand_level("after the last event", elections=4, grace_ns=2 * SECOND)
        self._demand_calm()

    def _trouble_one(self) -> int | None:
        """One node, the leader for choice, is down, cut off, deaf or mute, or does not see one other; or its
        disk drags: then which."""
        leader = self.leader() or 1
        node = self.random.choice((leader, leader, self.random.choice(self.voters)))
        other = self.random.choice([voter for voter in self.voters if voter != node])
        kind = self.random.choice(("down", "isolate", "deaf", "mute", "bridge", "drag"))
        self.counts[f"lasting.{kind}"] += 1
        self.trace.note(self.schedule.now_ns, "!", f"from now on {kind} {node} {other}")
        self.faults.trouble(kind, self.hosts[node], other)
        return node if kind == "drag" else None

    def _lose_in_silence(self) -> None:
        """What a leader sends one follower is lost while their connection stays up; its prefix may be cut."""
        leader = self.leader()
        assert leader is not None, "level, and nobody leads"
        other = self.random.choice([voter for voter in self.voters if voter != leader])
        self.trace.note(self.schedule.now_ns, "!", f"from now on {leader} sends {other} what is lost")
        self.network.lose(leader, other, FOR_EVER_NS)
        for _ in range(self.random.choice((1, 5, 20))):
            self._demand_answer("while one node is sent nothing", elections=4, grace_ns=2 * SECOND)
        if self.random.random() < 0.7 and self.hosts[leader].cut_prefix(1.0):
            self.counts["lasting.unheard, and a prefix cut"] += 1
            self.schedule.run_until(self.schedule.now_ns + SECOND // 10)
        self.heal()

    def _demand_answer(self, when: str, elections: int, grace_ns: int) -> None:
        """A new event is acked; or, where a full window refuses it, a linearizable read is answered."""
        client = self.clients[0]
        end_ns = self.end_of_patience(elections, grace_ns + 5 * self.weather.load.attempt_ms * MS)
        request: Trying | None = None
        while self.schedule.now_ns < end_ns and not (request and request.is_answered):
            if request is not None and request.is_turned_away:
                request = Reading(client, 1)
            else:
                self._last_event += 1
                batch = client.batch_of(Operation(0, 0, (self._last_event,), session=False, to=1), None)
                request = Appending(client, 1, batch, nothing)
            request.try_again()
            give_up_ns = self.schedule.now_ns + (self.weather.load.give_up_ms + RETRY_MS) * MS
            self.schedule.run_until(min(give_up_ns, end_ns), request.is_over)
        answered = request is not None and request.is_answered
        demand(answered, "liveness", f"no answer {when}: {self.describe()}")

    def _demand_another_leader(self, dragging: int) -> None:
        """Acks need the leader's own disk, so one whose disk drags does not stay while events come."""
        client = self.clients[0]
        waits_ms = limits.YOUNG_LEADERSHIP_MS + limits.SLOW_DISK_MEMORY_MS
        end_ns = self.end_of_patience(elections=8, grace_ns=waits_ms * MS)

        def is_led_by_another() -> bool:
            return self.leader() not in {dragging, None}

        while self.schedule.now_ns < end_ns and not is_led_by_another():
            self._last_event += 1
            batch = client.batch_of(Operation(0, 0, (self._last_event,), session=False, to=1), None)
            Appending(client, 1, batch, nothing).try_again()
            self.schedule.run_until(min(self.schedule.now_ns + SECOND, end_ns), is_led_by_another)
        demand(is_led_by_another(), "liveness", f"a leader's disk drags: {self.describe()}")

    def _demand_calm(self) -> None:
        """Nobody is voted out while all is well."""
        term = self.invariants.newest_term
        self.schedule.run_until(self.schedule.now_ns + CALM_NS)
        newest = self.invariants.newest_term
        demand(newest == term, "liveness", f"all is well, and terms go from {term} to {newest}")

    def _judge(self) -> None:
        """Clients' history against the log."""
        invariants = self.invariants
        log = b"".join(invariants.key_at)
        findings = self.history.check(log, may_repeat=invariants.may_repeat)
        for finding in findings.examples:
            raise Violation(f"history: {finding.flaw.value}", finding.text)


def run(
    seed: int,
    *,
    minutes: float = MINUTES,
    stretch: float = 1.0,
    tape: Tape | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Play the world of `seed`, with its own tape or a shortened one."""
    weather = draw(seed, minutes, stretch)
    world = World(seed, weather, listener)
    with ExitStack() as lowered:
        for name, value in weather.limits.items():
            lowered.enter_context(patch.object(limits, name, value))
        played = outcome.capture(world.play, tape if tape is not None else record(seed, weather))
    violation = None
    if isinstance(played, outcome.Error):
        error = played.error
        if not isinstance(error, Exception):
            raise error
        violation = error if isinstance(error, Violation) else Violation(type(error).__name__, str(error))
        world.trace.note(world.schedule.now_ns, "!", str(violation))
    return Outcome(seed, "A", world.schedule.now_ns / SECOND, world.trace.digest, world.counts, violation)
