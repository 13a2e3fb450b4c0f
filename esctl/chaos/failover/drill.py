"""Strikes the leader under load, checks that it was hit, and brings it back, a given number of times.

Decides when the next strike may come: all nodes answer, know the same leader, are connected and level, and
so is the client. Between a strike and the next ack no node is asked anything: that would be a load too.
What was struck is brought back whatever happens, Ctrl-C included; what could not be is in `left_out`.
Never prints. Called by `esctl bench failover` and the torture tests.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

import trio

from esctl.chaos.failover.election import MeasuredElection, Phases, election_in, phases_of, terms_led
from esctl.chaos.failover.kinds import StrikeKind
from esctl.chaos.failover.subject import CUT_LEASE_S, Status, Subject
from esctl.chaos.steadyload import SteadyLoad, first_ack_s, longest_gap_s, longest_gap_within_s
from esctl.clusters.backends.interface import RunState
from esctl.errors import Inconclusive, NodeNotRunning
from esnode.errors import EventStreamError

CALM_S: Final = 0.5
"""Under load and untouched: before each strike, to compare with; after each, to see that acks flow again."""
CALM_TRIES: Final = 20
SERVE_TIMEOUT_S: Final = 30.0
"""A cluster that acks nothing for so long after a strike never does."""
LEVEL_TIMEOUT_S: Final = 120.0
START_TIMEOUT_S: Final = 60.0
CLEAN_UP_TIMEOUT_S: Final = 4.0
"""After Ctrl-C: less than what the frame allows."""
ROUND_S: Final = 0.05


@dataclass(slots=True)
class Strike:
    """One strike as it went. Times on trio's clock; `epoch_s` is `at_s` on the wall clock."""

    node: int
    term: int
    at_s: float = 0.0
    epoch_s: float = 0.0
    missed: str = ""
    """Why it is not certain that it hit; empty when it is."""
    election: MeasuredElection | None = None
    phases: Phases | None = None
    calm_ms: float | None = None
    """The longest time between two acks before the strike."""
    never_s: float | None = None
    """For how long nothing was acked, where that ended only because the node was brought back. A lower bound,
    and so are the next two then."""
    unavailable_ms: float | None = None
    """The longest time between two acks from the strike until the node was brought back."""
    next_ack_ms: float | None = None
    """From the strike to the first ack of the new leader."""
    leaderless_ms: float | None = None
    return_ms: float | None = None
    """The longest time between two acks from bringing the node back until it was level."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who leads, when all nodes agree."""

    leader: int
    term: int
    next_offset: int
    """What the leader had applied."""


@dataclass(slots=True)
class Drill:
    """`connections` says which nodes the client under load is connected to."""

    subject: Subject
    load: SteadyLoad
    kind: StrikeKind
    times: int
    connections: Callable[[], Mapping[str, bool]]
    tell: Callable[[Strike], None] = lambda _strike: None
    clock: Callable[[], float] = time.time
    """The wall clock, which the nodes' logs go by."""
    strikes: list[Strike] = field(default_factory=list)
    """Those that are over."""
    struck: int | None = None
    """The node that is down or paused by this drill now."""
    rescued: int | None = None
    """The node that was brought back because the drill ended before its time."""
    left_out: str = ""
    """Which node was struck and could not be brought back, and why."""

    async def run(self) -> None:
        """All of it. Raises what the backend raises; `Inconclusive`, `NodeNotRunning` if it cannot go on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.load.run)
            for _ in range(self.times):
                await self._strike()
            self.load.end()

    # --- one strike --------------------------------------------------------------------------------

    async def _strike(self) -> None:
        standing, calm_s = await self._calm()
        strike = Strike(standing.leader, standing.term)
        try:
            served = await self._hit(strike)
            strike.missed = strike.missed or await self._why_missed(standing.leader)
            back_s = trio.current_time()
            if self.struck is not None:
                await self._bring_back(self.struck, START_TIMEOUT_S)
        finally:
            await self._clean_up()
        if not served:
            strike.never_s = SERVE_TIMEOUT_S
            strike.unavailable_ms = strike.next_ack_ms = _ms(SERVE_TIMEOUT_S)
            strike.calm_ms = _ms(longest_gap_within_s(self.load.acks_s, calm_s, strike.at_s))
            self._over(strike)  # whether it goes on now or not
        after = await self._level()
        level_s = trio.current_time()
        await self._served(level_s)
        if not served:
            return
        if after.term == standing.term:
            strike.missed = strike.missed or f"node {standing.leader} led on in term {standing.term}"
        self._measure(strike, calm_s, back_s, level_s)
        self._over(strike)

    def _over(self, strike: Strike) -> None:
        self.strikes.append(strike)
        self.tell(strike)

    async def _hit(self, strike: Strike) -> bool:
        """Strike, and wait until acks flow again; tells whether they do."""

        def mark() -> None:
            if self.kind is not StrikeKind.TRANSFER:
                self.struck = strike.node
            strike.at_s, strike.epoch_s = trio.current_time(), self.clock()

        with trio.move_on_after(SERVE_TIMEOUT_S) as patience:
            try:
                match self.kind:
                    case StrikeKind.KILL:
                        await self.subject.kill(strike.node, mark)
                    case StrikeKind.PAUSE:
                        await self.subject.pause(strike.node, mark)
                    case StrikeKind.PARTITION:
                        await self.subject.cut(strike.node, mark)
                    case StrikeKind.TRANSFER:
                        await self.subject.transfer(strike.node, mark)
                    case _:
                        assert_never(self.kind)
            except EventStreamError as error:
                strike.missed = str(error)
            await self.load.wait_answered(trio.current_time())
        if patience.cancelled_caught:
            return False
        await trio.sleep(CALM_S)  # what is measured is this time
        return True

    async def _why_missed(self, number: int) -> str:
        """Is the node what it should be by now, as the operating system sees it? Was it cut off?"""
        if self.kind is StrikeKind.TRANSFER:
            return ""
        if self.kind is StrikeKind.PARTITION:
            return "" if await self.subject.cut_hits(number) else "the cut has stopped no message"
        wanted = RunState.DOWN if self.kind is StrikeKind.KILL else RunState.PAUSED
        found = await self.subject.state(number)
        return "" if found is wanted else f"node {number} was {found}, not {wanted}"

    async def _bring_back(self, number: int, timeout_s: float) -> None:
        if self.kind is StrikeKind.PAUSE:
            self.subject.resume(number)
        elif self.kind is StrikeKind.PARTITION:
            await self.subject.mend(number)
        else:
            await self.subject.start(number, timeout_s)
        self.struck = None

    async def _clean_up(self) -> None:
        """Bring back what is still out: something has gone wrong, or somebody has pressed Ctrl-C."""
        if self.struck is None:
            return
        number, why = self.struck, "no time was left"
        is_back = False
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEAN_UP_TIMEOUT_S):
            try:
                await self._bring_back(number, CLEAN_UP_TIMEOUT_S)
                is_back = True
            except EventStreamError as error:
                why = str(error)
            if not is_back and self.kind is not StrikeKind.PARTITION:
                state = await self.subject.state(number)
                is_back, why = state is RunState.RUNNING, f"node {number} is {state}: {why}"
        if is_back:
            self.rescued = number
        elif self.kind is StrikeKind.PARTITION:
            self.left_out = f"node {number} is cut off for {CUT_LEASE_S:g} s at most: {why}"
        else:
            self.left_out = why

    # --- the time between strikes ------------------------------------------------------------------

    async def _calm(self) -> tuple[Standing, float]:
        """Wait for a cluster that is level and stays so for a while; since when it is."""
        for _ in range(CALM_TRIES):
            standing = await self._level()
            await self._served(trio.current_time())
            since_s = trio.current_time()
            list(self.subject.new_lines())
            await trio.sleep(CALM_S)  # what is measured is this time
            if not terms_led(self.subject.new_lines()):
                return standing, since_s
        raise Inconclusive("the leader changes although nobody strikes it", next_step="esctl logs")

    async def _served(self, since_s: float) -> None:
        """Wait until a batch is acked that was sent after `since_s`."""
        with trio.move_on_after(SERVE_TIMEOUT_S) as patience:
            await self.load.wait_answered(since_s)
        if patience.cancelled_caught:
            raise Inconclusive(
                f"all nodes answer, and nothing was acked for {SERVE_TIMEOUT_S:g} s",
                next_step="esctl status health",
            )

    async def _level(self) -> Standing:
        """Wait until every node has what the leader has applied by now, and is connected with all others."""
        why = ""
        with trio.move_on_after(LEVEL_TIMEOUT_S):
            target: Standing | None = None
            while True:
                statuses = await self.subject.statuses()
                found = standing_of(statuses)
                if isinstance(found, str):
                    why, target = found, None
                    await self._check_processes()
                elif target is None or target.term != found.term:
                    target = found
                else:
                    why = self._why_not_level(statuses, target)
                    if not why:
                        return found
                await trio.sleep(ROUND_S)  # a status is an answer, nothing that one could wait for
        raise Inconclusive(
            f"not all nodes are level after {LEVEL_TIMEOUT_S:g} s: {why}", next_step="esctl status"
        )

    def _why_not_level(self, statuses: Mapping[int, Status | None], target: Standing) -> str:
        for number, status in statuses.items():
            if status is not None and int(status["next_offset"]) < target.next_offset:
                return f"node {number} is behind"
        unreached = [address for address, connected in self.connections().items() if not connected]
        return f"the client has no connection to {unreached[0]}" if unreached else ""

    async def _check_processes(self) -> None:
        for number in self.subject.numbers:
            if await self.subject.state(number) is RunState.DOWN:
                raise NodeNotRunning(
                    f"node {number} has ended by itself", next_step=f"esctl logs --node {number}"
                )

    # --- what it came to ---------------------------------------------------------------------------

    def _measure(self, strike: Strike, calm_s: float, back_s: float, level_s: float) -> None:
        acks_s = self.load.acks_s
        strike.calm_ms = _ms(longest_gap_within_s(acks_s, calm_s, strike.at_s))
        strike.unavailable_ms = _ms(longest_gap_s(acks_s, strike.at_s, back_s))
        if self.kind is not StrikeKind.TRANSFER:
            strike.return_ms = _ms(longest_gap_s(acks_s, back_s, level_s))
        election = election_in(self.subject.new_lines(), strike.node, strike.term, strike.epoch_s)
        if election is None:
            return
        strike.election = election
        to_epoch_s = strike.epoch_s - strike.at_s
        acked_s = first_ack_s(acks_s, election.committed_s - to_epoch_s)
        if acked_s is not None:
            strike.next_ack_ms = _ms(acked_s - strike.at_s)
            strike.phases = phases_of(election, strike.epoch_s, acked_s + to_epoch_s)
        gone_s = strike.epoch_s if self.kind is not StrikeKind.TRANSFER else election.stepped_down_s
        if gone_s is not None:  # an old leader may hear of it after the new one was elected without it
            strike.leaderless_ms = _ms(max(0.0, election.elected_s - gone_s))


def standing_of(statuses: Mapping[int, Status | None]) -> Standing | str:
    """Who leads, as all nodes see it; or why that cannot be said."""
    known: dict[int, Status] = {}
    for number, status in statuses.items():
        if status is None:
            return f"node {number} does not answer"
        if status.get("rejoining"):
            return f"node {number} is fetching its log from the others"
        known[number] = status
    views = {(status["leader"], status["term"]) for status in known.values()}
    if len(views) != 1 or (leader := next(iter(views))[0]) not in known:
        return "the nodes do not agree on a leader"
    for number, status in known.items():
        unreached = _unconnected(status["peers"])
        if unreached:
            return f"node {number} has no connection to node {unreached[0]}"
    return Standing(int(leader), int(known[leader]["term"]), int(known[leader]["next_offset"]))


def _unconnected(peers: Mapping[str, Mapping[str, object]]) -> Sequence[str]:
    return [peer for peer, link in peers.items() if not link["connected"]]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
