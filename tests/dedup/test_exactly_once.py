"""Whatever is sent, in whatever order and overlap, over whatever leaders: in the log once.

A state machine plays clients, leaders and losses, and after each step compares the log with what it
should be, found by looking through all of it. Hypothesis plays it in many short games, and finds the
shortest that fails; long random games reach what short ones do not.
"""

from collections.abc import Callable
from functools import lru_cache
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from esnode.config import Dedup
from esnode.dedup.admission import Admitted
from esnode.dedup.batch import UNKNOWN_OFFSET, ProducerStamp
from esnode.dedup.producers import Opened
from esnode.raft.messages import Snapshot
from esnode.refusal import Refusal

from .events import numbers_of, offsets_of
from .leader import Leader

OWN_EVENTS = 10_000
"""Event `p * OWN_EVENTS + n` is the one that session `p` sends under its number `n`."""
SHARED_EVENTS = 60
WINDOWS = [
    Dedup.of_keys(10**6, ttl_ms=10**9),
    Dedup.of_keys(10**6, ttl_ms=256),
    Dedup.of_keys(1500, ttl_ms=10**9, when_full="shrink"),
    Dedup.of_keys(1500, ttl_ms=256, when_full="refuse"),
    Dedup.of_keys(10**6, ttl_ms=0),
    Dedup.of_keys(1500, ttl_ms=0),
]


class Clients(RuleBasedStateMachine):
    """Clients that send again what they sent, leaders that come and go."""

    leader: Leader
    snapshot: Snapshot | None

    @initialize(dedup=st.sampled_from(WINDOWS))
    def start(self, dedup: Dedup) -> None:
        self.leader = Leader(dedup)
        self.snapshot = None
        self.producers: dict[int, int] = {}
        """The ids of sessions, and their epochs."""

    # --- what clients do -----------------------------------------------------------------------

    @rule(numbers=st.lists(st.integers(0, SHARED_EVENTS), min_size=1, max_size=12))
    def send_anything(self, numbers: list[int]) -> None:
        self.send(numbers, None)

    @rule(start=st.integers(0, 9_000), count=st.sampled_from([64, 500, 1024]))
    def send_many(self, start: int, count: int) -> None:
        self.send(list(range(start, start + count)), None)

    @rule()
    def open_producer(self) -> None:
        self.producers[self.leader.open_producer()] = 1

    @rule(which=st.integers(0, 3))
    def go_on_with_session(self, which: int) -> None:
        if not self.producers:
            return
        producer_id = self.which(which)
        opened = self.leader.open("", producer_id)
        assert isinstance(opened, Opened)
        assert (opened.opening.producer_id, opened.opening.epoch) == (
            producer_id,
            self.producers[producer_id] + 1,
        )
        assert opened.opening.next_sequence == self.next_sequence(producer_id)
        self.producers[producer_id] += 1

    @rule(which=st.integers(0, 3), behind=st.integers(-1, 8), count=st.integers(1, 6))
    def send_in_session(self, which: int, behind: int, count: int) -> None:
        """`behind` is how far the client goes back; -1 leaves a gap."""
        if not self.producers:
            return
        producer_id = self.which(which)
        sequence = max(0, self.next_sequence(producer_id) - behind)
        numbers = [self.event_of(producer_id, sequence + place) for place in range(count)]
        epoch = self.producers[producer_id]
        if epoch > 1:
            fenced = ProducerStamp(producer_id, epoch - 1, sequence, count)
            assert self.leader.send(numbers, fenced).refusal is Refusal.PRODUCER_FENCED
        self.send(numbers, ProducerStamp(producer_id, epoch, sequence, count))

    def which(self, number: int) -> int:
        return list(self.producers)[number % len(self.producers)]

    def event_of(self, producer_id: int, sequence: int) -> int:
        """Two in five events of a session are some that anybody may send, too."""
        if sequence % 5 > 2:
            return (producer_id + sequence) % SHARED_EVENTS
        return producer_id * OWN_EVENTS + sequence

    # --- what the cluster does -----------------------------------------------------------------

    @rule(entries=st.integers(1, 6))
    def commit(self, entries: int) -> None:
        self.leader.commit(min(len(self.leader.log), self.leader.machine.applied_index + entries))

    @rule(elapsed_ms=st.integers(1, 90))
    def pass_time(self, elapsed_ms: int) -> None:
        self.leader.log_time_ms += elapsed_ms

    @rule(keep=st.integers(0, 4))
    def change_leader(self, keep: int) -> None:
        self.leader.lose(keep)
        present = [one.opening for one in self.leader.log if one.opening is not None]
        self.producers = {opening.producer_id: opening.epoch for opening in present}

    @rule()
    def take_snapshot(self) -> None:
        self.snapshot = self.leader.machine.snapshot()

    @rule(from_snapshot=st.booleans())
    def restart(self, from_snapshot: bool) -> None:
        before = self.leader.machine.digest()
        self.leader.restart(self.snapshot if from_snapshot else None)
        assert self.leader.machine.digest() == before

    # --- what must hold ------------------------------------------------------------------------

    def send(self, numbers: list[int], stamp: ProducerStamp | None) -> None:
        leader = self.leader
        log_before = self.events()
        sessions_before = self.covered()
        live_from = leader.machine.keys.first_offset
        admitted = leader.send(numbers, stamp)
        if admitted.refusal is not None:
            self.check_refusal(admitted.refusal, numbers, stamp)
            return
        offsets = offsets_of(admitted.ranges)
        log = self.events()
        assert len(offsets) == len(numbers)
        sent_before = 0
        if stamp is not None:
            assert stamp.sequence <= sessions_before[stamp.producer_id]
            sent_before = min(len(numbers), sessions_before[stamp.producer_id] - stamp.sequence)
            assert self.covered()[stamp.producer_id] == max(
                sessions_before[stamp.producer_id], stamp.sequence + len(numbers)
            )
        for place, (number, offset) in enumerate(zip(numbers, offsets, strict=True)):
            if offset == UNKNOWN_OFFSET:
                assert number in log_before, "an event of an unknown place was never in the log"
                assert place < sent_before or number in numbers[:sent_before]
            else:
                assert log[offset] == number
        appended = log[len(log_before) :]
        assert len(set(appended)) == len(appended)
        assert not set(appended) & set(log_before[live_from:]), "known, and appended again"
        assert not set(appended) & set(numbers[:sent_before]), "sent before, and appended again"
        assert admitted.duplicates == len(numbers) - len(appended)
        self.check_wait(admitted, len(log_before))

    def check_refusal(self, refusal: Refusal, numbers: list[int], stamp: ProducerStamp | None) -> None:
        if refusal is Refusal.WINDOW_FULL:
            dedup = self.leader.dedup
            assert dedup.when_full == "refuse"
            known = self.events()[self.leader.machine.keys.first_offset :]
            assert len(known) + len(set(numbers) - set(known)) > dedup.max_keys
        else:
            assert refusal is Refusal.OUT_OF_SEQUENCE
            assert stamp is not None
            assert stamp.sequence > self.covered()[stamp.producer_id]

    def check_wait(self, admitted: Admitted, end: int) -> None:
        """The duplicates are all applied once the named index is, and it is no later than need be."""
        leader, wait_index = self.leader, admitted.wait_index_of_duplicates
        assert wait_index == 0 or leader.machine.applied_index < wait_index <= len(leader.log)
        holders = [
            one.index
            for one in leader.log[leader.machine.applied_index :]
            for offset in offsets_of(admitted.ranges)
            if one.base_offset <= offset < min(one.next_offset, end)
        ]
        assert wait_index >= max(holders, default=0)
        if admitted.duplicates == 0:
            assert wait_index == 0

    @invariant()
    def the_machine_counts_as_the_log_says(self) -> None:
        if not hasattr(self, "leader"):
            return
        machine = self.leader.machine
        applied = self.leader.log[: machine.applied_index]
        assert machine.next_offset == sum(one.count for one in applied)
        for producer_id, covered in self.covered(machine.applied_index).items():
            place = machine.producers.place(producer_id)
            assert place is not None
            assert place[1] == covered

    def events(self) -> list[int]:
        """Every event of the log, at its offset."""
        return [number for one in self.leader.log if one.count for number in _numbers_of(one.payload)]

    def covered(self, upto: int | None = None) -> dict[int, int]:
        """How far each session has come, by adding up its entries."""
        found: dict[int, int] = {}
        for one in self.leader.log[:upto]:
            if one.opening is not None:
                assert found.setdefault(one.opening.producer_id, 0) == one.opening.next_sequence
            elif one.producer is not None:
                assert found[one.producer.producer_id] == one.producer.sequence
                found[one.producer.producer_id] += one.producer.covered
        return found

    def next_sequence(self, producer_id: int) -> int:
        return self.covered()[producer_id]


_numbers_of = lru_cache(maxsize=1024)(numbers_of)

Clients.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
test_every_event_is_in_the_log_once = Clients.TestCase


@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
@pytest.mark.parametrize(
    "dedup", WINDOWS, ids=["wide", "short", "small", "refusing", "untimed", "small and untimed"]
)
@pytest.mark.parametrize("seed", range(12))
def test_every_event_is_in_the_log_once_in_long_games_too(dedup: Dedup, seed: int) -> None:
    source, game = Random(seed), Clients()
    game.start(dedup)
    moves: list[Callable[[], None]] = [
        *[
            lambda: game.send_anything(
                [source.randint(0, SHARED_EVENTS) for _ in range(source.randint(1, 12))]
            )
        ]
        * 6,
        lambda: game.send_many(source.randint(0, 9_000), source.choice([64, 500, 1024])),
        *[lambda: game.send_in_session(source.randint(0, 3), source.randint(-1, 8), source.randint(1, 6))]
        * 6,
        *[lambda: game.commit(source.randint(1, 6))] * 4,
        lambda: game.pass_time(source.randint(1, 90)),
        lambda: game.change_leader(source.randint(0, 4)),
        game.open_producer,
        lambda: game.go_on_with_session(source.randint(0, 3)),
        game.take_snapshot,
        lambda: game.restart(source.random() < 0.5),
    ]
    for _ in range(300):
        source.choice(moves)()
        game.the_machine_counts_as_the_log_says()
    assert game.leader.next_offset > 1_000
    assert max(game.covered().values()) > 5
