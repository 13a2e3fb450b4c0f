"""The types of what an expression reads and compares, and which of them may be compared with which.

Pure. A truth value is no number here, and a text that looks like a number is a text. Called by the grammar's
evaluation, by the catalogue of names and by the linter.
"""

import enum
from collections.abc import Mapping
from typing import Any, Final


class Type(enum.StrEnum):
    """What a value is; the words are those of messages."""

    BOOL = "true or false"
    NUMBER = "a number"
    TEXT = "a text"
    LIST = "a list"
    TABLE = "a table"
    NULL = "null"
    ANY = "anything"
    """Known only when it is there, such as what a command answers."""


ORDERED: Final = frozenset({Type.NUMBER, Type.TEXT, Type.ANY})
"""What `<` and its like can compare."""


def type_of(value: Any) -> Type:
    """Of a value that is there. What no expression can read is refused where it is put in."""
    match value:
        case None:
            return Type.NULL
        case bool():
            return Type.BOOL
        case int() | float():
            return Type.NUMBER
        case str():
            return Type.TEXT
        case list() | tuple():
            return Type.LIST
        case Mapping():
            return Type.TABLE
        case _:
            raise TypeError(f"{type(value).__name__} is no value of an expression")


def comparable(left: Type, right: Type) -> bool:
    """May `==` stand between them? Null may be asked of everything."""
    return left == right or bool({Type.NULL, Type.ANY} & {left, right})
