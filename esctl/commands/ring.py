"""`esctl ring`: which partition owns which part of the circle, and a source; growing and shrinking.

Owners follow from the number of partitions, so `show` and `where` work while no node runs; who leads is known
only of nodes that answer.
"""

import time
from typing import TYPE_CHECKING, Annotated, Final, Literal, NotRequired, TypedDict

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
from esnode.errors import NoQuorum

if TYPE_CHECKING:
    from esctl.query.ringsurvey import RingData, RingSurvey

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


class ChangedRingAnswer(TypedDict):
    """The ring that a cluster goes by now, and what that took."""

    cluster: ClusterName
    version: Count
    partitions: Count
    moved_keys: Annotated[Count | None, "Deduplication keys that were copied; null where no node remembers"]
    longest_pause_ms: Annotated[Count | None, "How long moving sources waited; null where no node remembers"]
    seconds: Annotated[float, ("minimum", 0)]


class PlannedRingAnswer(TypedDict):
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
    found, shares = survey.ring, survey.shares
    leaders = [one["leader"] for one in survey.leaders()]
    rows: list[OwnedRow] = [
        {
            "id": number,
            "share": round(share, 6),
            "of_mean": round(share * len(found.partitions), 4),
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
    token, partition = ring.token_of(source), survey.ring.owner_of(source)
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
) -> Answer[ChangedRingAnswer | PlannedRingAnswer]:
    """Give a running cluster more partitions, and move the sources that they own"""
    cluster = run.cluster()
    survey = _ask(run, cluster)
    _check_size(survey, to, to >= len(survey.ring.partitions), "fewer", "shrink")
    return _planned(survey, to) if dry_run else _changed(run, cluster, to, timeout)


@command(app, "shrink", partitions=True)
def shrink(
    run: Invocation,
    to: Annotated[
        int,
        typer.Option(
            "--to", metavar="N", min=1, max=limits.MAX_PARTITIONS - 1, help="How many partitions then"
        ),
    ],
    dry_run: DryRun = False,
    timeout: UpkeepTimeout = DEFAULT_TIMEOUT_S,
) -> Answer[ChangedRingAnswer | PlannedRingAnswer]:
    """Let fewer partitions of a running cluster own all sources; the logs of the others can still be read

    The highest partitions are taken from the ring. Their processes stay, since the events of their logs are
    nowhere else; `esctl ring grow --to 4` gives them sources again"""
    cluster = run.cluster()
    survey = _ask(run, cluster)
    _check_size(survey, to, to <= len(survey.ring.partitions), "more", "grow")
    return _planned(survey, to) if dry_run else _changed(run, cluster, to, timeout)


def _check_size(survey: "RingSurvey", to: int, fits: bool, than_now: str, other: str) -> None:
    """Raise `InvalidArgument` where another command is meant; `NoQuorum` where no node tells of the ring."""
    name = survey.cluster.name
    if not survey.partitions[0].up:
        raise NoQuorum(
            f"no node of {name} tells how many partitions its ring has; nothing was done",
            next_step=f"esctl status health --cluster {name}",
        )
    if not fits and not survey.ring_data()["moving"]:
        now = quantity(len(survey.ring.partitions), "partition")
        raise InvalidArgument(
            f"the ring of {name} has {now}: {to} are {than_now}; nothing was done",
            next_step=f"esctl ring {other} --to {to} --cluster {name}",
        )


def _changed(
    run: Invocation, cluster: Cluster, to: int, timeout_s: float
) -> Answer[ChangedRingAnswer | PlannedRingAnswer]:
    from esctl.upkeep import ringchange  # loaded late: it brings trio and the client

    begun, backend = time.monotonic(), backend_named(cluster.backend)
    plan, moved = run.trio(lambda: ringchange.change(cluster, to, backend, timeout_s, run.terminal.note))
    data: ChangedRingAnswer = {
        "cluster": cluster.name, "version": plan.version, "partitions": plan.partitions,
        "moved_keys": moved.get("moved_keys"), "longest_pause_ms": moved.get("waited_ms"),
        "seconds": round(time.monotonic() - begun, 3),
    }  # fmt: skip
    now = quantity(plan.partitions, "partition")
    pairs: list[tuple[str, Value]] = [
        ("ring", f"version {plan.version}, {now}"),
        ("keys copied", str(data["moved_keys"]) if data["moved_keys"] is not None else "unknown"),
        ("moving sources waited",
         f"{data['longest_pause_ms']} ms" if data["longest_pause_ms"] is not None else "unknown"),
        ("next", f"esctl ring show --cluster {cluster.name}"),
    ]  # fmt: skip
    return Answer(data, [Line(f"the ring of {cluster.name} has {now}", Tone.GOOD), Fields(pairs)])


def _planned(survey: "RingSurvey", to: int) -> Answer[ChangedRingAnswer | PlannedRingAnswer]:
    cluster, before = survey.cluster, survey.ring
    after = ring.Ring(before.version + 1, range(to))
    share = sum(move.arc.length for move in ring.moves(before, after)) / ring.TOKENS
    restarts = [node.id for node in cluster.nodes] if to > cluster.partitions else []
    data: PlannedRingAnswer = {
        "cluster": cluster.name, "dry_run": True, "partitions_before": len(before.partitions),
        "partitions": to, "restarts": restarts, "moving_share": round(share, 6),
    }  # fmt: skip
    first = f"would restart {nodes_named(restarts)}, one after the other, and" if restarts else "would"
    return Answer(data, [Line(f"{first} move {share:.0%} of the circle")])


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
