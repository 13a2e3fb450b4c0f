"""Text as it may be shown: what could forge a row, move the cursor or turn the line around is escaped.

Ids, paths and logs are written by strangers. Each control character, line separator, bidirectional mark and
byte that is no UTF-8 has one visible form, the same in tables, plain rows and messages; so has each character
that the encoding of a stream lacks. Pure. Called by `terminal.py` and `streams.py`.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Final

_HARMFUL: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for the tabulator and the end of a line
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of what follows
    r"\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # separators, and what is seen by nobody
    r"\ud800-\udfff"  # half a character: so Python keeps bytes that are no UTF-8
)
_IN_TEXT: Final = re.compile(f"[{_HARMFUL}]")
_IN_A_LINE: Final = re.compile(rf"[\t\n{_HARMFUL}]")
_REPR_OF_A_BYTE: Final = re.compile(r"(?<!\\)\\udc([89a-f][0-9a-f])")
_SHORT: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_LOOKALIKES: Final[Mapping[str, str]] = {
    "…": "...", "→": "->", "×": "x", "±": "+-", "µ": "u", "✓": "+", "✗": "x", "✂": "x", "↶": "<", "ⓘ": "i",
    "•": "*", "─": "-", "│": "|", "┴": "+", "┬": "+", "┤": "+", "└": "+",
    "┊": ":", "╌": "-", "▲": "^", "↓": "v", "█": "#", "▓": "#", "▒": "=", "░": ".",
    "▁": "_", "▂": "_", "▃": ".", "▄": "-", "▅": "-", "▆": "=", "▇": "=",
}  # fmt: skip
"""For what `esctl` itself draws."""


def lines(text: str) -> str:
    """`text`, which may have several lines, without what could do harm in a terminal."""
    return _IN_TEXT.sub(_form, text)


def line(text: str) -> str:
    """`text` in one line and one cell."""
    return _IN_A_LINE.sub(_form, text)


def named(text: str) -> str:
    """A word of a command line within a message."""
    return f"'{line(text)}'"


def of_repr(message: str) -> str:
    """A message with what `repr` made of bytes that are no UTF-8 in the form that they have elsewhere."""
    return _REPR_OF_A_BYTE.sub(r"\\x\1", message)


def in_ascii(text: str) -> str:
    """`text` in characters that every encoding has."""
    return "".join(each if each.isascii() else _LOOKALIKES.get(each) or _escaped(each) for each in text)


def quoted(word: object) -> str:
    """One word of a command as a shell takes it, a path with any bytes too: to be pasted."""
    text = str(word)
    if _IN_A_LINE.search(text) is None:
        return shlex.quote(text)
    whole = "".join(f"\\{each}" if each in "\\'" else _IN_A_LINE.sub(_byte_form, each) for each in text)
    return f"$'{whole}'"


def _form(match: "re.Match[str]") -> str:
    return _escaped(match[0])


def _escaped(each: str) -> str:
    code = ord(each)
    if each in _SHORT:
        return _SHORT[each]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _byte_form(match: "re.Match[str]") -> str:
    """As bash, zsh and ksh read it between $' and '."""
    code = ord(match[0])
    raw = bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else match[0].encode(errors="replace")
    return "".join(f"\\x{byte:02x}" for byte in raw)
