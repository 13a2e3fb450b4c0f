"""The line of every key of a TOML text: the same keys that the reader finds, each where it is written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from esctl.playbook import catalog
from esctl.playbook.lines import Place, line_of, lines_of

ROOT = Path(__file__).resolve().parents[3]
FILES = [*catalog.shipped_ones().values(), ROOT / "pyproject.toml"]

ODD = '''# a comment with [header] and key = 1
"quo.ted" = 'a # b'   # after a value
'single "quoted"'.inner = """
[[step]]
not = "a key" \\"""
"""
"esc\\u0061ped\\"" = ''\'
= ''\'\'
empty = ""
also_empty = \'\'
five = """""two quotes, and at the end two""" ""
at = 1979-05-27 07:32:00Z
list = [ # a comment, ]
  1, "two ]", [ 3, 4 ],  # ] }
  { five = 5, "six" = { seven = [7] } },

]
[a . "b.c".d]
x.y = -1.5e3
x.z = inf
[[step]]
id = "one"
[step.undo]
kind = "esctl"
[[step.step]]
id = "one-one"
[[step.step]]
id = "one-two"
with = { argv = ["a", "b"], empty = {} }
[[step]]
[[step.step]]
id = "two-one"
[a.e]
[a]
late = true
'''.replace('""" ""\n', '"""""\n')  # fmt: skip


def places(value: Any, outer: Place = ()) -> Iterator[Place]:
    """Every key and element of what was read."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*outer, key)
        yield from places(inner, (*outer, key))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_of_a_file_has_a_line_and_is_written_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found, lines = lines_of(text), text.splitlines()
    assert set(found) == set(places(tomli.loads(text)))
    for place, line in found.items():
        if isinstance(place[-1], str):
            assert place[-1] in lines[line - 1], place


@pytest.mark.parametrize("text", [ODD, ODD.replace("\n", "\r\n"), "", "# nothing", "a=1", "[a]", "[[a]]"])
def test_odd_forms_are_gone_through_as_the_reader_does(text: str) -> None:
    assert set(lines_of(text)) == set(places(tomli.loads(text)))


def test_the_lines_of_odd_forms_are_where_they_are_written() -> None:
    found, lines = lines_of(ODD), ODD.splitlines()

    def written(*place: str | int) -> str:
        return lines[found[place] - 1]

    assert written("quo.ted").startswith('"quo.ted" =')
    assert written('single "quoted"', "inner").endswith('.inner = """')
    assert written('escaped"').startswith('"esc')
    assert written("list", 1) == written("list", 2, 1) == '  1, "two ]", [ 3, 4 ],  # ] }'
    assert written("list", 3, "six", "seven", 0).startswith("  { five")
    assert written("a", "b.c", "d", "x", "z") == "x.z = inf"
    assert written("step", 0, "step", 1, "id") == 'id = "one-two"'
    assert written("step", 1, "step", 0, "id") == 'id = "two-one"'
    assert written("step", 0, "undo") == "[step.undo]"
    assert written("a", "late") == "late = true"
    assert [number for number, line in enumerate(lines, 1) if line == "[[step]]"][1:] == [
        found["step", 0],
        found["step", 1],
    ]


def test_a_key_that_is_missing_has_the_line_of_what_it_belongs_to() -> None:
    lines = lines_of("\n[[step]]\nwith = { a = 1 }\n")
    assert line_of(lines, ("step", 0, "with", "b", "c")) == 3
    assert line_of(lines, ("step", 0, "undo")) == 2
    assert line_of(lines, ("doc",)) == 1
