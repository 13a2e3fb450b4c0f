"""Texts of strangers as they are shown: nothing in them moves a cursor, forges a row or turns it around."""

import io
import os
import subprocess
from collections.abc import Callable

import pytest

from esctl.clusters import state
from esctl.errors import InvalidName
from esctl.ui import escape
from esctl.ui.answer import Answer, Fields, Lanes, Line, Panel, Span, Table, Tone, View
from esctl.ui.terminal import Output, Terminal
from tests.esctl.commands.test_commands import Run

EVIL = "two\n7\t/t/forged\x1b[2J\x85\r\u202egnp\u2066\u2028\udcff"
VIEWS: list[Callable[[str], View]] = [
    lambda text: Table([text, "n"], [[text, 1]]),
    lambda text: Fields([(text, text)]),
    Line,
    lambda text: Panel(text, [[(text, Tone.BAD), ("b", Tone.DIM)]]),
    lambda text: Lanes("lanes", [(text, [Span(0, 1, "#", cells=(text, "b"))])]),
]


def harmful(text: str) -> set[str]:
    return {each for each in text if each in EVIL and not each.isalnum() and each not in "\n\t/[ "}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("output", [Output.TABLE, Output.PLAIN])
def test_every_view_shows_what_a_stranger_wrote_in_one_line(
    view: Callable[[str], View], output: Output
) -> None:
    def shown(text: str) -> str:
        out = io.StringIO()
        Terminal(output, stdout=out, stderr=io.StringIO()).show("probe", Answer(views=[view(text)]))
        return out.getvalue()

    assert shown(EVIL).count("\n") == shown("two").count("\n")
    assert shown(EVIL).count("\t") == shown("two").count("\t")
    assert not harmful(shown(EVIL))
    assert r"two\n7\t/t/forged\u001b[2J\u0085\r\u202egnp\u2066\u2028\xff" in shown(EVIL)


def test_a_row_of_a_stream_is_one_row() -> None:
    out = io.StringIO()
    terminal = Terminal(Output.PLAIN, stdout=out, stderr=io.StringIO())
    terminal.record({}, "1", EVIL)
    terminal.toned([("1 ", Tone.DIM), (EVIL, Tone.STRONG)])
    assert [line.count("\t") for line in out.getvalue().splitlines()] == [1, 0]
    assert not harmful(out.getvalue())


def test_a_message_may_have_lines_and_nothing_else() -> None:
    err = io.StringIO()
    Terminal(Output.PLAIN, stdout=io.StringIO(), stderr=err).warn(EVIL)
    assert err.getvalue().count("\n") == 2
    assert not harmful(err.getvalue())


def test_a_line_of_an_encoding_that_lacks_a_character_can_be_read() -> None:
    assert escape.in_ascii("a → b ± 1 µs ▁█ é 😀") == r"a -> b +- 1 us _# \u00e9 \U0001f600"


@pytest.mark.parametrize(
    "path",
    ["plain", "two words", "it's", "$HOME", "a\nb", "tab\there", "caf\udce9 'x' \\n", "-dash", "*", ""],
)
def test_a_path_that_is_named_to_be_pasted_is_the_same_path(path: str) -> None:
    said = subprocess.run(
        ["bash", "-c", f"printf %s {escape.quoted(path)}"], capture_output=True, check=True
    ).stdout
    assert said == os.fsencode(path)
    assert not set(escape.quoted(path)) & {"\n", "\t", "\udce9"}


def test_a_refusal_shows_bytes_that_are_no_text_as_all_else_does() -> None:
    (error,) = Run("a\udcff", "-o", "json").document["errors"]
    assert error["message"] == r"No such command 'a\xff'."
    with pytest.raises(InvalidName, match=r"^'a\\xff' cannot name a cluster$"):
        state.check_name("a\udcff")


def test_what_was_typed_with_a_backslash_is_not_taken_for_a_byte() -> None:
    assert escape.of_repr(repr("a\udcff \\udcff")) == r"'a\xff \\udcff'"
