"""`esctl top`: the cluster as it goes on, and keys that run commands on it.

Where nobody can see a screen it prints figures instead, a line of JSON or a line a node, once a second.
"""

import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.observe.top.answers import TopAnswer, TopRecord
from esctl.ui.answer import Answer
from esctl.ui.sparkline import BARS
from esctl.ui.terminal import Output
from esnode import limits

if TYPE_CHECKING:
    from esctl.observe.top.state import BoardState

app = new_typer()


@command(app, "top", impact="rw", record=TopRecord, partitions=True)
def top(
    run: Invocation,
    every: Annotated[float, duration_option("--every", "Interval between two refreshes", low_s=0.2)] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Observe one interval, print the figures, and exit")
    ] = False,
    partition: Annotated[
        int | None,
        typer.Option(
            "--partition",
            metavar="K",
            min=0,
            max=limits.MAX_PARTITIONS - 1,
            help="Partition to show first; Tab shows the next one",
        ),
    ] = None,
) -> Answer[TopAnswer] | None:
    """Watch nodes, rates, lag, latency and faults; keys pause nodes, transfer leadership, inject faults
    and heal them"""
    cluster = run.cluster()
    shown = run.partition(cluster, partition, required=False)
    first = 0 if cluster.partitions > 1 and shown is None else shown
    run.on_interrupt(lambda: None)
    if once:
        return _once(run, cluster, every, first)
    if not run.terminal.can_live:
        run.trio(lambda: _stream(run, cluster, every, first))
        return None
    from esctl.observe.top.live import Live  # loaded late: `--help` must be quick

    with run.terminal.live() as screen:
        ended_by = run.trio(lambda: Live(cluster, screen, every, first, unicode=_shows_bars()).run())
    if ended_by is not None:  # the terminal is as it was: now the signal may do what it does
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    return None


def _once(run: Invocation, cluster: Cluster, every_s: float, partition: int | None) -> Answer[TopAnswer]:
    import trio  # loaded late: `--help` must be quick

    from esctl.observe.top import board, polling

    async def look_twice() -> "BoardState":
        shown = await polling.begin(cluster, partition)
        await trio.sleep(every_s)  # that is the time that the rates are of
        await polling.look_again(shown)
        return shown

    shown = run.trio(look_twice)
    seen = run.terminal.output is Output.TABLE and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if seen else board.WIDE
    views = [board.partitions(shown)] if shown.several else []
    return Answer(board.record(shown), [*views, board.figures(shown, width)])


async def _stream(run: Invocation, cluster: Cluster, every_s: float, partition: int | None) -> None:
    """Print the figures, once in `every_s`, until Ctrl-C."""
    import trio  # loaded late: `--help` must be quick

    from esctl.observe.top import board, polling

    shown = await polling.begin(cluster, partition)
    due = trio.current_time()
    while True:
        due = max(due + every_s, trio.current_time())
        await trio.sleep_until(due)
        await polling.look_again(shown)
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if run.terminal.output is Output.JSON:
            record: TopRecord = {"time": time, **board.record(shown)}
            run.terminal.record(record)
        else:
            for cells in board.plain(shown, time):
                run.terminal.record({}, *cells)
        run.terminal.flush()
        run.terminal.check_reader()


def _shows_bars() -> bool:
    """Can what is written to standard output hold the bars of a sparkline?"""
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
