"""The progress of a load while it runs: the time that has passed, and the events acked a second.

Called by the other modules of `esctl/commands/bench`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from esctl.cli.invocation import Invocation
from esctl.ui.progress import Progress

if TYPE_CHECKING:
    from esctl.bench.runner import Load

TICK_S: Final = 0.25


@asynccontextmanager
async def watching(run: Invocation, title: str, seconds: float) -> AsyncIterator[Callable[["Load"], None]]:
    """Shows the load that it is handed, until it is left."""
    with run.terminal.progress(title, max(1, round(seconds)), "s") as bar:
        async with trio.open_nursery() as nursery:

            def watch(load: "Load") -> None:
                nursery.start_soon(_show, load, bar, title)

            yield watch
            nursery.cancel_scope.cancel()


async def _show(load: "Load", bar: Progress, title: str) -> None:
    begun = trio.current_time()
    shown, before = 0, load.acked
    while True:
        await trio.sleep(TICK_S)
        now = int(trio.current_time() - begun)
        bar.advance(now - shown)
        bar.describe(f"{title}, {(load.acked - before) / TICK_S:,.0f} events/s")
        shown, before = now, load.acked
