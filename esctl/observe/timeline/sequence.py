"""The Mermaid diagram of a story, drawn: a column for each that takes part, a row for each arrow and note.

Draws what `mermaid.py` has written, so that both say the same. Pure. Called by `page.py`.
"""

import re
from typing import Final
from xml.etree.ElementTree import Element

from esctl.observe.timeline import mermaid
from esctl.observe.timeline.story import Story
from esctl.ui.html.markup import add, element

MOST: Final = 16
"""So many take part at most; a cluster has fewer nodes."""
_HEAD: Final = re.compile(r"(?:Note over (?P<first>\w+)(?:,(?P<last>\w+))?|(?P<one>\w+)->>(?P<other>\w+))")
_CSS: Final = """
.sequence { display: grid; grid-auto-columns: minmax(4.2rem, 1fr); gap: .3rem 0; font-size: .85rem; }
.sequence > .who { font-weight: 600; text-align: center; border-bottom: 2px solid var(--rule); }
.sequence > .step { z-index: 1; padding: .1rem .4rem; overflow-wrap: anywhere; text-align: center; }
.sequence > .note { background: var(--card); border: 1px solid var(--rule); border-radius: .3rem;
  margin: 0 .3rem; }
.sequence > .arrow { border-bottom: 2px solid var(--c0); position: relative; }
.sequence > .arrow::after { content: ""; position: absolute; bottom: -6px; border: 5px solid transparent; }
.sequence > .right::after { right: -2px; border-left-color: var(--c0); }
.sequence > .left::after { left: -2px; border-right-color: var(--c0); }
""" + "".join(
    f".sequence .b{n} {{ grid-column-start: {n}; }} .sequence .e{n} {{ grid-column-end: {n}; }}\n"
    for n in range(1, 2 * MOST + 2)
)  # fmt: skip


def css(story: Story) -> str:
    """The style of its drawing, which has a row for each step."""
    count = mermaid.diagram(story).count("\n") + 1
    return _CSS + "\n".join(f".sequence .r{n} {{ grid-row: {n}; }}" for n in range(1, count + 1)) + "\n"


def drawing(story: Story) -> Element:
    """As a grid of two columns for each that takes part: arrows go from middle to middle."""
    people: dict[str, int] = {}
    whole = element("div", class_="sequence", role="img", aria_label="Who told whom, in the order of time")
    row = 1
    for line in mermaid.diagram(story).splitlines()[1:]:
        text = line.strip()
        if text.startswith("participant "):
            name, _, title = text.removeprefix("participant ").partition(" as ")
            people[name] = len(people)
            at = 2 * people[name] + 1
            add(whole, element("div", title or name, class_=f"who r1 b{at} e{at + 2}"))
        else:
            row += 1
            add(whole, _step(text, people, row))
    return element("div", whole, class_="wide")


def _step(text: str, people: dict[str, int], row: int) -> Element:
    head, _, words = text.partition(": ")
    found = _HEAD.fullmatch(head)
    assert found is not None, "mermaid.py writes nothing else"
    if found["first"] is not None:
        first, last = people[found["first"]], people[found["last"] or found["first"]]
        return element("div", words, class_=f"step note r{row} b{2 * first + 1} e{2 * last + 3}")
    one, other = people[found["one"]], people[found["other"]]
    low, high = min(one, other), max(one, other)
    way = "right" if other > one else "left"
    return element("div", words, class_=f"step arrow {way} r{row} b{2 * low + 2} e{2 * high + 2}")
