"""Looks at a cluster again and again: all nodes and a confirmed read, at the same time.

A node that does not answer holds nothing up for longer than half a second. Changes nothing and never prints.
Called by `esctl top`.
"""

import time
from typing import Final

import trio

from esctl.clusters.state import Cluster
from esctl.faults import leases
from esctl.observe.top.rates import Rates
from esctl.observe.top.state import BoardState
from esctl.query import ringsurvey
from esctl.query.barrier import confirmed_end
from esctl.query.ringsurvey import RingSurvey
from esctl.ui.formatting import duration
from esnode.errors import EventStreamError

READ_TIMEOUT_S: Final = 1.0


async def begin(cluster: Cluster, partition: int | None = None) -> BoardState:
    """The first look; the leader is selected, or the first node while nobody leads.

    Where there are several partitions, `partition` is shown first.
    """
    ring, read_ms = await _look(cluster, partition)
    survey = ring.survey(partition)
    selected = survey.leader.node.id if survey.leader is not None else cluster.nodes[0].id
    shown = BoardState(survey, Rates(), selected)
    _take(shown, ring, read_ms)
    return shown


async def look_again(shown: BoardState) -> None:
    """One look more, taken into `shown`."""
    _take(shown, *await _look(shown.survey.cluster, shown.survey.partition))


def turn_to(shown: BoardState, partition: int) -> None:
    """Show another partition, as it was at the last look."""
    assert shown.ring is not None
    shown.others[shown.survey.partition] = shown.rates
    shown.survey, shown.rates = shown.ring.survey(partition), shown.rates_of(partition)


def _take(shown: BoardState, ring: RingSurvey, read_ms: float | None) -> None:
    now_s, partition = trio.current_time(), shown.survey.partition
    for survey in ring.partitions:
        read = read_ms if survey.partition == partition else None
        shown.rates_of(survey.partition).add(survey, read, now_s)
    shown.ring, shown.survey = ring if len(ring.partitions) > 1 else None, ring.survey(partition)
    shown.faults = _faults(ring.cluster, ring)


async def _look(cluster: Cluster, partition: int | None) -> tuple[RingSurvey, float | None]:
    found: list[RingSurvey] = []
    took: list[float] = []

    async def ask() -> None:
        found.append(await ringsurvey.ask(cluster))

    async def read() -> None:
        begun = time.perf_counter()
        try:
            await confirmed_end(cluster, READ_TIMEOUT_S, down_timeout_s=0.0, partition=partition)
        except EventStreamError:
            return  # the picture shows that there is no figure
        took.append(1000 * (time.perf_counter() - begun))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(read)
    return found[0], took[0] if took else None


def _faults(cluster: Cluster, ring: RingSurvey) -> list[str]:
    """What is broken on purpose, by command that did it: all its parts in one line."""
    parts: dict[str, list[tuple[int, str, int]]] = {}
    for report in (report for survey in ring.partitions for report in survey.up):
        for fault in report.faults:
            name = str(fault["id"]).partition(".")[0]
            parts.setdefault(name, []).append((report.node.id, str(fault["kind"]), int(fault["left_ms"])))
    for one in leases.active(cluster):
        parts.setdefault(one.id, []).append((one.node, one.kind, int(one.as_data()["left_ms"])))
    return [
        f"{name}: {', '.join(sorted({kind for _, kind, _ in found}))} on node"
        f" {', '.join(str(n) for n in sorted({number for number, _, _ in found}))},"
        f" {duration(max(left for _, _, left in found) / 1000)} left"
        for name, found in sorted(parts.items())
    ]
