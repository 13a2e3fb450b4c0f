"""`esctl ring`: which partition owns which part of the circle, where a source belongs; and more partitions.

Owners follow from the number of partitions, so `show` and `where` work while no node runs; who leads is known
only of nodes that answer.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NotRequired, TypedDict

import typer

from esctl.cli.arguments import DryRun, UpkeepTimeout
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters.backends import backend_named
from esctl.clusters.state import Cluster
from esctl.errors import InvalidArgument
from esctl.ui import circle
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.formatting import nodes_named, quantity
from esctl.ui.terminal import Output
from esctl.ui.values import ClusterName, Count, NodeId
from esnode import limits, ring

if TYPE_CHECKING:
    from esctl.query.ringsurvey import RingData, RingSurvey
    from esnode.dedup.ownership import RingPlan

app = new_typer()

DEFAULT_TIMEOUT_S: Final = 60.0
BAR_WIDTH: Final = 32
"""Of the largest share, so that a row fits on a screen of 80 characters."""


class OwnedRow(TypedDict):
    """A partition and what it owns of the circle."""

    id: Count
    share: Annotated[float, ("minimum", 0), ("maximum", 1), "The part of the circle that it owns"]
    of_mean: Annotated[float, ("minimum", 0), "Its share, where 1 is the mean of all"]
    leader: NodeId | None
    preferred: NotRequired[
        Annotated[
            NodeId | None, "Of several partitions: the node that leads it otherwise; null where none is"
        ]
    ]


class RingAnswer(TypedDict):
    """The ring of a cluster, and who owns how much of it."""

    cluster: str
    ring: "RingData"
    points: Annotated[Count, "Of each partition, on a circle of 2^32"]
    partitions: list[OwnedRow]


class GrownAnswer(TypedDict):
    """The ring that a cluster goes by now, and what that took."""

    cluster: ClusterName
    version: Count
    partitions: Count
    moved_keys: Annotated[Count | None, "Deduplication keys that were copied; null where no node remembers"]
    longest_pause_ms: Annotated[Count | None, "How long moving sources waited; null where no node remembers"]
    seconds: Annotated[float, ("minimum", 0)]


class PlannedGrowthAnswer(TypedDict):
    """What would be done."""

    cluster: ClusterName
    dry_run: Literal[True]
    partitions_before: Count
    partitions: Count
    restarts: Annotated[list[NodeId], "Nodes that would be restarted, one after the other"]
    moving_share: Annotated[float, ("minimum", 0), ("maximum", 1), "The part of the circle that would move"]


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
    from esctl.query import leaderplacement  # loaded late: it brings trio and the client

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
    if cluster.partitions > 1:
        for row, one in zip(rows, survey.partitions, strict=True):
            row["preferred"] = leaderplacement.preferred(one.leader)
        for text in leaderplacement.notes(survey):
            run.terminal.warn(text)
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


@command(app, "grow", partitions=True)
def grow(
    run: Invocation,
    to: Annotated[
        int,
        typer.Option("--to", metavar="N", min=2, max=limits.MAX_PARTITIONS, help="How many partitions then"),
    ],
    dry_run: DryRun = False,
    timeout: UpkeepTimeout = DEFAULT_TIMEOUT_S,
) -> Answer[GrownAnswer | PlannedGrowthAnswer]:
    """Give a running cluster more partitions, and move the sources that they own"""
    from esctl.upkeep import growth  # loaded late: it brings trio and the client

    cluster = run.cluster()
    if to < cluster.partitions:
        raise InvalidArgument(f"cluster {cluster.name} has {cluster.partitions} partitions: {to} are fewer")
    if dry_run:
        return _planned(cluster, to)
    begun = time.monotonic()

    async def carry_out() -> "tuple[Cluster, RingPlan, Mapping[str, Any]]":
        grown = await growth.add_processes(
            cluster, to, backend_named(cluster.backend), timeout, run.terminal.note
        )
        plan = await growth.begin(grown, to)
        run.terminal.note(f"moving sources from {plan.old_partitions} to {plan.partitions} partitions")
        return grown, plan, await growth.until_ended(grown, plan, timeout)

    grown, plan, moved = run.trio(carry_out)
    data: GrownAnswer = {
        "cluster": grown.name, "version": plan.version, "partitions": plan.partitions,
        "moved_keys": moved.get("moved_keys"), "longest_pause_ms": moved.get("waited_ms"),
        "seconds": round(time.monotonic() - begun, 3),
    }  # fmt: skip
    pairs: list[tuple[str, Value]] = [
        ("ring", f"version {plan.version}, {plan.partitions} partitions"),
        ("keys copied", str(data["moved_keys"]) if data["moved_keys"] is not None else "unknown"),
        ("moving sources waited",
         f"{data['longest_pause_ms']} ms" if data["longest_pause_ms"] is not None else "unknown"),
        ("next", f"esctl ring show --cluster {grown.name}"),
    ]  # fmt: skip
    return Answer(
        data, [Line(f"cluster {grown.name} has {plan.partitions} partitions", Tone.GOOD), Fields(pairs)]
    )


def _planned(cluster: Cluster, to: int) -> Answer[GrownAnswer | PlannedGrowthAnswer]:
    before, after = (ring.Ring(ring.FIRST_VERSION, range(count)) for count in (cluster.partitions, to))
    share = sum(move.arc.length for move in ring.moves(before, after)) / ring.TOKENS
    restarts = [node.id for node in cluster.nodes] if to > cluster.partitions else []
    data: PlannedGrowthAnswer = {
        "cluster": cluster.name, "dry_run": True, "partitions_before": cluster.partitions, "partitions": to,
        "restarts": restarts, "moving_share": round(share, 6),
    }  # fmt: skip
    text = f"would restart {nodes_named(restarts)}, one after the other, and move {share:.0%} of the circle"
    return Answer(data, [Line(text)])


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
