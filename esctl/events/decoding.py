"""One line of JSON -> the event on it, exactly, or why not.

Refuses what JSON may say and an event cannot keep: a key that is there twice, a number that a double would
change, a whole number of more than 64 bits. Takes the records that `esctl consume -o json` prints for the
events that they hold. Pure. Called by `ndjson.py`.
"""

import json
from decimal import Decimal
from math import isinf
from typing import Any, Final

from esnode import limits
from esnode.errors import EventTooLarge, InvalidEvent

MAX_LINE_BYTES: Final = 8 * limits.MIB
"""Longest line that is kept in memory. JSON may need six bytes where the stored event needs one."""
_SHORT_NUMBER: Final = 15
"""So many digits pass through a double unchanged (IEEE 754, binary64)."""
_RECORD: Final = {"partition", "offset", "event"}
"""What a line of `esctl consume -o json` has."""


def decode(line: bytes) -> dict[str, Any]:
    """The event on a line; raises `InvalidEvent`, `EventTooLarge`."""
    if len(line) > MAX_LINE_BYTES:
        raise EventTooLarge(
            f"the line is over the limit of {MAX_LINE_BYTES} bytes; an event may have"
            f" {limits.MAX_EVENT_BYTES} (MAX_EVENT_BYTES)"
        )
    try:
        event = _DECODER.decode(line.decode())
    except json.JSONDecodeError as error:
        raise InvalidEvent(f"not JSON: {error.msg} at column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"not UTF-8: {error.reason} at byte {error.start + 1}") from error
    except ValueError as error:
        raise InvalidEvent("not JSON that can be read: a whole number of thousands of digits") from error
    except RecursionError as error:
        raise InvalidEvent(
            f"the event is nested deeper than {limits.MAX_CBOR_DEPTH} (MAX_CBOR_DEPTH)"
        ) from error
    if not isinstance(event, dict):
        raise InvalidEvent(f"the line holds {_NAMES[type(event)]}, not an object")
    inner = event.get("event")
    return inner if event.keys() == _RECORD and isinstance(inner, dict) else event


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidEvent(f"the key {twice!r:.80} is there twice, and only one of its values could be kept")
    return found


def _exact(text: str) -> float:
    number = float(text)
    if len(text) <= _SHORT_NUMBER and "e" not in text and "E" not in text:
        return number
    if isinf(number):
        raise InvalidEvent(f"the number {text:.40} is larger than a double can be: send it as a text")
    vanished = not number and text.lower().partition("e")[0].strip("-0.")
    if vanished or (number and Decimal(text) not in (Decimal(repr(number)), Decimal(number))):
        raise InvalidEvent(
            f"the number {text:.40} cannot be kept exactly, it would become {number!r}: send it as a text"
        )
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_exact)
_NAMES: Final = {
    list: "an array",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
