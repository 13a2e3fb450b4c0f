"""The documents that come with `esctl`, and where what is shipped is found."""

import ast
from pathlib import Path

import pytest

from esctl.cli import packagedfiles
from esctl.errors import IncompleteInstallation, InvalidArgument
from esctl.exits import Exit
from tests.esctl.commands.test_commands import Run

ROOT = Path(__file__).resolve().parents[3]


def test_every_document_is_listed_with_its_title_and_printed_whole() -> None:
    listed = Run("docs", "-o", "json").data["documents"]
    assert {one["name"] for one in listed} == {path.stem for path in (ROOT / "docs").glob("*.md")}
    for one in listed:
        printed = Run("docs", one["name"], "-o", "json").data
        assert printed["text"] == Path(one["file"]).read_text(encoding="utf-8")
        assert f"# {one['title']}\n" in printed["text"]


@pytest.mark.parametrize("form", ["plain", "table"])
def test_a_document_is_printed_line_by_line(form: str) -> None:
    for path in sorted((ROOT / "docs").glob("*.md")):
        printed = Run("docs", path.stem, "-o", form).out
        assert printed == path.read_text(encoding="utf-8").rstrip() + "\n", path


def test_a_document_that_is_not_there_is_refused_with_those_that_are() -> None:
    run = Run("docs", "operation", "-o", "json")
    assert run.code == Exit.USAGE
    (error,) = run.document["errors"]
    assert (error["code"], error["next"]) == (InvalidArgument.code, "esctl docs")
    assert "operations" in error["message"]


def test_what_is_missing_of_an_installation_is_told_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packagedfiles, "_PACKAGE", tmp_path / "site" / "esctl")
    with pytest.raises(IncompleteInstallation, match="examples is in neither") as caught:
        packagedfiles.flights()
    assert str(tmp_path / "site") in str(caught.value)
    assert "pip install" in caught.value.next_step


@pytest.mark.parametrize("package", ["esctl", "esnode"])
def test_what_is_shown_names_a_document_by_the_command_that_prints_it(package: str) -> None:
    """A hint that names `docs/operations.md` helps nobody who installed a wheel."""
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        shown = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        ]
        assert not [text for text in shown if "docs/" in text and ".md" in text], path
