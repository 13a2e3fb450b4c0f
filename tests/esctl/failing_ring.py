"""Three nodes in memory that lose their leader as they are told to: what `esctl bench failover` is tested on.

The clock is trio's, for the nodes' logs too. Nothing is replicated: there is one log, which answers while
somebody leads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from esctl.chaos.failover.subject import Mark
from esctl.clusters.backends.interface import RunState
from esctl.clusters.nodelog import LogLine
from esctl.errors import NodeFailedToStart
from esnode.client import BatchAck
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import EventStreamError, Unreachable

ACK_S = 0.001


@dataclass
class Ring:
    """A `Subject`, and the log of its clients."""

    nursery: trio.Nursery
    leader: int | None = 1
    term: int = 1
    stands_s: float = 0.010
    """From the strike until a survivor stands; then until it leads; then until it commits."""
    wins_s: float = 0.005
    commits_s: float = 0.004
    elects: bool = True
    """Whether a leader that is struck is replaced at all."""
    kills: bool = True
    stops: bool = True
    starts: bool = True
    cuts: bool = True
    mends: bool = True
    refuses: EventStreamError | None = None
    """What a transfer is answered with."""
    silent: set[int] = field(default_factory=set)
    """Nodes that do not answer."""
    states: dict[int, RunState] = field(default_factory=lambda: dict.fromkeys((1, 2, 3), RunState.RUNNING))
    next_offset: int = 0
    struck: trio.Event = field(default_factory=trio.Event)
    """A node is down or paused."""
    done: list[str] = field(default_factory=list)
    """What was done to nodes, in order."""
    _lines: list[LogLine] = field(default_factory=list)
    _led: trio.Event = field(default_factory=trio.Event)

    # --- the log of the clients --------------------------------------------------------------------

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> BatchAck:
        while self.leader is None:
            await self._led.wait()
        await trio.sleep(ACK_S)
        while self.leader is None:  # what was on its way is acked by the next leader
            await self._led.wait()
        first, self.next_offset = self.next_offset, self.next_offset + batch.count
        return BatchAck((OffsetRange(first, batch.count),), 0, False)

    # --- the subject -------------------------------------------------------------------------------

    @property
    def numbers(self) -> Sequence[int]:
        return (1, 2, 3)

    async def statuses(self) -> Mapping[int, Mapping[str, Any] | None]:
        await trio.lowlevel.checkpoint()
        return {number: self._status(number) for number in self.numbers}

    def _status(self, number: int) -> Mapping[str, Any] | None:
        if number in self.silent or self.states[number] is not RunState.RUNNING:
            return None
        peers = {str(peer): {"connected": True} for peer in self.numbers if peer != number}
        return {
            "leader": self.leader,
            "term": self.term,
            "next_offset": self.next_offset,
            "rejoining": False,
            "peers": peers,
        }

    async def state(self, number: int) -> RunState:
        return self.states[number]

    def new_lines(self) -> Iterator[LogLine]:
        lines, self._lines = self._lines, []
        return iter(lines)

    async def kill(self, number: int, mark: Mark) -> None:
        mark()
        self.done.append(f"kill {number}")
        if self.kills:
            self._strike(number, RunState.DOWN)
        await trio.sleep(0.002)

    async def pause(self, number: int, mark: Mark) -> None:
        mark()
        self.done.append(f"pause {number}")
        self._strike(number, RunState.PAUSED if self.stops else RunState.RUNNING)
        await trio.lowlevel.checkpoint()

    async def cut(self, number: int, mark: Mark) -> None:
        mark()
        self.done.append(f"cut {number}")
        self._strike(number, RunState.RUNNING)
        await trio.lowlevel.checkpoint()

    async def cut_hits(self, number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 3 if self.cuts else 0

    async def mend(self, number: int) -> None:
        await trio.lowlevel.checkpoint()
        if not self.mends:
            raise Unreachable(f"node {number} does not answer")
        self.done.append(f"mend {number}")

    async def transfer(self, number: int, mark: Mark) -> None:
        await trio.sleep(0.003)
        mark()
        self.done.append(f"transfer {number}")
        if self.refuses is not None:
            raise self.refuses
        self.leader = None
        await self.elect(number % 3 + 1, old=number)

    def resume(self, number: int) -> None:
        self.done.append(f"resume {number}")
        self.states[number] = RunState.RUNNING

    async def start(self, number: int, timeout_s: float) -> None:
        self.done.append(f"start {number}")
        await trio.sleep(0.3)
        if not self.starts:
            raise NodeFailedToStart(f"node {number} ended with exit code 1")
        self.states[number] = RunState.RUNNING

    # --- what happens then -------------------------------------------------------------------------

    def _strike(self, number: int, state: RunState) -> None:
        self.states[number], self.leader = state, None
        self.struck.set()
        if self.elects:
            self.nursery.start_soon(self.elect, number % 3 + 1)

    async def elect(self, new: int, old: int | None = None) -> None:
        """Let `new` lead, as fast as it is told to; `old` steps down when it hears of it."""
        await trio.sleep(self.stands_s)
        self.tell(new, "state_changed", role="pre-candidate", new_term=self.term, leader=None)
        self.term += 1
        if old is not None:
            self.tell(old, "state_changed", role="follower", new_term=self.term, leader=None)
        await trio.sleep(self.wins_s)
        self.tell(new, "state_changed", role="leader", new_term=self.term, leader=new)
        await trio.sleep(self.commits_s)
        self.tell(new, "first_commit", new_term=self.term)
        self.leader = new
        self._led.set()
        self._led = trio.Event()

    def tell(self, node: int, event: str, **fields: Any) -> None:
        """A line in the log of a node."""
        time = datetime.fromtimestamp(trio.current_time(), UTC).isoformat(timespec="microseconds")
        self._lines.append(LogLine(time, node, "info", event, {"event": event, **fields}))
