"""Lanes as text: a row of characters each, an axis with what fits below it, and what the characters mean.

A span that is narrower than a character is still seen, unless a weightier one has its place. Pure: lines of
parts with tones. Called by `terminal.py`.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from esctl.ui.answer import Lanes, Span, Tone

LEAST_CELLS: Final = 20
Line = list[tuple[str, Tone]]


def draw(view: Lanes, width: int) -> list[Line]:
    """The lines, none of them longer than `width`."""
    margin = max((len(name) for name, _ in view.rows), default=0) + 1
    cells = max(LEAST_CELLS, width - margin)
    lines: list[Line] = [[(view.title[:width], Tone.STRONG)]] if view.title else []
    for name, spans in view.rows:
        row = _row(spans, cells)
        parts = [
            ("".join(mark for mark, _ in group), tone) for tone, group in groupby(row, key=lambda c: c[1])
        ]
        lines.append([(name.ljust(margin), Tone.NORMAL), *parts])
    lines += ruler(view.ticks, margin, cells) if view.ticks else []
    return lines + _legend(view.legend, width)


def _row(spans: Sequence[Span], cells: int) -> list[tuple[str, Tone]]:
    row: list[tuple[str, Tone]] = [(" ", Tone.NORMAL)] * cells
    weights = [-1] * cells
    for span in spans:
        first = min(cells - 1, max(0, int(span.begin * cells)))
        last = min(cells - 1, max(first, int(span.end * cells - 1e-9)))
        for cell in range(first, last + 1):
            if span.weight >= weights[cell]:
                row[cell], weights[cell] = (span.mark, span.tone), span.weight
    return row


def ruler(
    ticks: Sequence[tuple[float, str]], margin: int, cells: int, *, begin: str = "", tick: str = "┴"
) -> list[Line]:
    """A rule with a mark at each tick, a place from 0 to 1, and the words below; of two that would touch, the
    first. `begin` is the character before the rule."""
    rule, words, free = ["─"] * cells, [" "] * cells, 0
    for place, text in sorted(ticks):
        cell = min(cells - 1, int(place * cells))
        at = min(cell, cells - len(text))
        if at < free or at < 0:
            continue
        rule[cell] = tick
        words[at : at + len(text)] = text
        free = at + len(text) + 1
    blank = " " * (margin + len(begin))
    return [
        [(" " * margin + begin + "".join(rule), Tone.DIM)],
        [(blank + "".join(words).rstrip(), Tone.DIM)],
    ]


def _legend(legend: Sequence[tuple[str, str, Tone]], width: int) -> list[Line]:
    lines: list[Line] = []
    used = width
    for mark, text, tone in legend:
        length = len(mark) + len(text) + 3
        if used + length > width:
            lines.append([])
            used = 0
        lines[-1] += [(mark, tone), (f" {text}  ", Tone.DIM)]
        used += length
    return lines
