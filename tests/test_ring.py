"""The ring: who owns a token, how evenly, and what moves when a partition comes or goes.

`uhashring` is the oracle: another implementation, given the same points.
"""

import hashlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uhashring import HashRing

from esnode import limits
from esnode.ring import POINTS, TOKENS, Ring, moves, token_of

SOURCES = [f"/airport/{number}" for number in range(100_000)]
TOKENS_OF_SOURCES = [int.from_bytes(token_of(source)) for source in SOURCES]


def first(count: int) -> Ring:
    return Ring(count, range(count))


def point(partition: int, number: int) -> int:
    packed = partition.to_bytes(2) + number.to_bytes(2)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=4).digest())


def oracle(partitions: int) -> HashRing:
    """A ring of the same points, whose names are made numbers by the same function."""

    def place(name: str) -> int:
        partition, _, number = name.partition("-")
        return point(int(partition), int(number)) if number else int(name)

    return HashRing([str(one) for one in range(partitions)], vnodes=POINTS, hash_fn=place)


@pytest.mark.parametrize("partitions", [1, 4, 8, 64])
def test_the_owner_is_the_one_that_another_implementation_names(partitions: int) -> None:
    ring, other = first(partitions), oracle(partitions)
    for token in TOKENS_OF_SOURCES[:5_000]:
        # It takes the next point after a token; ours the next one at or after it.
        assert ring.owner(token) == int(other.get_node(str(token - 1)))


def test_a_token_at_a_point_belongs_to_it_and_the_next_one_to_the_next_point() -> None:
    ring = first(4)
    points = sorted(
        (point(partition, number), partition) for partition in range(4) for number in range(POINTS)
    )
    for (before, owner), (_, next_owner) in zip(points, [*points[1:], points[0]], strict=True):
        assert ring.owner(before) == owner
        assert ring.owner((before + 1) % TOKENS) == next_owner
    assert ring.owner(0) == points[0][1]
    assert ring.owner(TOKENS - 1) == points[0][1]


@pytest.mark.parametrize("partitions", [4, 8, 64])
def test_sources_are_spread_evenly(partitions: int) -> None:
    ring = first(partitions)
    counts = dict.fromkeys(range(partitions), 0)
    for token in TOKENS_OF_SOURCES:
        counts[ring.owner(token)] += 1
    assert max(counts.values()) <= 1.25 * len(SOURCES) / partitions


def test_no_ring_is_uneven_and_what_is_added_takes_its_share_and_nothing_else_moves() -> None:
    """Of all rings that there can be when partitions are added one by one."""
    rings = [first(count) for count in range(1, limits.MAX_PARTITIONS + 1)]
    for before, after in pairwise(rings):
        count = len(after.partitions)
        shares = after.shares()
        assert max(shares.values()) <= 1.25 / count
        assert shares[count - 1] <= 1.2 / count
        if count in (2, 4, 8, 64):
            moved = moves(before, after)
            assert {move.new_owner for move in moved} == {count - 1}
            assert sum(move.arc.length for move in moved) == round(shares[count - 1] * TOKENS)


@pytest.mark.parametrize("partitions", [2, 5, 9, 64])
def test_one_more_partition_moves_as_many_sources_as_in_the_other_implementation(partitions: int) -> None:
    before, after = first(partitions - 1), first(partitions)
    old, new = oracle(partitions - 1), oracle(partitions)
    ours = theirs = 0
    for token in TOKENS_OF_SOURCES[:10_000]:
        ours += before.owner(token) != after.owner(token)
        theirs += old.get_node(str(token - 1)) != new.get_node(str(token - 1))
    assert ours == theirs <= 1.2 * 10_000 / partitions


@given(
    st.sets(st.integers(0, 63), min_size=1, max_size=8), st.sets(st.integers(0, 63), min_size=1, max_size=8)
)
def test_moves_are_what_has_another_owner(old: set[int], new: set[int]) -> None:
    before, after = Ring(1, old), Ring(2, new)
    moved = moves(before, after)
    for move in moved:
        for token in {move.arc.first, move.arc.last, (move.arc.first + move.arc.length // 2) % TOKENS}:
            assert (before.owner(token), after.owner(token)) == (move.old_owner, move.new_owner)
        assert move.old_owner != move.new_owner
    rng = Random(repr((old, new)))
    for _ in range(50):
        token = rng.randrange(TOKENS)
        within = [move for move in moved if (token - move.arc.first) % TOKENS < move.arc.length]
        assert len(within) == (before.owner(token) != after.owner(token))


def test_arcs_that_touch_are_one_move() -> None:
    (move,) = moves(Ring(1, [0]), Ring(2, [1]))
    assert (move.arc.length, move.old_owner, move.new_owner) == (TOKENS, 0, 1)


def test_arcs_and_shares_make_the_whole_circle() -> None:
    ring = first(7)
    assert sum(arc.length for arc, _ in ring.owned()) == TOKENS
    assert sum(ring.shares().values()) == pytest.approx(1)
    assert moves(ring, Ring(8, range(7))) == []


def test_where_two_partitions_have_the_same_point_it_is_the_lower_one_s() -> None:
    """Among all partitions that there can be, some points meet."""
    owners: dict[int, set[int]] = {}
    for partition in range(limits.MAX_PARTITIONS):
        for number in range(POINTS):
            owners.setdefault(point(partition, number), set()).add(partition)
    shared = {place: found for place, found in owners.items() if len(found) > 1}
    ring = first(limits.MAX_PARTITIONS)
    for place, found in shared.items():
        assert ring.owner(place) == min(found)
