"""The drawings of the imports (`make drawings`): what is counted in them, and that today's is today's."""

import re
import runpy
from typing import Any
from xml.etree import ElementTree

from tests.documents import ROOT, document

DRAWINGS: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "make_drawings.py"))


def edges(text: str) -> dict[str, frozenset[str]]:
    """`a>bc b>a` as what imports what; each box is one letter."""
    drawn = {one[0]: frozenset(one[2:]) for one in text.split()}
    return {
        box: drawn.get(box, frozenset()) for box in sorted({*drawn, *"".join(map("".join, drawn.values()))})
    }


def test_imports_that_go_down_have_no_circle_and_no_arrow_back_up() -> None:
    drawing = DRAWINGS["drawing_of"](frozenset("a"), edges("a>bc b>c"))
    assert drawing.counts == {
        "packages": 1,
        "top-level modules": 2,
        "imports (arrows)": 3,
        "boxes in the largest import cycle": 0,
        "back edges (thick red arrows)": 0,
    }


def test_the_boxes_of_a_circle_are_found_and_those_beside_it_are_not() -> None:
    assert set(DRAWINGS["knots"](edges("a>b b>c c>b d>b e>f f>g g>ea"))) == {
        frozenset("bc"),
        frozenset("efg"),
    }


def test_the_fewest_arrows_are_called_those_that_go_back_up() -> None:
    """One arrow closes two circles: without it there is none."""
    imports = edges("a>bc b>d c>d d>a")
    assert set(DRAWINGS["back_arrows"](imports, frozenset("abcd"))) == {("d", "a")}


def test_without_the_arrows_back_up_no_circle_is_left() -> None:
    imports = edges("a>bcd b>ac c>de d>b e>a")
    back = DRAWINGS["drawing_of"](frozenset(), imports).back
    left = {
        box: frozenset(other for other in imported if (box, other) not in back)
        for box, imported in imports.items()
    }
    assert back
    assert list(DRAWINGS["knots"](left)) == []


def test_the_architecture_counts_what_is_imported_today_and_shows_it() -> None:
    drawing = DRAWINGS["read"](ROOT)
    rows = document("ARCHITECTURE.md").rows("Imports before and after the reorganisation")
    assert {row[0]: int(row[2]) for row in rows} == drawing.counts, "run: make drawings"
    picture = ElementTree.parse(ROOT / "docs" / "pictures" / "imports-today.svg")
    shown = {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert shown == {box if box in drawing.packages else f"{box}.py" for box in drawing.edges}, (
        "run: make drawings"
    )


def test_the_architecture_has_the_counts_of_the_drawing_before() -> None:
    text = (ROOT / "docs" / "pictures" / "imports-before.svg").read_text(encoding="utf-8")
    (packages, loose, arrows, _, back) = (
        int(row[1]) for row in document("ARCHITECTURE.md").rows("Imports before and after the reorganisation")
    )
    assert len(re.findall(r">\w+\.py</text>", text)) == loose
    assert text.count('class="node"') == packages + loose
    assert text.count('class="edge"') == arrows
    assert len(re.findall(r'<path [^>]*stroke-width="5"', text)) == back
