"""`esctl ring`: which partition owns which part of the circle, and where the events of a source belong.

The ring follows from the number of partitions, so both work while no node runs; who leads is known only of
nodes that answer.
"""

from typing import TYPE_CHECKING, Annotated, Final, TypedDict

import typer

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument
from esctl.ui import circle
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.formatting import quantity
from esctl.ui.terminal import Output
from esctl.ui.values import Count, NodeId
from esnode import limits, ring

if TYPE_CHECKING:
    from esctl.query.ringsurvey import RingData, RingSurvey

app = new_typer()

BAR_WIDTH: Final = 32
"""Of the largest share, so that a row fits on a screen of 80 characters."""


class OwnedRow(TypedDict):
    """A partition and what it owns of the circle."""

    id: Count
    share: Annotated[float, ("minimum", 0), ("maximum", 1), "The part of the circle that it owns"]
    of_mean: Annotated[float, ("minimum", 0), "Its share, where 1 is the mean of all"]
    leader: NodeId | None


class RingAnswer(TypedDict):
    """The ring of a cluster, and who owns how much of it."""

    cluster: str
    ring: "RingData"
    points: Annotated[Count, "Of each partition, on a circle of 2^32"]
    partitions: list[OwnedRow]


class WhereAnswer(TypedDict):
    """Where the events of a source belong."""

    cluster: str
    source: str
    token: Annotated[str, ("pattern", "^[0-9a-f]{8}$"), "The place of the source on the circle, in hex"]
    partition: Count
    leader: NodeId | None


@command(app, "show", partitions=True)
def show(run: Invocation) -> Answer[RingAnswer]:
    """Draw the circle of tokens, and show how much of it each partition owns"""
    cluster = run.cluster()
    survey = _ask(run, cluster)
    found, shares = survey.ring, survey.ring.shares()
    leaders = [one["leader"] for one in survey.leaders()]
    rows: list[OwnedRow] = [
        {
            "id": number,
            "share": round(share, 6),
            "of_mean": round(share * cluster.partitions, 4),
            "leader": leaders[number],
        }
        for number, share in shares.items()
    ]
    data: RingAnswer = {
        "cluster": cluster.name, "ring": survey.ring_data(), "points": ring.POINTS, "partitions": rows,
    }  # fmt: skip
    drawn = run.terminal.output is Output.TABLE
    return Answer(data, _views(cluster, found, rows, drawn=drawn))


@command(app, "where", partitions=True)
def where(
    run: Invocation,
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="Source of the events")],
) -> Answer[WhereAnswer]:
    """Show which partition takes the events of a source, and which node leads it"""
    size = len(source.encode())
    if not 0 < size <= limits.MAX_ID_BYTES:
        raise InvalidArgument(f"a source has 1 to {limits.MAX_ID_BYTES} bytes, and this one has {size}")
    cluster = run.cluster()
    survey = _ask(run, cluster)
    token = ring.token_of(source)
    partition = survey.ring.owner(int.from_bytes(token, "big"))
    leader = survey.leaders()[partition]["leader"]
    data: WhereAnswer = {
        "cluster": cluster.name, "source": source, "token": token.hex(), "partition": partition,
        "leader": leader,
    }  # fmt: skip
    pairs: list[tuple[str, Value]] = [
        ("source", source),
        ("token", token.hex()),
        ("partition", Cell(str(partition), Tone.STRONG)),
        ("leader", Cell(f"node {leader}", Tone.GOOD) if leader is not None else Cell("none", Tone.BAD)),
    ]
    if leader is None:
        run.terminal.warn(f"nobody leads partition {partition}; next: esctl status --cluster {cluster.name}")
    return Answer(data, [Fields(pairs)])


def _ask(run: Invocation, cluster: Cluster) -> "RingSurvey":
    from esctl.query import ringsurvey  # loaded late: it brings trio and the client

    return run.trio(lambda: ringsurvey.ask(cluster))


def _views(cluster: Cluster, found: ring.Ring, rows: list[OwnedRow], *, drawn: bool) -> list[View]:
    largest = max(rows, key=lambda row: row["share"])
    smallest = min(rows, key=lambda row: row["share"])
    head: list[tuple[str, Value]] = [
        ("cluster", Cell(cluster.name, Tone.STRONG)),
        ("ring", f"version {found.version}, {quantity(len(rows), 'partition')} of {ring.POINTS} points"),
        ("balance", f"{smallest['of_mean']:.2f} to {largest['of_mean']:.2f} of the mean"),
    ]
    columns, cells = ["partition", "share", "of mean", "leader"], [_cells(row) for row in rows]
    if not drawn:
        return [Fields(head), Table(columns, cells)]
    for row, told in zip(rows, cells, strict=True):
        length = max(1, round(BAR_WIDTH * row["share"] / largest["share"]))
        told.insert(1, Cell("█" * length, circle.tone_of(row["id"])))
        if len(rows) > len("0123456789"):
            told.insert(0, Cell(circle.MARKS[row["id"]], circle.tone_of(row["id"])))
    marked = ["mark"] if len(rows) > len("0123456789") else []
    owned = found.owned()
    ends = [arc.last / ring.TOKENS for arc, _ in owned]
    inside = ["0 at the top", f"v{found.version}, {len(rows)}"]
    picture = circle.draw(ends, [owner for _, owner in owned], inside)
    lines = [Line("  ", more=parts) for parts in picture]
    return [Fields(head), *lines, Table([*marked, "partition", "owns", *columns[1:]], cells)]


def _cells(row: OwnedRow) -> list[Value]:
    leader = row["leader"]
    return [
        str(row["id"]),
        f"{row['share']:.1%}",
        f"{row['of_mean']:.2f}",
        Cell(f"node {leader}", Tone.GOOD) if leader is not None else Cell("none", Tone.BAD),
    ]
