"""`esctl timeline`: what happened to a cluster, from the logs of all its nodes, as one story on one axis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from esctl.cli import filesuffix, timearguments
from esctl.cli.arguments import OnlyPartition, Since, Until
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
    from esctl.observe.timeline.ringstory import RingTimelineAnswer
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


@command(app, "timeline", partitions=True)
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
    partition: OnlyPartition = None,
) -> "Answer[TimelineAnswer | RingTimelineAnswer | MermaidAnswer | TimelineFileAnswer]":
    """Show elections, faults, starts and pauses of all nodes on one time axis; by default, of the last
    hour"""
    from esctl.observe.timeline import drawing, mermaid, ringstory, runs  # loaded late: for `--help`

    form = form if into is None else filesuffix.form_of(into, _FORMATS, form) or "text"
    if form in ("html", "svg") and into is None:
        raise InvalidArgument(
            f"{'a page of HTML' if form == 'html' else 'a picture'} goes to a file",
            next_step=f"esctl timeline --save timeline.{form}",
        )
    done = runs.read(playbook_run) if playbook_run is not None else None
    cluster = run.cluster(done.cluster if done is not None and run.cluster_name is None else None)
    only = run.partition(cluster, partition, required=form not in (None, "text", "json"))
    stories, paused = _stories(cluster, only, _window(since, until, done), done)
    notes = notes_of(cluster, paused)
    if not any(story.happenings for story in stories.values()):
        begun = timearguments.written(_window(since, until, done).since)
        earlier = "" if since is not None or done is not None else "; look further back with --since 1d"
        run.terminal.note(f"the logs tell of nothing since {begun}{earlier}")
    if form == "json" and into is None:
        run.terminal.output = Output.JSON
    if len(stories) > 1:
        ring = ringstory.RingStory({number or 0: story for number, story in stories.items()})
        whole = ring.as_data(cluster.name, notes)
        shown = [*ringstory.views(ring, linear=linear), *(Line(note, Tone.DIM) for note in notes)]
        if into is None:
            return Answer(whole, shown)
        text = _json(whole) if form == "json" else _as_text(shown)
        return _saved(into, text, len(whole["happenings"]))
    story = stories[only]
    data: TimelineAnswer = {"cluster": cluster.name, **story.as_data(), "notes": notes}
    if only is not None:
        data["partition"] = only
    if into is not None:
        return _written(into, form or "html", story, cluster, notes, data, linear=linear)
    if form == "mermaid":
        text = mermaid.diagram(story)
        drawn: MermaidAnswer = {**data, "mermaid": text}
        return Answer(drawn, [Line(line) for line in text.splitlines()])
    return Answer(data, [*drawing.views(story, linear=linear), *(Line(note, Tone.DIM) for note in notes)])


def _stories(
    cluster: Cluster, only: int | None, window: TimeWindow, done: "PlaybookRun | None"
) -> "tuple[dict[int | None, Story], list[int]]":
    """The story of each partition, or of `only` one, and the nodes that are paused now."""
    from esctl.bench import backgroundloads  # loaded late: `--help` must be quick
    from esctl.observe.timeline import commands, runs
    from esctl.observe.timeline.story import tell
    from esctl.query import ringsurvey

    backend = backend_named(cluster.backend)
    typed = [one for one in commands.read(cluster.name) if window.has(one.at_s)]
    states = {process.node.id: process.state for process in backend.nodes(cluster)}
    loads = [load.directory for load in backgroundloads.listed(cluster)] if done is None else []
    bounds = window.since.timestamp(), (window.until or datetime.now(UTC)).timestamp()
    latency_ms = done.latency_ms if done is not None else runs.latencies(loads)
    acked_per_s = done.acked_per_s if done is not None else runs.rates(loads)
    told = {
        number: [
            *(
                one
                for node in cluster.nodes
                for one in _moments(backend.log_path(cluster, node.id), node.id, window, number)
            ),
            *typed,
            *(done.moments if done is not None else []),
        ]
        for number in ringsurvey.numbers(cluster, only)
    }
    times = [one.at_s for moments_ in told.values() for one in moments_ if one.at_s >= bounds[0]]
    stories = {
        number: tell(
            moments_,
            [node.id for node in cluster.nodes],
            since_s=bounds[0],
            begin_s=min(times, default=None),
            until_s=bounds[1],
            down=[node for node, one in states.items() if one is RunState.DOWN and window.until is None],
            latency_ms=runs.fewer(latency_ms, *bounds, max),
            acked_per_s=runs.fewer(acked_per_s, *bounds, min),
        )
        for number, moments_ in told.items()
    }
    return stories, [number for number, one in states.items() if one is RunState.PAUSED]


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


def _moments(path: Path, node: int, window: TimeWindow, partition: int | None) -> Iterator[Moment]:
    """Those within the window, and before it as far as they tell what the node was when it began.

    With several partitions, those of its process for one of them.
    """
    begin = timearguments.written(window.since - timedelta(seconds=BEFORE_S))
    start = nodelog.find(path, begin)
    lines = islice(nodelog.backwards(path, node, start), LOOK_BACK_LINES)
    before = (moment_of(line) for line in lines if line.partition == partition)
    told = next((one for one in before if one is not None and one.kind in _TELLS_STATE), None)
    if told is not None:
        yield told
    end = nodelog.find(path, timearguments.written(window.until)) if window.until is not None else None
    found = nodelog.read(path, node, start, end, without=MOST_FREQUENT)
    yield from moments(line for line in found if line.partition == partition)


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
    from esctl.observe.timeline import drawing, mermaid, page

    match form:
        case "html":
            text = page.page(story, f"Timeline of {cluster.name}", notes, linear=linear)
        case "svg":
            text = page.picture(story, f"Timeline of {cluster.name}", linear=linear)
        case "mermaid":
            text = mermaid.diagram(story)
        case "json":
            text = _json(data)
        case _:
            text = _as_text([*drawing.views(story, linear=linear), *map(Line, notes)])
    return _saved(into, text, len(story.happenings))


def _json(data: Mapping[str, Any]) -> str:
    """The document that `-o json` prints."""
    import json

    from esctl.ui import plain

    return json.dumps(plain.envelope("timeline", Answer(data)), indent=2, default=str) + "\n"


def _saved(into: Path, text: str, happenings: int) -> "Answer[TimelineFileAnswer]":
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
        Fields([("happenings", happenings), ("bytes", size)]),
    ]
    return Answer({"file": str(into), "bytes": size, "happenings": happenings}, about)


def _as_text(views: Sequence[View]) -> str:
    """As it would be drawn on a terminal of no colours."""
    import io

    paper = io.StringIO()
    terminal = Terminal(Output.TABLE, color=False, stdout=paper)
    for view in views:
        terminal.view(view)
    return paper.getvalue()
