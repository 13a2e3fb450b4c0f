"""The end of a file's name decides what is written into it; a wrong one ends the command before it acts."""

from pathlib import Path

import pytest

from esctl.cli.filesuffix import form_of
from esctl.errors import InvalidArgument
from tests.esctl.commands.test_commands import Run

FORMS = {".html": "page", ".tar.gz": "archive"}


@pytest.mark.parametrize(
    ("name", "given", "form"),
    [
        ("a.html", None, "page"),
        ("A.HTML", "page", "page"),
        ("b.tar.gz", None, "archive"),
        ("plain", None, None),
        ("plain", "page", "page"),
        ("before-0.2", "archive", "archive"),
    ],
)
def test_the_end_of_the_name_decides_and_a_name_without_one_leaves_it_open(
    name: str, given: str | None, form: str | None
) -> None:
    assert form_of(Path("some.dir") / name, FORMS, given) == form


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("x.png", None, "x.png ends in none of .html, .tar.gz; nothing was done"),
        ("x.gz", "archive", "x.gz ends in none of .html, .tar.gz; nothing was done"),
        ("x.html", "archive", "x.html is no file for archive, by its ending; nothing was done"),
    ],
)
def test_an_ending_that_is_not_known_or_says_something_else_is_refused(
    name: str, given: str | None, text: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        form_of(Path(name), FORMS, given)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "report", "no-such-result.json", "--save"),
        ("bench", "produce", "--save"),
        ("bench", "sweep", "--save"),
        ("bench", "failover", "--save"),
        ("playbook", "report", "--save"),
        ("bundle", "--save"),
        ("timeline", "--save"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["x.png", "x.gif", "x.pdf"])
def test_every_command_that_writes_such_a_file_refuses_it_before_it_looks_at_anything(
    words: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    """There is neither a cluster nor a result nor a run: whoever looked for one would say so."""
    run = Run(*words, str(tmp_path / name), "-o", "json")
    assert run.code == 2
    (error,) = run.document["errors"]
    assert error["code"] == "ES4009"
    assert name in error["message"]
    assert list(tmp_path.glob("x.*")) == []
