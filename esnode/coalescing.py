"""Timer coalescing: tasks that look at something equally often do so at the same moments.

To wake a sleeping process costs more than what most of its tasks then do. Used by every task of a node that
looks every second or so, whenever that is exactly.
"""

import math

import trio


async def sleep_to_next(interval_s: float) -> float:
    """Sleep to the next whole multiple of the interval on the event loop's clock; how long that was to be.

    That clock begins anywhere, so the processes of a machine do not all wake up at once.
    """
    now = trio.current_time()
    wake_at = (math.floor(now / interval_s) + 1) * interval_s
    if wake_at <= now:  # the quotient was rounded down: not at once, or it would look for ever
        wake_at += interval_s
    await trio.sleep_until(wake_at)
    return wake_at - now
