"""What a measurement cost: processor time and memory, as the nodes tell it."""

from pathlib import Path

import pytest

from esctl.bench import usage
from esctl.bench.usage import NodeUse, Usage
from tests.esctl.sink_node import SinkNode, sink
from tests.esctl.wire_node import serving, three


def node(number: int, cpu_s: float | None = 0.0, *, leads: bool = False) -> NodeUse:
    return NodeUse(number, leads, cpu_s, 1000 + number, None)


def three_nodes(at_s: float, cpu_s: tuple[float | None, ...], leader: int | None = 1) -> Usage:
    nodes = tuple(node(n, cpu, leads=n == leader) for n, cpu in enumerate(cpu_s, 1))
    return Usage(at_s, at_s / 2, nodes)


def test_the_largest_follower_counts() -> None:
    before, after = three_nodes(0, (1.0, 1.0, 1.0)), three_nodes(2, (3.0, 1.5, 1.6))
    assert usage.cost(before, after, 1_000_000) == {
        "leader_cpu_us_per_event": 2.0,
        "follower_cpu_us_per_event": pytest.approx(0.6),
        "client_cpu_us_per_event": 1.0,
    }
    assert usage.memory(after) == {"leader_rss_bytes": 1001, "follower_rss_bytes": 1003}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (three_nodes(0, (1.0, 1.0, 1.0), leader=2), three_nodes(2, (3.0, 1.5, 1.6))),
        (three_nodes(0, (1.0, 1.0, 1.0)), three_nodes(2, (3.0, 1.5, 1.6), leader=None)),
        (three_nodes(0, (None, None, None)), three_nodes(2, (3.0, 1.5, 1.6))),
        (three_nodes(0, (5.0, 5.0, 5.0)), three_nodes(2, (0.1, 0.1, 0.1))),  # started anew
    ],
)
def test_what_cannot_be_told_is_none(before: Usage, after: Usage) -> None:
    found = usage.cost(before, after, 1_000_000)
    assert found["leader_cpu_us_per_event"] is None
    assert found["follower_cpu_us_per_event"] is None
    assert found["client_cpu_us_per_event"] == 1.0


def test_a_single_node_has_no_follower() -> None:
    before, after = three_nodes(0, (1.0,)), three_nodes(1, (2.0,))
    assert usage.cost(before, after, 1_000_000)["leader_cpu_us_per_event"] == 1.0
    assert usage.cost(before, after, 1_000_000)["follower_cpu_us_per_event"] is None
    assert usage.memory(after) == {"leader_rss_bytes": 1001, "follower_rss_bytes": None}
    assert usage.cost(before, after, 0)["client_cpu_us_per_event"] is None


async def test_nodes_are_asked_for_what_they_use(tmp_path: Path) -> None:
    async with sink(tmp_path, SinkNode(tells=True)) as cluster:
        first, second = await usage.take(cluster), await usage.take(cluster)
    assert (first.nodes[0].cpu_s, second.nodes[0].cpu_s) == (0.1, 0.2)
    assert first.leader == first.nodes[0]
    assert second.client_cpu_s >= first.client_cpu_s > 0
    assert second.at_s >= first.at_s


async def test_a_node_that_does_not_say_what_it_uses_has_no_figures(tmp_path: Path) -> None:
    nodes = three()  # their status has no cpu_s
    async with serving(nodes, tmp_path, absent=(3,)) as cluster:
        seen = await usage.take(cluster)
    assert [one.cpu_s for one in seen.nodes] == [None, None, None]
    assert [one.rss_bytes for one in seen.nodes] == [50_000_000, 50_000_000, None]
    assert seen.leader is not None
    assert seen.as_data()[0]["leads"] is True
