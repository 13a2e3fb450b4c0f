"""The grammar of expressions: a text becomes a small tree, and a tree the text that means the same.

    expression = all ("or" all)*      all = negation ("and" negation)*
    negation   = "not" negation | comparison
    comparison = operand [("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") operand]
    operand    = literal | path | "[" operand, ... "]" | "(" expression ")"

A path is `status.leader` or, where a part of it is itself read, `status.nodes[captured.victim].up`. There is
no arithmetic and nothing is ever called. Length and depth are bounded. Pure. Called by `expression.py`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Never

from esctl.errors import InvalidArgument
from esctl.playbook.schema import Scalar
from esctl.playbookerrors import InvalidExpression
from esctl.ui.duration import Duration

MAX_LENGTH: Final = 1000
"""Characters of an expression."""
MAX_DEPTH: Final = 20
"""Parentheses, lists, indexes and `not` within each other."""
MAX_DIGITS: Final = 18

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<number>-?\d+(?:\.\d+)?(?:[a-z]+(?:\d+(?:\.\d+)?[a-z]+)*)?(?![\w.]))
    | (?P<text>'(?:[^'\\]|\\['\\])*')
    | (?P<path>[A-Za-z_][\w-]*(?:\.[\w-]+)*)
    | (?P<more>(?:\.[\w-]+)+)
    | (?P<sign>==|!=|<=|>=|[<>()\[\],])
    )""",
    re.VERBOSE | re.ASCII,
)
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", *_CONSTANTS})
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
_SEGMENT: Final = re.compile(r"[\w-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written down."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[1, captured.victim]`."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Path:
    """A name that is read. A part is a segment, or a node whose value is one; the first is a segment."""

    parts: tuple["str | Node", ...]

    @property
    def name(self) -> str:
        """Dotted; a part that is read itself is a `*`."""
        return ".".join(part if isinstance(part, str) else "*" for part in self.parts)


@dataclass(frozen=True, slots=True)
class Compare:
    """`left op right`."""

    op: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class BoolOp:
    """Two or more parts joined by `and` or by `or`."""

    op: str
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """`not inner`."""

    inner: "Node"


Node = Literal | ListOf | Path | Compare | BoolOp | Not


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


def parse(text: str) -> Node:
    """The tree of an expression; raises `InvalidExpression`, which says at which character."""
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"an expression of {len(text)} characters is over {MAX_LENGTH}")
    return _Parser(text).whole()


def segment(node: Node) -> "str | Node":
    """An index as part of a path: a plain segment where its value is written down and can be one."""
    if isinstance(node, Literal) and isinstance(node.value, str | int) and not isinstance(node.value, bool):
        text = str(int(node.value)) if isinstance(node.value, int) else node.value
        return text if _SEGMENT.fullmatch(text) else node
    return node


def printed(node: Node) -> str:
    """The text of a tree: parsed again, it is the same tree."""
    match node:
        case Literal(value):
            return _printed_value(value)
        case ListOf(items):
            return f"[{', '.join(map(_operand, items))}]"
        case Path(parts):
            rest = (f".{part}" if isinstance(part, str) else f"[{_operand(part)}]" for part in parts[1:])
            return f"{parts[0]}{''.join(rest)}"
        case Compare(op, left, right):
            return f"{_operand(left)} {op} {_operand(right)}"
        case BoolOp(op, parts):
            return f" {op} ".join(
                f"({printed(part)})" if isinstance(part, BoolOp) else printed(part) for part in parts
            )
        case Not(inner):
            return f"not ({printed(inner)})" if isinstance(inner, BoolOp) else f"not {printed(inner)}"


def _operand(node: Node) -> str:
    text = printed(node)
    return f"({text})" if isinstance(node, Compare | BoolOp | Not) else text


def _printed_value(value: Scalar) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"'{escaped}'"
        case float():
            return format(Decimal(repr(value)), "f")  # never with an exponent
        case _:
            return str(value)


class _Parser:
    """One pass from left to right, a token looked at ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._next is not None:
            also = " (join two comparisons with `and`)" if self._next.text in COMPARISONS else ""
            self._fail(f"{self._next.text!r} is not expected here{also}")
        return node

    def _split(self) -> Iterator[_Token]:
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None:
                column = len(self._text) - len(self._text[at:].lstrip()) + 1
                rest = self._text[column - 1 :][:12]
                also = ": two `=` compare" if rest.startswith("=") else ""
                raise self._error(f"{rest!r} is not understood{also}", column)
            kind = match.lastgroup or ""
            text = match[kind]
            at = match.end()
            yield _Token("keyword" if text in _KEYWORDS else kind, text, match.start(kind) + 1)

    @property
    def _next(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *texts: str) -> bool:
        """Is the next token one of these signs or keywords? Then go past it."""
        token = self._next
        if token is None or token.kind not in ("sign", "keyword") or token.text not in texts:
            return False
        self._at += 1
        return True

    def _expression(self) -> Node:
        return self._joined("or", lambda: self._joined("and", self._negation))

    def _joined(self, op: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take(op):
            parts.append(part())
        return parts[0] if len(parts) == 1 else BoolOp(op, tuple(parts))

    def _negation(self) -> Node:
        if not self._take("not"):
            return self._comparison()
        self._deeper()
        inner = self._negation()
        self._depth -= 1
        return Not(inner)

    def _comparison(self) -> Node:
        left = self._operand()
        token = self._next
        if self._take("not"):
            if not self._take("in"):
                self._fail("`not` between two operands is `not in`")
            return Compare("not in", left, self._operand())
        if token is not None and self._take(*COMPARISONS):
            return Compare(token.text, left, self._operand())
        return left

    def _operand(self) -> Node:
        token = self._next
        if token is None:
            self._fail("something is missing at the end" if self._text.strip() else "there is nothing")
        if self._take("("):
            self._deeper()
            node = self._expression()
            self._close(")", token)
            return node
        if self._take("["):
            return self._list(token)
        if token.kind == "sign" or (token.kind == "keyword" and token.text not in _CONSTANTS):
            self._fail(f"{token.text!r} is not expected here")
        self._at += 1
        match token.kind:
            case "number":
                return self._number(token)
            case "text":
                return Literal(re.sub(r"\\(.)", r"\1", token.text[1:-1]))
            case "path":
                return self._path(token)
            case _:
                return Literal(_CONSTANTS[token.text])

    def _list(self, opening: _Token) -> Node:
        self._deeper()
        items: list[Node] = []
        while self._next is not None and self._next.text != "]":
            items.append(self._operand())
            if not self._take(","):
                break
        self._close("]", opening)
        return ListOf(tuple(items))

    def _number(self, token: _Token) -> Node:
        unsigned = token.text.lstrip("-")
        if any(len(digits) > MAX_DIGITS for digits in re.findall(r"[\d.]+", unsigned)):
            raise self._error(f"a number of more than {MAX_DIGITS} digits", token.column)
        if not token.text[-1].isdigit():
            sign = -1 if unsigned != token.text else 1
            try:
                return Literal(Duration(sign * Duration.parse(unsigned)))
            except InvalidArgument as error:
                raise self._error(str(error), token.column) from None
        return Literal(float(token.text) if "." in token.text else int(token.text))

    def _path(self, token: _Token) -> Node:
        parts: list[str | Node] = list(token.text.split("."))
        while (token_ := self._next) is not None:
            if self._take("["):
                self._deeper()
                parts.append(segment(self._operand()))
                self._close("]", token_)
            elif token_.kind == "more":
                self._at += 1
                parts += token_.text[1:].split(".")
            else:
                break
        return Path(tuple(parts))

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"more than {MAX_DEPTH} levels within each other")

    def _close(self, sign: str, opening: _Token) -> None:
        self._depth -= 1
        if not self._take(sign):
            self._fail(f"{sign!r} is missing for the {opening.text!r} at character {opening.column}")

    def _fail(self, why: str) -> Never:
        token = self._next
        raise self._error(why, token.column if token is not None else len(self._text) + 1)

    def _error(self, why: str, column: int) -> InvalidExpression:
        return InvalidExpression(f"`{self._text}`, character {column}: {why}")
