"""`esctl demo`: the guided tour on a cluster of its own, from the first node to the proof.

The cluster is cleared away at the end, after Ctrl-C and after an error too, unless --keep. What happens on
the way is in `esctl/chaos/tour.py`; here it is told.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli import packagedfiles
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import state
from esctl.clusters.backends import layout
from esctl.clusters.backends.interface import NodeOptions
from esctl.errors import CleanUpIncomplete, ClusterExists, Inconclusive, VerdictFailed
from esctl.exits import Exit, exit_of
from esctl.ui.answer import Answer, Panel, Tone, Trouble, View
from esctl.ui.progress import Progress
from esctl.ui.terminal import Output, Terminal
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.chaos.tour import DemoAnswer, Tour, TourStory

app = new_typer()
NAME: Final = "demo"
NODES: Final = 3
CLEAR_TIMEOUT_S: Final = 4.0
"""Less than what the frame allows after Ctrl-C."""
LINE_WIDTH: Final = 58


@command(app, "demo", impact="rw")
def demo(
    run: Invocation,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the cluster running at the end")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="File of events to send instead of the flights"),
    ] = None,
) -> "Answer[DemoAnswer]":
    """Take the tour: three nodes, 27,004 real events, a killed leader, and the proof that nothing was lost"""
    from esctl.chaos.tour import Tour, read_events
    from esctl.clusters.backends import backend_named

    path = source if source is not None else packagedfiles.flights()
    events = read_events(path)
    guide = Storyteller(run.terminal)
    with state.locked("", run.terminal.note):
        cluster = layout.plan(_free_name(run.cluster_name), NODES)
        layout.describe(cluster, NodeOptions(cluster.storage))
    tour = Tour(cluster, backend_named(cluster.backend), path, events, guide)
    left = [cluster.data_dir]  # until it is cleared away
    run.on_interrupt(
        lambda: Answer(
            _data(tour.story, cluster, keep), _cleared(cluster, keep, left), _remains(cluster, keep, left)
        )
    )
    guide.begin(f"{NODES} nodes, {tour.story.total:,} events, one kill -9", cluster.name)
    failure: EventStreamError | None = None
    try:
        run.trio(lambda: _guided(tour, cluster, keep, left))
    except EventStreamError as error:
        failure = error
    finally:
        if not keep and not left:
            state.remove(cluster.name)
    return _end(tour.story, cluster, keep, left, failure)


async def _guided(tour: "Tour", cluster: state.Cluster, keep: bool, left: list[Path]) -> None:
    """The tour, and the clearing away, which nothing can interrupt but a second Ctrl-C."""
    import trio

    from esctl.chaos.tour import clear
    from esctl.clusters.backends import backend_named

    try:
        await tour.run()
    finally:
        if not keep:
            with trio.move_on_after(CLEAR_TIMEOUT_S, shield=True):
                left[:] = await clear(cluster, backend_named(cluster.backend))


class Storyteller:
    """Tells the tour on the terminal, a line a step. Under `-o json` it says nothing."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def begin(self, text: str, name: str) -> None:
        """The title."""
        self._say([(text, Tone.STRONG), (f"   (cluster {name})", Tone.DIM)])

    @contextmanager
    def working(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """See `tour.Guide`."""
        with self._terminal.progress(text, total, "events") as bar:
            yield bar

    def done(self, text: str, detail: str = "") -> None:
        """See `tour.Guide`."""
        self._say(
            [
                ("  ✓ ", Tone.GOOD),
                (text.ljust(LINE_WIDTH) if detail else text, Tone.NORMAL),
                (detail, Tone.DIM),
            ]
        )

    def _say(self, parts: list[tuple[str, Tone]]) -> None:
        if self._terminal.output is not Output.JSON:
            self._terminal.toned(parts)
            self._terminal.flush()


def _free_name(wanted: str | None) -> str:
    """A name for the cluster: the wanted one, or `demo`, `demo-2` and so on."""
    taken = set(state.names())
    if wanted is not None:
        state.check_name(wanted)
        if wanted in taken:
            raise ClusterExists(
                f"there is a cluster {wanted} already; the tour makes its own",
                next_step="esctl demo, without --cluster",
            )
        return wanted
    return next(
        name for n in range(1, len(taken) + 2) if (name := NAME if n == 1 else f"{NAME}-{n}") not in taken
    )


def _end(
    story: "TourStory", cluster: state.Cluster, keep: bool, left: list[Path], failure: EventStreamError | None
) -> "Answer[DemoAnswer]":
    """The verdict first, then what could not be cleared away."""
    views = [*_verdict(story), *_cleared(cluster, keep, left)]
    errors: list[Trouble] = []
    code = Exit.OK
    if failure is not None:
        errors.append(Trouble.of(failure))
        code = exit_of(failure)
    elif story.verdict is not None and not story.proved:
        code = Exit.VERDICT_FAILED
        errors.append(
            Trouble(
                VerdictFailed.code, VerdictFailed.title, _flaws(story), "esctl demo --keep, then esctl verify"
            )
        )
    elif not story.conclusive:
        code = Exit.INCONCLUSIVE
        errors.append(
            Trouble(Inconclusive.code, "the tour proves nothing", _why_inconclusive(story), "esctl demo")
        )
    remains = _remains(cluster, keep, left)
    if remains:
        code = code or Exit.CLEANUP_INCOMPLETE
    errors += remains
    return Answer(_data(story, cluster, keep), views, errors, code)


def _data(story: "TourStory", cluster: state.Cluster, keep: bool) -> "DemoAnswer":
    return {**story.as_data(), "cluster": cluster.name, "kept": keep}


def _remains(cluster: state.Cluster, keep: bool, left: list[Path]) -> list[Trouble]:
    """What is still there and should not be; the cluster is in the list then."""
    if keep or not left:
        return []
    error = CleanUpIncomplete(
        f"could not be cleared away: {', '.join(map(str, left))}",
        next_step=f"esctl cluster destroy {cluster.name} --confirm {cluster.name}",
    )
    return [Trouble.of(error)]


def _verdict(story: "TourStory") -> list[View]:
    verdict = story.verdict
    if verdict is None:
        return []
    good = story.proved and story.conclusive
    tone = Tone.GOOD if good else Tone.BAD
    lines: list[list[tuple[str, Tone]]] = []
    for number, node in sorted(verdict.nodes.items()):
        digest = node.hash or "no hash"
        lines.append(
            [
                (f"node {number}   ", Tone.STRONG),
                (f"{node.next_offset:,} events   ", Tone.NORMAL),
                (digest, Tone.DIM),
            ]
        )
    counts = [
        (f"{verdict.lost} acked lost", verdict.lost == 0),
        (f"{verdict.duplicates} duplicates", verdict.duplicates == 0),
        ("equal hashes" if verdict.hashes_equal else "hashes differ", verdict.hashes_equal),
    ]
    lines.append([])
    lines.append(
        [
            part
            for text, fine in counts
            for part in ((text, Tone.GOOD if fine else Tone.BAD), ("    ", Tone.NORMAL))
        ]
    )
    title = "each event once, on every node" if good else "not proved"
    return [Panel(title, lines, tone)]


def _flaws(story: "TourStory") -> str:
    verdict = story.verdict
    assert verdict is not None
    found = [finding.text for finding in verdict.examples]
    if verdict.events != story.total:
        found.append(f"the log has {verdict.events:,} events, not {story.total:,}")
    if story.second.duplicates != story.total:
        found.append(f"the second sending found {story.second.duplicates:,} of {story.total:,}")
    return "; ".join(found)


def _why_inconclusive(story: "TourStory") -> str:
    if not story.in_mid_stream:
        return "the leader was not killed while events were on their way"
    if story.reading is not None and story.reading.troubles:
        return "; ".join(f"node {number}: {why}" for number, why in sorted(story.reading.troubles.items()))
    return f"{story.first.acked:,} and {story.second.acked:,} of {story.total:,} events were acked"


def _cleared(cluster: state.Cluster, keep: bool, left: list[Path]) -> list[View]:
    from esctl.ui.answer import Fields, Line

    if keep:
        return [Fields([("next", f"esctl status --cluster {cluster.name}")])]
    return (
        []
        if left
        else [Line("the cluster is cleared away; to have one that stays: esctl cluster up", Tone.DIM)]
    )
