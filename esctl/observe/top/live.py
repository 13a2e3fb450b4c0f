"""The screen of `esctl top`: a task looks, one hears signals, one reads keys, one fills the open page.

Decides which key does what when. Commands run in processes of their own, as one would type them, so that each
has its guards and its traces. Called by `esctl top`.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import trio

from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.state import Cluster
from esctl.observe.diagnosis import collect, presentation, ranking
from esctl.observe.top import board, controls, pages, polling
from esctl.observe.top.controls import LEASE, Control, Said
from esctl.observe.top.state import LINES_KEPT, BoardState, Page
from esctl.query.barrier import reason_of
from esctl.ui.screen import END, Screen
from esnode.client import connect_node
from esnode.errors import EventStreamError

HINT: Final = "arrows select a node; what changes something shows its command first, and asks"
PAGES: Final = {"enter": Page.NODE, "l": Page.LOG, "w": Page.WHY, "e": Page.EVENTS, "?": Page.HELP}
MOVES: Final = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}
POLL_S: Final = 0.2
"""How often a log is looked at: a file does not tell when it grows."""
EVENTS_S: Final = 0.5
WHY_S: Final = 5.0
EVENTS_SHOWN: Final = 200
READ_TIMEOUT_S: Final = 1.0
Task = Callable[[BoardState], Awaitable[None]]


class Live:
    """The screen, its state, and the keys."""

    def __init__(
        self, cluster: Cluster, screen: Screen, every_s: float, partition: int | None, *, unicode: bool
    ) -> None:
        self._partition = partition
        """The one of several that is shown first."""
        self._cluster, self._screen, self._every_s, self._unicode = cluster, screen, every_s, unicode
        self._choices: Mapping[str, Control] = {}
        """What the keys stand for while one is waited for."""
        self._busy = False
        """Is a command running?"""
        self._ended_by: signal.Signals | None = None
        self._filling = trio.CancelScope()
        """Around the task that fills the page that is open."""

    async def run(self) -> signal.Signals | None:
        """Until q, or until a signal that ends the process: that one."""
        self._shown = await polling.begin(self._cluster, self._partition)
        self._shown.unicode, self._shown.message = self._unicode, HINT
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
        due = trio.current_time()
        while True:
            self._draw()
            due = max(due + self._every_s, trio.current_time())
            await trio.sleep_until(due)  # that is the time that the rates are of
            await polling.look_again(self._shown)

    async def _hear(self, all_of_it: trio.CancelScope) -> None:
        """Draw anew when the terminal has another size; end when the process is asked to."""
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP) as arriving:
            async for number in arriving:
                if number != signal.SIGWINCH:
                    self._ended_by = signal.Signals(number)
                    all_of_it.cancel()
                self._draw()

    def _draw(self) -> None:
        width, height = self._screen.size
        self._screen.show(pages.body(self._shown, width, height), board.foot(self._shown, width))

    # --- keys --------------------------------------------------------------------------------------

    def _press(self, key: str, nursery: trio.Nursery) -> None:
        shown = self._shown
        if self._busy:
            return
        if self._choices:
            chosen, self._choices = self._choices.get(key), {}
            asked, shown.question = shown.question.partition("\n")[0], ""
            if chosen is None:
                self._say(f"{asked}: nothing was done")
            else:
                nursery.start_soon(self._carry_out if key == "y" else self._ask, chosen)
        elif key in PAGES:
            self._open(PAGES[key] if PAGES[key] is not shown.page else Page.BOARD, nursery)
        elif key == "escape":
            self._open(Page.BOARD, nursery)
        elif key == "tab" and shown.several:
            self._turn(nursery)
        elif key in MOVES:
            self._move(MOVES[key], nursery)
        elif key.isdecimal() and int(key) in [node.id for node in self._cluster.nodes]:
            self._select(int(key), nursery)
        elif shown.page in (Page.BOARD, Page.NODE):
            self._begin(key, nursery)

    def _move(self, by: int, nursery: trio.Nursery) -> None:
        """Select another node, or scroll: logs and events begin at their end."""
        shown = self._shown
        if shown.page in (Page.BOARD, Page.NODE):
            numbers = [node.id for node in self._cluster.nodes]
            place = numbers.index(shown.selected) + by
            self._select(numbers[max(0, min(len(numbers) - 1, place))], nursery)
        else:
            shown.scroll = max(0, shown.scroll + (-by if shown.page in (Page.LOG, Page.EVENTS) else by))

    def _turn(self, nursery: trio.Nursery) -> None:
        """Show the next partition."""
        shown = self._shown
        polling.turn_to(shown, ((shown.survey.partition or 0) + 1) % self._cluster.partitions)
        self._open(shown.page, nursery)

    def _select(self, number: int, nursery: trio.Nursery) -> None:
        self._shown.selected = number
        self._open(self._shown.page, nursery)

    def _begin(self, key: str, nursery: trio.Nursery) -> None:
        """Ask what a key that stands for a command is to do."""
        shown = self._shown
        if key == "f":
            found = controls.faults(shown.survey, shown.selected)
            self._choices = {str(n): one for n, one in enumerate(found.values(), 1)}
            listed = "  ".join(f"{n} {name}" for n, name in enumerate(found, 1))
            shown.question = f"break node {shown.selected} for {LEASE}\n{listed}"
            shown.choice = "a number shows its command, any other key does nothing"
            return
        wanted = controls.control(key, shown.survey, shown.selected)
        if wanted is not None and wanted.refusal:
            self._say(wanted.refusal, trouble=True)
        elif wanted is not None:
            nursery.start_soon(self._ask, wanted)

    async def _ask(self, wanted: Control) -> None:
        """Say what the command would do, in its own words, and wait for the answer."""
        self._say(f"{wanted.text} --dry-run ...")
        said = await self._esctl(wanted, ("--dry-run",))
        if said.code:
            self._say(wanted.outcome(said), trouble=True)
        else:
            self._choices, self._shown.question = {"y": wanted}, f"{wanted.text}\n{wanted.plan(said)}"
            self._shown.choice = "y does it, any other key does not"
        self._draw()

    async def _carry_out(self, wanted: Control) -> None:
        self._say(f"{wanted.text} ...")
        said = await self._esctl(wanted, wanted.consent)
        self._say(f"{wanted.text}\n{wanted.outcome(said)}", trouble=bool(said.code))
        self._draw()

    async def _esctl(self, wanted: Control, more: Sequence[str]) -> Said:
        """Run the command in a process of its own."""
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
        self._shown.message, self._shown.trouble = text, trouble

    # --- pages -------------------------------------------------------------------------------------

    def _open(self, page: Page, nursery: trio.Nursery) -> None:
        """Show a page, of the node that is selected now, and fill it while it is open."""
        self._filling.cancel()
        self._filling = trio.CancelScope()
        shown = self._shown
        shown.page, shown.scroll, shown.message, shown.trouble = page, 0, "", False
        tasks = {Page.LOG: self._follow_log, Page.EVENTS: self._follow_events, Page.WHY: self._diagnose}
        if page in tasks:
            nursery.start_soon(self._fill, self._filling, tasks[page])

    async def _fill(self, scope: trio.CancelScope, task: Task) -> None:
        with scope:
            await task(self._shown)

    async def _follow_log(self, shown: BoardState) -> None:
        path = backend_named(self._cluster.backend).log_path(self._cluster, shown.selected)
        end = nodelog.size(path)
        shown.log.clear()
        about = (None, shown.survey.partition)
        for line in nodelog.backwards(path, shown.selected, end):
            if line.partition not in about:
                continue
            shown.log.appendleft(line)
            if len(shown.log) == LINES_KEPT:
                break
        follower = nodelog.Follower(path, shown.selected, end)
        while True:
            new = [line for line in follower.new_lines() if line.partition in about]
            shown.log.extend(new)
            shown.scroll += len(new) if shown.scroll else 0  # who reads further up stays there
            self._draw()
            await trio.sleep(POLL_S)

    async def _follow_events(self, shown: BoardState) -> None:
        shown.events, shown.events_of = (), ""
        seen = 0
        while True:
            address = shown.report.node.client
            try:
                link = connect_node(
                    address,
                    cluster=self._cluster.identity,
                    partition=shown.survey.partition,
                    timeout_s=READ_TIMEOUT_S,
                )
                async with link as node:
                    status = await node.status()
                    end = int(status["next_offset"])
                    begin = max(int(status["first_offset"]), end - EVENTS_SHOWN)
                    shown.events = await node.read(begin, EVENTS_SHOWN)
                went_by = max(0, end - seen - EVENTS_SHOWN) if seen else 0
                shown.events_of = f"{went_by:,} more went by since the last look" if went_by else "every one"
                seen = end
            except EventStreamError as error:
                shown.events_of = reason_of(error)
            self._draw()
            await trio.sleep(EVENTS_S)

    async def _diagnose(self, shown: BoardState) -> None:
        shown.why = None
        while True:
            self._draw()
            found = ranking.diagnose_all(await collect.gather_all(self._cluster))
            shown.why = list(presentation.views(found))
            self._draw()
            await trio.sleep(WHY_S)
