"""Every command that `esctl` says to type can be typed, and one that only reads says something of use.

What answers say is looked at where they are made (`contract.py`); here, what errors and sources say.
"""

import ast
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import esctl.playbookerrors  # noqa: F401  - declares its errors
from esctl.errors import InvalidArgument
from esctl.playbook import commandline
from esnode.errors import EventStreamError, declared
from tests.command_line import without_unit
from tests.esctl import pasting
from tests.esctl.commands.test_commands import Run

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted([*(ROOT / "esctl").rglob("*.py"), *(ROOT / "esnode").rglob("*.py")])
STARTS = ("esctl ", "; esctl ", ": esctl ", "then esctl ", "or esctl ")
MOST_HOLES = 5
WAITS = {"--watch", "--wait", "wait", "verify", "doctor", "event", "trace", "consume", "stop", "--save"}
"""Words of commands that go on, wait, measure the machine, ask nodes that are down for long, or write."""


@pytest.mark.parametrize("error", [error for _, error in sorted(declared().items())], ids=sorted(declared()))
def test_what_a_declared_error_says_to_type_can_be_typed(error: type[EventStreamError]) -> None:
    assert pasting.flaws_in(error.next_step, code=error.code) == []
    assert not _bare_options(error.next_step)


def texts_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each text of a source that names a command, in every way that its holes may be filled.

    What `Situation.command` gets (in the diagnosis) is a command without its first word.
    """
    tree = ast.parse(path.read_text())
    parts = {id(inner) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr | ast.Expr)
             for inner in ast.iter_child_nodes(one)}  # fmt: skip
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and one.args]
    ours = {id(call.args[0]) for call in calls if ast.unparse(call.func) in ("seen.command", "self.command")}
    for one in ast.walk(tree):
        if id(one) in parts and not isinstance(one, ast.JoinedStr):
            continue
        match one:
            case ast.Constant(value=str(text)):
                filled = [text]
            case ast.JoinedStr(values=values):
                holes = min(MOST_HOLES, sum(isinstance(part, ast.FormattedValue) for part in values))
                filled = [_filled(values, list(with_)) for with_ in product(("1", " "), repeat=holes)]
            case _:
                continue
        if id(one) in ours:
            yield one.lineno, [f"esctl {text} --cluster x" for text in filled]
        elif "(?:" in filled[0]:
            continue  # a pattern that finds commands
        elif filled[0].startswith("esctl ") or any(start in filled[0] for start in STARTS[1:]):
            yield one.lineno, filled


def _filled(values: list[ast.expr], holes: list[str]) -> str:
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else holes.pop(0) if holes else "1"
        for part in values
    )


def _is_open(words: list[str]) -> bool:
    """Is a hole of the text in the command's own name, so that only an answer shows it?"""
    if not words or not words[0].replace("-", "").isalpha():
        return bool(words)
    return words[1:2] == ["1"] and not callable(getattr(commandline.find(words[:1]), "callback", None))


def _bare_options(text: str) -> set[str]:
    return {option for words in pasting.commands_in(text) for option in without_unit(words)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_source_says_to_type_can_be_typed(path: Path) -> None:
    found = []
    for line, filled in texts_of(path):
        if any(map(_is_open, pasting.commands_in(filled[0]))):
            continue
        if all(pasting.flaws_in(text, code=InvalidArgument.code) for text in filled):
            found.append(f"{path.name}:{line}: {filled[0]}: {pasting.flaws_in(filled[0])}")
        bare = set.intersection(*map(_bare_options, filled))  # what fills a hole may have one
        found += [f"{path.name}:{line}: {option} has no unit" for option in sorted(bare)]
    assert found == []


def _cheap_readers() -> list[str]:
    """What errors and sources say to type, needs nothing filled in, only reads, and waits for nothing.

    The examples of the help name files and offsets that a reader has, and a test has not.
    """
    texts = [error.next_step for error in declared().values()]
    texts += [
        filled[0]
        for path in SOURCES
        if path.name != "examples.py"
        for _, filled in texts_of(path)
        if len(filled) == 1
    ]
    found = {
        " ".join(pasting.without_target(words))
        for text in texts
        if not pasting.flaws_in(text)
        for words in pasting.commands_in(text)
        if pasting.reads_only(words) and not WAITS & set(words) and " ".join(words).islower()
    }
    return sorted(found)


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
def test_what_only_reads_answers_when_it_is_typed() -> None:
    """Of a cluster whose nodes are down: it answers, or ends with an error that is not of what was typed."""
    lines = _cheap_readers()
    assert {"status", "fault ls", "playbook ls", "logs --level warning"} <= set(lines)
    for line in lines:
        run = Run(*line.split(), "-o", "json")
        codes = {error["code"] for error in run.document["errors"]} if run.out.startswith("{") else set()
        assert not codes & {"ES4000", "ES4009", "ES9001"}, f"{line}: {run.out}"


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("esctl stauts", "there is no command `esctl stauts`; did you mean `status`?"),
        ("esctl node begin 1", "there is no command `esctl node begin`"),
        ("esctl node start", "Missing argument"),
        ("look first; then: esctl status health --wiat 5", "No such option"),
        ("esctl status shows it", "unexpected extra argument"),
        ("esctl fault --help", "help is no cure"),
        ("the newer esctl, if there is one", "only `esctl`"),
    ],
)
def test_what_cannot_be_typed_is_found(text: str, flaw: str) -> None:
    (found,) = pasting.flaws_in(text)
    assert flaw in found


@pytest.mark.parametrize(
    "text",
    [
        "esctl status --cluster 'my one'; then esctl verify --input FILE --cluster x",
        "kill 12; then: esctl cluster destroy x --confirm x",
        "wait, or (esctl node replace ID --data-dir DIR, on another disk)",
        "use 1 to 40 letters",
    ],
)
def test_what_can_be_typed_is_left_alone(text: str) -> None:
    assert pasting.flaws_in(text) == []


def test_an_answer_that_says_to_type_what_was_typed_is_found() -> None:
    def answer(step: str) -> dict[str, object]:
        return {
            "command": "why",
            "errors": [],
            "data": {"cluster": "a", "findings": [{"next": step, "also": []}]},
        }

    pasting.check(answer("esctl status health --cluster a"))
    with pytest.raises(AssertionError, match="is what was typed"):
        pasting.check(answer("esctl why --cluster a"))
