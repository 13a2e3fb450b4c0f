"""When the logs of all partitions may be copied one by one: only while no source moves."""

import pytest

from esctl.query.ringrest import ownership_of, unrest
from esnode.dedup.ownership import Ownership, RingPlan

GROWS = RingPlan(3, 2, 4)
ENDED = RingPlan(3, 2, 4, ended=True)


def rings(*versions: int, plan: RingPlan | None = None) -> dict[int, Ownership]:
    partitions = {1: 1, 2: 2, 3: 4}
    return {
        number: Ownership(version, partitions[version], plan=plan if number == 0 else None)
        for number, version in enumerate(versions)
    }


@pytest.mark.parametrize(
    ("owned", "what"),
    [
        (rings(1), ""),
        (rings(3, 3, 3, 3, plan=ENDED), ""),
        (rings(3, 3, 3, 3), ""),
        (rings(2, 2, 1, 1), ""),
        (rings(2, 2, 1, 1, plan=GROWS), "sources are moving from 2 to 4 partitions"),
        (rings(3, 3, 3, 3, plan=GROWS), "sources are moving from 2 to 4 partitions"),
        (rings(3, 2, 1, 1), "partition 1 does not go by the ring of version 3 yet, and others do"),
        (rings(3, 3, 3), "partition 3 does not go by the ring of version 3 yet, and others do"),
    ],
    ids=[
        "one partition", "after a plan", "no plan known", "partitions that are not in the ring yet",
        "a plan has begun", "a plan has not quite ended", "some have switched", "a partition is missing",
    ],
)  # fmt: skip
def test_the_ring_is_at_rest_when_all_go_by_it_and_no_plan_is_under_way(
    owned: dict[int, Ownership], what: str
) -> None:
    assert unrest(owned) == what


def test_a_partition_that_was_taken_away_is_not_waited_for() -> None:
    owned = {0: Ownership(4, 1, plan=RingPlan(4, 2, 1, ended=True)), 1: Ownership(4, 1)}
    assert unrest(owned) == unrest({**owned, 1: Ownership(3, 4)}) == ""


def test_a_status_says_it_as_the_log_does() -> None:
    plan = {"version": 3, "old_partitions": 2, "partitions": 4, "ended": False}
    assert ownership_of({"version": 2, "partitions": 2, "plan": plan}) == Ownership(2, 2, plan=GROWS)
    assert ownership_of({}) == Ownership(), "a node of an older version"
