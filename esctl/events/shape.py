"""What an input is when it is not an event a line: an array, pretty-printed JSON, another encoding.

Decides, line by line, which lines belong to such a value, so that one warning is given for all of them and
not one a line. A torn line is not taken for the begin of one: the events after it still go in. Pure. Called
by `ndjson.py`.
"""

import re
from collections.abc import Iterator
from typing import Final

HINT: Final = (
    "an event is one line of UTF-8; jq -c . FILE makes that of objects, and jq -c '.[]' FILE of an array"
)
SPREAD: Final = f"the JSON spans several lines: {HINT}"
ARRAY: Final = f"the input is an array: {HINT}"
UTF_16: Final = f"the input is UTF-16, see iconv -f UTF-16 -t UTF-8 FILE: {HINT}"
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


class InputShape:
    """Follows the lines of an input, none of them blank."""

    def __init__(self) -> None:
        self._first = True
        self._held: tuple[int, bytes] | None = None
        """A line that opens an object and does not close it: what follows tells whether it is torn."""
        self._depth = 0
        """Brackets that are open, in a value of several lines."""
        self._in_array = False
        self._foreign = False

    @property
    def foreign(self) -> bool:
        """Is no line of the value that is being read an event, whatever it looks like?"""
        return self._foreign or self._in_array

    def pass_over(self) -> Iterator[tuple[int, bytes, str]]:
        """The next line is an event, by itself: what was held, or went on over several lines, is torn."""
        assert not self.foreign
        self._first, self._depth = False, 0
        yield from self.end()

    def lines(self, number: int, line: bytes) -> Iterator[tuple[int, bytes, str]]:
        """The lines that can be judged now: number, line, and what they belong to; empty for one alone."""
        first, self._first = self._first, False
        if self._foreign or (first and _is_utf_16(line)):
            self._foreign = True
            yield number, line, UTF_16
        elif first and line.lstrip().startswith(b"["):
            self._depth, self._in_array = _open_brackets(line), True
            yield number, line, ARRAY
        elif self._depth > 0 and (self._in_array or not line.startswith(b'{"')):
            self._depth += _open_brackets(line)
            yield number, line, ARRAY if self._in_array else SPREAD
            self._in_array &= self._depth > 0
        elif self._held is not None and _goes_on(self._held[1], line):
            yield (*self._held, SPREAD)
            self._depth = _open_brackets(self._held[1]) + _open_brackets(line)
            self._held = None
            yield number, line, SPREAD
        else:
            yield from self.end()
            self._depth, self._in_array = 0, False
            if line.lstrip().startswith(b"{") and _open_brackets(line) > 0:
                self._held = (number, line)
            else:
                yield number, line, ""

    def end(self) -> Iterator[tuple[int, bytes, str]]:
        """The line that still waited for what follows."""
        if self._held is not None:
            yield (*self._held, "")
            self._held = None


def _is_utf_16(line: bytes) -> bool:
    return line.startswith(_UTF_16_MARKS) or (len(line) > 1 and (not line[0] or not line[1]))


def _open_brackets(line: bytes) -> int:
    """How many brackets it opens more than it closes; 0 for a line that ends within a text."""
    bare = _TEXT.sub(b"", line)
    if b'"' in bare:
        return 0
    return bare.count(b"{") + bare.count(b"[") - bare.count(b"}") - bare.count(b"]")


def _goes_on(held: bytes, line: bytes) -> bool:
    if line[:1].isspace() or line[:1] in (b'"', b"}", b"]"):
        return True
    return held.rstrip()[-1:] in (b"[", b":") and not line.startswith(b"{")
