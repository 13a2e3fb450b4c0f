"""One table of a playbook's file, read key by key: what is missing, misspelt or of a wrong type is noted.

Nothing is raised here: a reader goes on after a flaw, so that a person is told of all of them at once. Never
reads a file. Called by `parser.py`.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from esctl.errors import InvalidArgument
from esctl.playbook.lines import Place, line_of
from esctl.playbookerrors import InvalidPlaybook
from esctl.ui.duration import Duration
from esctl.ui.escape import quoted

E = TypeVar("E", bound=enum.StrEnum)


@dataclass(frozen=True, slots=True)
class TomlProblem:
    """One thing that is wrong with a file."""

    where: str
    """`step cut`, `guard 1`, `input rate`; empty for the head."""
    key: str
    text: str
    path: str = ""
    line: int | None = None
    """Where the key stands in the file, or, where it is missing, the table that it belongs to."""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{where}`{self.key}` {self.text}" if self.key else f"{where}{self.text}"

    def as_data(self) -> dict[str, Any]:
        """For the JSON answer."""
        return {
            "path": self.path,
            "line": self.line,
            "where": self.where or None,
            "key": self.key or None,
            "text": self.text,
        }


def refused(path: Path, problems: Sequence[TomlProblem]) -> InvalidPlaybook:
    """The error that names all of them."""
    many = "" if len(problems) == 1 else f"{len(problems)} problems: "
    listed = "; ".join(
        str(one) if one.path == str(path) else f"{Path(one.path).name}: {one}" for one in problems
    )
    error = InvalidPlaybook(f"{path}: {many}{listed}", next_step=f"esctl playbook lint {quoted(path)}")
    error.problems = tuple(problems)
    return error


@dataclass(slots=True)
class TomlTable:
    """A table, where it is, and the list that its flaws go to."""

    content: Mapping[str, Any]
    where: str
    problems: list[TomlProblem]
    path: str
    lines: Mapping[Place, int] = field(default_factory=dict)
    """Of the whole file."""
    place: Place = ()
    """Of this table in it."""
    known: list[str] = field(default_factory=list)

    def flaw(self, key: str, text: str) -> None:
        """Note one."""
        line = line_of(self.lines, (*self.place, *(key.split(".") if key else ())))
        self.problems.append(TomlProblem(self.where, key, text, self.path, line))

    def text(self, key: str, default: str | None = "") -> str:
        """`default` None: it is wanted."""
        value: str = self._value(key, str, "a text", default)
        if default is None and value == "" and key in self.content:
            self.flaw(key, "is empty")
        return value

    def truth(self, key: str, *, default: bool) -> bool:
        """True or false."""
        return bool(self._value(key, bool, "true or false", default))

    def whole(self, key: str, default: int, least: int) -> int:
        """A whole number, `least` or more."""
        value = int(self._value(key, int, "a whole number", default))
        if value < least:
            self.flaw(key, f"must be {least} or more, not {value}")
        return value

    def duration_ms(self, key: str, default: int | None, least: int = 1) -> int:
        """In milliseconds; `default` None: it is wanted."""
        if key not in self.content and default is not None:
            self.known.append(key)
            return default
        text = self._value(key, str, 'a duration such as "30s"', None)
        try:
            value = int(Duration.parse(text)) if text else least
        except InvalidArgument as error:
            self.flaw(key, str(error).removesuffix("; nothing was done"))
            return least
        if value < least:
            self.flaw(key, f"must be {Duration(least)} or more, not {text}")
        return value

    def choice(self, key: str, of: type[E], default: E | None) -> E | None:
        """A word of an enumeration; `default` None: it is wanted."""
        word = self._value(key, str, f"one of {', '.join(of)}", str(default) if default is not None else None)
        if key not in self.content or word == "":
            return default
        if word in list(of):
            return of(word)
        near = get_close_matches(word, [str(one) for one in of], 1)
        also = f"; did you mean {near[0]!r}?" if near else ""
        self.flaw(key, f"must be one of {', '.join(of)}, not {word!r}{also}")
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty where there is none."""
        value = self._value(key, list, "a list of texts", [])
        if not all(isinstance(one, str) for one in value):
            self.flaw(key, f"must be a list of texts, not {value!r}")
            return ()
        return tuple(value)

    def table(self, key: str) -> Mapping[str, Any]:
        """A table within it, empty where there is none."""
        found: Mapping[str, Any] = self._value(key, dict, "a table", {})
        return found

    def tables(self, key: str) -> list[Mapping[str, Any]]:
        """A list of tables (`[[key]]`)."""
        value = self._value(key, list, f"tables, each under [[{key}]]", [])
        if not all(isinstance(one, dict) for one in value):
            self.flaw(key, f"must be tables, each under [[{key}]]")
            return []
        return list(value)

    def anything(self, key: str) -> Any:
        """Whatever is there, or None."""
        self.known.append(key)
        return self.content.get(key)

    def end(self, also: Iterable[str] = ()) -> None:
        """Note every key that nobody has asked for."""
        known = [*self.known, *also]
        for key in self.content:
            if key not in known:
                near = get_close_matches(key, known, 1)
                what = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"
                self.flaw(key, f"is not known; {what}")

    def _value(self, key: str, cls: type, what: str, default: Any) -> Any:
        self.known.append(key)
        value = self.content.get(key)
        if value is None:
            if default is None:
                self.flaw(key, f"is missing: it must be {what}")
            return cls() if default is None else default
        if not isinstance(value, cls) or (cls is int and isinstance(value, bool)):
            self.flaw(key, f"must be {what}, not {value!r}")
            return cls() if default is None else default
        return value
