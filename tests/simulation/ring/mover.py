"""Who changes the ring: an operator with a plan, and on each node that leads partition 0 a mover.

The mover does what `esnode/growth/mover.py` does, step by step as `steps.py` says, with requests that travel:
each may be lost, late, or answered by a leader that is none any more. It runs on its node: it ends with its
process and stands still when that is paused, so there may be two that both believe to be the one.
"""

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from esnode.dedup.movingkeys import KeyRange
from esnode.dedup.ownership import Adoption, Ownership, RingChange, RingPlan, RingSwitch, ring_of
from esnode.growth.steps import Copy, End, Standing, Switch, next_steps
from esnode.raft.messages import Decision, ProposeRing
from esnode.ring import FIRST_VERSION
from tests.simulation.host import Host
from tests.simulation.schedule import MS, SECOND, between

from .weather import Change

if TYPE_CHECKING:
    from .world import RingWorld

LOOK_NS: Final = 100 * MS
RETRY_NS: Final = (20 * MS, 200 * MS)
TRAVEL_NS: Final = (50_000, 3_000_000)
LATE: Final = 0.03
LATE_NS: Final = (100 * MS, 8 * SECOND)
REPEATED: Final = 0.15
"""The share of changes that another node, which believes to lead still, asks for once more, maybe late."""
REPEATED_NS: Final = (0, 15 * SECOND)
HASTY: Final = 0.3
"""How often the operator asks for a plan while there is one."""
TIMEOUT_NS: Final = 3 * SECOND


@dataclass(frozen=True, slots=True)
class Told:
    """What a node says of its partition."""

    leads: bool
    ownership: Ownership
    next_offset: int


@dataclass(frozen=True, slots=True)
class Found:
    """Keys that move."""

    end_offset: int
    floor: int
    keys: bytes


class StepFailed(Exception):
    """A request was refused or not answered: begin anew."""


Answer = Told | Found | Decision | None
Settle = Callable[[Answer], None]
Request = Callable[[Settle], None]
Script = Generator[list[Request], list[Answer], None]
"""Yields requests to be made at once, and is sent their answers."""


class Errand:
    """A script that runs somewhere. `asks` lets an answer in, now or later; `over` is called at its end."""

    def __init__(
        self, world: "RingWorld", script: Script, let_in: Callable[[Callable[[], None]], None], over: Settle
    ) -> None:
        self._world = world
        self._script = script
        self._let_in = let_in
        self._over = over
        self._turn = 0
        self._answers: list[Answer] = []
        self._missing = 0

    def go_on(self) -> None:
        """Send the answers in, and make the next requests."""
        self._turn += 1
        try:
            requests = self._script.send(self._answers) if self._turn > 1 else next(self._script)
        except (StepFailed, StopIteration):
            self._over(None)
            return
        self._answers, self._missing = [None] * len(requests), len(requests)
        for place, request in enumerate(requests):
            request(partial(self._answered, self._turn, place))
        self._world.schedule.after(TIMEOUT_NS, self._let_in, partial(self._too_late, self._turn))

    def _answered(self, turn: int, place: int, answer: Answer) -> None:
        self._let_in(partial(self._take, turn, place, answer))

    def _take(self, turn: int, place: int, answer: Answer) -> None:
        if turn == self._turn:
            self._answers[place] = answer
            self._missing -= 1
            if not self._missing:
                self.go_on()

    def _too_late(self, turn: int) -> None:
        if turn == self._turn:
            self.go_on()


class Requests:
    """The ways to the nodes of all partitions."""

    def __init__(self, world: "RingWorld", name: str) -> None:
        self._world = world
        self.random = random.Random(f"{world.seed}:{name}")

    def status(self, partition: int, node: int) -> Request:
        """What a node says of its partition."""
        return self._ask(partition, node, _tell)

    def change_ring(self, partition: int, node: int, change: RingChange, keys: bytes = b"") -> Request:
        """Let its log say this."""

        def ask(host: Host, settle: Settle) -> None:
            if not host.propose(lambda token: ProposeRing(token, change, keys), settle):
                settle(None)

        said = self._ask(partition, node, ask)

        def begin(settle: Settle) -> None:
            said(settle)
            if self.random.random() < REPEATED and not self._world.is_calm:
                self._world.counts["net.mover repeats"] += 1
                after_ns = between(self.random, REPEATED_NS)
                again = self._ask(partition, self.random.randint(1, 3), ask)
                self._world.schedule.after(after_ns, again, lambda answer: None)

        return begin

    def moving_keys(self, partition: int, node: int, from_offset: int, partitions: int, to: int) -> Request:
        """As `AdminService.moving_keys`."""

        def ask(host: Host, settle: Settle) -> None:
            process = host.process
            assert process is not None
            keys = process.machine.keys
            ring = ring_of(FIRST_VERSION, partitions)
            moving, end = KeyRange.of(keys.window, from_offset).moving(ring, to)
            settle(Found(end, keys.first_offset, moving))

        return self._ask(partition, node, ask)

    def leaders(self, partitions: int) -> Generator[list[Request], list[Answer], dict[int, int]]:
        """A node of each partition that says it leads; raises `StepFailed` where there is none."""
        nodes = [(partition, node) for partition in range(partitions) for node in (1, 2, 3)]
        self.random.shuffle(nodes)
        told = yield [self.status(*each) for each in nodes]
        leading = {
            each[0]: each[1]
            for each, said in zip(nodes, told, strict=True)
            if isinstance(said, Told) and said.leads
        }
        if len(leading) < partitions:
            raise StepFailed
        return leading

    def _ask(self, partition: int, node: int, what: Callable[[Host, Settle], None]) -> Request:
        host = self._world.groups[partition].hosts[node]

        def begin(settle: Settle) -> None:
            self._travel(self._arrive, host, partial(_asked, what, partial(self._travel, settle)), settle)

        return begin

    def _arrive(self, host: Host, what: Callable[[Host], None], settle: Settle) -> None:
        if not host.ask(what):
            settle(None)

    def _travel(self, call: Callable[..., None], *arguments: object) -> None:
        world, calm = self._world, self._world.is_calm
        if not calm and self.random.random() < world.groups[0].weather.load.loses:
            world.counts["net.mover lost"] += 1
            return
        late = not calm and self.random.random() < LATE
        world.schedule.after(between(self.random, LATE_NS if late else TRAVEL_NS), call, *arguments)


class Movers:
    """Sees to it that each node which leads partition 0 carries out the plan."""

    def __init__(self, world: "RingWorld") -> None:
        self._world = world
        self._running: dict[int, int] = {}
        """By node, the life in which its mover is at work."""
        self._requests = Requests(world, "mover")

    def look(self) -> None:
        """As `RingMover.run`, on all nodes of partition 0."""
        self._world.schedule.after(LOOK_NS, self.look)
        for host in self._world.groups[0].hosts.values():
            process = host.process
            if process is None or host.paused or self._running.get(host.id) == host.life:
                continue
            plan = process.view.ownership.plan
            if process.view.leads and plan is not None and not plan.ended:
                self._begin(host, plan)

    def _begin(self, host: Host, plan: RingPlan) -> None:
        life = self._running[host.id] = host.life
        self._world.counts["ring.mover begins"] += 1

        def let_in(call: Callable[[], None]) -> None:
            if host.life != life or not host.up:
                return
            if host.paused:
                host.defer(partial(let_in, call))
            else:
                call()

        def over(_: Answer) -> None:
            self._world.schedule.after(between(self._requests.random, RETRY_NS), self._rest_over, host, life)

        Errand(self._world, self._carry_out(host, plan), let_in, over).go_on()

    def _rest_over(self, host: Host, life: int) -> None:
        if self._running.get(host.id) == life:
            del self._running[host.id]

    def _carry_out(self, host: Host, plan: RingPlan) -> Script:
        ask = self._requests
        leaders = yield from ask.leaders(max(plan.old_partitions, plan.partitions))
        yield from _say(ask.change_ring(0, leaders[0], plan))
        while host.process is not None and host.process.view.leads:
            told = yield [ask.status(*leader) for leader in leaders.items()]
            standings = {}
            for number, said in zip(leaders, told, strict=True):
                standings[number] = _standing(said, plan)
            steps = next_steps(plan, standings)
            if steps == [End()]:
                yield from _say(ask.change_ring(0, leaders[0], replace(plan, ended=True)))
                return
            for step in steps:
                if isinstance(step, Switch):
                    switch = RingSwitch(plan.version, plan.partitions)
                    yield from _say(ask.change_ring(step.partition, leaders[step.partition], switch))
                elif isinstance(step, Copy):
                    yield from self._copy(plan, step, leaders, standings[step.old_owner].next_offset)

    def _copy(self, plan: RingPlan, step: Copy, leaders: dict[int, int], goal: int) -> Script:
        ask, offset = self._requests, step.from_offset
        old, new = step.old_owner, step.new_owner
        while True:
            (found,) = yield [ask.moving_keys(old, leaders[old], offset, plan.partitions, new)]
            if not isinstance(found, Found):
                raise StepFailed
            adoption = Adoption(plan.version, old, offset, found.end_offset, found.floor)
            yield from _say(ask.change_ring(new, leaders[new], adoption, found.keys))
            offset = found.end_offset
            if offset >= goal:
                return


class Operator:
    """Wants the ring to change, and sees to it that the plan is there."""

    def __init__(self, world: "RingWorld", changes: Sequence[Change]) -> None:
        self._world = world
        self._wanted = list(changes)
        self._requests = Requests(world, "operator")

    @property
    def is_over(self) -> bool:
        """Whether all plans that it wants were made."""
        return not self._wanted

    def go_on(self) -> None:
        """See to the next change, when it is time."""
        if self._wanted:
            wait_ns = max(0, self._wanted[0].at_ns - self._world.schedule.now_ns)
            self._world.schedule.after(wait_ns or between(self._requests.random, RETRY_NS), self._begin)

    def _begin(self) -> None:
        Errand(self._world, self._plan(self._wanted[0]), _now, lambda _: self.go_on()).go_on()

    def _plan(self, change: Change) -> Script:
        ask = self._requests
        leaders = yield from ask.leaders(1)
        (told,) = yield [ask.status(0, leaders[0])]
        if not isinstance(told, Told):
            raise StepFailed
        before = told.ownership.plan or RingPlan(FIRST_VERSION, 1, 1, ended=True)
        if before.partitions == change.partitions:  # it was made, and the answer was lost
            self._wanted.pop(0)
            return
        if before.ended or ask.random.random() < HASTY:
            plan = RingPlan(before.version + 1, before.partitions, change.partitions)
            yield from _say(ask.change_ring(0, leaders[0], plan))
            self._wanted.pop(0)


def _say(request: Request) -> Script:
    (answer,) = yield [request]
    if not isinstance(answer, Decision) or answer.refusal is not None:
        raise StepFailed


def _asked(what: Callable[[Host, Settle], None], settle: Settle, host: Host) -> None:
    what(host, settle)


def _tell(host: Host, settle: Settle) -> None:
    process = host.process
    assert process is not None
    view = process.view
    settle(Told(view.leads, process.machine.ring.now, process.machine.next_offset))


def _standing(told: Answer, plan: RingPlan) -> Standing:
    if not isinstance(told, Told):
        raise StepFailed
    now = told.ownership
    adopting = now.adopting if now.adopting_for == plan.version else ()
    up_to = {one.old_owner: one.end_offset for one in adopting}
    return Standing(now.version, now.since_offset, told.next_offset, up_to)


def _now(call: Callable[[], None]) -> None:
    call()
