"""What a command answers: data for programs, views for people, and how it ended.

A command returns an `Answer` and prints nothing; `esctl/ui/terminal.py` turns it into a table, plain text or
one JSON document. Nothing here knows rich or the terminal. Called by every command.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Generic, TypeVar

from esctl.exits import Exit, exit_of
from esctl.ui.formatting import duration
from esnode.dataclass import dataclass
from esnode.errors import EventStreamError

T_co = TypeVar("T_co", bound=Mapping[str, object], covariant=True)
D = TypeVar("D", bound=Mapping[str, object])


class Tone(enum.Enum):
    """What a value means to the reader; the terminal picks the colour."""

    NORMAL = "normal"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    DIM = "dim"
    STRONG = "strong"
    ACCENT = "accent"
    PAUSED = "paused"
    """Stands still, and may go on."""
    BROKEN = "broken"
    """Broken on purpose: a fault."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with a tone."""

    value: str | float | bool | None
    tone: Tone = Tone.NORMAL
    piped: str | None = None
    """What plain text has instead, where that is to have one unit in each row of its column."""


def elapsed(seconds: float | None) -> Cell:
    """A span of time: in its largest units for people, in seconds for a pipe."""
    return Cell(duration(seconds), piped=None if seconds is None else f"{seconds:.1f} s")


@dataclass(frozen=True, slots=True)
class Lines:
    """A cell of several lines, one below the other; in plain text with a blank between them."""

    parts: Sequence[str]


Value = str | float | bool | None | Cell | Lines
"""Numbers are grouped by thousands for people (27,004) and left as they are in plain text; None is a dash."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. Columns of numbers are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    title: str = ""
    empty: str = ""
    """What to say instead when there are no rows."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Names and values, one a line."""

    pairs: Sequence[tuple[str, Value]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, such as a verdict; `more` are parts with tones of their own behind it."""

    text: str
    tone: Tone = Tone.NORMAL
    more: Sequence[tuple[str, Tone]] = ()

    @property
    def parts(self) -> list[tuple[str, Tone]]:
        """All of it."""
        return [(self.text, self.tone), *self.more]


@dataclass(frozen=True, slots=True)
class Panel:
    """A few lines in a frame, for the end of a story. Each line is made of parts that have tones."""

    title: str
    lines: Sequence[Sequence[tuple[str, Tone]]]
    tone: Tone = Tone.NORMAL


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one axis, each a list of (x, y); a y that is not finite is a gap. Plain: a row for each x,
    a column for each curve."""

    title: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    x: str
    """What the horizontal axis counts."""
    unit: str = ""
    """The unit of the vertical axis."""
    log: bool = False
    """The vertical axis is logarithmic; values of 0 and less have no place on it."""
    bound: float | None = None
    """A horizontal line at this height."""
    from_zero: bool = False
    """The vertical axis begins at 0, so that small changes look small."""
    height: int = 9
    """Lines of text within the frame."""
    x_unit: str = ""
    """Written behind each number of the horizontal axis."""
    between: tuple[float, float] | None = None
    """From where to where the horizontal axis goes; None: as far as the curves do."""
    marks: Sequence[tuple[float, str]] = ()
    """Moments on the horizontal axis, each with a word: a line through everything."""
    filled: bool = False
    """The area below the curves is filled."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a lane, between two places from 0 to 1."""

    begin: float
    end: float
    mark: str
    """The character that fills it."""
    tone: Tone = Tone.NORMAL
    weight: int = 0
    """Where two share a character's width, the weightier one is seen."""
    cells: Sequence[str] = ()
    """What plain text says of it."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Rows of spans over one axis. Plain: a line for each span, its row's name before its cells."""

    title: str
    rows: Sequence[tuple[str, Sequence[Span]]]
    ticks: Sequence[tuple[float, str]] = ()
    """What is written below the axis, each at its place; those that would touch another one are left out."""
    legend: Sequence[tuple[str, str, Tone]] = ()
    """A mark, what it means, its tone."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Columns of views beside each other, each of the same width. Plain: one column after the other."""

    columns: Sequence[Sequence["View"]]


View = Table | Fields | Line | Panel | Chart | Lanes | Beside


@dataclass(frozen=True, slots=True)
class Trouble:
    """One error as it is shown: what happened, why, and what to type next."""

    code: str
    message: str
    cause: str
    next: str

    @classmethod
    def of(cls, error: EventStreamError) -> "Trouble":
        """From a declared error. Its cause is that of the error it was raised from, or its title."""
        cause = str(error.__cause__) if error.__cause__ is not None else ""
        return cls(error.code, str(error), cause or error.title, error.next_step)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """The end of a command. `ok` in the JSON envelope is true when `exit_code` is 0.

    The type of its data is the one that `docs/make_schemas.py` makes the command's JSON Schema of.
    """

    data: T_co = field(default_factory=dict)  # type: ignore[assignment]
    """Empty when the command ended before there was anything to tell."""
    views: Sequence[View] = ()
    errors: Sequence[Trouble] = ()
    exit_code: Exit = Exit.OK

    @classmethod
    def of_error(cls, error: EventStreamError, data: D | None = None) -> "Answer[D]":
        """A declared error ends the command; `data` is what was achieved before."""
        ended: Answer[D] = Answer(errors=(Trouble.of(error),), exit_code=exit_of(error))
        return ended if data is None else replace(ended, data=data)
