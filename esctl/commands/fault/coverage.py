"""`esctl fault coverage`: what this cluster has been through, and what it has not."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from esctl.chaos import ledger
from esctl.cli.invocation import Invocation
from esctl.clusters.backends import backend_named
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster
    from esctl.commands.fault.answers import CoverageAnswer


def coverage(run: Invocation) -> "Answer[CoverageAnswer]":
    """Show which faults this cluster has ever had, how often each has taken effect, and which it has
    never had"""
    from esctl.chaos import nodes  # loaded late: it brings trio and the client
    from esctl.chaos.coverage import tally

    cluster = run.cluster()
    active, ring = run.trio(lambda: nodes.active(cluster))
    for number in ring.down:
        run.terminal.warn(f"node {number} gives no answer: what is active there is not counted")
    live = [(number, one) for number, ones in active.items() for one in ones]
    told = chain.from_iterable(_told(cluster, node.id) for node in cluster.nodes)
    rows = tally(ledger.read(cluster), told, live)
    never = [row.way for row in rows if not row.times]
    idle = [row.way for row in rows if row.times and not row.hits]
    data: CoverageAnswer = {
        "cluster": cluster.name,
        "faults": [row.as_data() for row in rows],
        "never": never,
        "no_hit": idle,
    }
    table: list[list[Value]] = [
        [
            row.way,
            row.times or Cell("never", Tone.DIM),
            row.hits if row.hits or not row.times else Cell(0, Tone.WARN),
            ", ".join(map(str, sorted(row.nodes))) or None,
            row.last.partition(".")[0].replace("T", " ") or None,
        ]
        for row in rows
    ]
    met = len(rows) - len(never)
    summary = Line(f"{met} of {len(rows)} met, {len(never)} never, {len(idle)} without a hit")
    return Answer(data, [Table(["fault", "set", "hits", "on node", "last (UTC)"], table), summary])


def _told(cluster: "Cluster", number: int) -> Iterator[Mapping[str, Any]]:
    from esctl.chaos.coverage import lines_about

    path = backend_named(cluster.backend).log_path(cluster, number)
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from lines_about(lines)
