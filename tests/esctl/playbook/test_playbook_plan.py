"""The plan: each step as a command, and what the quorum would be after it; the cluster's fingerprint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters.backends.interface import RunState
from esctl.playbook import clustervalues, inputs, parser, plan
from esctl.playbook.forecast import Forecast
from esctl.playbook.plan import Fingerprint, Plan
from esctl.playbook.schema import Action, ActionKind
from esctl.playbookerrors import InvalidPlan, UnplannableStep
from esctl.query.survey import Survey
from tests.esctl.commands.test_status_and_verify import HEALTHY, NONE_UP, ONE_DOWN, report, survey

THREE = Forecast((1, 2, 3), 1)
FIVE = Forecast((1, 2, 3, 4, 5), 1)


def fault(**given: Any) -> Action:
    return Action(ActionKind.FAULT, {"lease": "10s", **given})


def esctl(*words: str) -> Action:
    return Action(ActionKind.ESCTL, {"argv": list(words)})


CUT = {"type": "partition", "shape": "isolate-leader"}


@pytest.mark.parametrize(
    ("picture", "action", "text", "kept"),
    [
        (THREE, fault(**CUT), "nodes 2, 3 hear each other: 2 of 3, 2 needed: a quorum", True),
        (THREE, fault(type="partition", shape="isolate", node="${captured.x}"), "nodes 1, 3 hear", True),
        (replace(THREE, down=frozenset([3])), fault(**CUT), "is alone: 1 of 3, 2 needed: no quorum", False),
        (replace(THREE, leader=None), fault(**CUT), "nodes 2, 3 hear each other", True),
        (FIVE, fault(type="partition", shape="ring"), "hear each other: 3 of 5, 3 needed: a quorum", True),
        (THREE, fault(type="kill", node=1), "2 of 3 nodes running, 2 needed: a quorum", True),
        (THREE, fault(type="pause", node="${captured.x}"), "2 of 3 nodes running", True),
        (THREE, fault(type="disk", how="full", node=2), "2 of 3 nodes running", True),
        (THREE, fault(type="disk", how="slow", node=2), "3 of 3 nodes running", True),
        (THREE, fault(type="disk", how="flip", node=2), "meanwhile 2 of 3 nodes running", True),
        (THREE, fault(type="net", drop="5%"), "3 of 3 nodes running", True),
        (THREE, fault(type="net", stall=True), "node 1 is alone: 1 of 3", False),
        (THREE, fault(type="net", link="1", drop="100%"), "nodes 2, 3 hear each other", True),
        (THREE, esctl("node", "stop", "2"), "2 of 3 nodes running", True),
        (replace(THREE, down=frozenset([2])), esctl("node", "start", "2"), "3 of 3 nodes running", True),
        (replace(THREE, down=frozenset([2])), esctl("node", "stop", "3"), "1 of 3 nodes running", False),
        (THREE, esctl("node", "restart", "3"), "meanwhile 2 of 3 nodes running", True),
        (THREE, esctl("cluster", "restart", "--rolling"), "meanwhile 2 of 3 nodes running", True),
        (THREE, esctl("cluster", "restart"), "meanwhile 0 of 3 nodes running", False),
        (replace(THREE, down=frozenset([1, 2])), esctl("cluster", "recover"), "3 of 3 nodes running", True),
        (THREE, esctl("cluster", "stop"), "0 of 3 nodes running", False),
        (replace(THREE, down=frozenset([1, 2, 3])), esctl("cluster", "start"), "3 of 3 nodes running", True),
        (THREE, esctl("leader", "transfer", "--to", "2"), "3 of 3 nodes running", True),
        (THREE, Action(ActionKind.BENCH, {"mode": "failover"}), "while it strikes, 2 of 3 nodes running",
         True),
    ],
)  # fmt: skip
def test_what_becomes_of_the_quorum_is_said_before_it_is_done(
    picture: Forecast, action: Action, text: str, kept: bool
) -> None:
    _, outlook = picture.after("cut", action)
    assert outlook is not None
    assert text in outlook.text
    assert outlook.kept is kept
    assert outlook.as_data() == {"text": outlook.text, "kept": kept}


@pytest.mark.parametrize(
    "action", [esctl("status"), Action(ActionKind.WAIT), esctl("node", "stop", "${captured.x}")]
)
def test_nothing_is_said_of_the_quorum_where_it_is_not_touched_or_not_known(action: Action) -> None:
    assert THREE.after("a", action) == (THREE, None)


def test_faults_add_up_until_they_are_healed() -> None:
    cut, _ = FIVE.after("cut", fault(**CUT))
    assert cut.leader is None
    worse, outlook = cut.after("kill", fault(type="kill", node=2))
    assert outlook is not None
    assert outlook.text == "nodes 3, 4, 5 hear each other: 3 of 5, 3 needed: a quorum"
    worst, outlook = worse.after("again", fault(**CUT))
    assert outlook is not None
    assert not outlook.kept
    healed, _ = worst.after("heal", Action(ActionKind.HEAL, {"fault": "again"}))
    assert healed.faults.keys() == {"cut", "kill"}
    started, _ = healed.after("start", esctl("node", "start", "2"))
    assert started.out == frozenset()
    whole, outlook = started.after("all", Action(ActionKind.HEAL, {"all": True}))
    assert outlook is not None
    assert (whole.cuts, outlook.text) == (frozenset(), "5 of 5 nodes running, 3 needed: a quorum")


@pytest.mark.parametrize(
    ("picture", "action", "words"),
    [
        (THREE, fault(type="kill", node=9), "there is no node 9; there are 1, 2, 3"),
        (THREE, fault(type="partition", shape="ring"), "ring wants 5 nodes at least"),
        (THREE, fault(type="net", link="1-7", stall=True), "there is no node 7"),
    ],
)
def test_a_step_that_makes_no_sense_on_these_nodes_is_refused(
    picture: Forecast, action: Action, words: str
) -> None:
    with pytest.raises(UnplannableStep) as raised:
        picture.after("cut", action)
    assert words in str(raised.value)
    assert "step cut" in str(raised.value)


# --- the whole plan -----------------------------------------------------------------------------------

TEXT = """
schema = "esctl.playbook/v1"
id = "drill"
version = "1.0.0"
title = "A drill"
risk = "low"
max_duration = "3m"
[requires]
nodes = 3
[inputs.lease]
type = "duration"
default = "30s"
[inputs.token]
type = "secret"
[[step]]
id = "look"
kind = "check"
expect = ["health.ok"]
capture = { victim = "status.followers[0]", later = "load.acked" }
[[step]]
id = "kill"
kind = "fault"
impact = "rw"
title = "Kill node ${captured.victim}"
when = "status.voters_up == 3"
confirm = "Kill node ${captured.victim}, with ${captured.later} events?"
with = { type = "kill", node = "${captured.victim}", lease = "${inputs.lease}" }
undo = { kind = "heal", with = { fault = "kill" } }
[[step]]
id = "tell"
kind = "http"
impact = "ro"
with = { url = "http://localhost/told", headers = { token = "${inputs.token}" } }
[[step]]
id = "each"
kind = "foreach"
impact = "rw"
with = { items = "status.leader_last" }
[[step.step]]
id = "restart"
kind = "esctl"
impact = "rw"
irreversible = true
with = { argv = ["node", "restart", "${item.node}"] }
[[step]]
id = "unknown"
kind = "foreach"
impact = "rw"
with = { items = "answer.nodes" }
[[step.step]]
id = "stop"
kind = "esctl"
impact = "rw"
with = { argv = ["node", "stop", "${item.node}"] }
"""


def planned(now: Survey | None = HEALTHY, text: str = TEXT) -> Plan:
    book = parser.parse(text, Path("drill.toml"))
    values = {**inputs.take(parser.parse(text.replace("secret", "string"), Path("x")), {"token": "s3cret"})}
    return plan.plan(book, values, now)


def test_a_plan_has_every_step_with_its_command_its_undo_and_the_quorum() -> None:
    found = planned()
    assert [(one.step.id, one.depth, one.command) for one in found.steps] == [
        ("look", 0, ""),
        ("kill", 0, "esctl fault kill 2 --lease 30s"),
        ("tell", 0, "GET http://localhost/told"),
        ("each", 0, ""),
        ("restart-2", 1, "esctl node restart 2"),
        ("restart-3", 1, "esctl node restart 3"),
        ("restart-1", 1, "esctl node restart 1"),
        ("unknown", 0, ""),
        ("stop", 1, "esctl node stop ${item.node}"),
    ]
    kill = found.steps[1]
    assert kill.words == ("fault", "kill", "2", "--lease", "30s")
    assert kill.undo == "esctl fault heal (the fault of kill)"
    assert kill.step.title == "Kill node 2"
    assert kill.step.confirm == "Kill node ${captured.victim}, with ${captured.later} events?"
    assert kill.quorum is not None
    assert kill.quorum.text == "2 of 3 nodes running, 2 needed: a quorum"
    restart = found.steps[4]
    assert restart.quorum is not None
    assert restart.quorum.text == "meanwhile 2 of 3 nodes running, 2 needed: a quorum"
    assert found.keeps_quorum is False  # node 2 is dead until its lease ends, and another one is restarted


def test_a_saved_plan_tells_no_secret_and_gives_its_fingerprint_back() -> None:
    data = planned().as_data()
    assert "s3cret" not in str(data)
    assert data["inputs"] == {"lease": "30s", "token": "(secret)"}
    assert Fingerprint.from_data(data["fingerprint"]) == Fingerprint.of(HEALTHY)
    with pytest.raises(InvalidPlan):
        Fingerprint.from_data({"identity": "x"})


def test_a_cluster_that_is_not_as_the_plan_saw_it_is_told_apart() -> None:
    seen = Fingerprint.of(HEALTHY)
    assert seen.differences(Fingerprint.of(HEALTHY)) == []
    assert seen.differences(replace(seen, leader=2)) == []
    assert seen.differences(Fingerprint.of(ONE_DOWN)) == ["node 3 answers no longer"]
    assert Fingerprint.of(ONE_DOWN).differences(seen) == ["node 3 answers now"]
    other = replace(seen, identity="drill-ffff", voters=(1, 2, 3, 4, 5))
    assert seen.differences(other) == [
        "it is another cluster: drill-ffff, not drill-0a1b2c3d", "node 4 votes now", "node 5 votes now"
    ]  # fmt: skip


def test_what_the_playbook_requires_and_the_cluster_is_not_is_told() -> None:
    strict = TEXT.replace("nodes = 3", 'nodes = 5\nbackends = ["netns"]\nfaults = true')
    closed = survey(*(report(number, faults_allowed=number == 1) for number in (1, 2, 3)))
    assert planned(closed, strict).unmet == [
        "it wants 5 nodes, and drill has 3",
        "it wants the backend netns, and this is process",
        "it injects faults, and node 2, 3 was started without faults allowed",
    ]
    assert planned(HEALTHY, TEXT.replace("nodes = 3", "nodes = 3\nfaults = true")).unmet == []
    assert planned(None).unmet == ["it wants a cluster of 3 nodes, and there is none"]
    assert planned(None, TEXT.replace("nodes = 3", "nodes = 0")).unmet == []
    assert planned(None).fingerprint is None


# --- what can be read of a cluster --------------------------------------------------------------------


def test_the_status_of_a_survey_has_every_name_of_the_catalogue() -> None:
    from esctl.playbook.expression import parse
    from esctl.playbook.names import CATALOGUE, STATUS
    from esctl.playbook.types import Type, type_of

    values = {"status": clustervalues.status(ONE_DOWN), "cluster": clustervalues.cluster(ONE_DOWN)}
    wanted = {n: e for n, e in CATALOGUE.items() if n in STATUS or n.startswith("cluster.")}
    for name, entry in wanted.items():
        for number in ("1", "3"):
            found = type_of(parse(name.replace("N", number)).evaluate(values))
            assert found is entry.type or (entry.nullable and found is Type.NULL), name


def test_the_status_tells_who_leads_who_is_down_and_who_lags() -> None:
    paused = report(3, RunState.PAUSED, role=None)
    now = survey(report(1, role="leader", term=4), report(2, term=4, next_offset=3), paused)
    found = clustervalues.status(now)
    assert (found["leader"], found["up"], found["down"], found["followers"]) == (1, [1, 2], [3], [2])
    assert found["leader_last"] == [2, 1]
    assert (found["voters_up"], found["term"]) == (2, 4)
    assert found["lag_events"] == found["events"] - 3 > 0
    assert found["quorum"] == {"held": True, "needed": 2, "may_fail": 0}
    assert found["nodes"]["3"] == {
        "up": False, "state": "paused", "role": None, "rejoining": False, "term": None, "lag_events": None,
        "faults": 0, "version": None,
    }  # fmt: skip
    mixed = clustervalues.status(survey(report(1, version="2.1.0"), report(2, version="2.0.0"), paused))
    assert (mixed["versions"], mixed["nodes"]["1"]["version"]) == (["2.0.0", "2.1.0"], "2.1.0")
    nobody = clustervalues.status(NONE_UP)
    assert (nobody["leader"], nobody["leader_last"], nobody["voters"]) == (None, [], [1, 2, 3])
    assert nobody["quorum"]["held"] is False
