"""The node's clocks: how much time they report, and when."""

import trio

from esnode import limits
from esnode.loop.clocks import run_election, run_heartbeat
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.messages import Beat, Input, Role, SoftState, Tick

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
        nursery.start_soon(run_election, inbox, view_of(FOLLOWING))
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert 1000 - limits.TICK_MS <= await ticks_of(inbox) <= 1000


async def test_time_before_the_leader_went_counts_for_no_ones_turn(autojump_clock: trio.abc.Clock) -> None:
    """Survivors start by rank, a few milliseconds apart: an old tick must not blur that."""
    inbox, view = Inbox(), view_of(FOLLOWING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_election, inbox, view)
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
        nursery.start_soon(run_election, inbox, view)
        await trio.sleep(0.0505)
        nursery.cancel_scope.cancel()
    ticks = await inbox.take(100)
    assert len(ticks) >= 45
    assert all(isinstance(tick, Tick) and tick.elapsed_ms <= 2 for tick in ticks)


async def test_a_heartbeat_is_due_every_interval(autojump_clock: trio.abc.Clock) -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_heartbeat, inbox, 150)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert await inbox.take(100) == [Beat()] * 6
