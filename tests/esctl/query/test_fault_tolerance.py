"""How many more nodes may fail: counted from whom the leader hears, not from how many processes run."""

import pytest

from esctl.cli import guard
from esctl.clusters.backends.interface import RunState
from esctl.errors import QuorumNotLost, TooFewNodes
from esctl.observe.diagnosis import ranking
from esctl.observe.diagnosis.problem import ProblemKind
from esctl.observe.monitoring import probes
from esctl.playbook import clustervalues
from esctl.query import checkup, survey
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import MAX_LAG_EVENTS, Survey
from esctl.upkeep import readiness
from tests.esctl.situations import CLUSTER, gone, links, look, node, seen

ISOLATED = look(node(1, peers=links(unheard=(2,))))


def test_a_node_that_the_leader_does_not_hear_is_no_part_of_a_majority() -> None:
    assert look(node(1, peers=links())).may_fail == 1
    assert ISOLATED.counted == {1, 3}
    assert ISOLATED.may_fail == 0
    assert ISOLATED.quorum_text == "3 of 3 up, 1 not heard by the leader, 2 needed: none more may fail"
    assert ISOLATED.quorum_data() == {
        "needed": 2, "up": 3, "counted": 2, "total": 3, "may_fail": 0, "held": True
    }  # fmt: skip


def test_a_leader_that_hears_nobody_makes_no_majority() -> None:
    alone = look(node(1, peers=links(unheard=(2, 3))))
    assert alone.may_fail == -1
    assert "2 not heard by the leader, 2 needed: no quorum" in alone.quorum_text


@pytest.mark.parametrize(
    "behind",
    [
        look(node(1, peers=links(sent_a_snapshot=(3,)))),
        look(node(1, peers=links(), next_offset=MAX_LAG_EVENTS + 9), node(2, next_offset=MAX_LAG_EVENTS + 9)),
        look(node(1, peers=links()), node(3, rejoining=True)),
    ],
)
def test_a_node_that_is_far_behind_or_rejoins_is_no_part_of_a_majority(behind: Survey) -> None:
    assert 3 not in behind.counted
    assert behind.may_fail == 0


def test_where_nobody_leads_nothing_is_held_however_many_answer() -> None:
    leaderless = look(*(node(n, role="follower") for n in (1, 2, 3)))
    assert leaderless.counted == {1, 2, 3}
    assert leaderless.quorum_text == "3 of 3 up, 2 needed: nobody leads, nothing is acked"
    assert not leaderless.quorum_data()["held"]
    assert not clustervalues.status(leaderless)["quorum"]["held"]
    quorum = next(probe for probe in probes.PROBES if probe.name == "quorum")
    reading = probes.read(quorum, seen(*leaderless.reports))
    assert reading.state is probes.ProbeState.CRITICAL


def test_a_node_of_an_older_version_that_does_not_say_whom_it_hears_counts_all_that_answer() -> None:
    assert look().counted == {1, 2, 3}


def test_a_change_counts_the_nodes_that_follow_the_leader() -> None:
    change = guard.quorum_change(CLUSTER, ISOLATED.processes, without=[3], uncounted=ISOLATED.uncounted)
    assert change.lost
    assert change.text.startswith("1 of 3 nodes running and following the leader, 2 needed: no quorum")
    unharmed = guard.quorum_change(CLUSTER, ISOLATED.processes, without=[2], uncounted=ISOLATED.uncounted)
    assert not unharmed.lost
    catching_up = look(node(1, peers=links(sent_a_snapshot=(3,))))
    assert guard.quorum_change(
        CLUSTER, catching_up.processes, without=[2], uncounted=catching_up.uncounted
    ).lost


def test_a_node_that_is_down_is_told_before_one_that_does_not_follow() -> None:
    down = look(gone(3), node(1, peers=links(unheard=(3,))))
    assert down.uncounted == frozenset()
    assert guard.quorum_change(CLUSTER, down.processes, with_=[3]).text.startswith("3 of 3 nodes running, ")
    with pytest.raises(TooFewNodes, match="node 3 is down"):
        guard.can_spare_one(CLUSTER, down.processes, "bench failover", down.uncounted)
    with pytest.raises(TooFewNodes, match="node 2 does not"):
        guard.can_spare_one(CLUSTER, ISOLATED.processes, "bench failover", ISOLATED.uncounted)


def test_health_why_check_upkeep_and_playbooks_say_the_same() -> None:
    ready = checkup.ready(ISOLATED, None)
    assert [reason for reason, _ in ready.flaws] == ["node 2 answers here, and its leader does not hear it"]
    (finding,) = [one for one in ranking.diagnose(seen(ISOLATED.reports[0])).findings if one.wrong]
    assert finding.kind is ProblemKind.CUT_OFF
    assert finding.nodes == {2}
    quorum = next(probe for probe in probes.PROBES if probe.name == "quorum")
    assert probes.read(quorum, seen(ISOLATED.reports[0])).value == 0
    only = RingSurvey(CLUSTER, [ISOLATED])
    (obstacle,) = readiness.obstacles(only, [2], readiness.floors_of(only, {}))
    assert "does not hear node 2" in obstacle.reason
    table = clustervalues.status(ISOLATED)
    assert (table["voters_up"], table["quorum"]["may_fail"]) == (2, 0)


async def test_a_cluster_whose_nodes_do_not_hear_each_other_is_not_recovered_from_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from esctl.upkeep import recoverysteps

    async def asked(_cluster: object) -> Survey:
        return look(node(1, peers=links(unheard=(2, 3))))

    monkeypatch.setattr(survey, "ask", asked)
    with pytest.raises(QuorumNotLost):
        await recoverysteps.refuse_if_alive(CLUSTER)


def test_a_node_that_is_down_is_told_as_before() -> None:
    text = look(gone(2, RunState.DOWN), node(1, peers=links(unheard=(2,)))).quorum_text
    assert text == "2 of 3 up, 2 needed: none more may fail"
