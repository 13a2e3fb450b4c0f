"""Tier A: one cluster under one tape, from its first boot until it has come to rest after all faults.

`run` is the whole of it: a seed in, an `Outcome` out. The core, the driver, the deduplication, the machine
and the log's storage are those that ship; there is no trio, no clock and no thread.
"""

import random
from collections import Counter
from typing import Final

from esctl.proof.operations import Operations

from .clients import Client
from .faults import Faults
from .host import Host
from .invariants import Invariants, demand
from .network import Network
from .outcome import Outcome, Violation
from .schedule import MS, SECOND, Schedule
from .tape import Operation, Tape, record
from .trace import Listener, Trace
from .weather import Weather, draw

MINUTES: Final = 1.5
SETTLE_ELECTIONS: Final = 12
"""How many of the longest election time-outs a healed cluster may take to be level again, and a bit."""

LAST_EVENT: Final = 1 << 40


class World:
    """Hosts, network, clients, and what holds over all of them."""

    def __init__(self, seed: int, weather: Weather, listener: Listener | None) -> None:
        self.seed = seed
        self.weather = weather
        self.voters = tuple(range(1, weather.voters + 1))
        self.schedule = Schedule()
        self.trace = Trace(listener)
        self.counts: Counter[str] = Counter()
        self.history = Operations()
        self.is_calm = False
        self.hosts = {node_id: Host(node_id, self) for node_id in self.voters}
        self.invariants = Invariants(self.hosts, weather.dedup, self.counts)
        source = random.Random(f"{seed}:net")
        self.network = Network(self.schedule, self.trace, self.hosts, weather.link, self.counts, source)
        self.clients = [Client(number, self) for number in range(weather.load.clients)]
        self.faults = Faults(self)
        self._random = random.Random(f"{seed}:world")

    def play(self, tape: Tape) -> None:
        """Boot, let everything on the tape happen, heal, and look at what is there."""
        for host in self.hosts.values():
            self.schedule.after(self._random.randint(0, 500 * MS), self._start, host)
        for fault in tape.faults:
            self.schedule.after(fault.at_ns, self.faults.befall, fault)
        for operation in tape.operations:
            self.schedule.after(operation.at_ns, self.clients[operation.client].begin, operation)
        self.schedule.run_until(self.weather.duration_ms * MS)
        self._heal()
        self._settle()
        self._judge()

    def restart_later(self, host: Host, after_ns: int | None = None) -> None:
        """Somebody will start it again."""
        if after_ns is None:
            after_ns = int(self._random.expovariate(0.5) * SECOND)
        self.schedule.after(after_ns, self._start, host)

    def _start(self, host: Host) -> None:
        if not host.up:
            host.guard(host.start)

    # --- the end ---------------------------------------------------------------------------------

    def _heal(self) -> None:
        """Every fault that still lasts ends; what clients have begun goes on."""
        self.is_calm = True
        self.network.calm()
        for host in self.hosts.values():
            self.faults.heal(host)
            self._start(host)

    def _settle(self) -> None:
        """A healthy cluster is level within a bounded number of time-outs, and acks at once (liveness)."""
        timers = self.weather.timers
        patience_ns = SETTLE_ELECTIONS * (timers.election_ms + timers.jitter_ms) * MS + 15 * SECOND
        begun_ns = self.schedule.now_ns
        end_ns = begun_ns + patience_ns
        self.schedule.run_until(end_ns, self._is_level)
        after_s = (self.schedule.now_ns - begun_ns) / SECOND
        self._demand_level(f"{after_s:.1f} s after the faults")
        self._append_one_more()

    def _demand_level(self, when: str) -> None:
        state = [host.describe() for host in self.hosts.values()]
        demand(self._is_level(), "liveness", f"not level {when}: {state}")

    def _append_one_more(self) -> None:
        """A healed cluster answers at once: with an ack, or because its window is full and refuses."""
        answered = self._answers()
        self.clients[0].begin(Operation(0, 0, (LAST_EVENT,), session=False, to=1))
        end_ns = self.schedule.now_ns + (self.weather.load.give_up_ms - 100) * MS
        self.schedule.run_until(end_ns, lambda: self._answers() > answered and self._is_level())
        demand(self._answers() > answered, "liveness", "a healed cluster answers nothing")
        self._demand_level("after the last event")

    def _answers(self) -> int:
        return self.counts["op.append"] + self.counts["refused.WINDOW_FULL"]

    def _is_level(self) -> bool:
        """One leads, all others are sound and have applied what it has."""
        processes = [host.process for host in self.hosts.values()]
        if any(process is None for process in processes):
            return False
        running = [process for process in processes if process is not None]
        leaders = [process for process in running if process.view.leads]
        if not leaders:
            return False
        newest = max(leaders, key=lambda process: process.core.term)
        last_index = newest.core.log.last_index
        return all(
            process.machine.applied_index == last_index
            and process.core.term == newest.core.term
            and not process.core.rejoining
            for process in running
        )

    def _judge(self) -> None:
        """Clients' history against the log."""
        invariants = self.invariants
        log = b"".join(invariants.key_at)
        findings = self.history.check(log, may_repeat=invariants.may_repeat)
        for finding in findings.examples:
            raise Violation(f"history: {finding.flaw.value}", finding.text)


def run(
    seed: int, *, minutes: float = MINUTES, tape: Tape | None = None, listener: Listener | None = None
) -> Outcome:
    """Play the world of `seed`, with its own tape or a shortened one."""
    weather = draw(seed, minutes)
    world = World(seed, weather, listener)
    violation = None
    try:
        world.play(tape if tape is not None else record(seed, weather))
    except Violation as error:
        violation = error
        world.trace.note(world.schedule.now_ns, "!", str(error))
    return Outcome(seed, "A", world.schedule.now_ns / SECOND, world.trace.digest, world.counts, violation)
