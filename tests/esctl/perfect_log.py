"""A log that keeps every promise, with clients that fail in every way that clients may.

Says what happened to an `Operations`, as a recorder beside the clients would. What happens is a list of
steps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from esctl.verify.operations import Operations
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange

Step = tuple[str, int, int]
"""What, who, and a number that means what the step wants it to mean."""
STEPS = [
    *["send", "send again"] * 2, *["take"] * 5, *["answer"] * 4, "give up", "refuse",
    "forget", *["read"] * 2, "stale read", "follow", *["tick"] * 2,
]  # fmt: skip
CLIENTS = 4


@dataclass
class Attempt:
    """One attempt, as the log sees it."""

    number: int
    events: list[int]
    known: int = 0
    offsets: list[int] = field(default_factory=list)
    """Once the log has taken it."""


@dataclass
class PerfectLog:
    """The log, its clients, and their recorder."""

    operations: Operations = field(default_factory=Operations)
    log: list[int] = field(default_factory=list)
    """The number of the event at each offset."""
    floors: list[int] = field(default_factory=list)
    """For each offset: events before this one had been forgotten when it was appended."""
    floor: int = 0
    clock: int = 0
    made: int = 0
    """Events so far, numbered from 1 on."""
    pending: dict[int, Attempt] = field(default_factory=dict)
    """By client."""
    adrift: list[Attempt] = field(default_factory=list)
    """Given up by their clients, and still on their way."""
    batches: list[list[int]] = field(default_factory=list)
    acked: dict[int, int] = field(default_factory=dict)
    """Where each event was acked first."""
    without_offset: int = 0
    """Acks that said that all is known, and nobody remembers where."""
    late: int = 0
    """Attempts that were taken after their client had given up."""
    reads: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By client: a read under way, and the end of the log when it began."""
    followers: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By client: a subscription, and its position."""

    def run(self, steps: Iterable[Step]) -> None:
        for what, who, number in steps:
            getattr(self, what.replace(" ", "_"))(who % CLIENTS, number)

    def may_repeat(self, earlier: int, later: int) -> bool:
        return earlier < (self.floors[later] if later < len(self.floors) else self.floor)

    def keys(self, start: int = 0, end: int | None = None) -> bytes:
        return packed(self.log[start:end])

    # --- what clients do -------------------------------------------------------------------------

    def send(self, who: int, number: int) -> None:
        if who not in self.pending:
            first = self.made + 1
            self.made += 1 + number % 3
            self.batches.append(list(range(first, self.made + 1)))
            self._leaves(who, self.batches[-1])

    def send_again(self, who: int, number: int) -> None:
        """Old events and a new one, in one batch."""
        if who not in self.pending and self.batches:
            events = list(self.batches[number % len(self.batches)])
            if number % 2:
                self.made += 1
                events.append(self.made)
            self._leaves(who, events)

    def _leaves(self, who: int, events: list[int]) -> None:
        self.pending[who] = Attempt(self.operations.append_begins(packed(events), self.clock), events)

    def take(self, who: int, number: int) -> None:
        """An attempt reaches the log, now or long after its client has given it up."""
        if number % 3 == 0 and self.adrift:
            self._take(self.adrift.pop(number % len(self.adrift)))
            self.late += 1
        elif waiting := [attempt for attempt in self.pending.values() if not attempt.offsets]:
            self._take(waiting[who % len(waiting)])

    def _take(self, attempt: Attempt) -> None:
        known = {event: at for at, event in enumerate(self.log) if at >= self.floor}
        for event in attempt.events:
            if event in known:
                attempt.known += 1
            else:
                known[event] = len(self.log)
                self.log.append(event)
                self.floors.append(self.floor)
            attempt.offsets.append(known[event])

    def answer(self, who: int, number: int) -> None:
        """An attempt that was taken is acked."""
        taken = [client for client, attempt in self.pending.items() if attempt.offsets]
        if not taken:
            return
        attempt = self.pending.pop(taken[who % len(taken)])
        count = len(attempt.events)
        duplicates = attempt.known if number % 4 else None
        if attempt.known == count and number % 2:  # a producer session may have forgotten the places
            ranges = [OffsetRange(UNKNOWN_OFFSET, count)]
        else:
            ranges = [OffsetRange(offset, 1) for offset in attempt.offsets]
            for event, offset in zip(attempt.events, attempt.offsets, strict=True):
                self.acked.setdefault(event, offset)
        self.without_offset += ranges[0].base_offset == UNKNOWN_OFFSET
        self.operations.acked(attempt.number, ranges, self.clock, duplicates)

    def give_up(self, who: int, _number: int) -> None:
        """The answer is lost, or the request is, or it is only late."""
        if who in self.pending:
            attempt = self.pending.pop(who)
            if not attempt.offsets:
                self.adrift.append(attempt)

    def refuse(self, who: int, _number: int) -> None:
        if who in self.pending and not self.pending[who].offsets:
            self.operations.refused(self.pending.pop(who).number)

    def forget(self, _who: int, number: int) -> None:
        """The window moves on."""
        self.floor = min(len(self.log), self.floor + number // 4)

    # --- what readers do -------------------------------------------------------------------------

    def read(self, who: int, number: int) -> None:
        """Begin a linearizable read, or end it with what was there at its first or at its last moment."""
        if who not in self.reads:
            self.reads[who] = (self.operations.read_begins(self.clock), len(self.log))
            return
        read, before = self.reads.pop(who)
        end = len(self.log) if number % 2 else before
        start = min(number, end)
        self.operations.read_ends(read, end, self.clock, start, self.keys(start, end))

    def stale_read(self, _who: int, number: int) -> None:
        end = min(number, len(self.log))
        start = number % (end + 1)
        read = self.operations.read_begins(self.clock, linearizable=False)
        self.operations.read_ends(read, end, self.clock, start, self.keys(start, end))

    def follow(self, who: int, number: int) -> None:
        if who not in self.followers:
            start = min(number, len(self.log))
            self.followers[who] = (self.operations.subscription_begins(start), start)
        subscription, position = self.followers[who]
        end = min(len(self.log), position + number)
        self.operations.subscription_saw(subscription, position, self.keys(position, end), self.clock)
        self.followers[who] = (subscription, end)

    def tick(self, _who: int, number: int) -> None:
        """Time passes; all that happens between two ticks happens at the same time."""
        self.clock += number


def packed(events: Iterable[int]) -> bytes:
    return b"".join(event.to_bytes(16, "big") for event in events)
