"""The node's two clocks: the heartbeat of a leader, and the time that elections wait.

They only say that time has passed; the core decides what that means. Each is one long-lived task of
`node.py`. Never reads a wall clock.
"""

import logging

import trio

from esnode import limits
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.messages import Beat, Tick

log = logging.getLogger(__name__)


async def run_heartbeat(inbox: Inbox, interval_ms: int) -> None:
    """One `Beat` an interval, for ever; late ones are not made up for."""
    while True:
        await trio.sleep(interval_ms / 1000)
        inbox.put(Beat())


class Elapsed:
    """The milliseconds that pass, whole ones, each handed out once: to the driver or to `run_election`."""

    def __init__(self) -> None:
        self._last: float | None = None
        """When they were last taken; None: not yet."""
        self._carried_ms = 0.0

    def restart(self) -> None:
        """What has passed until now counts for nothing."""
        self._last, self._carried_ms = trio.current_time(), 0.0

    def take(self, least_ms: int) -> Tick | None:
        """All that have passed; None where these are fewer than `least_ms`. A pause is told in the log."""
        now = trio.current_time()
        if self._last is None:
            self._last = now
        passed_ms = self._carried_ms + (now - self._last) * 1000
        if passed_ms < least_ms:
            return None
        if now - self._last > limits.STALL_S:
            log.warning("node_stalled", extra={"stalled_ms": round((now - self._last) * 1000)})
        self._last, self._carried_ms = now, passed_ms % 1
        return Tick(int(passed_ms))


async def run_election(inbox: Inbox, view: View, elapsed: Elapsed, election_ms: int) -> None:
    """One `Tick` for each `limits.TICK_MS` or so that have passed, for ever.

    While nobody leads, or the leader is about to be given up, the ticks are finer than what decides
    elections: with ordinary ones all that the random part of a timeout spreads over 20 ms would
    happen at once, and up to 20 ms late. While nothing happens but heartbeats, they are rare: they would be
    most of what an idle node costs. A process that was paused finds out here, and says so.
    """
    elapsed.restart()
    quiet_ms = 0
    quiet_silence_ms = election_ms - 2 * limits.TICK_MS - 2 * limits.QUIET_TICK_MS
    while True:
        state, work = view.soft_state, view.work
        is_led = state.leader is not None and not view.leader_in_doubt
        is_quiet = is_led and quiet_ms >= limits.QUIET_AFTER_MS and 0 <= view.silence_ms() <= quiet_silence_ms
        if is_quiet:
            with trio.move_on_after(limits.QUIET_TICK_MS / 1000):
                await view.wait_work()
        else:
            with trio.move_on_after((limits.TICK_MS if is_led else limits.FINE_TICK_MS) / 1000):
                await view.wait_changed()
        if view.soft_state.leader is None and state.leader is not None:
            # Time from before the leader went counts for no one's turn.
            elapsed.restart()
            continue
        tick = elapsed.take(limits.TICK_MS if is_quiet else 1)
        if tick is not None:
            inbox.put(tick)
            quiet_ms += tick.elapsed_ms
        if view.work != work:
            quiet_ms = 0
