"""What `esctl bench failover` measures: gaps between acks, phases of elections; and nobody stays down."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from esctl.bench.generator import Generator
from esctl.chaos.failover import drill as drills
from esctl.chaos.failover.drill import Drill, standing_of
from esctl.chaos.failover.election import MeasuredElection, Phases, election_in, phases_of
from esctl.chaos.failover.kinds import StrikeKind
from esctl.chaos.failover.spread import Spread, spread_of
from esctl.chaos.steadyload import SteadyLoad, first_ack_s, longest_gap_s, longest_gap_within_s
from esctl.clusters.backends.interface import RunState
from esctl.clusters.nodelog import LogLine
from esctl.errors import Inconclusive, NodeNotRunning
from esnode.client import BatchAck
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import EventStreamError, NoQuorum, NotLeader, OperationTimeout, Unreachable
from tests.esctl.failing_ring import ACK_S, Ring

RUN = "0123456789abcdef"


# --- gaps -------------------------------------------------------------------------------------------


def test_a_gap_counts_whole_although_it_began_before_the_strike_or_ends_after_the_return() -> None:
    acks = [0.0, 1.0, 5.0, 6.0, 9.0, 10.0]
    assert longest_gap_s(acks, 2.0, 5.5) == 4.0
    assert longest_gap_s(acks, 5.5, 7.0) == 3.0
    assert longest_gap_s(acks, 9.5, 9.8) == 1.0
    assert longest_gap_s(acks, 10.5, 12.0) is None
    assert longest_gap_s([], 0.0, 1.0) is None


def test_a_calm_gap_lies_within_its_time() -> None:
    acks = [0.0, 1.0, 5.0, 6.0, 9.0, 10.0]
    assert longest_gap_within_s(acks, 0.5, 8.0) == 4.0
    assert longest_gap_within_s(acks, 4.5, 8.0) == 1.0
    assert longest_gap_within_s(acks, 2.0, 4.0) is None


def test_the_first_ack_since_a_time_is_found_also_when_it_comes_at_that_time() -> None:
    assert first_ack_s([1.0, 2.0, 3.0], 2.0) == 2.0
    assert first_ack_s([1.0, 2.0, 3.0], 2.1) == 3.0
    assert first_ack_s([1.0], 1.1) is None


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([], None),
        ([None, None], None),
        ([3.0, None, 1.0], Spread(2, 1.0, 2.0, 3.0, 3.0)),
        ([float(n) for n in range(1, 51)], Spread(50, 1.0, 25.5, 50.0, 50.0)),
        ([float(n) for n in range(1, 201)], Spread(200, 1.0, 100.5, 198.0, 200.0)),
    ],
)
def test_the_99th_percentile_of_few_strikes_is_the_worst_of_them(
    values: list[float | None], spread: Spread | None
) -> None:
    assert spread_of(values) == spread


# --- the load ---------------------------------------------------------------------------------------


class Scripted:
    """Acks after a millisecond, or raises what it is told to."""

    def __init__(self) -> None:
        self.stored = 0
        self.error: EventStreamError | None = None
        self.slow_s = ACK_S

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> BatchAck:
        await trio.sleep(self.slow_s)
        if self.error is not None:
            raise self.error
        self.stored += batch.count
        return BatchAck((OffsetRange(self.stored - batch.count, batch.count),), 0, False)


async def run_for(load: SteadyLoad, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(seconds)
        load.end()


async def test_a_rate_is_kept_whatever_the_acks_do(autojump_clock: trio.abc.Clock) -> None:
    log = Scripted()
    log.slow_s = 0.4
    load = SteadyLoad(log, Generator(RUN, 100, 1), 1000)
    await run_for(load, 5)
    assert load.acked == pytest.approx(5_000, abs=5)
    assert load.enough
    assert list(load.acks_s) == sorted(load.acks_s)


async def test_a_log_that_acks_too_little_is_no_load(autojump_clock: trio.abc.Clock) -> None:
    log = Scripted()
    log.slow_s = 4.0
    load = SteadyLoad(log, Generator(RUN, 100, 1), 1000)
    await run_for(load, 20)
    assert 0 < load.acked < 10_000
    assert not load.enough


async def test_what_was_refused_for_certain_may_not_be_in_the_log(autojump_clock: trio.abc.Clock) -> None:
    log, generator = Scripted(), Generator(RUN, 100, 1)
    log.error = NoQuorum("nobody leads")
    load = SteadyLoad(log, generator, 100)
    await run_for(load, 0.1)
    assert load.errors == {NoQuorum.code: generator.made}
    again = Generator(RUN, 100, 1)
    keys = b"".join(again.next_batch().keys for _ in range(generator.made))
    assert not load.operations.check(keys, exact=False).clean
    assert load.operations.check(b"", exact=False).clean


async def test_an_ack_of_what_left_before_is_no_answer(autojump_clock: trio.abc.Clock) -> None:
    log = Scripted()
    log.slow_s = 1.0
    load = SteadyLoad(log, Generator(RUN, 100, 1), 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await trio.sleep(2.5)
        since_s = trio.current_time()
        await load.wait_answered(since_s)
        assert trio.current_time() - since_s == pytest.approx(1.0, abs=0.02)
        load.end()


# --- the election -----------------------------------------------------------------------------------


def line(at_s: float, node: int, event: str, **fields: Any) -> LogLine:
    time = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return LogLine(time, node, "info", event, {"event": event, **fields})


def changed(at_s: float, node: int, role: str, term: int, leader: int | None = None) -> LogLine:
    return line(at_s, node, "state_changed", role=role, new_term=term, leader=leader)


KILLED = [
    changed(9.0, 1, "leader", 4, 1),
    line(9.1, 1, "first_commit", new_term=4),
    changed(10.004, 2, "follower", 4),
    changed(10.005, 3, "follower", 4),
    changed(10.007, 2, "pre-candidate", 4),
    changed(10.009, 2, "candidate", 5),
    changed(10.010, 3, "follower", 5),
    changed(10.013, 2, "leader", 5, 2),
    changed(10.014, 3, "follower", 5, 2),
    line(10.018, 2, "first_commit", new_term=5),
    line(10.5, 1, "node_started", next_offset=7),
    changed(10.6, 1, "follower", 5, 2),
]


def test_the_phases_of_a_kill_are_read_from_the_survivors_logs() -> None:
    election = election_in(KILLED, 1, 4, 10.0)
    assert election == MeasuredElection(2, 5, 10.004, 10.007, 10.013, 10.018, 10.6)
    phases = phases_of(election, 10.0, 10.020)
    assert phases == Phases(7.0, 6.0, 5.0, 2.0)


def test_a_lost_election_belongs_to_the_time_that_the_election_took() -> None:
    lines = [
        changed(10.450, 3, "pre-candidate", 4),
        changed(10.452, 3, "candidate", 5),
        changed(10.453, 2, "candidate", 5),
        changed(10.490, 2, "pre-candidate", 5),
        changed(10.491, 2, "candidate", 6),
        changed(10.495, 2, "leader", 6, 2),
        line(10.500, 2, "first_commit", new_term=6),
    ]
    election = election_in(lines, 1, 4, 10.0)
    assert election is not None
    assert (election.term, election.stood_s, election.elected_s) == (6, 10.450, 10.495)


def test_a_leader_that_commits_nothing_is_not_the_one_that_clients_wait_for() -> None:
    lines = [
        changed(10.01, 2, "candidate", 5),
        changed(10.02, 2, "leader", 5, 2),
        changed(10.03, 3, "candidate", 6),
        changed(10.04, 3, "leader", 6, 3),
        line(10.05, 3, "first_commit", new_term=6),
    ]
    election = election_in(lines, 1, 4, 10.0)
    assert election is not None
    assert (election.leader, election.elected_s) == (3, 10.04)


def test_a_transfer_is_read_from_the_old_leaders_log_too() -> None:
    lines = [
        changed(10.002, 3, "candidate", 5),
        changed(10.003, 1, "follower", 5),
        changed(10.006, 3, "leader", 5, 3),
        line(10.009, 3, "first_commit", new_term=5),
    ]
    election = election_in(lines, 1, 4, 10.0)
    assert election == MeasuredElection(3, 5, 10.002, 10.002, 10.006, 10.009, 10.003)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        KILLED[:2],  # all of it is from before
        [one for one in KILLED if one.event != "first_commit"],  # nodes of an older version
        [one for one in KILLED if one.event == "first_commit"],
        [one for one in KILLED if one.fields.get("role") != "leader"],
    ],
)
def test_logs_that_do_not_tell_it_all_tell_nothing(lines: list[LogLine]) -> None:
    assert election_in(lines, 1, 4, 10.0) is None


def test_phases_are_not_told_when_the_wall_clock_was_set_meanwhile() -> None:
    election = election_in(KILLED, 1, 4, 10.0)
    assert election is not None
    assert phases_of(election, 10.0, 9.0) is None
    set_back = [changed(10.5, 2, "candidate", 5), changed(10.4, 2, "leader", 5, 2),
                line(10.6, 2, "first_commit", new_term=5)]  # fmt: skip
    assert election_in(set_back, 1, 4, 10.0) is None


# --- the strikes ------------------------------------------------------------------------------------


@asynccontextmanager
async def drilled(kind: StrikeKind, times: int = 1, **settings: Any) -> AsyncIterator[tuple[Ring, Drill]]:
    """A ring and a drill on it that has not begun."""
    async with trio.open_nursery() as nursery:
        ring = Ring(nursery, **settings)
        load = SteadyLoad(ring, Generator(RUN, 100, 1), 1000)
        yield ring, Drill(ring, load, kind, times, lambda: {"node:1": True}, clock=trio.current_time)
        nursery.cancel_scope.cancel()


async def test_a_killed_leader_is_measured_and_started_again(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.KILL, 3) as (ring, drill):
        await drill.run()
    assert ring.done == ["kill 1", "start 1", "kill 2", "start 2", "kill 3", "start 3"]
    assert set(ring.states.values()) == {RunState.RUNNING}
    for strike in drill.strikes:
        assert not strike.missed
        assert strike.phases is not None
        expected = (10, 5, 4, strike.phases.client_ms)
        assert dataclasses.astuple(strike.phases) == pytest.approx(expected, abs=0.01)
        assert 0 <= strike.phases.client_ms <= 2.1
        assert strike.leaderless_ms == pytest.approx(15, abs=0.01)
        assert strike.next_ack_ms == pytest.approx(19 + strike.phases.client_ms, abs=0.01)
        assert strike.unavailable_ms is not None
        assert strike.next_ack_ms is not None
        assert strike.next_ack_ms - 2 <= strike.unavailable_ms <= strike.next_ack_ms + 2
        assert strike.calm_ms == pytest.approx(1, abs=0.01)
        assert strike.return_ms == pytest.approx(1, abs=0.01)
    assert [strike.node for strike in drill.strikes] == [1, 2, 3]
    assert drill.load.enough


async def test_a_paused_leader_goes_on_once_the_others_serve(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.PAUSE, stands_s=0.5) as (ring, drill):
        await drill.run()
    (strike,) = drill.strikes
    assert ring.done == ["pause 1", "resume 1"]
    assert strike.leaderless_ms == pytest.approx(505, abs=0.01)
    assert strike.unavailable_ms == pytest.approx(510, abs=2)


async def test_a_leader_that_was_cut_off_is_connected_again_once_the_others_serve(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with drilled(StrikeKind.PARTITION, stands_s=0.5) as (ring, drill):
        await drill.run()
    (strike,) = drill.strikes
    assert not strike.missed
    assert ring.done == ["cut 1", "mend 1"]
    assert strike.unavailable_ms == pytest.approx(510, abs=2)


async def test_a_cut_that_nobody_could_mend_is_told_with_its_end(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.PARTITION, mends=False) as (_ring, drill):
        with pytest.raises(BaseExceptionGroup) as caught:
            await drill.run()
    assert isinstance(the_error(caught.value), Unreachable)
    assert drill.left_out == "node 1 is cut off for 60 s at most: node 1 does not answer"


async def test_a_transfer_takes_nobody_down(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.TRANSFER, 2) as (ring, drill):
        await drill.run()
    assert ring.done == ["transfer 1", "transfer 2"]
    for strike in drill.strikes:
        assert not strike.missed
        assert strike.return_ms is None
        assert strike.leaderless_ms == pytest.approx(5, abs=0.01)  # from when the old one stepped down


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        (StrikeKind.KILL, {"kills": False}, "node 1 was running, not down"),
        (StrikeKind.PAUSE, {"stops": False}, "node 1 was running, not paused"),
        (StrikeKind.PARTITION, {"cuts": False}, "the cut has stopped no message"),
        (StrikeKind.TRANSFER, {"refuses": NotLeader("node 2 leads")}, "node 2 leads"),
    ],
)
async def test_a_strike_that_did_not_hit_is_not_counted_as_one(
    kind: StrikeKind, settings: dict[str, Any], why: str, autojump_clock: trio.abc.Clock
) -> None:
    async with drilled(kind, **settings) as (_ring, drill):
        await drill.run()
    assert [strike.missed for strike in drill.strikes] == [why]


async def test_a_leader_that_leads_on_was_not_struck(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.TRANSFER) as (ring, drill):

        async def no_transfer(number: int, mark: Callable[[], None]) -> None:
            await trio.lowlevel.checkpoint()
            mark()

        ring.transfer = no_transfer  # type: ignore[method-assign]
        await drill.run()
    assert [strike.missed for strike in drill.strikes] == ["node 1 led on in term 1"]
    assert drill.strikes[0].phases is None


async def test_the_strike_waits_until_the_leadership_is_calm(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.KILL) as (ring, drill), trio.open_nursery() as nursery:
        nursery.start_soon(drill.run)
        await trio.sleep(0.3)
        await ring.elect(2)
    (strike,) = drill.strikes
    assert (strike.node, strike.term) == (2, 2)
    assert strike.at_s > 0.3 + drills.CALM_S


def the_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    (error,) = group.exceptions
    return error


@pytest.mark.parametrize("kind", [StrikeKind.KILL, StrikeKind.PAUSE])
async def test_a_cluster_that_does_not_serve_again_gets_its_node_back(
    kind: StrikeKind, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "SERVE_TIMEOUT_S", 3.0)
    async with drilled(kind, elects=False) as (ring, drill):
        with pytest.raises(BaseExceptionGroup) as caught:
            await drill.run()
    assert isinstance(the_error(caught.value), Inconclusive)
    assert "not all nodes are level" in str(the_error(caught.value))
    (strike,) = drill.strikes
    assert (strike.node, strike.never_s, strike.unavailable_ms, strike.next_ack_ms) == (1, 3.0, 3000, 3000)
    assert strike.phases is None
    assert drill.load.never_acked > 0
    assert ring.done[-1] in ("start 1", "resume 1")
    assert set(ring.states.values()) == {RunState.RUNNING}


async def test_a_cluster_that_serves_once_its_node_is_back_is_struck_on_and_the_strike_counts_as_never(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "SERVE_TIMEOUT_S", 3.0)
    async with drilled(StrikeKind.PAUSE, 2, elects=False) as (ring, drill), trio.open_nursery() as nursery:
        nursery.start_soon(drill.run)
        await ring.struck.wait()
        await trio.sleep(drills.SERVE_TIMEOUT_S + 0.1)
        ring.elects = True
        await ring.elect(1)
    assert [strike.never_s for strike in drill.strikes] == [3.0, None]
    assert set(ring.states.values()) == {RunState.RUNNING}


async def test_a_cluster_that_serves_at_the_last_moment_has_recovered(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "SERVE_TIMEOUT_S", 3.0)
    async with drilled(StrikeKind.KILL, stands_s=2.9) as (_ring, drill):
        await drill.run()
    (strike,) = drill.strikes
    assert strike.never_s is None
    assert strike.next_ack_ms == pytest.approx(2910, abs=10)


@pytest.mark.parametrize("kind", [StrikeKind.KILL, StrikeKind.PAUSE])
@pytest.mark.parametrize("after_s", [0.001, 0.015, 0.3])
async def test_whoever_ends_the_drill_in_the_middle_finds_every_node_running(
    kind: StrikeKind, after_s: float, autojump_clock: trio.abc.Clock
) -> None:
    async with drilled(kind, 100) as (ring, drill), trio.open_nursery() as nursery:
        nursery.start_soon(drill.run)
        await ring.struck.wait()
        await trio.sleep(after_s)
        nursery.cancel_scope.cancel()
    assert set(ring.states.values()) == {RunState.RUNNING}
    assert drill.rescued == 1
    assert not drill.left_out
    assert drill.strikes == []


async def test_a_node_that_does_not_start_again_is_named(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.KILL, starts=False) as (_ring, drill):
        with pytest.raises(BaseExceptionGroup):
            await drill.run()
    assert drill.left_out == "node 1 is down: node 1 ended with exit code 1"
    assert drill.rescued is None


async def test_a_node_that_ends_by_itself_ends_the_drill(autojump_clock: trio.abc.Clock) -> None:
    async with drilled(StrikeKind.KILL) as (ring, drill):
        ring.states[3] = RunState.DOWN
        with pytest.raises(BaseExceptionGroup) as caught:
            await drill.run()
    assert isinstance(the_error(caught.value), NodeNotRunning)
    assert ring.done == []


async def test_a_node_that_does_not_answer_is_named_and_nothing_is_struck(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "LEVEL_TIMEOUT_S", 2.0)
    async with drilled(StrikeKind.KILL) as (ring, drill):
        ring.silent.add(2)
        with pytest.raises(BaseExceptionGroup) as caught:
            await drill.run()
    assert "node 2 does not answer" in str(the_error(caught.value))
    assert ring.done == []


async def test_a_load_that_is_never_acked_ends_the_drill(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "SERVE_TIMEOUT_S", 3.0)
    async with drilled(StrikeKind.KILL) as (ring, drill):
        log = Scripted()
        log.error = OperationTimeout("late")
        drill.load = SteadyLoad(log, Generator(RUN, 100, 1), 100)
        with pytest.raises(BaseExceptionGroup) as caught:
            await drill.run()
    assert isinstance(the_error(caught.value), Inconclusive)
    assert ring.done == []


def test_nodes_that_see_different_leaders_have_no_standing() -> None:
    def status(leader: int | None, term: int = 3, **more: Any) -> dict[str, Any]:
        peers = {"2": {"connected": True}}
        return {"leader": leader, "term": term, "next_offset": 7, "rejoining": False, "peers": peers, **more}

    assert standing_of({1: status(1), 2: status(1)}) == drills.Standing(1, 3, 7)
    assert standing_of({1: status(1), 2: None}) == "node 2 does not answer"
    for other in (status(2), status(1, 4), status(None)):
        assert standing_of({1: status(1), 2: other}) == "the nodes do not agree on a leader"
    assert standing_of({1: status(None), 2: status(None)}) == "the nodes do not agree on a leader"
    assert "fetching its log" in str(standing_of({1: status(1), 2: status(1, rejoining=True)}))
    apart = status(1, peers={"2": {"connected": False}})
    assert standing_of({1: apart, 2: status(1)}) == "node 1 has no connection to node 2"
