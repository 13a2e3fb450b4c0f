"""Tier R: several partitions under one tape, a ring that changes, and clients that follow it, or lag.

`run` is the whole of it: a seed in, an `Outcome` out. Each partition is a group of tier A, with hosts and
faults of its own. The mover's steps are those that ship; how it travels is simulated.
"""

import random
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import outcome

from esnode import limits
from esnode.growth import steps
from tests.simulation.group import Group
from tests.simulation.invariants import demand
from tests.simulation.outcome import Outcome, Violation
from tests.simulation.schedule import MS, SECOND, Schedule
from tests.simulation.tape import faults_of
from tests.simulation.trace import Listener, NamedTrace, Trace

from .clients import PATIENCE_NS, HuntedAsker, RingClient
from .invariants import GroupInvariants, RingInvariants
from .mover import Movers, Operator
from .strikes import Strikes
from .weather import RingWeather, Sent, draw

MINUTES: Final = 1.0
PLANS_END_NS: Final = 40 * SECOND
"""How long all plans that are left may take once all is well."""
KEY_COPIED_NS: Final = 2 * MS
"""Beside that, for each offset of a log: in some worlds an entry carries 16 keys."""
LAST_EVENTS: Final = 1 << 50
TOLD_NS: Final = (0, 5 * SECOND)


class RingGroup(Group):
    """One of several."""

    def __init__(self, world: "RingWorld", *parts: Any, **named: Any) -> None:
        self._world = world
        super().__init__(*parts, **named)

    def leader_may_have_changed(self) -> None:
        """As for one group; whoever leads then may be asked at once."""
        before = self.leader()
        super().leader_may_have_changed()
        leader = self.leader()
        if leader is not None and leader != before:
            self._world.strikes.leads(self.partition, leader)


class RingWorld:
    """Groups, clients, the movers, and what holds over all of them."""

    def __init__(self, seed: int, weather: RingWeather, listener: Listener | None) -> None:
        self.seed = seed
        self.weather = weather
        self.schedule = Schedule()
        self.trace = Trace(listener)
        self.counts: Counter[str] = Counter()
        self.is_calm = False
        self.under_way = 0
        """What clients wait for."""
        self.over_all = RingInvariants(self.counts)
        self._random = random.Random(f"{seed}:ringworld")
        self.groups = [self._group(number) for number in range(len(weather.groups))]
        self.over_all.groups = [self._invariants(group) for group in self.groups]
        self.clients = [RingClient(number, self) for number in range(weather.clients)]
        for number, group in enumerate(self.groups):
            group.askers = [HuntedAsker(client.number, client, number) for client in self.clients]
        self.strikes = Strikes(self)
        self.over_all.appended = self.strikes.appended
        self.operator = Operator(self, weather.changes)
        self.movers = Movers(self)
        self._told = 0

    def _group(self, number: int) -> Group:
        return RingGroup(
            self,
            self._random.getrandbits(40),
            self.weather.groups[number],
            self.schedule,
            NamedTrace(self.trace, f"p{number}"),
            self.counts,
            partition=number,
            invariants=partial(GroupInvariants, partition=number, over_all=self.over_all),
        )

    def _invariants(self, group: Group) -> GroupInvariants:
        assert isinstance(group.invariants, GroupInvariants)
        return group.invariants

    def play(self) -> None:
        """Boot, let everything happen, heal, and look at what is there."""
        for group in self.groups:
            group.boot()
            for fault in faults_of(random.Random(f"{group.seed}:faults"), group.weather):
                self.schedule.after(fault.at_ns, group.faults.befall, fault)
        for sent in self.weather.sent:
            self.schedule.after(sent.at_ns, self.clients[sent.client].begin, sent)
        self.operator.go_on()
        self.movers.look()
        self._tell_clients()
        self.schedule.run_until(self.weather.duration_ms * MS)
        self._settle()

    def _tell_clients(self) -> None:
        """Some are told of a ring as soon as it is planned, and then know more than the partitions."""
        self.schedule.after(100 * MS, self._tell_clients)
        plans = self.over_all.plans
        if len(plans) > self._told:
            self._told = len(plans)
            if not plans[-1].ended:
                self.strikes.planned(plans[-1])
            for client in self.clients:
                if self._random.random() < self.weather.told:
                    ring = (plans[-1].version, plans[-1].partitions)
                    self.schedule.after(self._random.randint(*TOLD_NS), client.learn, ring)

    # --- the end ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Healthy, all groups are level, all plans end, and events of any source are acked (liveness)."""
        self.is_calm = True
        for group in self.groups:
            group.heal()
        for group in self.groups:
            group.demand_level("after the faults", elections=12, grace_ns=15 * SECOND)
        offsets = sum(group.end().offset for group in self.over_all.groups)
        end_ns = self.groups[0].end_of_patience(8, PLANS_END_NS + offsets * KEY_COPIED_NS)
        self.schedule.run_until(end_ns, self._plans_are_over)
        text = f"plans {self.over_all.plans[-2:]}; {[group.describe() for group in self.groups]}"
        demand(self._plans_are_over(), "liveness", f"a plan does not end: {text}")
        self.schedule.run_until(self.schedule.now_ns + PATIENCE_NS, lambda: not self.under_way)
        self._demand_answers()
        for group in self.groups:
            group.demand_level("after the last event", elections=4, grace_ns=2 * SECOND)
        self.counts["ring.plans ended"] += sum(plan.ended for plan in self.over_all.plans)
        self.counts["ring.worlds"] += 1

    def _plans_are_over(self) -> bool:
        plans = self.over_all.plans
        return self.operator.is_over and bool(plans) and plans[-1].ended

    def _demand_answers(self) -> None:
        """An event of each source is acked, or refused for want of room: by whom nobody need tell."""
        answers: list[bool] = []
        sources = self._random.sample(range(self.weather.sources), min(8, self.weather.sources))
        before = self.counts["op.WINDOW_FULL"]
        for source in sources:
            client = self._random.choice(self.clients)
            client.begin(Sent(0, client.number, ((LAST_EVENTS + source, source),), (), ordered=False))
            client.send(((LAST_EVENTS + source, source),), answers.append)
        end_ns = self.groups[0].end_of_patience(4, 10 * SECOND)
        self.schedule.run_until(end_ns, lambda: len(answers) == len(sources))
        is_full = self.counts["op.WINDOW_FULL"] > before
        demand(is_full or answers == [True] * len(sources), "liveness", f"answers: {answers}")


def run(
    seed: int, *, minutes: float = MINUTES, stretch: float = 1.0, listener: Listener | None = None
) -> Outcome:
    """Play the world of `seed`."""
    weather = draw(seed, minutes, stretch)
    world = RingWorld(seed, weather, listener)
    with ExitStack() as lowered:
        for name, value in weather.bounds.items():
            lowered.enter_context(patch.object(limits, name, value))
        lowered.enter_context(patch.object(steps, "NEARLY_LEVEL", weather.nearly_level))
        played = outcome.capture(world.play)
    violation = None
    if isinstance(played, outcome.Error):
        error = played.error
        if not isinstance(error, Exception):
            raise error
        violation = error if isinstance(error, Violation) else Violation(type(error).__name__, str(error))
        world.trace.note(world.schedule.now_ns, "!", str(violation))
    return Outcome(seed, "R", world.schedule.now_ns / SECOND, world.trace.digest, world.counts, violation)
