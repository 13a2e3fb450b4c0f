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


async def run_election(inbox: Inbox, view: View) -> None:
    """One `Tick` for each `limits.TICK_MS` or so that have passed, for ever.

    While nobody leads, or the leader is about to be given up, the ticks are finer than what decides
    elections: with ordinary ones all that the random part of a timeout spreads over 20 ms would
    happen at once, and up to 20 ms late. A process that was paused finds out here, and says so.
    """
    last = trio.current_time()
    carried_ms = 0.0
    while True:
        state = view.soft_state
        is_led = state.leader is not None and not view.leader_in_doubt
        with trio.move_on_after((limits.TICK_MS if is_led else limits.FINE_TICK_MS) / 1000):
            await view.wait_changed()
        now = trio.current_time()
        if now - last > limits.STALL_S:
            log.warning("node_stalled", extra={"stalled_ms": round((now - last) * 1000)})
        if view.soft_state.leader is None and state.leader is not None:
            # Time from before the leader went counts for no one's turn.
            last, carried_ms = now, 0.0
            continue
        carried_ms += (now - last) * 1000
        last = now
        whole_ms = int(carried_ms)
        if whole_ms:
            carried_ms -= whole_ms
            inbox.put(Tick(whole_ms))
