"""`esctl timeline`: what happened to a cluster, from the logs of all its nodes, as one story on one axis."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from esctl.cli import filesuffix, timearguments
from esctl.cli.arguments import Since, Until
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument, MachineRefused
from esctl.observe.timeline.moments import Moment, MomentKind, moment_of, moments
from esctl.ui.answer import Answer, Fields, Line, Tone, View
from esctl.ui.terminal import Output, Terminal
from esnode import limits

if TYPE_CHECKING:
    from esctl.observe.timeline.answers import MermaidAnswer, TimelineAnswer, TimelineFileAnswer
    from esctl.observe.timeline.runs import PlaybookRun
    from esctl.observe.timeline.story import Story

app = new_typer()
DEFAULT_SINCE: Final = "1h"
BEFORE_S: Final = limits.MAX_FAULT_LEASE_MS / 1000
"""A fault that is still active at the beginning was set within this."""
LOOK_BACK_LINES: Final = 20_000
"""So far before that it is looked for what a node was."""
MOST_FREQUENT: Final = "client_dropped"
"""Each client that leaves writes one, and none is on the timeline."""
ONE_CLOCK: Final = ("process", "netns")
"""The backends whose nodes are all on this machine."""
AROUND_RUN_S: Final = 2.0
_TELLS_STATE: Final = (
    MomentKind.ROLE,
    MomentKind.STARTED,
    MomentKind.OPENED,
    MomentKind.STOPPED,
    MomentKind.FAILED,
)
Format = Literal["text", "json", "mermaid", "html", "svg"]
_FORMATS: Final[dict[str, Format]] = {
    ".html": "html", ".htm": "html", ".json": "json", ".mmd": "mermaid", ".mermaid": "mermaid",
    ".txt": "text", ".svg": "svg",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """From when to when; without an end it reaches to now."""

    since: datetime
    until: datetime | None

    def has(self, at_s: float) -> bool:
        """Is the time, in seconds since 1970, within it?"""
        return at_s >= self.since.timestamp() and (self.until is None or at_s < self.until.timestamp())


@command(app, "timeline")
def timeline(
    run: Invocation,
    since: Since = None,
    until: Until = None,
    playbook_run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RUN", help="Playbook run to show, with its steps, rates and latencies"
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="File to write: .html, .svg, .mmd, .json or .txt"),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Output format"),
    ] = None,
    linear: Annotated[bool, typer.Option("--linear", help="Draw quiet periods to scale")] = False,
) -> "Answer[TimelineAnswer | MermaidAnswer | TimelineFileAnswer]":
    """Show elections, faults, starts and pauses of all nodes on one time axis; by default, of the last
    hour"""
    from esctl.bench import backgroundloads  # loaded late: `--help` must be quick
    from esctl.observe.timeline import commands, drawing, mermaid, runs
    from esctl.observe.timeline.story import tell

    form = form if into is None else filesuffix.form_of(into, _FORMATS, form) or "text"
    if form in ("html", "svg") and into is None:
        raise InvalidArgument(
            f"{'a page of HTML' if form == 'html' else 'a picture'} goes to a file",
            next_step=f"esctl timeline --save timeline.{form}",
        )
    done = runs.read(playbook_run) if playbook_run is not None else None
    cluster = run.cluster(done.cluster if done is not None and run.cluster_name is None else None)
    window = _window(since, until, done)
    backend = backend_named(cluster.backend)
    found = [
        one for node in cluster.nodes for one in _moments(backend.log_path(cluster, node.id), node.id, window)
    ]
    typed = [one for one in commands.read(cluster.name) if window.has(one.at_s)]
    now = datetime.now(UTC)
    states = {process.node.id: process.state for process in backend.nodes(cluster)}
    loads = [load.directory for load in backgroundloads.listed(cluster)] if done is None else []
    bounds = window.since.timestamp(), (window.until or now).timestamp()
    latency_ms = done.latency_ms if done is not None else runs.latencies(loads)
    acked_per_s = done.acked_per_s if done is not None else runs.rates(loads)
    story = tell(
        [*found, *typed, *(done.moments if done is not None else [])],
        [node.id for node in cluster.nodes],
        since_s=bounds[0],
        until_s=bounds[1],
        down=[number for number, one in states.items() if one is RunState.DOWN and window.until is None],
        latency_ms=runs.fewer(latency_ms, *bounds, max),
        acked_per_s=runs.fewer(acked_per_s, *bounds, min),
    )
    notes = notes_of(cluster, [number for number, one in states.items() if one is RunState.PAUSED])
    if not story.happenings:
        earlier = "" if since is not None or done is not None else "; look further back with --since 1d"
        run.terminal.note(f"the logs tell of nothing since {timearguments.written(window.since)}{earlier}")
    data: TimelineAnswer = {"cluster": cluster.name, **story.as_data(), "notes": notes}
    if into is not None:
        return _written(into, form or "html", story, cluster, notes, data, linear=linear)
    if form == "mermaid":
        text = mermaid.diagram(story)
        drawn: MermaidAnswer = {**data, "mermaid": text}
        return Answer(drawn, [Line(line) for line in text.splitlines()])
    if form == "json":
        run.terminal.output = Output.JSON
    shown: list[View] = [*drawing.views(story, linear=linear), *(Line(note, Tone.DIM) for note in notes)]
    return Answer(data, shown)


def _window(since: str | None, until: str | None, done: "PlaybookRun | None") -> TimeWindow:
    now = datetime.now(UTC)
    begin = timearguments.moment(since or DEFAULT_SINCE, now)
    end = timearguments.moment(until, now) if until is not None else None
    if done is not None:
        times = [one.at_s for one in done.moments]
        around = timedelta(seconds=AROUND_RUN_S)
        begin = begin if since is not None else datetime.fromtimestamp(min(times), UTC) - around
        end = end if until is not None else datetime.fromtimestamp(max(times), UTC) + around
    if end is not None and end <= begin:
        raise InvalidArgument("--until is not after --since", next_step="esctl timeline --since 10m")
    return TimeWindow(begin, end)


def _moments(path: Path, node: int, window: TimeWindow) -> Iterator[Moment]:
    """Those within the window, and before it as far as they tell what the node was when it began."""
    begin = timearguments.written(window.since - timedelta(seconds=BEFORE_S))
    start = nodelog.find(path, begin)
    before = (moment_of(line) for line in islice(nodelog.backwards(path, node, start), LOOK_BACK_LINES))
    told = next((one for one in before if one is not None and one.kind in _TELLS_STATE), None)
    if told is not None:
        yield told
    end = nodelog.find(path, timearguments.written(window.until)) if window.until is not None else None
    yield from moments(nodelog.read(path, node, start, end, without=MOST_FREQUENT))


def notes_of(cluster: Cluster, paused: list[int]) -> list[str]:
    """What one must know to read it right."""
    notes = []
    if cluster.backend not in ONE_CLOCK:
        notes.append("the order is that of the nodes' clocks: on several machines no better than these agree")
    if cluster.backend == "netns":
        notes.append("real links that were cut are in no node's log: only what followed from it is here")
    return [*notes, *(f"node {one} is paused now; it tells for how long when it continues" for one in paused)]


def _written(
    into: Path,
    form: str,
    story: "Story",
    cluster: Cluster,
    notes: list[str],
    data: "TimelineAnswer",
    *,
    linear: bool,
) -> "Answer[TimelineFileAnswer]":
    """Write the story to a file, in whatever form."""
    import json

    from esctl.observe.timeline import mermaid, page
    from esctl.ui import plain

    match form:
        case "html":
            text = page.page(story, f"Timeline of {cluster.name}", notes, linear=linear)
        case "svg":
            text = page.picture(story, f"Timeline of {cluster.name}", linear=linear)
        case "mermaid":
            text = mermaid.diagram(story)
        case "json":
            text = json.dumps(plain.envelope("timeline", Answer(data)), indent=2, default=str) + "\n"
        case _:
            text = _as_text(story, notes, linear=linear)
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineRefused(
            f"cannot write {into}: {error.strerror}", next_step="name another file with --save"
        ) from error
    size = len(text.encode())
    about: list[View] = [
        Line(f"{into} is written"),
        Fields([("happenings", len(story.happenings)), ("bytes", size)]),
    ]
    return Answer({"file": str(into), "bytes": size, "happenings": len(story.happenings)}, about)


def _as_text(story: "Story", notes: list[str], *, linear: bool) -> str:
    """As it would be drawn on a terminal of no colours."""
    import io

    from esctl.observe.timeline import drawing

    paper = io.StringIO()
    terminal = Terminal(Output.TABLE, color=False, stdout=paper)
    for view in (*drawing.views(story, linear=linear), *(Line(note) for note in notes)):
        terminal.view(view)
    return paper.getvalue()
