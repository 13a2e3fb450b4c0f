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
from esctl.query import survey as surveys
from esctl.query.barrier import confirmed_end
from esctl.ui.formatting import duration
from esnode.errors import EventStreamError

READ_TIMEOUT_S: Final = 1.0


async def begin(cluster: Cluster) -> BoardState:
    """The first look; the leader is selected, or the first node while nobody leads."""
    rates = Rates()
    survey, read_ms = await _look(cluster)
    rates.add(survey, read_ms, trio.current_time())
    selected = survey.leader.node.id if survey.leader is not None else cluster.nodes[0].id
    return BoardState(survey, rates, selected, _faults(cluster, survey))


async def look_again(shown: BoardState) -> None:
    """One look more, taken into `shown`."""
    cluster = shown.survey.cluster
    survey, read_ms = await _look(cluster)
    shown.rates.add(survey, read_ms, trio.current_time())
    shown.survey, shown.faults = survey, _faults(cluster, survey)


async def _look(cluster: Cluster) -> tuple[surveys.Survey, float | None]:
    found: list[surveys.Survey] = []
    took: list[float] = []

    async def ask() -> None:
        found.append(await surveys.ask(cluster))

    async def read() -> None:
        begun = time.perf_counter()
        try:
            await confirmed_end(cluster, READ_TIMEOUT_S, down_timeout_s=0.0)
        except EventStreamError:
            return  # the picture shows that there is no figure
        took.append(1000 * (time.perf_counter() - begun))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(read)
    return found[0], took[0] if took else None


def _faults(cluster: Cluster, survey: surveys.Survey) -> list[str]:
    """What is broken on purpose, by command that did it: all its parts in one line."""
    parts: dict[str, list[tuple[int, str, int]]] = {}
    for report in survey.up:
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
