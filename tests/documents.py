"""The project's documents taken apart: code spans, fenced blocks, tables, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """Without the fenced blocks."""
        return _FENCE.sub("", self.text)

    def fences(self, language: str) -> list[str]:
        """The fenced blocks of `language`; the empty word is a block without one."""
        return [body for found, body in _FENCE.findall(self.text) if found == language]

    def spans(self) -> list[str]:
        """Everything in backticks, outside the fenced blocks."""
        return _SPAN.findall(self.prose)

    def links(self) -> list[str]:
        """The targets of links and pictures."""
        return _LINK.findall(self.prose)

    def anchors(self) -> set[str]:
        """The headings, as links name them."""
        words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(self.prose))
        return {heading.strip().replace(" ", "-") for heading in words}

    def rows(self, heading: str) -> list[list[str]]:
        """The cells of the first table under `heading`, its head left out."""
        _, found, after = self.text.partition(f"# {heading}\n")
        assert found, f"{self.name} has no heading {heading}"
        lines = after.split("\n#")[0].splitlines()
        table = [line for line in lines if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]

    def command_lines(self, program: str) -> Iterator[str]:
        """What a reader may type that begins with `program`, without its comment."""
        typed = [line for block in self.fences("") for line in block.splitlines()] + self.spans()
        for line in typed:
            if re.match(rf"{program} [^|]", line):
                yield re.split(r"\s+#|\s[<>|]\s", line)[0].strip()


DOCUMENTS = [
    Document(path)
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
]
"""Every document for readers."""


def document(name: str) -> Document:
    """One of them."""
    return next(each for each in DOCUMENTS if each.name == name)
