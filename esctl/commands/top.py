"""`esctl top`: the cluster as it goes on, and keys that run commands on it.

Where nobody can see a screen it prints figures instead, a line of JSON or a line a node, once a second.
"""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.observe.top.answers import TopAnswer, TopRecord
from esctl.ui.answer import Answer
from esctl.ui.screen import END, Screen
from esctl.ui.sparkline import BARS
from esctl.ui.terminal import Output

if TYPE_CHECKING:
    import trio

    from esctl.observe.top.board import BoardState
    from esctl.observe.top.controls import Control, Said

app = new_typer()
_HINT: Final = "arrows select a node; p, t and f show the command that they would run, and ask"


@command(app, "top", impact="rw", record=TopRecord)
def top(
    run: Invocation,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.2, help="Look once in so long")
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look for that long once, print the figures, and end")
    ] = False,
) -> Answer[TopAnswer] | None:
    """Watch nodes, rates, lag, latency and faults; keys pause, transfer, break and heal"""
    cluster = run.cluster()
    run.on_interrupt(lambda: None)
    if once:
        return _once(run, cluster, every)
    if not run.terminal.can_live:
        run.trio(lambda: _stream(run, cluster, every))
        return None
    with run.terminal.live() as screen:
        ended_by = run.trio(lambda: _Live(cluster, screen, every).run())
    if ended_by is not None:  # the terminal is as it was: now the signal may do what it does
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    return None


def _once(run: Invocation, cluster: Cluster, every_s: float) -> Answer[TopAnswer]:
    import trio  # loaded late: `--help` must be quick

    from esctl.observe.top import board, watching

    async def look_twice() -> "BoardState":
        shown = await watching.begin(cluster)
        await trio.sleep(every_s)  # that is the time that the rates are of
        await watching.look_again(shown)
        return shown

    shown = run.trio(look_twice)
    seen = run.terminal.output is Output.TABLE and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if seen else board.WIDE
    return Answer(board.record(shown), [board.figures(shown, width)])


async def _stream(run: Invocation, cluster: Cluster, every_s: float) -> None:
    """Print the figures, once in `every_s`, until Ctrl-C."""
    import trio  # loaded late: `--help` must be quick

    from esctl.observe.top import board, watching

    shown = await watching.begin(cluster)
    due = trio.current_time()
    while True:
        due = max(due + every_s, trio.current_time())
        await trio.sleep_until(due)
        await watching.look_again(shown)
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if run.terminal.output is Output.JSON:
            record: TopRecord = {"time": time, **board.record(shown)}
            run.terminal.record(record)
        else:
            for cells in board.plain(shown, time):
                run.terminal.record({}, *cells)
        run.terminal.flush()
        run.terminal.check_reader()


class _Live:
    """The screen: one task looks, one hears signals, one reads keys and runs their commands."""

    def __init__(self, cluster: Cluster, screen: Screen, every_s: float) -> None:
        self._cluster, self._screen, self._every_s = cluster, screen, every_s
        self._asked: Control | None = None
        """The command that a key stands for, while its answer is waited for."""
        self._busy = False
        """Is a command running?"""
        self._ended_by: signal.Signals | None = None

    async def run(self) -> signal.Signals | None:
        """Until q, or until a signal that ends the process: that one."""
        import trio  # loaded late: `--help` must be quick

        from esctl.observe.top import watching

        self._moment = await watching.begin(self._cluster)
        self._moment.unicode, self._moment.message = _shows_bars(), _HINT
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look)
            nursery.start_soon(self._hear, nursery.cancel_scope)
            async for key in self._screen.pressed():
                if key in ("q", END):
                    break
                self._press(key, nursery)
                self._draw()
            nursery.cancel_scope.cancel()
        return self._ended_by

    async def _look(self) -> None:
        import trio

        from esctl.observe.top import watching

        due = trio.current_time()
        while True:
            self._draw()
            due = max(due + self._every_s, trio.current_time())
            await trio.sleep_until(due)  # that is the time that the rates are of
            await watching.look_again(self._moment)

    async def _hear(self, all_of_it: "trio.CancelScope") -> None:
        """Draw anew when the terminal has another size; end when the process is asked to."""
        import trio

        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP) as arriving:
            async for number in arriving:
                if number != signal.SIGWINCH:
                    self._ended_by = signal.Signals(number)
                    all_of_it.cancel()
                self._draw()

    def _draw(self) -> None:
        from esctl.observe.top import board

        width, height = self._screen.size
        self._screen.show(board.body(self._moment, width, height), board.foot(self._moment, width))

    # --- keys --------------------------------------------------------------------------------------

    def _press(self, key: str, nursery: "trio.Nursery") -> None:
        from esctl.observe.top.controls import control

        numbers = [node.id for node in self._cluster.nodes]
        if self._busy:
            return
        if self._asked is not None:
            asked, self._asked, self._moment.question = self._asked, None, ""
            if key == "y":
                nursery.start_soon(self._carry_out, asked)
            else:
                self._say(f"{asked.text}: nothing was done")
        elif key in ("up", "k", "down", "j"):
            step = -1 if key in ("up", "k") else 1
            place = numbers.index(self._moment.selected) + step
            self._moment.selected = numbers[max(0, min(len(numbers) - 1, place))]
        elif key.isdecimal() and int(key) in numbers:
            self._moment.selected = int(key)
        else:
            struck = len(self._moment.faults)
            wanted = control(key, self._moment.survey, self._moment.selected, struck)
            if wanted is not None and wanted.refusal:
                self._say(wanted.refusal, trouble=True)
            elif wanted is not None:
                nursery.start_soon(self._ask, wanted)

    async def _ask(self, wanted: "Control") -> None:
        """Say what the command would do, in its own words, and wait for the answer."""
        self._say(f"{wanted.text} --dry-run ...")
        said = await self._esctl(wanted, ("--dry-run",))
        if said.code:
            self._say(wanted.outcome(said), trouble=True)
        else:
            self._asked, self._moment.question = wanted, f"{wanted.text}\n{wanted.plan(said)}"
        self._draw()

    async def _carry_out(self, wanted: "Control") -> None:
        self._say(f"{wanted.text} ...")
        said = await self._esctl(wanted, wanted.consent)
        self._say(f"{wanted.text}\n{wanted.outcome(said)}", trouble=bool(said.code))
        self._draw()

    async def _esctl(self, wanted: "Control", more: Sequence[str]) -> "Said":
        """Run the command in a process of its own."""
        import trio

        from esctl.observe.top.controls import Said

        shared = ["--cluster", self._cluster.name, "-o", "plain", "--no-input"]
        self._busy = True
        self._draw()
        try:
            done = await trio.run_process(
                [sys.executable, "-m", "esctl.main", *wanted.words, *more, *shared],
                capture_stdout=True,
                capture_stderr=True,
                stdin=b"",
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            self._busy = False
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def _say(self, text: str, *, trouble: bool = False) -> None:
        self._moment.message, self._moment.trouble = text, trouble


def _shows_bars() -> bool:
    """Can what is written to standard output hold the bars of a sparkline?"""
    try:
        BARS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
