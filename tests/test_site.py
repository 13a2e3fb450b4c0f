"""The site (`make site`): what can be said of it without MkDocs. That its links hold, its build shows."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import esnode.client
from tests.documents import DOCUMENTS, ROOT

HOOKS: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "site" / "hooks.py"))
CLIENT = "docs/site/client.md"


def test_every_document_has_its_place_on_the_site() -> None:
    nav = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(nav) == sorted([*(page.name for page in DOCUMENTS), CLIENT])


def test_the_page_of_the_client_has_every_public_name() -> None:
    text = (ROOT / CLIENT).read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: esnode\.client\.(\w+)$", text, re.MULTILINE)) == sorted(
        esnode.client.__all__
    )


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        "<link rel=stylesheet href=//fonts.example/css>",
        "body { background: url('https://img.example/a.png') }",
        '@import "https://fonts.example/css";',
    ],
)
def test_what_a_browser_would_fetch_from_another_host_is_seen(text: str) -> None:
    (found,) = HOOKS["fetched_by"](text)
    assert ".example/" in found
    assert not found.endswith(("'", '"', ")", ">"))


def test_a_link_that_a_reader_may_follow_is_nothing_that_is_fetched() -> None:
    text = (
        '<a href="https://docs.example/">x</a><img src="pictures/a.svg">'
        '<link rel="canonical" href="https://x.example/">'
    )
    assert HOOKS["fetched_by"](text) == []


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("README.md", "index.html"),
        ("docs/operations.md", "how-to/operations.html"),
        ("examples/README.md", "how-to/examples.html"),
        ("ARCHITECTURE.md", "explanation/architecture.html"),
        ("docs/pictures/demo.svg", "docs/pictures/demo.svg"),
    ],
)
def test_a_page_has_the_address_of_its_section(path: str, address: str) -> None:
    nav = [
        {"Home": "README.md"},
        {"How-to": [{"a": "docs/operations.md"}, {"b": "examples/README.md"}]},
        {"Explanation": [{"c": "ARCHITECTURE.md"}]},
    ]
    assert HOOKS["address_of"](Path(path), HOOKS["sections_of"](nav)) == address


def test_what_both_locks_pin_has_one_version() -> None:
    ours, its = (
        dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("requirements.lock", "requirements-site.lock")
    )
    shared = ours.keys() & its.keys()
    assert {name: its[name] for name in shared} == {name: ours[name] for name in shared}
