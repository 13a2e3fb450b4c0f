"""Pages as trees of elements: every text is escaped because none is ever pasted into markup.

Texts may come from anywhere; characters that may not be in a page become U+FFFD. Knows nothing of what a
page says. Called by the pages of measurements, playbooks and timelines.
"""

import re
from html import escape
from typing import Final
from xml.etree.ElementTree import Element

Content = Element | str | None
_FORBIDDEN: Final = re.compile(
    r"[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
    r"|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters, halves of characters, and what would turn the direction of all that follows."""

_EMPTY: Final = frozenset({"meta"})
"""Elements of HTML that have no end; of those there are, the ones that are used here."""


def element(tag: str, *content: Content, **attributes: str | float | None) -> Element:
    """`element("td", "3 ms", class_="number")`. None is left out, of the content and of the attributes."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), clean(str(value)))
    add(made, *content)
    return made


def add(parent: Element, *content: Content) -> None:
    """Put `content` behind what `parent` holds already."""
    for part in content:
        if isinstance(part, Element):
            parent.append(part)
        elif part is not None and len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(part)
        elif part is not None:
            parent.text = (parent.text or "") + clean(part)


def clean(text: str) -> str:
    """With U+FFFD for each character that may not be in a page."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def document(root: Element) -> str:
    """The whole page. A `style` in it is written as it is: only the page's own may be put there."""
    pieces = ["<!DOCTYPE html>\n"]
    _write(root, pieces)
    return "".join((*pieces, "\n"))


def fragment(root: Element) -> str:
    """One element with all that is in it, such as a file of SVG."""
    pieces: list[str] = []
    _write(root, pieces)
    return "".join((*pieces, "\n"))


def _write(node: Element, pieces: list[str]) -> None:
    """As HTML; the serializer of the standard library leaves a < in an attribute as it is."""
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in node.items())
    pieces.append(f"<{node.tag}{attributes}>")
    if node.tag not in _EMPTY:
        text = node.text or ""
        pieces.append(text if node.tag == "style" else escape(text, quote=False))
        for child in node:
            _write(child, pieces)
        pieces.append(f"</{node.tag}>")
    pieces.append(escape(node.tail or "", quote=False))
