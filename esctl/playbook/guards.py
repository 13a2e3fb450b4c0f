"""The guards of a run: conditions that are looked at all along, beside the steps, in the same nursery.

A guard that does not hold for as long as it says is a breach: the first one ends the steps. One that cannot
be judged, such as on a load that has not begun, is no breach, and is written down. Called by `run.py`.
"""

from collections.abc import Callable

import trio

from esctl.playbook.record import Record
from esctl.playbook.schema import Guard
from esctl.playbookerrors import NotEvaluable

HOLDS, FAILING, BREACHED, UNKNOWN = "holds", "failing", "breached", "unknown"


async def watch(guard: Guard, record: Record, breached: Callable[[Guard, str], None]) -> None:
    """Look until it is breached; each change is an event. Without end while it holds."""
    state, since_s = "", trio.current_time()
    while True:
        now, text = await _look(guard, record)
        if now == FAILING:
            since_s = trio.current_time() if state != FAILING else since_s
            lasted_ms = (trio.current_time() - since_s) * 1000
            now = BREACHED if lasted_ms >= guard.for_ms else FAILING
        if now != state:
            record.write("guard", expr=guard.expr, state=now, text=text)
            state = now
        if state == BREACHED:
            breached(guard, text)
            return
        await trio.sleep(guard.every_ms / 1000)


async def _look(guard: Guard, record: Record) -> tuple[str, str]:
    try:
        good, why = await record.holds([guard.expr])
    except NotEvaluable as error:
        return UNKNOWN, str(error)
    return (HOLDS, "") if good else (FAILING, why)
