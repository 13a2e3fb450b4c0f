"""Three nodes with four partitions as real processes: leaders are spread, and are again after a failure."""

import os
import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
import trio

from esnode.client import connect_node
from tests.supervisor.processes import Line, Supervisor, leader_of, supervisors

pytestmark = pytest.mark.slow  # the interpreter starts fifteen times

PREFERRED = {0: 1, 1: 2, 2: 3, 3: 1}
SPREAD_S = 10.0
"""So long after the end of a failure the leaders are spread again."""


async def wait_spread(nodes: Sequence[Supervisor], since: Sequence[int] = (0, 0, 0)) -> list[Line]:
    """Wait until each partition has gone to its preferred leader; the lines that say so."""
    lines: list[Line] = []
    for partition, number in PREFERRED.items():
        node, begin = nodes[number - 1], since[number - 1]
        if begin == 0 or number == 1:
            lines.append(await node.wait_event("state_changed", begin, partition=partition, role="leader"))
    return lines


def kill_all(node: Supervisor) -> None:
    """As a machine that fails: the supervisor and every process of it at once, without a word."""
    pids = [node.pid_of(partition) for partition in PREFERRED]
    for pid in (node.process.pid, *pids):
        os.kill(pid, signal.SIGKILL)


def at(line: Line) -> datetime:
    return datetime.fromisoformat(line["time"])


async def test_the_leaders_are_spread_ten_seconds_after_a_node_is_back(tmp_path: Path) -> None:
    async with supervisors(tmp_path, partitions=4) as nodes, trio.open_nursery() as nursery:
        await wait_spread(nodes)
        kill_all(nodes[0])
        await nodes[0].wait_ended()
        assert await leader_of(nodes[1:], 0) in {2, 3}
        since = [len(node.lines) for node in nodes]
        await nodes[0].start(nursery)
        back = [await nodes[0].wait_event("node_started", since[0], partition=p) for p in PREFERRED]
        taken = await wait_spread(nodes, since)
        assert (max(map(at, taken)) - max(map(at, back))).total_seconds() < SPREAD_S
        assert [await leader_of(nodes, partition) for partition in PREFERRED] == [*PREFERRED.values()]
        asked = [line for node in nodes for line in node.lines if line["event"] == "transfer_asked"]
        assert {line["why"] for line in asked} == {"preferred_leader"}
        await nodes[0].end()


async def test_a_leader_that_an_operator_has_chosen_keeps_the_partition(tmp_path: Path) -> None:
    async with supervisors(tmp_path, partitions=2) as nodes:
        await nodes[0].wait_event("state_changed", partition=0, role="leader")
        while await leader_of(nodes, 0) != 1:  # it may yet be on its way there from whom was elected first
            await nodes[0].wait_event("state_changed", len(nodes[0].lines), partition=0, role="leader")
        async with connect_node(nodes[0].client, partition=0) as link:
            assert await link.transfer_leadership(3) == (1, 3)
        async with connect_node(nodes[2].client, partition=0) as link:
            placement = (await link.status())["placement"]
        assert (placement["preferred"], placement["why"]) == (1, "asked")
        assert 590_000 < placement["wait_ms"] <= 600_000


async def test_free_leaders_stay_where_they_are(tmp_path: Path) -> None:
    async with supervisors(tmp_path, partitions=2, leaders="free") as nodes:
        for partition in range(2):
            leader = nodes[await leader_of(nodes, partition) - 1]
            async with connect_node(leader.client, partition=partition) as link:
                assert (await link.status())["placement"]["why"] == "free"
