"""The linter: a good playbook has no findings, and each rule finds what it is for."""

import re
from pathlib import Path

import pytest

from esctl.playbook import commandline, impact, lint, parser
from esctl.playbook.commandline import flaw_of
from esctl.playbook.lines import lines_of
from esctl.playbook.lintrules import RULES, LintFinding, LintSeverity
from esctl.playbook.schema import Action, ActionKind, Impact
from tests.esctl.cli.test_auditlog import COMMANDS

GOOD = """
schema = "esctl.playbook/v1"
id = "drill"
version = "1.0.0"
title = "A drill"
risk = "severe"
max_duration = "3m"
doc = "What it is for"
[requires]
nodes = 3
faults = true
[inputs.lease]
type = "duration"
default = "30s"
[inputs.token]
type = "secret"
[[guard]]
expr = "status.quorum.held and health.serving"
[[step]]
id = "steady"
kind = "check"
doc = "d"
expect = ["health.ok"]
capture = { leader = "status.leader", followers = "status.followers" }
[[step]]
id = "agree"
kind = "approve"
doc = "d"
with = { question = "Now?" }
[[step]]
id = "cut"
kind = "fault"
impact = "rw"
doc = "d"
with = { type = "partition", shape = "isolate-leader", lease = "${inputs.lease}" }
pre = ["captured.leader != null"]
expect = ["fault.effect == 'applied'", "captured.leader != status.leader"]
undo = { kind = "heal", with = { fault = "cut" } }
[[step]]
id = "tell"
kind = "http"
impact = "rw"
irreversible = true
doc = "d"
with = { url = "http://localhost/told", method = "POST", headers = { Authorization = "${inputs.token}" } }
expect = ["answer.exit == 0"]
[[step]]
id = "each"
kind = "foreach"
impact = "rw"
doc = "d"
with = { items = "status.leader_last", as = "one" }
[[step.step]]
id = "restart"
kind = "esctl"
impact = "rw"
irreversible = true
doc = "d"
with = { argv = ["node", "restart", "${item.one}"] }
expect = ["status.nodes[item.one].up", "step.cut.ok"]
[[step]]
id = "exactly-once"
kind = "assert"
doc = "d"
expect = ["verify.acked_lost == 0"]
"""


def found(text: str) -> list[LintFinding]:
    return lint.lint(parser.parse(text, Path("drill.toml")), lines_of(text))


def test_a_playbook_that_keeps_every_rule_has_no_findings() -> None:
    assert found(GOOD) == []


DOC_OF_CUT = 'doc = "d"\nwith = { type = "partition"'
BREAKS = [
    ("undo-missing", "cut", 'undo = { kind = "heal", with = { fault = "cut" } }\n', ""),
    ("undo-missing", "tell", "irreversible = true\ndoc", "doc"),
    ("undo-contradicted", "cut", "undo = { kind", "irreversible = true\nundo = { kind"),
    ("confirm-missing", "restart", 'kind = "esctl"\nimpact = "rw"', 'kind = "esctl"\nimpact = "destructive"'),
    ("approval-missing", "", 'id = "agree"\nkind = "approve"', 'id = "agree"\nkind = "ask"'),
    ("impact-too-low", "cut", 'kind = "fault"\nimpact = "rw"', 'kind = "fault"\nimpact = "ro"'),
    ("impact-too-low", "tell", 'kind = "http"\nimpact = "rw"', 'kind = "http"\nimpact = "ro"'),
    ("impact-too-low", "each", 'kind = "foreach"\nimpact = "rw"', 'kind = "foreach"\nimpact = "ro"'),
    ("impact-too-low", "restart", '"node", "restart", "${item.one}"', '"cluster", "destroy", "${item.one}"'),
    ("impact-too-high", "steady", 'kind = "check"', 'kind = "check"\nimpact = "rw"\nirreversible = true'),
    ("lease-missing", "cut", ', lease = "${inputs.lease}"', ""),
    ("lease-too-long", "cut", 'default = "30s"', 'default = "4m"'),
    ("lease-too-long", "cut", '"${inputs.lease}"', '"11m"'),
    ("lease-too-long", "cut", '"${inputs.lease}"', '"1ms"'),
    ("faults-not-required", "", "faults = true\n", ""),
    ("verify-missing", "cut", 'kind = "assert"', 'kind = "check"'),
    ("verify-missing", "cut", '"verify.acked_lost == 0"', '"health.ok"'),
    ("verify-elsewhere", "exactly-once", 'kind = "assert"', 'kind = "check"'),
    ("unknown-name", "steady", '"health.ok"', '"health.okay"'),
    ("unknown-name", "cut", "${inputs.lease}", "${inputs.leas}"),
    ("unknown-name", "restart", "${item.one}", "${item.node}"),
    ("unknown-name", "restart", "step.cut.ok", "step.cat.ok"),
    ("unknown-name", "each", '"status.leader_last"', '"status.leader_list"'),
    ("captured-early", "cut", "captured.leader != null", "captured.follower != null"),
    ("types-differ", "steady", '"health.ok"', '"health.ok == 1"'),
    ("types-differ", "steady", '"health.ok"', '"status.leader"'),
    ("types-differ", "cut", "captured.leader != null", "captured.leader == 'two'"),
    ("types-differ", "cut", "captured.leader != null", "captured.followers < 2"),
    ("types-differ", "", "status.quorum.held and", "status.term and"),
    ("not-its-own", "exactly-once", '"verify.acked_lost == 0"', '"fault.effect == \'applied\'"'),
    ("not-its-own", "steady", '"health.ok"', '"answer.exit == 0"'),
    ("not-its-own", "tell", '"answer.exit == 0"', '"bench.rate > 0"'),
    ("load-missing", "steady", '"health.ok"', '"load.acked > 0"'),
    ("load-missing", "", "health.serving", "load.acked_lost == 0"),
    ("guard-blind", "", "status.quorum.held and health.serving", "1 == 1"),
    ("guard-blind", "", "status.quorum.held and health.serving", "verify.acked_lost == 0"),
    ("guard-blind", "", "health.serving", "captured.leader == 1"),
    ("duplicate-id", "cut", 'id = "restart"', 'id = "cut"'),
    ("fault-unknown", "cut", '{ fault = "cut" }', '{ fault = "steady" }'),
    ("timeout-too-long", "steady", '["health.ok"]', '["health.ok"]\ntimeout = "4m"'),
    ("timeout-too-long", "steady", 'kind = "check"', 'kind = "wait"\nwith = { for = "4m" }'),
    ("expects-nothing", "exactly-once", 'expect = ["verify.acked_lost == 0"]', ""),
    ("not-in-background", "tell", 'kind = "http"', 'kind = "bench"'),
    ("no-such-command", "restart", '"node", "restart"', '"node", "restrat"'),
    ("no-such-command", "restart", '"restart",', '"restart", "--fast",'),
    ("no-such-command", "restart", '"node", "restart"', '"noed", "restart"'),
    ("no-such-command", "restart", '"restart",', '"restart", "--cluster=other",'),
    ("no-such-command", "restart", '"node", "restart", "${item.one}"', '"node", "kill", "--help"'),
    ("no-such-command", "cut", '{ kind = "heal", with = { fault = "cut" } }',
     '{ kind = "esctl", with = { argv = ["fault", "heel"] } }'),
    ("fault-not-leased", "restart", '"node", "restart", "${item.one}"',
     '"fault", "kill", "2", "--lease", "1h"'),
    ("secret-shown", "cut", DOC_OF_CUT, DOC_OF_CUT.replace('"d"', '"with ${inputs.token}"')),
    ("secret-shown", "restart", '"restart",', '"restart", "${inputs.token}",'),
    ("secret-shown", "steady", '"health.ok"', '"inputs.token == \'a\'"'),
    ("input-unused", "", '"${inputs.lease}"', '"30s"'),
    ("old-words", "restart", '"node", "restart", "${item.one}"', '"trace", "--live"'),
    ("doc-missing", "", 'doc = "What it is for"\n', ""),
    ("doc-missing", "cut", DOC_OF_CUT, DOC_OF_CUT.replace('doc = "d"\n', "")),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "step", "good", "bad"), BREAKS)
def test_a_broken_rule_is_found_where_it_is_broken(rule: str, step: str, good: str, bad: str) -> None:
    assert good in GOOD
    text = GOOD.replace(good, bad, 1)
    for kind, given in (
        ("bench", 'with = { mode = "sweep", background = true }'),
        ("ask", 'with = { question = "Now?" }'),
    ):
        if f'kind = "{kind}"' in bad:
            tail = text[text.index(f'kind = "{kind}"') :]
            text = text.replace(tail, re.sub(r"with = \{.*\}(?=\n)", given, tail, count=1))
    of_rule = [one for one in found(text) if (one.code, one.step) == (rule, step)]
    assert of_rule, found(text)
    if step and rule != "duplicate-id":
        assert {step_at(text, one) for one in of_rule} == {step}


def step_at(text: str, finding: LintFinding) -> str:
    """The id of the step that the finding's line is in."""
    assert finding.line is not None
    headers = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith("[[step")]
    begins = max(number for number in headers if number <= finding.line)
    return str(re.findall(r'^id = "(.*)"$', "\n".join(text.splitlines()[begins:]), re.MULTILINE)[0])


@pytest.mark.parametrize(
    ("rule", "good", "bad", "line"),
    [
        ("undo-missing", 'undo = { kind = "heal", with = { fault = "cut" } }\n', "", "[[step]]"),
        ("lease-too-long", '"${inputs.lease}"', '"11m"', 'with = { type = "partition"'),
        ("types-differ", "status.quorum.held and", "status.term and", 'expr = "status.term'),
        ("unknown-name", '{ fault = "cut" }', '{ fault = "${inputs.x}" }', 'undo = { kind = "heal"'),
        ("no-such-command", '{ kind = "heal", with = { fault = "cut" } }',
         '{ kind = "esctl", with = { argv = ["fault", "heel"] } }', 'undo = { kind = "esctl"'),
        ("input-unused", '"${inputs.lease}"', '"30s"', "[inputs.lease]"),
        ("faults-not-required", "faults = true\n", "", "[requires]"),
        ("approval-missing", 'id = "agree"\nkind = "approve"', 'id = "agree"\nkind = "ask"', "risk = "),
        ("captured-early", "captured.leader != null", "captured.x != null", 'pre = ["captured.x'),
        ("doc-missing", 'doc = "What it is for"\n', "", ""),
    ],
)  # fmt: skip
def test_a_finding_has_the_line_of_its_key(rule: str, good: str, bad: str, line: str) -> None:
    text = GOOD.replace(good, bad, 1)
    told = [text.splitlines()[(one.line or 0) - 1] for one in found(text) if one.code == rule]
    assert [one for one in told if one.startswith(line)], told


def test_the_second_of_two_steps_with_one_id_is_where_the_finding_is() -> None:
    text = GOOD.replace('id = "exactly-once"', 'id = "steady"')
    (one,) = [one for one in found(text) if one.code == "duplicate-id"]
    assert one.line is not None
    assert text.splitlines()[one.line : one.line + 2] == ['id = "steady"', 'kind = "assert"']


def test_steps_with_one_id_have_each_its_own_findings() -> None:
    text = GOOD.replace('id = "exactly-once"', 'id = "steady"').replace(
        '"verify.acked_lost == 0"', '"health.okay"'
    )
    (one,) = [one for one in found(text) if one.code == "unknown-name"]
    assert one.line is not None
    assert text.splitlines()[one.line - 1] == 'expect = ["health.okay"]'


def test_every_rule_is_broken_by_one_of_these() -> None:
    assert {rule for rule, *_ in BREAKS} == set(RULES)


def test_an_error_keeps_a_playbook_from_running_and_a_warning_does_not() -> None:
    (finding,) = found(GOOD.replace('doc = "What it is for"\n', ""))
    assert finding.severity is LintSeverity.WARNING
    assert finding.as_data() == {
        "severity": "warning",
        "code": "doc-missing",
        "step": None,
        "path": "drill.toml",
        "line": 1,
        "message": "the playbook does not say what it is for",
        "advice": "add `doc` to the head",
    }


@pytest.mark.parametrize(
    "argv",
    [
        '"bench", "failover", "--times", "${captured.leader}"',
        '"node", "stop", "${captured.leader}"',
        '"produce", "${captured.leader}", "--rate", "${captured.leader}"',
    ],
)
def test_what_is_captured_may_be_a_number_or_a_word(argv: str) -> None:
    assert found(GOOD.replace('"node", "restart", "${item.one}"', argv)) == []


def test_a_name_below_a_value_that_is_none_is_no_reason_to_give_up() -> None:
    text = GOOD.replace(
        '"node", "restart", "${item.one}"', '"node", "restart", "${item.one}", "${item.one.x}"'
    )
    assert [one.code for one in found(text)] == ["unknown-name"]


@pytest.mark.parametrize(
    ("words", "flaw"),
    [
        ("status", ""),
        ("node stop 2", ""),
        ("fault partition isolate-leader --lease 30s", ""),
        ("fault partition isolate-lead", "isolate-lead"),
        ("node stop", "Missing argument"),
        ("node stop two", "is not a whole number"),
        ("nod stop 2", "did you mean `node`?"),
        ("node stopp 2", "did you mean `stop`?"),
        ("node", "there are: ls, start"),
        ("verify --exakt", "No such option"),
        ("status -o json", "-o is set by the run"),
        ("status health --help", "would only show its help"),
    ],
)
def test_a_command_line_that_cannot_be_typed_is_found_without_running_it(words: str, flaw: str) -> None:
    said = flaw_of(words.split())
    assert (flaw in said and bool(said)) if flaw else said == ""


@pytest.mark.parametrize(
    ("kind", "given", "least"),
    [
        (ActionKind.ESCTL, {"argv": ["status"]}, Impact.READS),
        (ActionKind.ESCTL, {"argv": ["doctor", "--fix"]}, Impact.WRITES),
        (ActionKind.ESCTL, {"argv": ["node", "kill", "1", "-n"]}, Impact.READS),
        (ActionKind.ESCTL, {"argv": ["cluster", "destroy", "x"]}, Impact.DESTROYS),
        (ActionKind.BENCH, {"mode": "consume"}, Impact.READS),
        (ActionKind.BENCH, {"mode": "sweep"}, Impact.WRITES),
        (ActionKind.BACKUP, {"action": "verify"}, Impact.READS),
        (ActionKind.BACKUP, {"action": "prune"}, Impact.DESTROYS),
        (ActionKind.HTTP, {"url": "u"}, Impact.READS),
        (ActionKind.WAIT, {}, Impact.READS),
    ],
)
def test_the_least_that_an_action_does_is_told_by_its_command(
    kind: ActionKind, given: dict[str, object], least: Impact
) -> None:
    assert impact.least_of(Action(kind, given)) is least


STRIKING = sorted(set(commandline.members("fault")) - {"heal", "ls", "coverage"})


@pytest.mark.parametrize("name", STRIKING)
def test_every_command_that_injects_a_fault_wants_a_step_of_its_own_kind(name: str) -> None:
    text = GOOD.replace('"node", "restart", "${item.one}"', f'"fault", "{name}"')
    assert ("fault-not-leased", "restart") in {(one.code, one.step) for one in found(text)}


@pytest.mark.parametrize("words", ['"fault", "heal", "--all"', '"fault", "ls"', '"fault", "coverage"'])
def test_a_command_of_the_group_fault_that_injects_nothing_may_be_a_plain_step(words: str) -> None:
    assert found(GOOD.replace('"node", "restart", "${item.one}"', words)) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_changes_something_does_not_say_that_it_only_reads(name: str) -> None:
    declared = COMMANDS[name].callback.declared
    reads = declared.impact == Impact.READS
    assert not (declared.changes and reads) or name == "bench stop", declared
    assert impact.of_words(name.split()) in (Impact(declared.impact), Impact.READS)


def test_a_command_that_changes_something_with_one_option_only_reads_without_it() -> None:
    assert impact.of_words(["event", "trace", "0"]) is Impact.READS
    assert impact.of_words(["event", "trace", "--live"]) is Impact.WRITES
    assert impact.of_words(["no-such-command"]) is Impact.WRITES
