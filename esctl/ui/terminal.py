"""How answers look: tables for people, tab-separated text for pipes, JSON for programs.

The only module that knows rich, and it loads rich only when something is drawn. Data goes to standard
output, all else to standard error; whether a stream is a terminal is asked of each stream. Colour and
motion end where NO_COLOR, TERM=dumb, --no-color or a pipe say so. Called by `esctl/cli/invocation.py` and the
commands.
"""

import enum
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from esctl.ui import columns, escape, plain, streams
from esctl.ui.answer import (
    Answer,
    Beside,
    Cell,
    Chart,
    Fields,
    Lanes,
    Line,
    Lines,
    Panel,
    Table,
    Tone,
    Trouble,
    Value,
    View,
)
from esctl.ui.progress import Progress, Shown, Silent

if TYPE_CHECKING:
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.text import Text

    from esctl.ui.pane import Pane
    from esctl.ui.screen import Screen

MAX_PIPED_WIDTH: Final = 10_000
"""A table that was asked for on a pipe is never cut."""
GUTTER: Final = 2
"""Between columns of views."""
CHART_WIDTH: Final = 80
"""Of a chart that was asked for on a pipe."""


class Output(enum.StrEnum):
    """The form of what goes to standard output."""

    TABLE = "table"
    JSON = "json"
    PLAIN = "plain"


_STYLES: Final = {
    Tone.NORMAL: "",
    Tone.GOOD: "green",
    Tone.WARN: "yellow",
    Tone.BAD: "bold red",
    Tone.DIM: "bright_black",
    Tone.STRONG: "bold",
    Tone.ACCENT: "cyan",
    Tone.PAUSED: "blue",
    Tone.BROKEN: "magenta",
}


class Terminal:
    """Both output streams of one command."""

    def __init__(
        self,
        output: Output | None = None,
        *,
        color: bool = True,
        ask: bool = True,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
        width: int | None = None,
    ) -> None:
        self._width = width
        """Draw as for a terminal of so many columns, and cut what is longer; None: as the stream is."""
        self._stdout = stdout if stdout is not None else sys.stdout
        self._stderr = stderr if stderr is not None else sys.stderr
        self._dumb = os.environ.get("TERM") == "dumb"
        self._color = color and not os.environ.get("NO_COLOR") and not self._dumb
        self._may_ask = ask
        self._live: rich_progress.Progress | Pane | None = None
        """A progress bar or a pane that is being drawn: what is printed meanwhile goes above it."""
        self.output = output or (Output.TABLE if self._stdout.isatty() and not self._dumb else Output.PLAIN)

    # --- answers and records: standard output ------------------------------------------------------

    def show(self, command: str, answer: Answer[Any]) -> None:
        """Print the end of `command`, all of it, once."""
        if self.output is Output.JSON:
            document = plain.envelope(command, answer)
            self._write(json.dumps(document, indent=2, default=str))
        else:
            for view in answer.views:
                self.view(view)
            for trouble in answer.errors:
                self.trouble(trouble)
        self._stdout.flush()

    def view(self, view: View) -> None:
        """Draw one view at once; nothing under `-o json`, where only the whole answer is printed."""
        with self._above_the_bar():
            if self.output is Output.TABLE:
                self._draw(view)
            elif self.output is Output.PLAIN:
                for line in plain.lines(view):
                    self._write(line)
        self._stdout.flush()  # a step that is done is seen when it is done, through a pipe, too

    def record(self, record: Mapping[str, object], *cells: str) -> None:
        """Print one item of a stream: a line of JSON, or the cells with a tabulator between them."""
        with self._above_the_bar():
            if self.output is Output.JSON:
                self._write(json.dumps(record, default=str, separators=(",", ":")))
            else:
                self._write(plain.row(cells))

    def toned(self, parts: list[tuple[str, Tone]], *, indent: int = 0) -> None:
        """Print one line whose parts have tones, for streams that people read; without parts, a blank one.
        With an `indent`, what does not fit is broken between words and goes on so many columns from the
        left."""
        with self._above_the_bar():
            if self.output is Output.TABLE and self._stdout.isatty() and (self._color or indent):
                console = self._console(self._stdout)
                for line in _broken(_text(parts), console, indent) if indent else [_text(parts)]:
                    console.print(line, soft_wrap=True)
            else:
                self._write("".join(escape.line(text) for text, _ in parts))

    @property
    def columns(self) -> int | None:
        """Of the screen that results go to; None of a pipe or a file."""
        return self._console(self._stdout).width if self._stdout.isatty() else None

    def flush(self) -> None:
        """Push out what was printed."""
        self._stdout.flush()

    def check_reader(self) -> None:
        """For a command whose work is what it prints: raises `ReaderLeft` when that arrives nowhere."""
        if streams.nobody_reads(self._stdout):
            raise streams.ReaderLeft

    # --- messages: standard error ------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Say something that is not the answer."""
        self._say([(text, Tone.DIM)])

    def warn(self, text: str) -> None:
        """Say something that the operator should not miss."""
        self._say([("warning: ", Tone.WARN), (text, Tone.NORMAL)])

    def trouble(self, trouble: Trouble) -> None:
        """Say what happened, why, and what to type next."""
        head = f"error {trouble.code}: " if trouble.code else "error: "
        self._say([(head, Tone.BAD), (trouble.message, Tone.NORMAL)])
        if trouble.cause and trouble.cause not in trouble.message:
            self._say([("  why: ", Tone.DIM), (trouble.cause, Tone.NORMAL)])
        if trouble.next:
            self._say([("  next: ", Tone.DIM), (trouble.next, Tone.STRONG)])

    @property
    def interactive(self) -> bool:
        """True when a person can be asked: a terminal on both sides, and no --no-input."""
        return self._may_ask and sys.stdin.isatty() and self._stderr.isatty()

    def ask(self, question: str) -> str:
        """The answer to `question`, without surrounding blanks. Only when `interactive`."""
        assert self.interactive
        self._stderr.write(f"{question} ")
        self._stderr.flush()
        try:
            return sys.stdin.readline().strip()
        except KeyboardInterrupt:
            self._stderr.write("\n")  # what is said next begins a line
            raise

    # --- long work: standard error -----------------------------------------------------------------

    @contextmanager
    def progress(self, description: str, total: int | None = None, unit: str = "") -> Iterator[Progress]:
        """Show how far the work has come, with rate and time left. Silent where nobody watches."""
        if self.output is Output.JSON or not self._stderr.isatty() or self._dumb:
            yield Silent()
            return
        from rich import progress as bars  # loaded late: `--help` must be quick

        columns: list[bars.ProgressColumn] = [
            bars.SpinnerColumn("dots" if _has_unicode(self._stderr) else "line"),
            bars.TextColumn("{task.description}", markup=False),  # it may name a stranger's file
        ]
        if total is not None:
            columns += [
                bars.BarColumn(32),
                bars.TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
            ]
            # Of work that is measured in seconds neither rate nor time left would say more.
            columns += (
                [] if unit == "s" else [_rate_column(bars, unit), bars.TimeRemainingColumn(compact=True)]
            )
        else:
            columns += [bars.TimeElapsedColumn()]
        console = self._console(self._stderr)
        with bars.Progress(*columns, console=console, transient=True) as shown:
            self._live = shown
            try:
                yield Shown(shown, shown.add_task(escape.line(description), total=total))
            finally:
                self._live = None

    # --- what is redrawn in place ------------------------------------------------------------------

    @property
    def can_live(self) -> bool:
        """Is there a person who sees standard output and can press keys?"""
        return self.output is Output.TABLE and self._stdout.isatty() and sys.stdin.isatty() and not self._dumb

    @contextmanager
    def live(self) -> Iterator["Screen"]:
        """The whole terminal for pictures that are drawn again and again; only when `can_live`."""
        from esctl.ui.screen import Screen  # loaded late: few commands need it

        with Screen(self._stdout, self.rendered) as screen:
            yield screen

    def rendered(self, views: Sequence[View], width: int) -> list[str]:
        """The views as they would be drawn, a text a line, none longer than `width` columns."""
        canvas = io.StringIO()
        inner = Terminal(Output.TABLE, color=self._color, stdout=canvas, width=width)
        for view in views:
            inner.view(view)
        return canvas.getvalue().splitlines()

    @contextmanager
    def pane(self) -> Iterator["Pane"]:
        """Lines that are drawn anew in place; what is printed meanwhile goes above them. Silent where nobody
        watches."""
        from esctl.ui.pane import Pane

        if self.output is Output.JSON or not self._stderr.isatty() or self._dumb:
            yield Pane()
            return
        from rich.console import Group
        from rich.live import Live

        console = self._console(self._stderr)
        pane = self._live = Pane(
            console,
            lambda: Live(console=console, transient=True, auto_refresh=False),
            lambda lines: Group(*(_text(list(parts), cut=True) for parts in lines)),
        )
        pane.start()
        try:
            yield pane
        finally:
            pane.stop()
            self._live = None

    @contextmanager
    def without_pane(self) -> Iterator[None]:
        """Take the pane off the screen while a question is asked."""
        drawn = self._live
        if drawn is not None:
            drawn.stop()
        yield
        if drawn is not None:
            drawn.start()

    # --- inside ------------------------------------------------------------------------------------

    @contextmanager
    def _above_the_bar(self) -> Iterator[None]:
        """Take a progress bar off the screen while something else is printed there."""
        bar = self._live if self._stdout.isatty() else None
        if bar is not None:
            bar.stop()
        yield
        if bar is not None:
            self._stdout.flush()
            bar.start()

    def _write(self, line: str) -> None:
        self._stdout.write(line + "\n")

    def _say(self, parts: list[tuple[str, Tone]]) -> None:
        if self._live is not None:
            self._live.console.print(_text(parts, of_lines=True), soft_wrap=True)
        elif self._color and self._stderr.isatty():
            self._console(self._stderr).print(_text(parts, of_lines=True), soft_wrap=True)
        else:
            self._stderr.write("".join(escape.lines(text) for text, _ in parts) + "\n")
            self._stderr.flush()

    def _console(self, stream: IO[str]) -> "Console":
        from rich.console import Console  # loaded late: `--help` must be quick

        return Console(
            file=stream,
            no_color=not self._color,
            color_system="auto" if self._color else None,
            width=self._width or (None if stream.isatty() else MAX_PIPED_WIDTH),
            force_terminal=True if self._width else None,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def _draw(self, view: View) -> None:
        from rich import box
        from rich.table import Table as RichTable

        console = self._console(self._stdout)
        drawn = RichTable(box=None, show_header=False, pad_edge=False)
        match view:
            case Panel():
                self._draw_panel(console, view)
                return
            case Line():
                self._print_line(console, _text(view.parts))
                return
            case Beside(parts):
                self._draw_beside(console, parts)
                return
            case Chart():
                self._draw_chart(console, view)
                return
            case Lanes():
                from esctl.ui import swimlanes  # loaded late: most commands draw none

                width = console.width if self._stdout.isatty() else CHART_WIDTH
                for line in swimlanes.draw(view, width):
                    console.print(_text(line), soft_wrap=True)
                return
            case Table() if not view.rows:
                console.print(_text([(view.empty or "nothing", Tone.DIM)]))
                return
            case Table():
                drawn = RichTable(
                    box=box.SIMPLE_HEAD, header_style="bold", border_style="bright_black", show_edge=False
                )
                texts = [
                    [*map(escape.line, view.columns)],
                    *([_shown(value)[0] for value in row] for row in view.rows),
                ]
                solid = [all(_is_number(row[n]) for row in view.rows) for n in range(len(view.columns))]
                shown = columns.fitting(texts, solid, console.width)
                texts = [row[:shown] for row in texts]
                whole = columns.whole(texts, console.width)
                for place, column in enumerate(texts[0]):
                    numbers = solid[place]
                    drawn.add_column(column, no_wrap=numbers or place in whole, overflow="fold")
                    drawn.columns[-1].justify = "right" if numbers else "left"
                for row in view.rows:
                    drawn.add_row(*(_cell(value) for value in row[:shown]))
                if columns.needed(texts) > console.width:
                    drawn.padding = (0, 1, 0, 0)  # narrower gaps before a cell is broken in two
            case Fields():
                drawn.add_column(style="bright_black", no_wrap=True)
                drawn.add_column(overflow="fold")
                for name, value in view.pairs:
                    drawn.add_row(_text([(name, Tone.NORMAL)]), _cell(value))
        if view.title:
            console.print(_text([(view.title, Tone.STRONG)]))
        console.print(drawn)
        if isinstance(view, Table) and len(drawn.columns) < len(view.columns) and not self._width:
            left = ", ".join(view.columns[len(drawn.columns) :])
            console.print(_text([(f"no room for: {left}", Tone.DIM)]))

    def _print_line(self, console: "Console", line: "Text") -> None:
        """On a page of fixed width a line is cut; elsewhere the terminal breaks it."""
        if self._width:
            console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            console.print(line, soft_wrap=True)

    def _draw_panel(self, console: "Console", view: Panel) -> None:
        from rich.console import Group
        from rich.panel import Panel as RichPanel

        frame = RichPanel.fit(
            Group(*(_text(list(line)) for line in view.lines)),
            title=_text([(view.title, view.tone)]),
            title_align="left",
            border_style=_STYLES[view.tone],
            padding=(0, 1),
        )
        console.print(frame)

    def _draw_beside(self, console: "Console", parts: Sequence[Sequence[View]]) -> None:
        from rich.text import Text

        width = (console.width - GUTTER * (len(parts) - 1)) // max(1, len(parts))
        drawn = [self.rendered(views, width) for views in parts]
        for row in range(max(map(len, drawn), default=0)):
            whole = Text()
            for place, lines in enumerate(drawn):
                piece = Text.from_ansi(lines[row]) if row < len(lines) else Text()
                piece.truncate(width, pad=place + 1 < len(drawn))
                whole.append_text(piece)
                whole.append(" " * GUTTER if place + 1 < len(drawn) else "")
            console.print(whole, soft_wrap=True)

    def _draw_chart(self, console: "Console", view: Chart) -> None:
        from esctl.ui import chart  # loaded late: most commands draw none

        seen = self._stdout.isatty() or self._width is not None
        dots = self._color and seen and _has_unicode(self._stdout)
        for line in chart.draw(view, console.width if seen else CHART_WIDTH, dots=dots):
            console.print(_text(line), soft_wrap=True)


def _broken(text: "Text", console: "Console", indent: int) -> Iterator["Text"]:
    """Lines that fit, broken between words, all but the first `indent` columns from the left."""
    first = text.wrap(console, console.width)[0]
    yield first
    rest = len(text.plain[len(first) :].lstrip())
    for line in text[len(text) - rest :].wrap(console, console.width - indent) if rest else ():
        line.pad_left(indent)
        yield line


def _has_unicode(stream: IO[str]) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") in ("utf8", "utf16")


def _rate_column(bars: Any, unit: str) -> Any:
    """Items a second, in words of the task."""

    class Rate(bars.ProgressColumn):  # type: ignore[misc]  # the base class is loaded late
        def render(self, task: Any) -> "Text":
            return _text([(f"{task.speed or 0:,.0f} {unit}/s", Tone.DIM)])

    from rich.table import Column

    return Rate(table_column=Column(no_wrap=True))  # on a narrow terminal the bar gives way


def _shown(value: Value) -> tuple[str, Tone]:
    if isinstance(value, Lines):
        return "\n".join(map(escape.line, value.parts)), Tone.NORMAL
    inner, tone = (value.value, value.tone) if isinstance(value, Cell) else (value, Tone.NORMAL)
    if inner is None:
        return "-", Tone.DIM
    if isinstance(inner, bool):
        return ("yes" if inner else "no"), tone
    if isinstance(inner, int):
        return f"{inner:,}", tone
    if isinstance(inner, float):
        return f"{inner:,.2f}", tone
    return escape.line(inner), tone


def _cell(value: Value) -> "Text":
    return _text([_shown(value)], of_lines=True)  # its lines are its own: a stranger's are escaped


def _is_number(value: Value) -> bool:
    inner = value.value if isinstance(value, Cell) else value
    return inner is None or (isinstance(inner, int | float) and not isinstance(inner, bool))


def _text(parts: list[tuple[str, Tone]], *, cut: bool = False, of_lines: bool = False) -> "Text":
    from rich.text import Text  # loaded late: `--help` must be quick

    shown = escape.lines if of_lines else escape.line
    text = Text.assemble(*((shown(text), _STYLES[tone]) for text, tone in parts))
    text.no_wrap, text.overflow = (True, "ellipsis") if cut else (text.no_wrap, text.overflow)
    return text
