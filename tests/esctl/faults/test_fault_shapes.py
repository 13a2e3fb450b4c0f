"""The shapes of partitions and the orders that nodes get for them; words of the command line."""

import pytest

from esctl.errors import InvalidArgument
from esctl.faults import nodeorders
from esctl.faults.nodeorders import Order
from esctl.faults.partitionshapes import MEANINGS, Partition, Shape, partition
from esnode.errors import NoQuorum

THREE, FIVE = (1, 2, 3), (1, 2, 3, 4, 5)


def sides(cut: Partition) -> list[tuple[int, ...]]:
    return [nodes for nodes, _ in cut.sides()]


@pytest.mark.parametrize(
    ("shape", "voters", "node", "expected"),
    [
        ("isolate-leader", THREE, None, [(1, 3), (2,)]),
        ("isolate", THREE, 3, [(1, 2), (3,)]),
        ("halves", FIVE, None, [(1, 2, 3), (4, 5)]),
        ("minority", FIVE, None, [(1, 2), (3, 4, 5)]),
        ("minority", THREE, None, [(1, 3), (2,)]),
        ("majority", FIVE, None, [(1, 2, 3), (4, 5)]),
        ("majority", THREE, None, [(1, 2), (3,)]),
        ("bridge", THREE, None, [(1,), (2,), (3,)]),
        ("bridge", FIVE, 3, [(1, 2), (3,), (4, 5)]),
        ("one-way", THREE, None, [(1, 3), (2,)]),
    ],
)
def test_each_shape_parts_the_nodes_as_it_says(
    shape: str, voters: tuple[int, ...], node: int | None, expected: list[tuple[int, ...]]
) -> None:
    """Node 2 leads."""
    assert sorted(sides(partition(Shape(shape), voters, 2, node))) == expected


def test_a_leader_in_the_minority_cannot_lead_and_the_others_can() -> None:
    cut = partition(Shape.MINORITY, FIVE, 4)
    assert [node for node in FIVE if cut.can_lead(node)] == [2, 3, 5]
    assert not cut.can_lead(4)
    assert cut.keeps_quorum


def test_a_leader_in_the_majority_goes_on_leading() -> None:
    cut = partition(Shape.MAJORITY, FIVE, 4)
    assert cut.can_lead(4)
    assert len(cut.reach(4)) == 3


def test_in_a_ring_each_node_reaches_its_two_neighbours() -> None:
    cut = partition(Shape.RING, FIVE, 1)
    assert [cut.reach(node) for node in FIVE] == [(1, 2, 5), (1, 2, 3), (2, 3, 4), (3, 4, 5), (1, 4, 5)]
    assert all(cut.can_lead(node) for node in FIVE)


def test_a_bridge_reaches_all_and_the_ends_only_it() -> None:
    cut = partition(Shape.BRIDGE, THREE, 1)
    assert [cut.reach(node) for node in THREE] == [(1, 2), (1, 2, 3), (2, 3)]


def test_a_one_way_cut_lets_the_node_hear_what_it_cannot_answer() -> None:
    assert partition(Shape.ONE_WAY, THREE, 2).cuts == {(2, 1), (2, 3)}
    assert partition(Shape.ONE_WAY, THREE, None, 3).cuts == {(3, 1), (3, 2)}


def test_nodes_that_are_down_make_no_quorum() -> None:
    cut = partition(Shape.ISOLATE_LEADER, THREE, 1, down=[3])
    assert not cut.keeps_quorum
    assert "1 of 3, 2 needed: no quorum" in cut.outcome(cut.reach(2))
    assert sides(cut) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("shape", "voters", "leader", "node", "words"),
    [
        ("isolate", THREE, 1, None, "wants a node"),
        ("isolate", THREE, 1, 9, "node 9 does not vote"),
        ("isolate-leader", THREE, 1, 2, "takes no node"),
        ("halves", THREE, 1, 2, "takes no node"),
        ("ring", THREE, 1, None, "wants 5 nodes"),
        ("halves", (1,), 1, None, "wants 3 nodes"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(
    shape: str, voters: tuple[int, ...], leader: int, node: int | None, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        partition(Shape(shape), voters, leader, node)


def test_a_shape_about_the_leader_wants_one() -> None:
    for shape in (Shape.ISOLATE_LEADER, Shape.MINORITY, Shape.MAJORITY, Shape.ONE_WAY):
        with pytest.raises(NoQuorum):
            partition(shape, THREE, None)
    assert partition(Shape.HALVES, THREE, None).keeps_quorum


def test_every_shape_says_what_it_means() -> None:
    assert set(MEANINGS) == set(Shape)


# --- orders -----------------------------------------------------------------------------------------


def test_a_cut_is_ordered_at_both_of_its_ends() -> None:
    ordered = nodeorders.block(partition(Shape.ISOLATE_LEADER, THREE, 2).cuts, "p")
    assert ordered == [
        Order(1, "p", "block", (2,), "both"),
        Order(2, "p", "block", (1, 3), "both"),
        Order(3, "p", "block", (2,), "both"),
    ]


def test_a_one_way_cut_goes_out_at_one_end_and_in_at_the_others() -> None:
    ordered = nodeorders.block(partition(Shape.ONE_WAY, THREE, 2).cuts, "p")
    assert [(one.node, one.id, one.direction) for one in ordered] == [
        (1, "p.in", "in"),
        (2, "p.out", "out"),
        (3, "p.in", "in"),
    ]


def test_several_faults_of_one_command_share_the_beginning_of_their_ids() -> None:
    kinds = {"delay": {"delay_ms": 5}, "drop": {"permille": 10}}
    ordered = nodeorders.on_links([(1, 2), (2, 1)], "net-1", kinds)
    assert [(one.node, one.id) for one in ordered] == [
        (1, "net-1.delay"),
        (1, "net-1.drop"),
        (2, "net-1.delay"),
        (2, "net-1.drop"),
    ]
    assert all(nodeorders.belongs(one.id, "net-1") for one in ordered)
    assert not nodeorders.belongs("net-11", "net-1")


@pytest.mark.parametrize(
    ("text", "one_way", "expected"),
    [
        ("1-3", False, [(1, 3), (3, 1)]),
        ("1-3", True, [(1, 3)]),
        ("2", True, [(2, 1), (2, 3)]),
        ("2", False, [(1, 2), (2, 1), (2, 3), (3, 2)]),
        ("all", False, [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]),
    ],
)
def test_a_link_is_named_by_its_ends(text: str, one_way: bool, expected: list[tuple[int, int]]) -> None:
    assert sorted(nodeorders.links_of(text, THREE, one_way=one_way)) == expected


@pytest.mark.parametrize("text", ["1-9", "x", "2-2", "1-2-3", ""])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        nodeorders.links_of(text, THREE, one_way=False)


def test_durations_shares_and_rates_are_read_as_people_type_them() -> None:
    assert [nodeorders.lease_of(text) for text in ("500ms", "10s", "2m", "1.5")] == [
        500,
        10_000,
        120_000,
        1500,
    ]
    assert [nodeorders.permille(text) for text in ("5%", "0.05", "100%", "0.1%")] == [50, 50, 1000, 1]
    assert [nodeorders.bytes_per_s(text) for text in ("50k", "2M", "100")] == [50_000, 2_000_000, 100]


@pytest.mark.parametrize("text", ["", "fast", "-1", "0", "5 apples"])
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    for read in (nodeorders.permille, nodeorders.bytes_per_s):
        with pytest.raises(InvalidArgument):
            read(text)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "10 h"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        nodeorders.lease_of(text)
