"""The node's clocks: how much time they report, and when."""

import math
import random

import trio
import trio.testing

from esnode import limits
from esnode.config import Raft
from esnode.loop.clocks import Elapsed, run_election, run_heartbeat
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.messages import Beat, Input, Role, SoftState, Tick
from esnode.raft.timer import ElectionTimer

FOLLOWING = SoftState(Role.FOLLOWER, 3, 2)
LEADERLESS = SoftState(Role.FOLLOWER, 3, None)


def view_of(state: SoftState) -> View:
    view = View(1, term=3, applied_index=0, first_offset=0, next_offset=0)
    view.soft_state = state
    return view


async def ticks_of(inbox: Inbox) -> int:
    """The milliseconds that the ticks in `inbox` add up to."""
    items: list[Input] = await inbox.take(1000)
    assert all(isinstance(item, Tick) for item in items)
    return sum(item.elapsed_ms for item in items if isinstance(item, Tick))


async def test_the_ticks_add_up_to_the_time_that_has_passed(autojump_clock: trio.abc.Clock) -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view_of(FOLLOWING), Elapsed(), 450)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert 1000 - limits.TICK_MS <= await ticks_of(inbox) <= 1000


async def test_time_before_the_leader_went_counts_for_no_ones_turn(autojump_clock: trio.abc.Clock) -> None:
    """Survivors start by rank, a few milliseconds apart: an old tick must not blur that."""
    inbox, view = Inbox(), view_of(FOLLOWING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view, Elapsed(), 450)
        await trio.sleep((limits.TICK_MS - 1) / 1000)
        view.show_state(LEADERLESS)
        await trio.sleep(0.0045)
        nursery.cancel_scope.cancel()
    assert 3 <= await ticks_of(inbox) <= 4


async def test_the_ticks_are_fine_before_a_silent_leader_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    """Two survivors must not stand at the same moment only because their ticks do."""
    inbox, view = Inbox(), view_of(FOLLOWING)
    view.leader_in_doubt = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view, Elapsed(), 450)
        await trio.sleep(0.0505)
        nursery.cancel_scope.cancel()
    ticks = await inbox.take(100)
    assert len(ticks) >= 45
    assert all(isinstance(tick, Tick) and tick.elapsed_ms <= 2 for tick in ticks)


async def test_the_ticks_are_rare_while_a_leader_is_heard_and_nothing_happens(
    autojump_clock: trio.abc.Clock,
) -> None:
    inbox, view = Inbox(), view_of(FOLLOWING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view, Elapsed(), 450)
        for _ in range(40):
            view.last_heard = trio.current_time()
            await trio.sleep(0.15)
        nursery.cancel_scope.cancel()
    ticks = await inbox.take(1000)
    quiet = ticks[limits.QUIET_AFTER_MS // limits.TICK_MS + 2 :]
    most = 2 * 6000 // limits.QUIET_TICK_MS  # each such time is told in two ticks
    assert most * 0.8 < len(quiet) <= most
    assert 6000 - limits.QUIET_TICK_MS <= sum(t.elapsed_ms for t in ticks if isinstance(t, Tick)) <= 6000


async def test_the_ticks_are_ordinary_as_soon_as_the_leader_is_silent_or_there_is_work(
    autojump_clock: trio.abc.Clock,
) -> None:
    for happens in (View.show_work, None):
        inbox, view = Inbox(), view_of(FOLLOWING)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_election, inbox, view, Elapsed(), 450)
            for _ in range(10):
                view.last_heard = trio.current_time()
                await trio.sleep(0.15)
            if happens is None:
                await trio.sleep(0.45)  # the leader is silent: what is measured is this time
            else:
                happens(view)
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        *_, last = await inbox.take(1000)
        assert isinstance(last, Tick)
        assert last.elapsed_ms == limits.TICK_MS


def test_rare_ticks_end_before_a_silent_leader_is_in_doubt() -> None:
    """After the last rare tick an ordinary one comes before milliseconds count."""
    timer = ElectionTimer(Raft(), random.Random(1))
    timer.tick(Raft().election_ms - 3 * limits.TICK_MS - limits.QUIET_TICK_MS + limits.QUIET_TICK_MS)
    assert not timer.is_close


async def test_a_quiet_follower_asks_for_votes_as_soon_as_ever_once_its_leader_is_silent(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Whatever part of a rare tick has passed when the last heartbeat comes."""
    for phase_ms in range(0, limits.QUIET_TICK_MS, 10):
        inbox, view, elapsed = Inbox(), view_of(FOLLOWING), Elapsed()
        timer = ElectionTimer(Raft(), random.Random(phase_ms))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_election, inbox, view, elapsed, Raft().election_ms)
            for pause_s in (*[0.15] * 8, phase_ms / 1000):
                await trio.sleep(pause_s)
                elapsed.take(limits.TICK_MS)  # as the driver does before it takes the heartbeat
                inbox.drain(1000)
                timer.restart()
                view.last_heard = trio.current_time()
            while not timer.has_expired:
                for tick in await inbox.take(1000):
                    assert isinstance(tick, Tick)
                    timer.tick(tick.elapsed_ms)
                view.leader_in_doubt = timer.is_close
            late_ms = view.silence_ms() - (timer.silence_ms)
            nursery.cancel_scope.cancel()
        assert -limits.TICK_MS <= late_ms <= 2 * limits.FINE_TICK_MS


async def test_nobody_wakes_up_for_time_that_the_driver_has_taken(autojump_clock: trio.abc.Clock) -> None:
    inbox, view, elapsed = Inbox(), view_of(FOLLOWING), Elapsed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view, elapsed, 450)
        for _ in range(40):
            view.last_heard = trio.current_time()
            await trio.sleep(0.15)
            elapsed.take(limits.TICK_MS)
            if trio.current_time() * 1000 <= limits.QUIET_AFTER_MS + 150:
                inbox.drain(1000)
        nursery.cancel_scope.cancel()
    assert not len(inbox)


async def test_the_time_before_a_message_is_not_added_to_the_silence_after_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    """The driver takes the time that has passed before it takes the message that ends a silence."""
    elapsed = Elapsed()
    elapsed.restart()
    await trio.sleep(0.0795)
    assert elapsed.take(limits.TICK_MS) == [Tick(79)]
    assert not elapsed.take(1)
    await trio.sleep(0.0006)
    assert elapsed.take(1) == [Tick(1)]


async def test_of_a_pause_counts_what_was_to_be_waited_and_a_little(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = math.inf
    bounds = ((limits.TICK_MS, limits.MAX_TICK_MS), (limits.QUIET_TICK_MS, limits.MAX_QUIET_TICK_MS))
    for due_ms, most_ms in bounds:
        elapsed = Elapsed()
        elapsed.restart()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(elapsed.wait_due, due_ms, trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(60.0)
        ticks = elapsed.take(1)
        assert sum(tick.elapsed_ms for tick in ticks) == most_ms
        assert max(tick.elapsed_ms for tick in ticks) <= limits.MAX_TICK_MS


async def test_only_who_has_something_to_say_has_a_heartbeat(autojump_clock: trio.abc.Clock) -> None:
    inbox, view = Inbox(), view_of(FOLLOWING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_heartbeat, inbox, view, 150)
        await trio.sleep(1.0)
        assert not len(inbox)
        view.show_state(SoftState(Role.FOLLOWER, 3, 2, rejoining=True))
        await trio.sleep(0.4)
        assert len(inbox) == 2
        nursery.cancel_scope.cancel()


async def test_a_heartbeat_is_due_every_interval(autojump_clock: trio.abc.Clock) -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_heartbeat, inbox, view_of(SoftState(Role.LEADER, 3, 1)), 150)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert await inbox.take(100) == [Beat()] * 6
