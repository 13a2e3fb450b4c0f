"""Draws the imports of `esctl`, before its reorganisation and now: docs/pictures/imports-*.svg.

`make drawings` runs it. It takes the earlier state from git, the imports from grimp, and has graphviz draw
them. A box is a package or a top-level module of `esctl`. An arrow from A to B means that A imports
something from B.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import grimp

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURES: Final = ROOT / "docs" / "pictures"
ARCHITECTURE: Final = ROOT / "ARCHITECTURE.md"
BEFORE: Final = "7ea907d"
PACKAGE: Final = "esctl"

Edges = Mapping[str, frozenset[str]]
"""What each box imports, without itself."""


@dataclass(frozen=True)
class Drawing:
    """The boxes of one state, what they import, and what is counted there."""

    packages: frozenset[str]
    edges: Edges
    knots: tuple[frozenset[str], ...]
    """Boxes that import each other in a cycle, directly or through others."""
    back: frozenset[tuple[str, str]]
    """A smallest set of arrows whose removal leaves no cycle."""

    @property
    def counts(self) -> dict[str, int]:
        """What ARCHITECTURE.md tells of it."""
        return {
            "packages": len(self.packages),
            "top-level modules": len(self.edges) - len(self.packages),
            "imports (arrows)": sum(len(imported) for imported in self.edges.values()),
            "boxes in the largest import cycle": max(map(len, self.knots), default=0),
            "back edges (thick red arrows)": len(self.back),
        }


def at(commit: str) -> Drawing:
    """The state at a commit of this repository."""
    packed = subprocess.run(["git", "archive", commit, PACKAGE], cwd=ROOT, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
            archive.extractall(directory, filter="data")
        return read(Path(directory))


def read(directory: Path) -> Drawing:
    """The state of the package in a directory."""
    sys.path.insert(0, str(directory))
    try:
        graph = grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path.remove(str(directory))
    boxes = sorted(graph.find_children(PACKAGE))
    edges = {
        short(box): frozenset(
            short(other)
            for other in boxes
            if other != box and graph.direct_import_exists(importer=box, imported=other, as_packages=True)
        )
        for box in boxes
    }
    packages = (short(box) for box in boxes if (directory / box.replace(".", "/")).is_dir())
    return drawing_of(frozenset(packages), edges)


def short(box: str) -> str:
    """Its name within the package."""
    return box.removeprefix(f"{PACKAGE}.")


def drawing_of(packages: frozenset[str], edges: Edges) -> Drawing:
    """What there is to count in these imports."""
    found = tuple(sorted(knots(edges), key=lambda knot: (-len(knot), min(knot))))
    back = frozenset(pair for knot in found for pair in back_arrows(edges, knot))
    return Drawing(packages, edges, found, back)


def knots(edges: Edges) -> Iterator[frozenset[str]]:
    """The strongly connected components of more than one box."""
    reached = {box: _reachable(edges, box) for box in edges}
    left = set(edges)
    while left:
        box = left.pop()
        knot = frozenset({box} | {other for other in reached[box] if box in reached[other]})
        left -= knot
        if len(knot) > 1:
            yield knot


def _reachable(edges: Edges, box: str) -> set[str]:
    seen: set[str] = set()
    waiting = [box]
    while waiting:
        fresh = edges[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def back_arrows(edges: Edges, knot: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The fewest arrows that go up, in whatever order the boxes of a knot are put: exact, in 2**n steps.

    `fewest[s]` is the least number of arrows that go up when the boxes of the set `s` are the topmost ones.
    """
    boxes = sorted(knot)
    imports = [sum(1 << boxes.index(other) for other in edges[box] & knot) for box in boxes]
    fewest, last = [0] * (1 << len(boxes)), [0] * (1 << len(boxes))
    for chosen in range(1, 1 << len(boxes)):
        costs = [
            (fewest[chosen ^ 1 << i] + (imports[i] & chosen).bit_count(), i)
            for i in range(len(boxes))
            if chosen >> i & 1
        ]
        fewest[chosen], last[chosen] = min(costs)
    chosen = len(fewest) - 1
    while chosen:
        lowest = last[chosen]
        chosen ^= 1 << lowest
        yield from (
            (boxes[lowest], other) for i, other in enumerate(boxes) if (imports[lowest] & chosen) >> i & 1
        )


def dot(drawing: Drawing) -> str:
    """The same in the language of graphviz; an arrow that goes up is drawn from below."""
    tied = frozenset[str]().union(*drawing.knots)
    lines = [
        "digraph {",
        'ranksep=0.9; nodesep=0.12; bgcolor="white"; pad=0.2;',
        'node [fontname="Helvetica,Arial,sans-serif", fontsize=26, margin="0.1,0.03", color="#00000060"];',
        'edge [color="#00000048", penwidth=1.4];',
    ]
    for box in drawing.edges:
        shape = 'box, style="filled,rounded"' if box in drawing.packages else "plaintext, style=filled"
        fill = "#f6c7bd" if box in tied else "#d3e9e4" if box in drawing.packages else "#f1f1f1"
        name = box if box in drawing.packages else f"{box}.py"
        lines.append(f'"{box}" [label="{name}", shape={shape}, fillcolor="{fill}"];')
    for box, imported in drawing.edges.items():
        for other in sorted(imported):
            if (box, other) in drawing.back:
                lines.append(f'"{other}" -> "{box}" [dir=back, color="#c0200a", penwidth=5];')
            elif box in tied and other in tied:
                lines.append(f'"{box}" -> "{other}" [color="#c0200a70"];')
            else:
                lines.append(f'"{box}" -> "{other}";')
    return "\n".join([*lines, "}"])


def svg(drawing: Drawing) -> str:
    """The picture, by `dot` of graphviz."""
    program = shutil.which("dot")
    if program is None:
        raise SystemExit("there is no `dot`; on Debian: apt install graphviz")
    drawn = subprocess.run([program, "-Tsvg"], input=dot(drawing), check=True, capture_output=True, text=True)
    return drawn.stdout[drawn.stdout.index("<svg") :]


def write_counts(before: Drawing, today: Drawing) -> None:
    """Put the counts of both in the table of ARCHITECTURE.md."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    for what, count in today.counts.items():
        row = f"| {what} | {before.counts[what]} | {count} |"
        text = re.sub(rf"^\| {re.escape(what)} \|.*$", row, text, flags=re.MULTILINE)
    ARCHITECTURE.write_text(text, encoding="utf-8")


def main() -> int:
    """The program."""
    before, today = at(BEFORE), read(ROOT)
    write_counts(before, today)
    for name, drawing in (("before", before), ("today", today)):
        (PICTURES / f"imports-{name}.svg").write_text(svg(drawing), encoding="utf-8")
        counts = ", ".join(f"{count} {what}" for what, count in drawing.counts.items())
        sys.stdout.write(f"docs/pictures/imports-{name}.svg: {counts}\n")
        for knot in drawing.knots:
            sys.stdout.write(f"  a circle of {len(knot)}: {', '.join(sorted(knot))}\n")
        for box, other in sorted(drawing.back):
            sys.stdout.write(f"  back up: {box} -> {other}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
