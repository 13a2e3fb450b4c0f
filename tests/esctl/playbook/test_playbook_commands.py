"""`esctl playbook` as it is typed, without a node; and the playbooks that are shipped, each as a document."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from esctl.clusters import state
from esctl.commands.playbook.ls import needs_text
from esctl.playbook import catalog, copying, expression, inputs, lint, parser, plan, template
from esctl.playbook.names import OWN
from esctl.playbook.nesting import in_a_row
from esctl.playbook.schema import ActionKind, InputType, Playbook
from esctl.playbookerrors import InvalidPlaybook
from tests.documents import document
from tests.esctl.commands.test_commands import Run
from tests.esctl.commands.test_status_and_verify import HEALTHY, ONE_DOWN
from tests.esctl.conftest import plan as cluster_plan

SHIPPED = sorted(catalog.shipped().glob("*.toml"))
each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def defaults(book: Playbook) -> dict[str, Any]:
    """Its inputs, with what has no default made up."""
    made_up = {InputType.NODE: "2", InputType.INT: "1", InputType.DURATION: "1s", InputType.STRING: "x"}
    given = {spec.name: made_up[spec.type] for spec in book.inputs if spec.default is None}
    return dict(inputs.take(book, given))


@each_shipped
def test_a_shipped_playbook_has_nothing_that_the_linter_objects_to(path: Path) -> None:
    assert lint.lint(parser.read(path)) == []


@each_shipped
def test_a_shipped_playbook_reads_as_a_document(path: Path) -> None:
    book = parser.read(path)
    assert book.id == path.stem
    assert len(book.doc.split()) >= 40
    for step in in_a_row(book.steps):
        assert step.title, step.id
        assert not step.title.endswith("."), step.id
        assert len(step.doc.split()) >= 8, step.id
        assert step.doc.endswith((".", ".)", ":")), step.id
    assert all(spec.help for spec in book.inputs)
    shown = Run("playbook", "show", book.id)
    assert shown.code == 0
    assert all(step.title in shown.out for step in book.steps)


@each_shipped
def test_a_shipped_playbook_can_be_planned_on_three_nodes_that_are_well(path: Path) -> None:
    book = parser.read(path)
    planned = plan.plan(book, defaults(book), HEALTHY)
    assert len(planned.steps) >= len(book.steps)
    assert planned.unmet == []
    assert planned.keeps_quorum
    captures = [pair for step in in_a_row(book.steps) for pair in step.capture.items()]
    known_then = {f"captured.{name}" for name, text in captures if expression.parse(text).roots & OWN}
    assert {name for one in planned.steps for name in template.names(one.command)} <= known_then


@each_shipped
def test_a_fault_of_a_shipped_playbook_comes_between_a_check_and_a_proof(path: Path) -> None:
    steps = list(in_a_row(parser.read(path).steps))
    kinds = [step.action.kind for step in steps]
    if ActionKind.FAULT not in kinds:
        return
    assert steps[0].expect[0] == "health.ok"
    (audit,) = [step for step in steps if step.action.kind is ActionKind.ASSERT]
    assert audit is steps[-1]
    assert {"verify.acked_lost == 0", "verify.duplicates == 0", "verify.hashes_equal"} <= set(audit.expect)


PLANNED = {
    "leader-loss-drill": {"cut": "nodes 2, 3 hear each other: 2 of 3, 2 needed: a quorum"},
    "minority-partition": {"cut": "nodes 2, 3 hear each other: 2 of 3, 2 needed: a quorum"},
    "majority-partition": {"cut": "nodes 1, 2 hear each other: 2 of 3, 2 needed: a quorum"},
    "asymmetric-partition": {"mute": "nodes 2, 3 hear each other: 2 of 3, 2 needed: a quorum"},
    "slow-follower": {"slow": "3 of 3 nodes running, 2 needed: a quorum"},
    "full-disk": {
        "full": "2 of 3 nodes running, 2 needed: a quorum",
        "back": "3 of 3 nodes running, 2 needed: a quorum",
    },
    "bootstrap-a-cluster": {
        "without-one": "2 of 3 nodes running, 2 needed: a quorum",
        "with-all": "3 of 3 nodes running, 2 needed: a quorum",
    },
    "planned-hand-over": {"hand-over": "3 of 3 nodes running, 2 needed: a quorum"},
    "corrupt-log-on-one-node": {"flip": "meanwhile 2 of 3 nodes running, 2 needed: a quorum"},
    "clock-jump": {"jump": "3 of 3 nodes running, 2 needed: a quorum"},
    "rolling-restart": {"restart": "meanwhile 2 of 3 nodes running, 2 needed: a quorum"},
    "replace-a-node": {"replace": "meanwhile 2 of 3 nodes running, 2 needed: a quorum"},
    "upgrade": {
        "stop-first": "2 of 3 nodes running, 2 needed: a quorum",
        "start-first": "3 of 3 nodes running, 2 needed: a quorum",
        "stop-1": "2 of 3 nodes running, 2 needed: a quorum",
    },
    "lost-quorum": {"recover": "3 of 3 nodes running, 2 needed: a quorum"},
}
"""What the plan says of a step of which a reader would ask it. Node 1 leads."""


@pytest.mark.parametrize("name", PLANNED)
def test_the_plan_of_a_shipped_playbook_says_what_becomes_of_the_quorum(name: str) -> None:
    book = parser.read(catalog.find(name))
    planned = plan.plan(book, defaults(book), HEALTHY)
    told = {one.step.id: one.quorum.text for one in planned.steps if one.quorum is not None}
    assert told.items() >= PLANNED[name].items()


def test_a_drill_on_a_cluster_with_a_node_down_is_planned_as_the_loss_of_the_quorum() -> None:
    book = parser.read(catalog.find("leader-loss-drill"))
    assert not plan.plan(book, defaults(book), ONE_DOWN).keeps_quorum


# --- the document -------------------------------------------------------------------------------------

PAGE = document("docs/playbooks.md")


def test_the_document_lists_every_playbook_that_is_shipped_and_how_long_it_takes() -> None:
    books = [parser.read(path) for path in SHIPPED]
    expected = [[f"`{b.id}`", b.risk.value, needs_text(b), b.title] for b in books]
    rows = PAGE.rows("The shipped playbooks")
    assert [row[:-1] for row in rows] == expected
    assert all(re.fullmatch(r"\d+ s", row[-1]) for row in rows)


def test_the_example_of_the_document_is_a_playbook_that_lints(tmp_path: Path) -> None:
    (text,) = PAGE.fences("toml")
    book = parser.parse(text, tmp_path / "stop-a-follower.toml")
    assert lint.lint(book) == []
    planned = plan.plan(book, defaults(book), HEALTHY)
    assert "esctl node stop 2" in [one.command for one in planned.steps]


def keys_of(heading: str) -> set[str]:
    return {key for row in PAGE.rows(heading) for key in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize(("heading", "before"), [("Top-level keys", ""), ("Keys of a step", "step a: ")])
def test_the_document_explains_every_key_that_the_reader_takes(heading: str, before: str) -> None:
    text = ALL_KINDS.replace("KINDS", '[[step]]\nid = "a"\nkind = "note"\nzz = 1\n').replace(
        "title", "zz = 1\ntitle"
    )
    with pytest.raises(InvalidPlaybook) as raised:
        parser.parse(text, Path("x.toml"))
    (told,) = [str(one) for one in raised.value.problems if str(one).startswith(f"{before}`zz`")]
    taken = set(told.partition("there are: ")[2].split(", "))
    assert keys_of(heading) == taken


# --- the commands -------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ls_lists_what_is_shipped_and_what_is_here(bench: Path) -> None:
    (bench / "playbooks").mkdir()
    assert Run("playbook", "new", "playbooks/mine.toml").code == 0
    (bench / "playbooks" / "broken.toml").write_text("id = 3")
    run = Run("playbook", "ls", "-o", "json")
    listed = {each["id"]: each for each in run.data["playbooks"]}
    assert {path.stem for path in SHIPPED} | {"mine", "broken"} == set(listed)
    assert (listed["mine"]["shipped"], listed["full-disk"]["shipped"]) == (False, True)
    assert listed["broken"]["readable"] is False
    assert listed["full-disk"]["requires"] == {"nodes": 3, "backends": [], "faults": True}
    plain = Run("playbook", "ls")
    assert "full-disk\tmoderate\tFill the disk of a follower\n" in plain.unpadded
    assert "bootstrap-a-cluster\tlow\tCreate a cluster" in plain.unpadded
    assert "esctl playbook lint playbooks/broken.toml" in plain.err


def test_show_tells_each_step_with_its_reason_its_command_and_its_undo(bench: Path) -> None:
    run = Run("playbook", "show", "leader-loss-drill")
    for words in (
        "Cut the leader off under load",
        "risk    \tmoderate",
        "watched \tload.acked_lost == 0; otherwise it ends with rollback",
        "4. Cut the leader off from all others",
        "does    \tesctl fault partition isolate-leader --lease ${inputs.lease}",
        "keeps   \told_leader = status.leader",
        "undo    \tesctl fault heal (the fault of cut)",
        "rate\tint\t200\tevents per second",
    ):
        assert words in run.out + run.unpadded
    data = Run("playbook", "show", "leader-loss-drill", "--json").data
    assert [step["id"] for step in data["steps"]][:3] == ["steady", "load", "flowing"]
    assert data["inputs"][1]["default"] == 30_000
    missing = Run("playbook", "show", "leader-lost-drill")
    assert missing.code == 2
    assert "did you mean leader-loss-drill?" in missing.err


def test_show_has_a_line_for_every_kind_of_step(bench: Path) -> None:
    (bench / "inner.toml").write_text(ALL_KINDS.replace("KINDS", '[[step]]\nid = "n"\nkind = "note"\n'))
    (bench / "all.toml").write_text(ALL_KINDS.replace("KINDS", KINDS))
    run = Run("playbook", "show", "all.toml")
    assert run.code == 0, run.err
    for words in (
        "asks: Go?", "asks: Which?", "for each one of [1, 2]:", "the steps of inner.toml:",
        "lets 2s pass", "GET http://localhost", "only if \thealth.ok",
        "asks    \tSure?", "cannot be undone", "takes data away", "esctl fault heal --all", "1.1. ",
    ):  # fmt: skip
        assert words in run.out, words


ALL_KINDS = """
schema = "esctl.playbook/v1"
id = "all"
version = "1.0.0"
title = "Every kind"
risk = "low"
max_duration = "1m"
KINDS
"""
KINDS = """
[[step]]
id = "a"
kind = "foreach"
impact = "ro"
with = { items = [1, 2], as = "one" }
[[step.step]]
id = "b"
kind = "approve"
when = "health.ok"
with = { question = "Go?" }
[[step]]
id = "d"
kind = "ask"
with = { question = "Which?" }
[[step]]
id = "e"
kind = "include"
impact = "ro"
with = { playbook = "inner.toml" }
[[step]]
id = "f"
kind = "wait"
with = { for = "2s" }
[[step]]
id = "g"
kind = "http"
impact = "ro"
with = { url = "http://localhost" }
[[step]]
id = "h"
kind = "esctl"
impact = "destructive"
irreversible = true
confirm = "Sure?"
with = { argv = ["node", "kill", "2"] }
[[step]]
id = "i"
kind = "heal"
impact = "rw"
with = { all = true }
"""


@pytest.mark.parametrize("shipped", catalog.shipped_ones())
def test_a_copy_of_a_shipped_playbook_differs_in_id_and_title_only_and_is_as_sound(
    shipped: str, bench: Path
) -> None:
    run = Run("playbook", "new", "my-copy", "--from", shipped, "-o", "json")
    assert run.code == 0
    assert run.document["data"]["copy_of"] == shipped
    copy = bench / "playbooks" / "my-copy.toml"
    was, now = catalog.find_shipped(shipped).read_text(), copy.read_text()
    changed = [
        (one, other) for one, other in zip(was.splitlines(), now.splitlines(), strict=True) if one != other
    ]
    assert [one.partition(" = ")[0] for one, _ in changed] == ["id", "title"]
    assert changed[0][1] == 'id = "my-copy"'
    assert changed[1][1].startswith(f'title = "Copy of {shipped}: ')
    assert now.endswith(was[-40:])
    assert lint.lint(parser.read(copy)) == []


def test_a_copy_keeps_comments_and_names_what_to_type_next(bench: Path) -> None:
    text = '# why\nid = "a" # its name\ntitle = "T"\n\n[[step]] # one\nid = "b"\n'
    assert copying.renamed(text, "c") == text.replace('"a"', '"c"').replace('"T"', '"Copy of a: T"')
    run = Run("playbook", "new", "my-copy", "--from", "announce")
    assert "esctl playbook lint playbooks/my-copy.toml" in run.out
    assert "esctl playbook plan playbooks/my-copy.toml" in run.out
    assert Run("playbook", "new", "my-copy", "--from", "announce").code == 2, "it is there already"


def test_only_a_shipped_playbook_can_be_copied(bench: Path) -> None:
    run = Run("playbook", "new", "my-copy", "--from", "leader-los-drill", "-o", "json")
    assert run.document["errors"][0]["code"] == "ES4505"
    assert "did you mean leader-loss-drill?" in run.document["errors"][0]["message"]
    assert not (bench / "playbooks").exists()


def test_a_new_playbook_can_be_read_linted_and_changed(bench: Path) -> None:
    assert "would be" not in Run("playbook", "new", "my-drill.toml", "--dry-run").out
    assert not Path("my-drill.toml").exists()
    run = Run("playbook", "new", "my-drill.toml", "-o", "json")
    assert run.data["id"] == "my-drill"
    assert Run("playbook", "lint", "my-drill.toml").out == "1 playbook: nothing to object to\n"
    again, wrong = Run("playbook", "new", "my-drill.toml"), Run("playbook", "new", "My Drill.toml")
    assert (again.code, wrong.code) == (2, 2)
    assert "is there already" in again.err
    comments = [line for line in run.data["text"].splitlines() if "#" in line]
    assert len(comments) > 10


def test_lint_exits_2_on_errors_and_0_on_warnings(bench: Path) -> None:
    assert Run("playbook", "new", "drill.toml").code == 0
    text = Path("drill.toml").read_text()
    Path("drill.toml").write_text(re.sub(r'doc = """\nAn earlier fault.*?"""', "", text, flags=re.DOTALL))
    warned = Run("playbook", "lint", "drill.toml")
    assert warned.code == 0
    line = text.splitlines().index('id = "check-healthy"')  # the line before it, counted from 1
    assert warned.out.startswith(f"drill.toml:{line}: doc-missing: it does not say what it does")
    assert warned.out.endswith("\n1 playbook: 0 errors, 1 warning\n")
    Path("drill.toml").write_text(text.replace('"transfer"', '"transfre"').replace("irreversible", "# irr"))
    failed = Run("playbook", "lint", "drill.toml", "-o", "json")
    assert failed.code == 2
    assert failed.document["errors"][0]["code"] == "ES4507"
    (file,) = failed.document["data"]["files"]
    assert sorted(one["code"] for one in file["findings"]) == ["no-such-command", "undo-missing"]
    lines = Path("drill.toml").read_text().splitlines()
    at = {one["code"]: lines[one["line"] - 1] for one in file["findings"]}
    assert at["no-such-command"].startswith("with = { argv = [")
    assert at["undo-missing"] == "[[step]]"
    assert {one["path"] for one in file["findings"]} == {"drill.toml"}
    Path("drill.toml").write_text("[[step]]\nid = 'a'\nkind = 'chek'\n")
    unread = Run("playbook", "lint", "drill.toml", "-o", "json")
    (file,) = unread.document["data"]["files"]
    assert (unread.code, file["readable"]) == (2, False)
    assert {"did you mean 'check'?"} <= {one["message"].partition("; ")[2] for one in file["findings"]}
    assert {one["message"].split()[0]: one["line"] for one in file["findings"]}["`kind`"] == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('a = 1\nb = "x\n', "drill.toml:2: unreadable: this is not TOML"),
        ("a = [1,\n", "drill.toml:1: unreadable: this is not TOML"),
        (
            'id = "x"\n\n[[step]]\n\nid = "a"\nretry = { every = 5 }\n',
            "drill.toml:6: unreadable: `every`",
        ),
        ('id = "x"\n\n[[step]]\nid = "a"\n', "drill.toml:3: unreadable: `kind` is missing"),
        (
            '[[step]]\nid = "a"\nkind = "check"\nwith = { colour = 1 }\n',
            "drill.toml:4: unreadable: `with.colour`",
        ),
        ('[[guard]]\n[[guard]]\nexpr = "1 +"\n', "drill.toml:3: unreadable: `expr` "),
        ("[inputs.a]\n[inputs.b]\ntype = 'nod'\n", "drill.toml:3: unreadable: `type` must be one of"),
        ("", "drill.toml:1: unreadable: `id` is missing"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, place: str, bench: Path) -> None:
    Path("drill.toml").write_text(text)
    assert any(line.startswith(place) for line in Run("playbook", "lint", "drill.toml").out.splitlines())


def test_a_flaw_of_an_included_file_has_that_file_and_its_line(bench: Path) -> None:
    assert Run("playbook", "new", "first.toml", "--from", "upgrade").code == 0
    text = catalog.find_shipped("announce").read_text()
    Path("announce.toml").write_text(text.replace("risk = ", "risc = "))
    line = Path("announce.toml").read_text().splitlines().index('risc = "low"') + 1
    out = Run("playbook", "lint", "first.toml").out
    assert f"announce.toml:{line}: unreadable: `risc` is not known; did you mean `risk`?" in out


def test_a_finding_within_an_include_has_the_line_of_the_include(bench: Path) -> None:
    assert Run("playbook", "new", "first.toml", "--from", "upgrade").code == 0
    text = catalog.find_shipped("announce").read_text()
    Path("announce.toml").write_text(text.replace("irreversible = true", "# not said"))
    lines = Path("first.toml").read_text().splitlines()
    run = Run("playbook", "lint", "first.toml", "-o", "json")
    found = [one for one in run.document["data"]["files"][0]["findings"] if one["code"] == "undo-missing"]
    assert [one["step"].partition("-")[0] for one in found] == ["begins", "over"]
    for one in found:
        where = one["line"] - 1
        assert lines[where : where + 2] == ["[[step]]", f'id = "{one["step"].partition("-")[0]}"']


def test_all_that_is_shipped_and_here_is_linted_when_nothing_is_named(bench: Path) -> None:
    run = Run("playbook", "lint")
    assert run.code == 0
    assert run.out == f"{len(SHIPPED)} playbooks: nothing to object to\n"


def test_plan_refuses_what_the_linter_finds_and_inputs_that_do_not_fit(bench: Path) -> None:
    assert Run("playbook", "new", "drill.toml").code == 0
    for words, code, said in (
        (["--input", "wait"], 2, "write NAME=VALUE"),
        (["-i", "wait=1s", "-i", "wait=2s"], 2, "is given twice"),
        (["-i", "wiat=1s"], 2, "did you mean wait?"),
        ([], 1, "there is no cluster yet"),
    ):
        run = Run("playbook", "plan", "drill.toml", *words)
        assert (run.code, said in run.err) == (code, True), run.err
    Path("drill.toml").write_text(Path("drill.toml").read_text().replace('"transfer"', '"transfre"'))
    run = Run("playbook", "plan", "drill.toml")
    assert (run.code, "ES4507" in run.err) == (2, True)


def test_a_cluster_that_does_not_fit_is_refused_with_the_plan_and_what_helps(bench: Path) -> None:
    state.add(cluster_plan("one", bench / "one", count=1))
    run = Run("playbook", "plan", "leader-loss-drill", "-o", "json")
    assert run.code == 13
    (error,) = run.document["errors"]
    assert "it wants 3 nodes, and one has 1" in error["message"]
    assert error["next"].startswith("esctl cluster up drill --faults --nodes 3")


def test_a_plan_of_a_cluster_to_be_made_needs_none(bench: Path) -> None:
    run = Run("playbook", "plan", "bootstrap-a-cluster", "-i", "nodes=5", "--save", "plan.json")
    assert run.code == 0
    assert "up\trw\tesctl cluster up --nodes 5 --storage sqlite - undo: none" in run.unpadded
    assert "to run it\tesctl playbook run bootstrap-a-cluster --input nodes=5\n" in run.out
    saved = json.loads(Path("plan.json").read_text())
    assert (saved["schema"], saved["fingerprint"], saved["inputs"]["nodes"]) == ("esctl.plan/v1", None, 5)
