"""A story as the Mermaid sequence diagram of what really happened.

Arrows are what the logs show to have gone from one to another: votes, hand-overs, snapshots, and the faults
that an operator set. All else is a note over the nodes that it is about. Pure. Called by `esctl timeline`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.observe.timeline.happenings import Happening
from esctl.observe.timeline.outages import time_of_day
from esctl.observe.timeline.story import WHYS, Story

MAX_WORDS: Final = 120
OPERATOR: Final = "operator"
CLIENT: Final = "client"

Drawn = tuple[float, str]
"""When, and a line of the diagram."""


def diagram(story: Story) -> str:
    """The whole of it, to be shown by whatever draws Mermaid."""
    kinds = {one.kind for one in story.happenings}
    lines = ["sequenceDiagram"]
    if story.latency_ms:
        lines.append(f"    participant {CLIENT}")
    lines += [f"    participant n{node} as node {node}" for node in story.lanes]
    if kinds & {"fault", "step", "command"}:
        lines.append(f"    participant {OPERATOR}")
    drawn = [line for one in story.happenings for line in _lines(one, story)]
    drawn += _latency(story)
    return "\n".join([*lines, *(f"    {text}" for _, text in sorted(drawn, key=lambda line: line[0]))]) + "\n"


def _lines(one: Happening, story: Story) -> Iterator[Drawn]:
    nodes = [f"n{node}" for node in story.lanes if node in one.nodes]
    over = _over(one, story)
    at_s = one.begin_s
    match one.kind:
        case "election":
            yield from _election(one, story)
        case "fault":
            for node in nodes:
                yield at_s, f"{OPERATOR}->>{node}: {_told(one.text, at_s, story)}"
            if one.end_s is not None and one.details["how"]:
                ended = f"fault {one.details['fault']}: {one.details['how']}"
                yield one.end_s, f"{over}: {_told(ended, one.end_s, story)}"
        case "step" | "command":
            yield at_s, f"Note over {OPERATOR}: {_told(one.text, at_s, story)}"
        case "transfer" if one.details["to"] in story.lanes and one.details["to"] not in one.nodes:
            yield at_s, f"{nodes[0]}->>n{one.details['to']}: {_told(one.text, at_s, story)}"
        case "snapshot" if one.details["from"] in story.lanes and one.details["to"] in story.lanes:
            sent = f"n{one.details['from']}->>n{one.details['to']}"
            yield at_s, f"{sent}: {_told(one.text, at_s, story)}"
        case _:
            yield at_s, f"{over}: {_told(one.text, at_s, story)}"


def _election(one: Happening, story: Story) -> Iterator[Drawn]:
    """Who noticed, who voted for whom, who leads."""
    known = one.details
    leader, term, begin_s = f"n{known['leader']}", known["term"], one.begin_s
    why = WHYS.get(known["why"], "").format(by=known["before"], noticed_by=known["noticed_by"])
    if why:
        silent = f" for {known['silence_ms']} ms" if known["silence_ms"] is not None else ""
        yield begin_s, f"Note over n{known['noticed_by']}: {_told(f'{why}{silent}', begin_s, story)}"
    for voter, after_ms in known["votes"].items():
        at_s = begin_s + after_ms / 1000
        if f"n{voter}" != leader:
            yield at_s, f"n{voter}->>{leader}: {_told(f'vote in term {term}', at_s, story)}"
    elected_s = begin_s + known["elected_ms"] / 1000
    yield elected_s, f"Note over {leader}: {_told(f'leads term {term}', elected_s, story)}"
    if known["committed_ms"] is not None:
        committed_s = begin_s + known["committed_ms"] / 1000
        yield committed_s, f"Note over {leader}: {_told('first commit', committed_s, story)}"


def _over(one: Happening, story: Story) -> str:
    """Over the nodes that it is about; over all where it is about none."""
    nodes = [node for node in story.lanes if node in one.nodes] or list(story.lanes)
    ends = f"n{nodes[0]}" if len(nodes) == 1 else f"n{nodes[0]},n{nodes[-1]}"
    return f"Note over {ends}"


def _latency(story: Story) -> list[Drawn]:
    """When clients waited longest."""
    if not story.latency_ms:
        return []
    at_s, worst = max(story.latency_ms, key=lambda one: one[1])
    return [(at_s, f"Note over {CLIENT}: {_told(f'waits {worst:,.0f} ms, its longest', at_s, story)}")]


def _told(text: str, at_s: float, story: Story) -> str:
    return safe(f"{time_of_day(at_s, story)} {text}")


def safe(text: str) -> str:
    """Mermaid ends a statement at a semicolon, a hash or the end of the line."""
    words = " ".join(text.replace(";", ",").replace("#", "no. ").split())
    return words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 1]}…"
