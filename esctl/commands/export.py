"""`esctl export`: events out of the log, into a file that other tools read.

An SQLite database is gone on with where the last export ended; a file of lines is always new, and what is in
it `esctl produce` takes back.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired, TypedDict

import typer

from esctl.cli.arguments import OnlyPartition
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument
from esctl.ui.answer import Answer, Fields, Line, Tone, Value
from esctl.ui.escape import quoted
from esctl.ui.values import ClusterName, Count, FilePath

if TYPE_CHECKING:
    from esctl.events.export import ExportProgress, Selection, Sink, Written

app = new_typer()


class ExportedPartition(TypedDict):
    """A partition, and where an export of it goes on."""

    id: Count
    next_offset: Count


class ExportAnswer(TypedDict):
    """What was written so far, and where an export goes on."""

    cluster: ClusterName
    file: FilePath
    events: Count
    next_offset: Annotated[Count | None, "null where several partitions have several"]
    partitions: NotRequired[list[ExportedPartition]]


DATABASES: Final = (".db", ".sqlite", ".sqlite3")


@command(app, "export", impact="rw", partitions=True)
def export(
    run: Invocation,
    to: Annotated[
        Path,
        typer.Option("--save", metavar="FILE", help="File to write: FILE.db for SQLite, or FILE.ndjson[.gz]"),
    ],
    from_offset: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="OFFSET",
            min=0,
            help="First offset; by default, an existing database is continued where it ends",
        ),
    ] = None,
    max_events: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="Stop after this number of events")
    ] = None,
    where_source: Annotated[
        str | None, typer.Option("--where-source", metavar="SOURCE", help="Export only events of this source")
    ] = None,
    partition: OnlyPartition = None,
) -> Answer[ExportAnswer]:
    """Copy events into an SQLite database or an NDJSON file

    With several partitions, the events of each source are copied in order, and the rows of a database have
    the number of their partition; an offset needs --partition"""
    from esctl.events import export as exporting  # loaded late: it brings trio and the client

    cluster, written = run.cluster(), exporting.Written()
    one = run.partition(cluster, partition, required=from_offset is not None)
    begins = {} if from_offset is None else {one or 0: from_offset}
    chosen = exporting.Selection(begins, max_events, where_source, one)
    run.on_interrupt(
        lambda: _answer(cluster, to, written), "run it again: a database continues where it was interrupted"
    )
    if to.suffix in DATABASES:
        ancestors = run.trio(lambda: _ancestors(cluster))
        with exporting.open_database(to, cluster, ancestors) as database:
            chosen = replace(chosen, begins={**database.next_offsets, **begins})
            _copy(run, cluster, chosen, database, written)
    elif to.name.endswith((".ndjson", ".ndjson.gz")):
        with exporting.open_lines(to) as lines:
            _copy(run, cluster, chosen, lines, written)
    else:
        raise InvalidArgument(
            f"{to} ends in none of {', '.join(DATABASES)}, .ndjson and .ndjson.gz",
            next_step=f"esctl export --save {quoted((to.stem or 'events') + '.db')} --cluster {cluster.name}",
        )
    return _answer(cluster, to, written)


def _copy(run: Invocation, cluster: Cluster, chosen: "Selection", sink: "Sink", written: "Written") -> None:
    from esctl.events import export as exporting  # loaded late: it brings trio and the client

    with ExitStack() as bars:

        def begin(total: int) -> "ExportProgress":
            return bars.enter_context(run.terminal.progress(f"exporting {cluster.name}", total, "events"))

        run.trio(lambda: exporting.export(cluster, chosen, sink, written, begin))


async def _ancestors(cluster: Cluster) -> list[tuple[str, int]]:
    """What the cluster was restored from, as a node says; nothing where none answers."""
    from esctl.query import ringsurvey  # loaded late: it brings trio and the client

    ring = await ringsurvey.ask(cluster, only=0 if cluster.partitions > 1 else None)
    up = ring.partitions[0].up
    status: dict[str, Any] = (up[0].status if up else None) or {}
    return [(str(name), int(end)) for name, end in status.get("ancestors", [])]


def _answer(cluster: Cluster, to: Path, written: "Written") -> Answer[ExportAnswer]:
    offsets, several = written.next_offsets, cluster.partitions > 1
    data: ExportAnswer = {
        "cluster": cluster.name, "file": str(to), "events": written.events,
        "next_offset": None if several else offsets.get(0, 0),
    }  # fmt: skip
    if several:
        data["partitions"] = [{"id": number, "next_offset": offsets[number]} for number in sorted(offsets)]
    ends = ", ".join(f"{offsets[number]:,} of partition {number}" for number in sorted(offsets))
    pairs: list[tuple[str, Value]] = [("next offset", ends if several else offsets.get(0, 0))]
    if to.suffix in DATABASES:
        pairs.append(("next", f"sqlite-utils tables {quoted(to)} --counts --columns"))
    else:
        pairs.append(("next", f"esctl produce {quoted(to)} --cluster ANOTHER"))
    return Answer(data, [Line(f"wrote {written.events:,} events into {to}", Tone.GOOD), Fields(pairs)])
