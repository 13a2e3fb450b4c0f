"""One core whose peers are scripted by the test: what it is told, and what it says to it.

Used by tests that look at a single node closely. It persists only when asked.
"""

from collections.abc import Sequence

from esnode.config import Dedup
from esnode.raft.core import Core
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.log import Position, RaftLog, TermRun
from esnode.raft.messages import (
    AppendReply,
    HardState,
    Input,
    PeerConnected,
    PeerMessage,
    Persisted,
    Ready,
    Received,
    Role,
    Tick,
    VoteReply,
)

from .machine import DEFAULT, Machine, batch_of
from .network import TIMERS, Steady


def noop(index: int, term: int) -> Entry:
    """An entry without events; equal index and term give equal bytes."""
    return seal(index=index, term=term, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0)


def events(index: int, term: int, base_offset: int, *names: str) -> Entry:
    """An entry of the events `names`."""
    batch = batch_of(*names)
    return seal(
        index=index,
        term=term,
        kind=EntryKind.BATCH,
        base_offset=base_offset,
        log_time_ms=0,
        count=batch.count,
        keys=batch.keys,
        payload=batch.payload,
    )


def entries_of(terms: Sequence[int]) -> tuple[Entry, ...]:
    """A log whose entry i is of the i-th of `terms`."""
    return tuple(noop(index, term) for index, term in enumerate(terms, start=1))


def log_of(entries: Sequence[Entry], applied: int = 0, cache_bytes: int = 1 << 20) -> RaftLog:
    """A log found on disk."""
    runs: list[TermRun] = []
    for entry in entries:
        if not runs or runs[-1].term != entry.term:
            runs.append(TermRun(entry.index, entry.term))
    position = Position(entries[applied - 1].next_offset, 0) if applied else None
    return RaftLog(
        terms=runs, applied=applied, position=position, tail=entries[applied:], cache_bytes=cache_bytes
    )


def terms_in(log: RaftLog) -> list[int | None]:
    """The terms of all entries after the prefix."""
    return [log.term_at(index) for index in range(log.prefix_index + 1, log.last_index + 1)]


class Solo:
    """Node 1 of some voters."""

    def __init__(
        self,
        terms: Sequence[int] = (),
        *,
        log: RaftLog | None = None,
        term: int | None = None,
        vote: int | None = None,
        voters: int = 3,
        rejoining: bool = False,
        welcomed: bool = True,
        dedup: Dedup = DEFAULT,
    ) -> None:
        term = max(terms, default=0) if term is None else term
        self.machine = Machine(dedup)
        log = log_of(entries_of(terms)) if log is None else log
        self.core = Core(
            1,
            range(1, voters + 1),
            hard_state=HardState(term, vote),
            log=log,
            admission=self.machine.admission,
            timers=TIMERS,
            random=Steady(1),
            rejoining=rejoining,
        )
        self._written = 0
        if welcomed and not rejoining:  # one that rejoins asks with each connection
            for peer in self.core.peers:
                self.core.step(PeerConnected(peer))

    def step(self, *items: Input) -> Ready:
        """Step all, and take what follows; entries are applied."""
        for item in items:
            self.core.step(item)
        ready = self.core.ready()
        if ready.write is not None:
            self._written = ready.write.write_id
        for entry in ready.committed:
            self.machine.apply(entry)
        if ready.committed:
            self.core.applied_to(ready.committed[-1].index)
        return ready

    def receive(self, sender: int, message: PeerMessage) -> Ready:
        return self.step(Received(sender, message))

    def replies(self, sender: int, message: PeerMessage) -> list[PeerMessage]:
        """What is said to `sender`, at once or after the disk, on its message."""
        ready = self.receive(sender, message)
        return [out.message for out in (*ready.messages, *ready.messages_after) if out.to == sender]

    def persist(self) -> Ready:
        """All that was handed out to be written is durable."""
        return self.step(Persisted(self._written))

    def time_out(self) -> Ready:
        """Silence, until the node asks for pre-votes."""
        while True:
            ready = self.step(Tick(10))
            if self.core.role is Role.PRE_CANDIDATE:
                return ready

    def time_out_alone(self) -> None:
        """Silence, until a single voter has elected itself."""
        while self.core.role is not Role.LEADER:
            self.step(Tick(10))
            self.persist()

    def _say_all(self, message: PeerMessage) -> Ready:
        """As many voters as make a majority with this node say the same; returns the last Ready."""
        for voter in range(2, 1 + len(self.core.voters) // 2):
            self.receive(voter, message)
        return self.receive(1 + len(self.core.voters) // 2, message)

    def campaign(self) -> Ready:
        """To a candidate whose own vote is durable; returns the Ready of the candidacy."""
        self.time_out()
        asked = self._say_all(VoteReply(self.core.term + 1, granted=True, pre=True))
        assert self.core.role is Role.CANDIDATE
        self.persist()
        return asked

    def lead(self) -> Ready:
        """To a leader whose no-op is out, not durable; returns the Ready of the first moment."""
        self.campaign()
        first = self._say_all(VoteReply(self.core.term, granted=True, pre=False))
        assert self.core.role is Role.LEADER
        return first

    def lead_with_commit(self) -> Ready:
        """To a leader whose no-op is committed."""
        self.lead()
        self.persist()
        ready = self._say_all(AppendReply(self.core.term, self.core.log.last_index))
        assert self.core.log.committed == self.core.log.last_index
        return ready
