"""Files that become playbooks, and files that are refused with everything that is wrong with them."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from esctl.playbook import catalog, inputs, nesting, parser
from esctl.playbook.commands import command_of
from esctl.playbook.schema import Action, ActionKind, Impact, Input, InputType, OnFail, Playbook, Risk
from esctl.playbookerrors import InvalidInput, InvalidPlaybook, NotEvaluable, PlaybookNotFound
from esctl.ui.duration import Duration

HEAD = """
schema = "esctl.playbook/v1"
id = "drill"
version = "1.0.0"
title = "A drill"
risk = "low"
max_duration = "3m"
"""
EXAMPLE = (
    HEAD
    + """
doc = "What it is for"
[requires]
nodes = 3
faults = true
[inputs.rate]
type = "int"
default = 2000
help = "events a second"
[inputs.pause]
type = "duration"
default = "2s"
[[guard]]
expr = "load.acked_lost == 0"
every = "200ms"
for = "1s"
on_breach = "stop"
[[step]]
id = "load"
kind = "bench"
impact = "rw"
with = { mode = "produce", rate = "${inputs.rate}", background = true }
undo = { kind = "esctl", with = { argv = ["bench", "stop", "load"] } }
[[step]]
id = "cut"
title = "Cut it off"
kind = "fault"
impact = "rw"
when = "status.voters_up == 3"
with = { type = "partition", shape = "isolate-leader", lease = "30s" }
pre = ["status.leader != null"]
expect = ["fault.effect == 'applied'"]
capture = { old_leader = "status.leader" }
timeout = "5s"
retry = { attempts = 2, every = "3s" }
undo = { kind = "heal", with = { fault = "cut" } }
on_fail = "stop"
"""
)


def parsed(text: str, path: str = "drill.toml") -> Playbook:
    return parser.parse(text, Path(path))


def problems_of(text: str, path: Path = Path("drill.toml")) -> list[str]:
    with pytest.raises(InvalidPlaybook) as raised:
        parser.parse(text, path)
    return [str(problem) for problem in raised.value.problems]


def test_a_file_becomes_a_playbook_with_every_part_that_it_names() -> None:
    book = parsed(EXAMPLE)
    assert (book.id, book.version, book.title, book.risk) == ("drill", "1.0.0", "A drill", Risk.LOW)
    assert (book.max_duration_ms, book.lock, book.doc) == (180_000, True, "What it is for")
    assert (book.requires.nodes, book.requires.faults, book.requires.backends) == (3, True, ())
    assert book.inputs[0] == Input("rate", InputType.INT, "events a second", 2000)
    assert book.inputs[1].default == Duration(2_000)
    (guard,) = book.guards
    assert (guard.every_ms, guard.for_ms, guard.on_breach) == (200, 1000, "stop")
    load, cut = book.steps
    assert load.undo == Action(ActionKind.ESCTL, {"argv": ["bench", "stop", "load"]})
    assert (cut.title, cut.when) == ("Cut it off", "status.voters_up == 3")
    assert (cut.pre, cut.expect) == (("status.leader != null",), ("fault.effect == 'applied'",))
    assert (cut.timeout_ms, cut.retry.attempts, cut.retry.every_ms) == (5_000, 2, 3_000)
    assert (cut.impact, cut.on_fail, cut.irreversible) == (Impact.WRITES, OnFail.STOP, False)
    assert cut.capture == {"old_leader": "status.leader"}
    assert len(book.digest) == 64
    assert parsed(EXAMPLE + "\n").digest != book.digest


def test_a_step_that_only_looks_need_not_say_so() -> None:
    (step,) = parsed(HEAD + '[[step]]\nid = "a"\nkind = "check"\nexpect = ["health.ok"]').steps
    assert step.impact is Impact.READS


WRONG = """
schema = "esctl.playbook/v2"
id = "Bad Id"
version = 1
risk = "sever"
max_duration = "5"
titel = "A drill"
[inputs.node]
type = "nodes"
[inputs.Kind]
type = "enum"
[inputs.wait]
type = "duration"
default = 3
[inputs.token]
type = "secret"
default = "x"
[[guard]]
expr = "load.acked_lost = 0"
every = "1ms"
[[step]]
id = "cut"
kind = "falt"
[[step]]
id = "two"
kind = "fault"
impact = "rw"
expct = ["health.ok"]
with = { type = "partition", shap = "halves", lease = 5 }
expect = ["status.leader", "3"]
retry = { attempts = 0, evry = "1s" }
undo = { kind = "foreach" }
[[step]]
kind = "heal"
with = {}
capture = { Old = "status.leader", new = 3 }
[[step]]
id = "each"
kind = "foreach"
impact = "rw"
with = { items = "status.followers[" }
"""


def test_everything_that_is_wrong_is_named_at_once() -> None:
    found = problems_of(WRONG)
    expected = [
        "`schema` must be 'esctl.playbook/v1'",
        "`id` must be lower case letters",
        "`version` must be a text, not 1",
        "`title` is missing",
        "`risk` must be one of low, moderate, severe, not 'sever'; did you mean 'severe'?",
        "`max_duration` '5' has no unit: write 5s, 5ms or 5m",
        "`titel` is not known; did you mean `title`?",
        "input node: `type` must be one of",
        "input Kind: must be named in lower case",
        "input Kind: `choices` belong to an enum",
        "input wait: `default` must be a duration",
        "input token: `default` cannot be: a secret",
        "guard 1: `expr` `load.acked_lost = 0`, character 17: '= 0' is not understood: two `=` compare",
        "guard 1: `every` must be 50ms or more, not 1ms",
        "step cut: `kind` must be one of check, assert",
        "step two: `with.shape` is missing: Shape of the partition",
        "step two: `with.shap` is not known; did you mean `shape`?",
        'step two: `with.lease` must be a duration such as "30s", not 5',
        "step two: `expct` is not known; did you mean `expect`?",
        "step two: `expect` `3` is neither true nor false",
        "step two: `attempts` must be 1 or more, not 0",
        "step two: `evry` is not known; did you mean `every`?",
        "step two, undo: `kind` cannot be foreach",
        "step 3: `id` is missing",
        "step 3: `with.fault` `heal` wants either `fault` or `all`",
        "step 3: `capture.Old` must be named in lower case",
        "step 3: `capture.new` must be an expression in quotes, not 3",
        "step each: `with.items` must be a list, or an expression",
        "step each: `step` is missing: a foreach step has [[step.step]] within it",
    ]
    for words in expected:
        assert any(words in problem for problem in found), (words, found)


def test_the_error_of_a_refused_file_names_the_file_and_the_next_command() -> None:
    with pytest.raises(InvalidPlaybook) as raised:
        parsed(HEAD.replace('title = "A drill"\n', "") + '[[step]]\nid = "a"\nkind = "note"')
    assert str(raised.value) == "drill.toml: `title` is missing: it must be a text"
    assert raised.value.next_step == "esctl playbook lint drill.toml"


def test_a_file_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    assert "this is not TOML" in problems_of("[[step\n")[0]
    assert problems_of(HEAD) == ["`step` is missing: a playbook has one [[step]] at least"]
    with pytest.raises(PlaybookNotFound):
        parser.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPlaybook, match="not UTF-8"):
        parser.read(tmp_path / "bad.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (parser.MAX_BYTES + 1))
    with pytest.raises(InvalidPlaybook, match="is over"):
        parser.read(tmp_path / "large.toml")


def test_a_step_within_a_step_that_cannot_hold_one_is_refused() -> None:
    text = HEAD + '[[step]]\nid = "a"\nkind = "note"\n[[step.step]]\nid = "b"\nkind = "note"'
    assert problems_of(text) == ["step a: `step` cannot be within a note step"]


# --- steps within steps -------------------------------------------------------------------------------

FOREACH = (
    HEAD
    + """
[[step]]
id = "each"
kind = "foreach"
impact = "rw"
with = { items = "status.leader_last", as = "node" }
[[step.step]]
id = "stop"
kind = "esctl"
impact = "rw"
title = "Stop node ${item.node}"
with = { argv = ["node", "stop", "${item.node}"] }
expect = ["not status.nodes[item.node].up"]
undo = { kind = "esctl", with = { argv = ["node", "start", "${item.node}"] } }
[[step.step]]
id = "look"
kind = "check"
expect = ["step.stop.ok", "status.nodes[item.node].role != 'leader'"]
"""
)


def test_each_round_of_a_foreach_is_complete_by_itself() -> None:
    (each,) = parsed(FOREACH).steps
    items = nesting.items_of(each, {"status": {"leader_last": [1, 3, 2]}})
    assert items == [1, 3, 2]
    rounds = nesting.rounds(each, items)
    assert [[step.id for step in one] for one in rounds] == [
        ["stop-1", "look-1"], ["stop-3", "look-3"], ["stop-2", "look-2"]
    ]  # fmt: skip
    stop, look = rounds[1]
    assert stop.action.arguments == {"argv": ["node", "stop", 3]}
    assert stop.undo == Action(ActionKind.ESCTL, {"argv": ["node", "start", 3]})
    assert (stop.title, stop.expect) == ("Stop node 3", ("not status.nodes.3.up",))
    assert look.expect == ("step.stop-3.ok", "status.nodes.3.role != 'leader'")


def test_rounds_about_the_same_item_have_ids_of_their_own() -> None:
    (each,) = parsed(FOREACH).steps
    rounds = nesting.rounds(each, [1, "One 1", 1, 1])
    assert [one[0].id for one in rounds] == ["stop-1", "stop-one-1", "stop-1-2", "stop-1-3"]


def test_a_foreach_goes_through_a_list_an_expression_or_a_reference() -> None:
    (each,) = parsed(FOREACH).steps
    for items, expected in (([1, "b"], [1, "b"]), ("[2, 3]", [2, 3]), ("${captured.chosen}", [7])):
        step = replace(each, action=Action(ActionKind.FOREACH, {"items": items}))
        assert nesting.items_of(step, {"captured": {"chosen": [7]}}) == expected
    with pytest.raises(NotEvaluable, match="no list"):
        nesting.items_of(replace(each, action=Action(ActionKind.FOREACH, {"items": "'a'"})), {})


INNER = """
schema = "esctl.playbook/v1"
id = "inner"
version = "1.0.0"
title = "Part of others"
risk = "moderate"
max_duration = "1m"
[requires]
nodes = 5
faults = true
[inputs.lease]
type = "duration"
default = "10s"
[inputs.node]
type = "node"
[[guard]]
expr = "health.serving"
[[step]]
id = "cut"
kind = "fault"
impact = "rw"
with = { type = "partition", shape = "isolate", node = "${inputs.node}", lease = "${inputs.lease}" }
undo = { kind = "heal", with = { fault = "cut" } }
[[step]]
id = "look"
kind = "wait"
expect = ["step.cut.ok", "status.leader != inputs.node"]
"""
OUTER = HEAD.replace("low", "moderate") + """
[inputs.victim]
type = "node"
[[guard]]
expr = "health.serving"
[[step]]
id = "part"
kind = "include"
impact = "rw"
with = { playbook = "inner.toml", inputs = { node = "${inputs.victim}" } }
"""  # fmt: skip


def test_an_included_playbook_becomes_steps_of_the_one_that_includes_it(tmp_path: Path) -> None:
    (tmp_path / "inner.toml").write_text(INNER)
    outer = tmp_path / "outer.toml"
    outer.write_text(OUTER)
    book = parser.read(outer)
    cut, look = book.steps[0].steps
    assert (cut.id, look.id) == ("part-cut", "part-look")
    assert cut.action.arguments["node"] == "${inputs.victim}"
    assert cut.action.arguments["lease"] == Duration(10_000)
    assert command_of(cut.action)[-1] == "10s"
    assert cut.undo == Action(ActionKind.HEAL, {"fault": "part-cut"})
    assert look.expect == ("step.part-cut.ok", "status.leader != inputs.victim")
    assert (book.requires.nodes, book.requires.faults) == (5, True)
    assert len(book.guards) == 1
    before = book.digest
    (tmp_path / "inner.toml").write_text(INNER + "# changed\n")
    assert parser.read(outer).digest != before


@pytest.mark.parametrize(
    ("inner", "outer", "words"),
    [
        (INNER.replace("esctl.playbook/v1", "x"), OUTER, "inner.toml"),
        (INNER.replace('"moderate"', '"severe"'), OUTER, "has the risk severe, more than this one's"),
        (INNER, OUTER.replace("node = ", "nod = "), "`with.inputs.nod` is no input of inner"),
        (INNER, OUTER.replace("node = ", "nod = "), "`with.inputs.node` is missing, and has no default"),
        (INNER, OUTER.replace("${inputs.victim}", "n ${inputs.victim}"), "one ${...} and nothing else"),
        (INNER, OUTER.replace('"${inputs.victim}"', '"two"'), "leader or any-follower, not 'two'"),
        (INNER, OUTER.replace("inner.toml", "none.toml"), "cannot be read"),
        (INNER, OUTER.replace("inner.toml", "outer.toml"), "outer.toml -> outer.toml"),
    ],
)  # fmt: skip
def test_what_cannot_be_included_is_told_with_its_place(
    tmp_path: Path, inner: str, outer: str, words: str
) -> None:
    (tmp_path / "inner.toml").write_text(inner)
    (tmp_path / "outer.toml").write_text(outer)
    with pytest.raises(InvalidPlaybook) as raised:
        parser.read(tmp_path / "outer.toml")
    assert words in str(raised.value)


# --- inputs -------------------------------------------------------------------------------------------

INPUTS = HEAD + """
[inputs.rate]
type = "int"
default = 5
[inputs.node]
type = "node"
help = "which"
[inputs.lease]
type = "duration"
default = "10s"
[inputs.how]
type = "enum"
choices = ["kill", "pause"]
default = "kill"
[inputs.name]
type = "string"
default = "x"
[inputs.token]
type = "secret"
[[step]]
id = "a"
kind = "note"
"""  # fmt: skip


def test_inputs_are_taken_as_their_types_with_their_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, secret = parsed(INPUTS), tmp_path / "token"
    secret.write_text("s3cret\n")
    values = inputs.take(book, {"node": "2", "lease": "1m", "token": f"@{secret}"})
    assert values == {
        "rate": 5, "node": 2, "lease": 60_000, "how": "kill", "name": "x", "token": "s3cret"
    }  # fmt: skip
    assert str(values["lease"]) == "1m"
    monkeypatch.setattr("sys.stdin", io.StringIO("piped\n"))
    assert inputs.take(book, {"node": "2", "token": "@-"})["token"] == "piped"


def test_every_input_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    given = {"rate": "fast", "lease": "5", "how": "stop", "name": "", "token": "plain", "rat": "1"}
    with pytest.raises(InvalidInput) as raised:
        inputs.take(parsed(INPUTS), given)
    for words in (
        "rate must be a whole number, not 'fast'",
        "node is missing: add --input node=... (which)",
        "lease: '5' has no unit",
        "how must be one of kill, pause, not 'stop'",
        "name must be a text",
        "token is a secret: give it as token=@FILE",
        "rat is not known; did you mean rate?",
    ):
        assert words in str(raised.value)
    assert "plain" not in str(raised.value)
    (tmp_path / "empty").write_text("\n")
    for path in ("empty", "none"):
        with pytest.raises(InvalidInput, match=f"{path}"):
            inputs.take(parsed(INPUTS), {"node": "0", "token": f"@{tmp_path / path}"})


# --- where they are found -----------------------------------------------------------------------------


def test_a_playbook_is_found_by_its_id_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "playbooks").mkdir()
    mine = tmp_path / "playbooks" / "first-response.toml"
    mine.write_text("x = 1")
    assert catalog.find("first-response").resolve() == mine
    assert catalog.find("leader-loss-drill").parent == catalog.shipped()
    assert catalog.find("playbooks/first-response.toml") == Path("playbooks/first-response.toml")
    assert {"first-response", "capacity-check"} <= set(catalog.every())
    with pytest.raises(PlaybookNotFound, match="did you mean capacity-check"):
        catalog.find("capacity-chek")
    with pytest.raises(PlaybookNotFound, match=r"no file other\.toml"):
        catalog.find("other.toml")
