"""Where in a TOML text each key stands: the line, counted from 1.

The reader of TOML tells no lines of what it has read, and tomlkit keeps none. So the text is gone through
once more: headers, keys, and what a value spans. Only for a text that the reader has taken: what is not TOML
is not judged here. Pure. Called by `parser.py`, and by `esctl playbook lint` for the linter's findings.
"""

import re
from collections.abc import Mapping
from typing import Final

Place = tuple[str | int, ...]
"""Keys and numbers from the top of the file, such as `("step", 0, "with", "argv")`."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'", re.DOTALL
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_OTHER_VALUE: Final = re.compile(r"[^\[\]{},#\n\"']+")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def lines_of(text: str) -> Mapping[Place, int]:
    """The line of every key, table and element of an array of tables; `text` is valid TOML."""
    scan = _Scan(text)
    scan.document()
    return scan.found


def line_of(lines: Mapping[Place, int], place: Place) -> int:
    """The line of the innermost part of a place that the file has; 1 when it has nothing of it."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


class _Scan:
    """One way through a text, from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self.found: dict[Place, int] = {}
        self._text = text
        self._at = 0
        self._line, self._counted = 1, 0
        self._elements: dict[Place, int] = {}
        """How many `[[headers]]` each array of tables has had."""

    def document(self) -> None:
        """All of it."""
        table: Place = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._next("["):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Place:
        line, is_element = self._here(), self._next("[[")
        self._at += 2 if is_element else 1
        *outer, last = self._dotted()
        self._skip(_SPACE)
        self._at += 2 if is_element else 1
        place: Place = ()
        for key in outer:
            place = (*place, key)
            self.found.setdefault(place, line)
            if place in self._elements:  # below an array of tables it is about the last of them
                place = (*place, self._elements[place] - 1)
        place = (*place, last)
        self.found.setdefault(place, line)
        if is_element:
            number = self._elements.get(place, 0)
            self._elements[place] = number + 1
            place = (*place, number)
            self.found[place] = line
        return place

    def _pair(self, table: Place) -> None:
        line, place = self._here(), table
        for key in self._dotted():
            place = (*place, key)
            self.found.setdefault(place, line)
        self._skip(_SPACE)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(place)

    def _value(self, place: Place) -> None:
        if self._next("{"):
            self._members(place, "}")
        elif self._next("["):
            self._members(place, "]")
        elif not self._skip(_STRING):
            self._skip(_OTHER_VALUE)

    def _members(self, place: Place, end: str) -> None:
        """What an inline table or an array holds."""
        self._at += 1
        number = 0
        self._skip(_BLANK)
        while not self._next(end):
            if end == "}":
                self._pair(place)
            else:
                self.found[(*place, number)] = self._here()
                self._value((*place, number))
                number += 1
            self._skip(_BLANK)
            if self._next(","):
                self._at += 1
            self._skip(_BLANK)
        self._at += 1

    def _dotted(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            written = self._skip(_STRING) or self._skip(_BARE_KEY)
            keys.append(_unquoted(written))
            self._skip(_SPACE)
            if not self._next("."):
                return keys
            self._at += 1

    def _next(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def _skip(self, what: re.Pattern[str]) -> str:
        match = what.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unquoted(key: str) -> str:
    if key[:1] == "'":
        return key[1:-1]
    if key[:1] != '"':
        return key
    return _ESCAPE.sub(_character, key[1:-1])


def _character(match: re.Match[str]) -> str:
    sign = match[1]
    return chr(int(sign[1:], 16)) if sign[0] in "uU" else _ESCAPED.get(sign, sign)
