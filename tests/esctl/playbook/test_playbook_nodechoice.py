"""A node that an input names by a word: chosen once, shown in the plan, kept in the journal and on resume."""

from pathlib import Path
from typing import Any

import pytest

from esctl.clusters import state
from esctl.clusters.backends.interface import RunState
from esctl.exits import Exit
from esctl.playbook import inputs, journal, lint, nodechoice, parser
from esctl.playbook.schema import Input, InputType, Scalar
from esctl.playbookerrors import InvalidInput, UnplannableStep
from esctl.query import survey as surveys
from esctl.query.survey import Survey
from tests.esctl.commands.test_commands import Run
from tests.esctl.commands.test_status_and_verify import HEALTHY, ONE_DOWN, report, survey
from tests.esctl.conftest import plan as cluster_plan
from tests.esctl.playbook_world import HEAD

DOC = 'doc = "So that the linter has nothing to say about it here at all"\n'
INPUT = '[inputs.node]\ntype = "node"\ndefault = "any-follower"\n'
STEPS = (
    '[[step]]\nid = "look"\nkind = "check"\nexpect = ["status.nodes[inputs.node].role == \'follower\'"]\n'
    + DOC
    + '[[step]]\nid = "why"\nkind = "esctl"\nimpact = "ro"\nwhen = "status.term == 99"\n'
    + 'with = { argv = ["logs", "--node", "${inputs.node}"] }\n'
    + DOC
)
LEADS, _, FOLLOWS = HEALTHY.reports
SECOND_LEADS = survey(report(1, term=5), report(2, role="leader", term=5), report(3, term=5))
NOBODY_LEADS = survey(report(1), report(2), report(3))
NODE = Input("node", InputType.NODE)


@pytest.fixture(autouse=True)
def _three_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that was made, and says that all is well."""
    state.add(cluster_plan("drill", tmp_path / "drill"))
    looks_like(monkeypatch, HEALTHY)


def looks_like(monkeypatch: pytest.MonkeyPatch, *looks: Survey) -> None:
    """One look after another; the last one again and again."""
    left = list(looks)

    async def ask(*_: Any, **__: Any) -> Survey:
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(surveys, "ask", ask)


def written(tmp_path: Path, text: str = INPUT + STEPS) -> str:
    path = tmp_path / "drill.toml"
    path.write_text(HEAD + DOC + text)
    return str(path)


@pytest.mark.parametrize(
    ("word", "now", "number"),
    [
        ("leader", HEALTHY, 1),
        ("leader", SECOND_LEADS, 2),
        ("any-follower", HEALTHY, 2),
        ("any-follower", SECOND_LEADS, 1),
        (
            "any-follower",
            survey(HEALTHY.reports[0], report(2, RunState.DOWN, role=None), HEALTHY.reports[2]),
            3,
        ),
        ("any-follower", survey(HEALTHY.reports[0], report(2, rejoining=True), HEALTHY.reports[2]), 3),
    ],
)
def test_a_word_means_the_lowest_node_that_fits(word: str, now: Survey, number: int) -> None:
    assert nodechoice.chosen({"node": word}, now) == {"node": number}
    assert nodechoice.differences({"node": word}, {"node": number}, now) == []


@pytest.mark.parametrize(
    ("word", "now", "why"),
    [
        ("leader", NOBODY_LEADS, "no node leads"),
        ("any-follower", NOBODY_LEADS, "no node leads"),
        ("any-follower", survey(report(1, role="leader", term=4)), "no follower answers"),
        ("leader", None, "there is no cluster to choose from"),
    ],
)
def test_where_no_node_fits_nothing_is_planned(word: str, now: Survey | None, why: str) -> None:
    with pytest.raises(UnplannableStep, match=why):
        nodechoice.chosen({"node": word}, now)


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("leader", "leader"), ("any-follower", "any-follower")]
)
def test_a_node_is_a_number_or_one_of_two_words(text: str, value: Scalar) -> None:
    assert inputs.of_text(NODE, text) == inputs.typed(NODE, value) == value


@pytest.mark.parametrize("text", ["follower", "0", "", "1.5", "LEADER"])
def test_another_word_is_no_node(text: str) -> None:
    with pytest.raises(InvalidInput, match="the number of a node"):
        inputs.of_text(NODE, text)


def test_a_number_of_another_kind_is_no_word() -> None:
    with pytest.raises(InvalidInput, match="must be a whole number"):
        inputs.of_text(Input("times", InputType.INT), "leader")


def test_the_linter_takes_a_word_for_a_node_as_a_number(tmp_path: Path) -> None:
    assert lint.lint(parser.read(Path(written(tmp_path)))) == []


def test_a_document_says_what_such_an_input_takes(tmp_path: Path) -> None:
    assert "node, leader, any-follower" in Run("playbook", "show", written(tmp_path)).out


def test_the_plan_shows_the_node_and_the_word_that_it_was_chosen_by(tmp_path: Path) -> None:
    path = written(tmp_path)
    planned = Run("playbook", "plan", path, "-o", "json").data
    assert (planned["inputs"], planned["chosen"]) == ({"node": 2}, {"node": "any-follower"})
    assert planned["steps"][1]["argv"] == ["logs", "--node", "2"]
    assert "2 (any-follower)" in Run("playbook", "plan", path).out
    numbered = Run("playbook", "plan", path, "--input", "node=3", "-o", "json").data
    assert (numbered["inputs"], numbered["chosen"]) == ({"node": 3}, {})


def test_a_plan_without_a_leader_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks_like(monkeypatch, NOBODY_LEADS)
    refused = Run("playbook", "plan", written(tmp_path), "-o", "json")
    assert refused.document["errors"][0]["code"] == "ES4508"
    assert refused.document["errors"][0]["message"] == "the input node is any-follower, and no node leads"


def test_a_run_writes_down_which_node_it_is_about_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\nnode: 2 (any-follower)\n" in Run("playbook", "run", written(tmp_path)).out
    run = Run("playbook", "run", written(tmp_path), "-o", "json")
    assert run.code == Exit.OK, run.out + run.err
    assert (run.data["inputs"], run.data["chosen"]) == ({"node": 2}, {"node": "any-follower"})
    directory = journal.runs_root() / run.data["run"]
    begins = journal.read(directory)[0]
    assert (begins["inputs"], begins["chosen"]) == ({"node": 2}, {"node": "any-follower"})
    assert "`node` = `2 (any-follower)`" in Run("playbook", "report", "--format", "md").out
    lines = (directory / journal.JOURNAL).read_text().splitlines(keepends=True)
    begun = next(n for n, line in enumerate(lines) if '"event":"step-begins"' in line)
    (directory / journal.JOURNAL).write_text("".join(lines[: begun + 1]))
    looks_like(monkeypatch, SECOND_LEADS)
    resumed = Run("playbook", "resume", directory.name, "-o", "json")
    assert resumed.data["inputs"] == {"node": 2}
    assert resumed.code == Exit.VERDICT_FAILED, "node 2 leads now, and the run is still about it"
    assert "status.nodes[inputs.node].role == 'follower', was 'leader'" in resumed.data["why"]


def test_a_node_that_is_no_longer_what_it_was_chosen_for_is_refused_at_the_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks_like(monkeypatch, HEALTHY, SECOND_LEADS)
    refused = Run("playbook", "run", written(tmp_path), "-o", "json")
    assert refused.document["errors"][0]["code"] == "ES4524"
    assert "node 2 is no longer any follower (input node)" in refused.document["errors"][0]["message"]
    assert journal.run_ids() == []


def test_a_saved_plan_whose_node_would_be_another_one_now_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, saved = written(tmp_path), str(tmp_path / "plan.json")
    assert Run("playbook", "plan", path, "--save", saved).code == Exit.OK
    assert Run("playbook", "run", path, "--plan", saved).code == Exit.OK
    looks_like(monkeypatch, SECOND_LEADS)
    refused = Run("playbook", "run", path, "--plan", saved, "-o", "json")
    assert "the input node was 2, and is 1 now" in refused.document["errors"][0]["message"]


def test_an_included_playbook_is_given_a_number_or_an_input(tmp_path: Path) -> None:
    (tmp_path / "inner.toml").write_text(HEAD.replace('"drill"', '"inner"') + DOC + INPUT + STEPS)
    include = (
        '[[step]]\nid = "in"\nkind = "include"\nimpact = "rw"\nwith = {{ playbook = "inner.toml"{} }}\n' + DOC
    )
    for given in ("", ', inputs = { node = "leader" }'):
        refused = Run("playbook", "lint", written(tmp_path, include.format(given)))
        assert "a node is chosen for a whole run" in refused.out
    text = INPUT + include.format(', inputs = { node = "${inputs.node}" }')
    planned = Run("playbook", "plan", written(tmp_path, text), "-o", "json").data
    assert planned["steps"][2]["argv"] == ["logs", "--node", "2"]


def test_a_shipped_drill_is_about_any_follower_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Run("playbook", "plan", "slow-follower", "-o", "json").data
    assert planned["chosen"] == {"node": "any-follower"}
    slow = next(one for one in planned["steps"] if one["id"] == "slow")
    assert slow["argv"][:4] == ["fault", "disk", "slow", "2"]
    looks_like(monkeypatch, ONE_DOWN)
    replaced = Run("playbook", "plan", "replace-a-node", "--input", "node=any-follower", "-o", "json").data
    assert replaced["inputs"] == {"node": 2}
