"""`esctl logs`: what all nodes wrote, in the order of time; with -f, as they write it."""

from collections import deque
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import typer

from esctl import candidates, nodelog
from esctl.answer import Answer, Tone
from esctl.backends import backend_named
from esctl.invocation import Invocation, command, new_typer
from esctl.nodelog import LogLine
from esctl.terminal import Terminal

app = new_typer()
POLL_S: Final = 0.1
_TONES: Final = {"warning": Tone.WARN, "error": Tone.BAD, "critical": Tone.BAD, "debug": Tone.DIM}


@command(app, "logs")
def logs(
    run: Invocation,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as the nodes write, until Ctrl-C")
    ] = False,
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option("--level", help="Show this level and graver ones"),
    ] = "debug",
    node: Annotated[
        list[int] | None,
        typer.Option(
            "--node", metavar="ID", help="Show this node; may be repeated", autocompletion=candidates.nodes
        ),
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, metavar="LINES", help="Begin with so many lines at the end")
    ] = None,
) -> Answer | None:
    """Show the logs of all nodes, merged by time"""
    cluster = run.cluster()
    backend = backend_named(cluster.backend)
    numbers = [cluster.node(number).id for number in node] if node else [n.id for n in cluster.nodes]
    paths = {number: backend.log_path(cluster, number) for number in numbers}
    ends = {number: nodelog.size(path) for number, path in paths.items()}
    begun = nodelog.merge(nodelog.read(path, number, end=ends[number]) for number, path in paths.items())
    wanted = (line for line in begun if nodelog.at_least(level, line))
    printed = 0
    for line in wanted if tail is None else deque(wanted, maxlen=tail):
        _print(run.terminal, line)
        printed += 1
    run.terminal.flush()
    if not printed and not follow:
        run.terminal.note(f"no lines of level {level} or graver" if level != "debug" else "no lines")
    if follow:
        followers = [nodelog.Follower(path, number, ends[number]) for number, path in paths.items()]
        run.on_interrupt(lambda: None)
        run.trio(lambda: _follow(run.terminal, followers, level))
    return None


async def _follow(terminal: Terminal, followers: list[nodelog.Follower], level: str) -> None:
    import trio  # loaded late: `esctl logs` without -f does not need it

    while True:
        for line in _arrived(followers):
            if nodelog.at_least(level, line):
                _print(terminal, line)
        terminal.flush()
        await trio.sleep(POLL_S)  # a file does not tell when it grows


def _arrived(followers: list[nodelog.Follower]) -> Iterator[LogLine]:
    return nodelog.merge(iter(follower.new_lines()) for follower in followers)


def _print(terminal: Terminal, line: LogLine) -> None:
    if terminal.output == "json":
        terminal.record(line.fields, "")
        return
    tone = _TONES.get(line.level, Tone.NORMAL)
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
