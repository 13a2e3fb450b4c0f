"""`esctl export`: events out of the log, into a file that other tools read.

An SQLite database is gone on with where the last export ended; a file of lines is always new, and what is in
it `esctl produce` takes back.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument
from esctl.ui.answer import Answer, Fields, Line, Tone, Value
from esctl.ui.escape import quoted
from esctl.ui.values import ClusterName, Count, FilePath

if TYPE_CHECKING:
    from esctl.events.export import ExportProgress, Selection, Sink, Written

app = new_typer()


class ExportAnswer(TypedDict):
    """What was written so far, and where an export goes on."""

    cluster: ClusterName
    file: FilePath
    events: Count
    next_offset: Count


DATABASES: Final = (".db", ".sqlite", ".sqlite3")


@command(app, "export", impact="rw")
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
) -> Answer[ExportAnswer]:
    """Copy events into an SQLite database or an NDJSON file"""
    from esctl.events import export as exporting  # loaded late: it brings trio and the client

    cluster, written = run.cluster(), exporting.Written()
    run.on_interrupt(
        lambda: _answer(cluster, to, written), "run it again: a database continues where it was interrupted"
    )
    if to.suffix in DATABASES:
        ancestors = run.trio(lambda: _ancestors(cluster))
        with exporting.open_database(to, cluster, ancestors) as database:
            start = database.next_offset if from_offset is None else from_offset
            _copy(run, cluster, exporting.Selection(start, max_events, where_source), database, written)
    elif to.name.endswith((".ndjson", ".ndjson.gz")):
        with exporting.open_lines(to) as lines:
            _copy(run, cluster, exporting.Selection(from_offset, max_events, where_source), lines, written)
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
    from esctl.query import survey as surveys  # loaded late: it brings trio and the client

    up = (await surveys.ask(cluster)).up
    status: dict[str, Any] = (up[0].status if up else None) or {}
    return [(str(name), int(end)) for name, end in status.get("ancestors", [])]


def _answer(cluster: Cluster, to: Path, written: "Written") -> Answer[ExportAnswer]:
    data: ExportAnswer = {
        "cluster": cluster.name, "file": str(to), "events": written.events, "next_offset": written.next_offset
    }  # fmt: skip
    pairs: list[tuple[str, Value]] = [("next offset", written.next_offset)]
    if to.suffix in DATABASES:
        pairs.append(("next", f"sqlite-utils tables {quoted(to)} --counts --columns"))
    else:
        pairs.append(("next", f"esctl produce {quoted(to)} --cluster ANOTHER"))
    return Answer(data, [Line(f"wrote {written.events:,} events into {to}", Tone.GOOD), Fields(pairs)])
