"""Orders taken to the nodes and back: all or none, and nothing is said of a node that did not answer."""

from pathlib import Path

import pytest

from esctl.chaos import nodes as field
from esctl.chaos.effect import Effect, EffectVerdict
from esctl.clusters.backends.interface import RunState
from esctl.faults import nodeorders
from esctl.faults.partitionshapes import Shape, partition
from esnode.errors import FaultsNotAllowed, Unreachable
from tests.esctl.wire_node import serving, three

ALONE = nodeorders.block(partition(Shape.ISOLATE_LEADER, (1, 2, 3), 1).cuts, "cut-1")


async def test_each_node_gets_its_own_orders(tmp_path: Path) -> None:
    nodes = three()
    async with serving(nodes, tmp_path) as cluster:
        assert await field.set_all(cluster, ALONE, 1000) == [1, 2, 3]
        active, _ = await field.active(cluster)
    assert [node.faults["cut-1"]["peers"] for node in nodes] == [[2, 3], [1], [1]]
    assert sorted(active) == [1, 2, 3]


async def test_a_node_that_refuses_undoes_the_orders_of_the_others(tmp_path: Path) -> None:
    nodes = three()
    nodes[1].faults_allowed = False
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(FaultsNotAllowed, match="node 2 of wire was started without") as caught:
            await field.set_all(cluster, ALONE, 1000)
    assert [node.faults for node in nodes] == [{}, {}, {}]
    assert "esctl cluster restart --rolling --cluster wire" in caught.value.next_step


async def test_a_node_that_is_away_is_no_refusal(tmp_path: Path) -> None:
    nodes = three()
    async with serving(nodes, tmp_path, absent=(3,)) as cluster:
        assert await field.set_all(cluster, ALONE, 1000) == [1, 2]
        healed = await field.heal(cluster)
    assert sorted(healed.ended) == [1, 2]
    assert healed.silent == [3]
    assert healed.recovered


async def test_when_nobody_is_there_nothing_was_set(tmp_path: Path) -> None:
    async with serving(three(), tmp_path, absent=(1, 2, 3)) as cluster:
        with pytest.raises(Unreachable):
            await field.set_all(cluster, ALONE, 1000)


async def test_healing_ends_what_belongs_to_the_id_and_nothing_else(tmp_path: Path) -> None:
    nodes = three()
    async with serving(nodes, tmp_path) as cluster:
        for fault in ("net-1", "net-1.delay", "net-10"):
            nodes[0].faults[fault] = {"id": fault, "kind": "stall", "left_ms": 9, "hits": 0}
        healed = await field.heal(cluster, ["net-1"])
    assert [one["id"] for one in healed.ended[1]] == ["net-1", "net-1.delay"]
    assert list(nodes[0].faults) == ["net-10"]


async def test_nodes_are_looked_at_until_the_effect_is_decided(tmp_path: Path) -> None:
    looked: list[int] = []

    def judge(_partition: int | None, _looks: object, elapsed_ms: int) -> list[Effect]:
        looked.append(elapsed_ms)
        return [Effect(1, EffectVerdict.APPLIED, "", open=len(looked) < 3)]

    async with serving(three(), tmp_path) as cluster:
        (effects,), ring = await field.watch(cluster, judge, 60_000, for_leader=True)
    assert len(looked) == 3
    assert looked == sorted(looked)
    assert effects[0].verdict is EffectVerdict.APPLIED
    assert ring.worst.reports[0].process.state is RunState.DOWN  # nothing tells the backend of these nodes


async def test_what_stays_undecided_is_given_up_before_the_lease_ends(tmp_path: Path) -> None:
    async with serving(three(), tmp_path) as cluster:
        (effects,), _ = await field.watch(
            cluster, lambda *_: [Effect(1, EffectVerdict.UNKNOWN, "", open=True)], 300, for_leader=False
        )
    assert effects[0].verdict is EffectVerdict.UNKNOWN
