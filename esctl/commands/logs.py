"""`esctl logs`: what all nodes wrote, in the order of time; with -f, as they write it."""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final, NotRequired, TypedDict

import typer

from esctl.cli import candidates, timearguments
from esctl.cli.arguments import Since, Until
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.nodelog import LogLine
from esctl.errors import InvalidArgument
from esctl.observe.logfilter import TONES, Filter
from esctl.ui.answer import Tone
from esctl.ui.terminal import Terminal
from esctl.ui.values import NodeId
from esnode.config import LogLevel

app = new_typer()
POLL_S: Final = 0.1


class LogRecord(TypedDict):
    """A line of a node's log; each kind of event has its own fields beside these."""

    event: str
    time: NotRequired[str]
    level: NotRequired[str]
    node: NotRequired[NodeId]
    term: NotRequired[int]
    index: NotRequired[int]


@command(app, "logs", partitions=True, record=Annotated[LogRecord, ("additionalProperties", True)])
def logs(
    run: Invocation,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines as the nodes write them, until Ctrl-C")
    ] = False,
    level: Annotated[
        LogLevel,
        typer.Option("--level", help="Lowest level to show"),
    ] = "debug",
    node: Annotated[
        list[int] | None,
        typer.Option(
            "--node", metavar="ID", help="Node to show; repeatable", autocompletion=candidates.nodes
        ),
    ] = None,
    tail: Annotated[
        int | None,
        typer.Option("--tail", min=0, metavar="LINES", help="First show only this number of existing lines"),
    ] = None,
    since: Since = None,
    until: Until = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", metavar="KIND", help="Kind of log events to show, such as fault_*; repeatable"
        ),
    ] = None,
    grep: Annotated[
        str,
        typer.Option(
            "--grep", metavar="TEXT", help="Show only lines that contain this text; case does not matter"
        ),
    ] = "",
) -> None:
    """Show the logs of all nodes, merged by time"""
    if follow and until is not None:
        raise InvalidArgument("--follow has no end, and --until names one", next_step="take one of the two")
    cluster = run.cluster()
    now = datetime.now(UTC)
    wanted = Filter(
        level, event or (), grep,
        since="" if since is None else timearguments.written(timearguments.moment(since, now)),
        until="" if until is None else timearguments.written(timearguments.moment(until, now)),
    )  # fmt: skip
    backend = backend_named(cluster.backend)
    numbers = [cluster.node(number).id for number in node] if node else [n.id for n in cluster.nodes]
    paths = {number: backend.log_path(cluster, number) for number in numbers}
    ends = {number: nodelog.size(path) for number, path in paths.items()}
    begun = nodelog.merge(
        nodelog.between(path, number, wanted.since, wanted.until, ends[number])
        for number, path in paths.items()
    )
    printed = 0
    for line in wanted.of(begun) if tail is None else deque(wanted.of(begun), maxlen=tail):
        _print(run.terminal, line)
        run.terminal.check_reader()
        printed += 1
    run.terminal.flush()
    _explain_silence(run.terminal, wanted, printed, follow=follow)
    if follow:
        followers = [nodelog.Follower(path, number, ends[number]) for number, path in paths.items()]
        run.on_interrupt(lambda: None)
        run.trio(lambda: _follow(run.terminal, followers, wanted))


def _explain_silence(terminal: Terminal, wanted: Filter, printed: int, *, follow: bool) -> None:
    """Say why there is nothing, and which kinds of events there would be."""
    if wanted.unseen:
        kinds = ", ".join(sorted(wanted.seen)) or "none"
        terminal.warn(f"no line is of the kind {' or '.join(wanted.unseen)}; there are: {kinds}")
    elif not printed and not follow:
        terminal.note("no lines that match" if wanted.seen else f"no lines{_bounds(wanted)}")


def _bounds(wanted: Filter) -> str:
    level = f" of level {wanted.level} or graver" if wanted.level != "debug" else ""
    since = f" since {wanted.since}" if wanted.since else ""
    return f"{level}{since}{f' before {wanted.until}' if wanted.until else ''}"


async def _follow(terminal: Terminal, followers: list[nodelog.Follower], wanted: Filter) -> None:
    import trio  # loaded late: `esctl logs` without -f does not need it

    while True:
        for line in wanted.of(_arrived(followers)):
            _print(terminal, line)
        terminal.flush()
        terminal.check_reader()
        await trio.sleep(POLL_S)  # a file does not tell when it grows


def _arrived(followers: list[nodelog.Follower]) -> Iterator[LogLine]:
    return nodelog.merge(iter(follower.new_lines()) for follower in followers)


def _print(terminal: Terminal, line: LogLine) -> None:
    if terminal.output == "json":
        terminal.record(line.fields)
        return
    tone = TONES.get(line.level, Tone.NORMAL)
    text = line.fields["text"] if line.event == nodelog.RAW else line.event
    details = "" if line.event == nodelog.RAW else line.details
    terminal.toned(
        [
            (f"{line.time:<27} ", Tone.DIM),
            (f"node-{line.node} ", Tone.ACCENT),
            (f"{line.level:<8}", tone),
            (text, Tone.STRONG if tone is Tone.NORMAL else tone),
            (f" {details}" if details else "", Tone.DIM),
        ]
    )
