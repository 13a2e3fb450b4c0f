"""The rules of the house that no linter knows: sizes, names, and what never enters a tracked file."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
MAX_DOCSTRING_LINES = 10
MIN_TEST_WORDS = 4
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}

CATCHES_EVERYTHING = {
    "esctl/main.py": 1,  # the bug report: the one place where an unknown error ends the command
    "esnode/__main__.py": 1,  # the same for the node's process
    "tests/fuzz/engine.py": 1,  # whatever a door lets out that it may not is what the fuzzer looks for
}
"""Where `except Exception` or wider is allowed, and how often."""

FORBIDDEN_TEXT = {
    "a home directory": re.compile(r"(?<![\w.])/(?:home|root|Users)/"),
    "a package registry": re.compile(r"pypi\.org/simple|files\.pythonhosted|--(?:extra-)?index-url[ =]"),
    "unfinished work": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".lock", ".yml", ".yaml", ".cfg", ".sh", ".svg", ""}


def tracked() -> list[Path]:
    """Every file that git knows, or would know after `git add .`."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:  # an unpacked archive
        names = [
            str(p.relative_to(ROOT))
            for top in ("esnode", "esctl", "tests")
            for p in (ROOT / top).rglob("*.py")
        ]
    else:
        names = listing.stdout.splitlines()
    return sorted(ROOT / name for name in names if (ROOT / name).is_file())


FILES = tracked()
MODULES = [path for path in FILES if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_its_house(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= MAX_FILE_LINES, f"{lines} lines: it is two files"
    words = set(path.stem.split("_"))
    assert not words & EMPTY_NAMES, "the name says nothing"
    tree = ast.parse(text)
    for function in functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= MAX_FUNCTION_LINES, f"{function.name} has {length} lines"
    if text.strip():
        docstring = ast.get_docstring(tree)
        assert docstring, "the module says nothing about itself"
        assert len(docstring.splitlines()) <= MAX_DOCSTRING_LINES, "its head is longer than ten lines"


def catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        one is None or (isinstance(one, ast.Name) and one.id in {"Exception", "BaseException"})
        for one in caught
    )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_catches_every_error_but_where_a_process_ends(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wide = [n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and catches_everything(n)]
    assert len(wide) <= CATCHES_EVERYTHING.get(name_of(path), 0), [handler.lineno for handler in wide]


@pytest.mark.parametrize("path", [path for path in MODULES if path.name.startswith("test_")], ids=name_of)
def test_every_test_has_a_sentence_for_a_name(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [f.name for f in functions(tree) if f.name.startswith("test_")]
    short = [name for name in names if len(name.split("_")) - 1 < MIN_TEST_WORDS]
    assert not short
    assert len(names) == len(set(names)) or any(isinstance(n, ast.ClassDef) for n in tree.body)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.suffix in TEXT_SUFFIXES and path.name != "test_tidy.py"],
    ids=name_of,
)
def test_no_file_holds_what_belongs_to_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    found = {
        what: match.group() for what, pattern in FORBIDDEN_TEXT.items() if (match := pattern.search(text))
    }
    assert not found
