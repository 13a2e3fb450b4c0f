"""Answers for pipes and programs: aligned rows for eyes, `cut` and `awk`, and one document for JSON.

A table has a line of headings, and its cells are padded to the width of their column, with a tabulator
between them. Decides that a cell of a row holds neither a tabulator nor the end of a line, whatever a
stranger put there. Pure. Called by `terminal.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, TypedDict

from esctl.ui import escape
from esctl.ui.answer import Answer, Beside, Cell, Chart, Fields, Lanes, Line, Lines, Panel, Table, Value, View
from esctl.ui.values import ErrorCode


class Nothing(TypedDict):
    """It ended before there was anything to tell."""


class TroubleData(TypedDict):
    """One error."""

    code: ErrorCode
    message: Annotated[str, ("minLength", 1)]
    cause: str
    next: Annotated[str, ("minLength", 1), "What to type next"]


class Envelope(TypedDict):
    """The one document that a command prints under `-o json`."""

    schema: Literal["esctl/v1"]
    command: str
    ok: Annotated[bool, "The exit code is 0"]
    data: dict[str, object]
    errors: list[TroubleData]


def envelope(command: str, answer: Answer[Any]) -> Envelope:
    """The one document that a command prints under `-o json`."""
    return {
        "schema": "esctl/v1",
        "command": command,
        "ok": answer.exit_code == 0,
        "data": dict(answer.data),
        "errors": [
            {"code": t.code, "message": t.message, "cause": t.cause, "next": t.next} for t in answer.errors
        ],
    }


def lines(view: View) -> Iterator[str]:
    """The lines of a view; cells have a tabulator between them, those of a table headings above them, too."""
    match view:
        case Line():
            yield escape.line("".join(text for text, _ in view.parts))
        case Panel(title, inside, _):
            yield escape.line(title)
            yield from (escape.line("".join(text for text, _ in line)).rstrip() for line in inside)
        case Table():
            yield from _aligned([view.columns, *view.rows] if view.rows else [])
        case Fields():
            for name, value in view.pairs:
                yield row((name, value))
        case Chart():
            from esctl.ui import chart

            for numbers in chart.rows(view):
                yield row(numbers)
        case Beside(columns):
            for column in columns:
                for part in column:
                    yield from lines(part)
        case Lanes():
            for name, spans in view.rows:
                for span in spans:
                    yield row((name, *span.cells))


def _aligned(rows: Sequence[Sequence[Value]]) -> Iterator[str]:
    texts = [[_plain(cell) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for cells in texts:
        padded = [text.ljust(width) for text, width in zip(cells, widths, strict=True)]
        yield "\t".join([*padded[:-1], cells[-1]])


def row(cells: Iterable[Value]) -> str:
    """One line of cells."""
    return "\t".join(_plain(cell) for cell in cells)


def _plain(value: Value) -> str:
    if isinstance(value, Lines):
        return " ".join(map(escape.line, value.parts))
    inner = value if not isinstance(value, Cell) else value.value if value.piped is None else value.piped
    return escape.line(
        "-" if inner is None else "yes" if inner is True else "no" if inner is False else str(inner)
    )
