"""The node's two clocks: the heartbeat of a leader, and the time that elections wait.

They only say that time has passed; the core decides what that means. Each is one long-lived task of
`node.py`. Never reads a wall clock.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from esnode import limits
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.messages import Beat, Tick

log = logging.getLogger(__name__)


async def run_heartbeat(inbox: Inbox, view: View, interval_ms: int) -> None:
    """One `Beat` an interval while this node has anything to say, for ever; late ones are not made up for.

    A leader has, and a node that asks the others for the log that it lost.
    """
    while True:
        if view.leads or view.rejoining:
            await trio.sleep(interval_ms / 1000)
            inbox.put(Beat())
        else:
            await view.wait_changed()


class Elapsed:
    """The milliseconds that pass, whole ones, each handed out once: to the driver or to `run_election`."""

    def __init__(self) -> None:
        self._last: float | None = None
        """When they were last taken; None: not yet."""
        self._carried_ms = 0.0
        self._due_ms = limits.TICK_MS
        """After so many the next ones are due."""
        self._waiting: trio.CancelScope | None = None

    def restart(self) -> None:
        """What has passed until now counts for nothing."""
        self._last, self._carried_ms = trio.current_time(), 0.0

    async def wait_due(self, due_ms: int, changed: Callable[[], Awaitable[object]]) -> None:
        """Wait until so many have passed since they were last taken, by whomever; or for `changed`."""
        if self._last is None:
            self.restart()
        assert self._last is not None
        self._due_ms = due_ms
        with trio.CancelScope(deadline=self._last + due_ms / 1000) as self._waiting:
            await changed()
        self._waiting = None

    def take(self, least_ms: int) -> Sequence[Tick]:
        """All that have passed, none where these are fewer than `least_ms`. A pause is told in the log.

        Of a pause counts what was to be waited, and a little: as much as an ordinary tick may be late.
        """
        now = trio.current_time()
        if self._last is None:
            self._last = now
        # Rounded: at its very deadline a wait must not look as if it had ended too early.
        passed_ms = round(self._carried_ms + (now - self._last) * 1000, 3)
        if passed_ms < least_ms:
            return ()
        if now - self._last > limits.STALL_S:
            log.warning("node_stalled", extra={"stalled_ms": round((now - self._last) * 1000)})
        self._last, self._carried_ms = now, passed_ms % 1
        if self._waiting is not None:
            self._waiting.deadline = now + self._due_ms / 1000
        is_quiet = self._due_ms == limits.QUIET_TICK_MS
        most_ms = limits.MAX_QUIET_TICK_MS if is_quiet else limits.MAX_TICK_MS
        whole_ms = min(int(passed_ms), most_ms)
        full, rest_ms = divmod(whole_ms, limits.MAX_TICK_MS)
        return [Tick(limits.MAX_TICK_MS)] * full + [Tick(rest_ms)] * (rest_ms > 0)


async def run_election(inbox: Inbox, view: View, elapsed: Elapsed, election_ms: int) -> None:
    """The time that has passed, a `Tick` for each `limits.TICK_MS` or so, for ever.

    The driver takes it, too, whenever it has something to do; this task only where that is too rarely.

    While nobody leads, or the leader is about to be given up, the ticks are finer than what decides
    elections: with ordinary ones all that the random part of a timeout spreads over 20 ms would
    happen at once, and up to 20 ms late. While nothing happens but heartbeats, they are rare: they would be
    most of what an idle node costs. A process that was paused finds out here, and says so.
    """
    elapsed.restart()
    seen_work, worked_at = view.work, trio.current_time()
    # A rare tick must leave time for an ordinary one before the leader is in doubt.
    quiet_silence_ms = election_ms - 3 * limits.TICK_MS - limits.QUIET_TICK_MS
    while True:
        state = view.soft_state
        is_led = state.leader is not None and not view.leader_in_doubt
        is_idle = trio.current_time() - worked_at >= limits.QUIET_AFTER_MS / 1000
        if is_led and is_idle and 0 <= view.silence_ms() <= quiet_silence_ms:
            await elapsed.wait_due(limits.QUIET_TICK_MS, view.wait_work)
        else:
            await elapsed.wait_due(limits.TICK_MS if is_led else limits.FINE_TICK_MS, view.wait_changed)
        if view.work != seen_work:
            seen_work, worked_at = view.work, trio.current_time()
        if view.soft_state.leader is None and state.leader is not None:
            # Time from before the leader went counts for no one's turn.
            elapsed.restart()
            continue
        for tick in elapsed.take(1):
            inbox.put(tick)
