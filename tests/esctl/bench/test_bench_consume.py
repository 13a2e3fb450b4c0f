"""`esctl bench consume`: which node is read, how far, and what of it is counted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from esctl.bench.consumption import Consumption, consume, extent_of
from esctl.clusters import state
from esctl.clusters.state import Cluster
from esctl.commands.bench import consume as bench
from esctl.errors import EventNotFound, NodeNotFound
from esctl.exits import Exit
from esctl.ui.terminal import Output, Terminal
from esnode.messages import Subscribe
from tests.esctl.results import CLUSTER, MACHINE
from tests.esctl.wire_node import WireNode, serving, three


async def read(cluster: Cluster, *, decode: bool = False, **wanted: Any) -> Consumption:
    extent = await extent_of(cluster, wanted.get("from_offset"), wanted.get("max_events"), wanted.get("node"))
    consumption = Consumption(extent, decode)
    await consume(cluster, consumption)
    return consumption


def subscribed(nodes: list[WireNode]) -> list[int]:
    """The nodes that were read."""
    return [node.id for node in nodes if any(isinstance(one, Subscribe) for one in node.asked)]


async def test_the_leader_is_read_to_the_end_as_it_stands(tmp_path: Path) -> None:
    nodes = three(count=100)
    async with serving(nodes, tmp_path) as cluster:
        one = await read(cluster)
    assert (one.events, one.extent.leads) == (100, True)
    assert subscribed(nodes) == [1]
    figures = one.figures()
    assert figures["events"] == 100
    assert figures["events_per_s"] == pytest.approx(100 / one.seconds, rel=0.01)
    assert figures["node_cpu_us_per_event"] is None  # these nodes do not say
    assert figures["node_rss_bytes"] == 50_000_000
    assert sum(rate for _, rate in one.series()["events_per_s"]) > 0


async def test_another_node_is_read_when_it_is_named_as_far_as_it_is(tmp_path: Path) -> None:
    nodes = three(count=100)
    nodes[2].records = nodes[2].records[:20]
    async with serving(nodes, tmp_path) as cluster:
        one = await read(cluster, node=3)
        with pytest.raises(NodeNotFound):
            await read(cluster, node=4)
    assert subscribed(nodes) == [3]
    assert (one.events, one.extent.leads) == (40, False)


async def test_a_part_of_the_log_is_read_and_its_bytes_are_those_of_its_events(tmp_path: Path) -> None:
    async with serving(three(count=100), tmp_path) as cluster:
        whole = await read(cluster)
        part = await read(cluster, from_offset=11, max_events=10)
        decoded = await read(cluster, from_offset=11, max_events=10, decode=True)
    assert part.events == decoded.events == 10
    assert 0.05 < part.payload_bytes / whole.payload_bytes < 0.15
    assert decoded.payload_bytes <= part.payload_bytes


async def test_an_offset_that_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    nodes = three(count=8)
    for node in nodes:
        node.first_offset = 4
    async with serving(nodes, tmp_path) as cluster:
        for offset in (3, 8):
            with pytest.raises(EventNotFound, match="has the events from 4 to 7") as caught:
                await read(cluster, from_offset=offset)
            assert caught.value.next_step == "esctl bench consume --from 4 --cluster wire"


async def test_an_empty_log_is_told_with_how_to_fill_it(tmp_path: Path) -> None:
    async with serving(three(count=0), tmp_path) as cluster:
        with pytest.raises(EventNotFound, match="is empty") as caught:
            await read(cluster)
    assert caught.value.next_step == "esctl bench produce --cluster wire"


@pytest.mark.parametrize("output", [Output.TABLE, Output.PLAIN, Output.JSON])
async def test_several_readings_are_one_answer(tmp_path: Path, output: Output) -> None:
    async with serving(three(count=100), tmp_path) as cluster:
        ended = [await read(cluster) for _ in range(3)]
    answer = bench.answer_of(bench.result_of(ended, MACHINE, CLUSTER), plot=True)
    assert answer.exit_code is Exit.OK
    assert len(answer.data["runs"]) == 3
    assert answer.data["settings"] == {"from_offset": 0, "events": 100, "from": "leader", "decode": False}
    assert "less than a second" in str(answer.views)
    Terminal(output).show("bench consume", answer)


def test_a_node_that_the_cluster_does_not_have_is_refused_at_once(tmp_path: Path) -> None:
    from tests.esctl.conftest import plan

    cluster = plan("fake", tmp_path)
    state.add(cluster)
    run = subprocess.run(
        [sys.executable, "-m", "esctl.main", "bench", "consume", "--node", "7", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 1
    assert json.loads(run.stdout)["errors"][0]["code"] == "ES4006"
