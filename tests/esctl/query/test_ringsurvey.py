"""What is said of a cluster whose partitions differ: the worst of them counts, and nothing is said twice."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from esctl.clusters.backends.interface import RunState
from esctl.query import leaderplacement
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from esctl.ui.formatting import leaders_named, partitions_named, shared
from esnode.ring import Ring
from tests.esctl.situations import CLUSTER, gone, look, node


def ring(*surveys: Survey) -> RingSurvey:
    """A partition for each survey."""
    cluster = replace(CLUSTER, partitions=len(surveys))
    return RingSurvey(cluster, [replace(one, cluster=cluster, partition=n) for n, one in enumerate(surveys)])


def led_by(leader: int, *reports: Report) -> Survey:
    """A partition that another node leads."""
    given = {report.node.id: report for report in reports}
    roles = {n: "leader" if n == leader else "follower" for n in (1, 2, 3)}
    return look(*(given.get(n, node(n, role=role)) for n, role in roles.items()))


LED_BY_NOBODY = look(node(1, role="candidate"))
MINORITY = look(gone(2), gone(3))
ONE_GONE = look(gone(3))


def test_a_partition_without_a_leader_is_worse_than_one_that_can_lose_no_node() -> None:
    assert ring(look(), ONE_GONE, LED_BY_NOBODY).worst.partition == 2
    assert ring(look(), ONE_GONE).worst.partition == 1
    assert ring(LED_BY_NOBODY, MINORITY).worst.partition == 1


def test_what_is_true_of_every_majority_is_said_of_all_and_else_of_the_worst() -> None:
    assert ring(look(), led_by(2)).quorum_text == ("in each partition, 3 of 3 up, 2 needed: 1 more may fail")
    assert ring(look(), ONE_GONE).quorum_text == ("in partition 1, 2 of 3 up, 2 needed: none more may fail")
    assert RingSurvey(CLUSTER, [look()]).quorum_text == look().quorum_text


def test_each_partition_has_a_leader_or_none_and_takes_events_only_with_one() -> None:
    assert ring(look(), led_by(3), LED_BY_NOBODY).leaders() == [
        {"id": 0, "leader": 1, "held": True},
        {"id": 1, "leader": 3, "held": True},
        {"id": 2, "leader": None, "held": False},
    ]


def test_a_node_that_one_partition_cannot_count_on_is_not_counted() -> None:
    deaf = look(gone(3, RunState.RUNNING, "runs, no answer in 2 s"))
    assert ring(look(), look()).uncounted == frozenset()
    assert ring(look(), deaf).uncounted == {3}


def test_the_ring_is_the_one_that_the_nodes_make_of_their_setting() -> None:
    found = ring(look(), look(), look())
    assert found.ring.shares() == Ring(1, range(3)).shares()
    assert found.ring_data() == {"version": 1, "partitions": 3, "moving": False}
    assert RingSurvey(CLUSTER, [look()]).ring.shares() == {0: 1.0}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([["a"], ["a"], ["a"]], [("", "a")]),
        ([["a"], [], ["b", "a"]], [("partitions 0, 2: ", "a"), ("partition 2: ", "b")]),
        ([["a", "a"], []], [("partition 0: ", "a")]),
        ([[], []], []),
    ],
)
def test_what_is_said_of_several_partitions_is_said_once(
    said: Sequence[Sequence[str]], told: Sequence[tuple[str, str]]
) -> None:
    assert shared(said) == told


def test_partitions_and_their_leaders_are_named_in_short() -> None:
    assert partitions_named([2]) == "partition 2"
    assert partitions_named([5, 0, 4, 6, 8, 9]) == "partitions 0, 4-6, 8, 9"
    assert leaders_named([1]) == "node 1 leads"
    assert leaders_named([None]) == "nobody leads"
    assert leaders_named([2, 1, 2, 2]) == "node 1 leads partition 1; node 2 leads partitions 0, 2, 3"
    assert leaders_named([3, None, None]) == "node 3 leads partition 0; nobody leads partitions 1, 2"


# --- leaders that are elsewhere ------------------------------------------------------------------


def placed(why: str, wait_ms: int = 0, *others: Report, preferred: int = 2) -> Survey:
    """Node 1 leads, and says who leads otherwise."""
    placement = {"preferred": preferred, "to": preferred, "why": why, "wait_ms": wait_ms}
    return look(node(1, placement=placement), *others)


@pytest.mark.parametrize(
    ("survey", "said"),
    [
        (look(), ""),
        (placed("placed", preferred=1), ""),
        (placed("free"), ""),
        (placed("waits", 2_000), ""),
        (placed("under_way"), ""),
        (placed("unfit", 5_000, gone(2)), ""),  # that it is down is said of it
        (placed("unfit", 5_000), "node 1 leads in place of node 2, which is behind or not connected; next:"),
        (placed("placed"), "node 1 leads in place of node 2, which is behind or not connected; next:"),
        (
            placed("waits", 60_000),
            "node 1 leads in place of node 2, which did not keep the leadership; it gets",
        ),
        (
            placed("asked", 540_000),
            "an operator asked for it, for another 9 min; next: esctl leader transfer",
        ),
    ],
)
def test_why_another_node_leads_is_said_where_that_lasts(survey: Survey, said: str) -> None:
    told = leaderplacement.note(replace(survey, partition=0))
    assert said in told
    assert bool(said) == bool(told)


def test_a_leader_in_another_ones_place_is_said_once_of_all_its_partitions() -> None:
    found = ring(placed("unfit"), look(), placed("unfit"))
    (told,) = leaderplacement.notes(found)
    assert told.startswith("partitions 0, 2: node 1 leads in place of node 2")
    assert leaderplacement.preferred(found.partitions[0].leader) == 2
    assert leaderplacement.preferred(found.partitions[1].leader) is None
    assert leaderplacement.preferred(None) is None
