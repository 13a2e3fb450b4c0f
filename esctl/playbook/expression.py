"""Expressions: the names that they read, their value, whether they hold, and the values of both sides.

Typed: to compare what differs in type, to order what is null, or to read what is not there is an error that
says so; never `eval`. The tree is made in `grammar.py`. Pure. Called by the reader, the linter, the plan and
the run.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, assert_never

from esctl.playbook import grammar
from esctl.playbook.grammar import BoolOp, Compare, ListOf, Literal, Node, Not, Path
from esctl.playbook.types import ORDERED, Type, comparable, type_of
from esctl.playbookerrors import InvalidExpression, NotEvaluable, UnknownValue

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MAX_SHOWN: Final = 12
"""So many names are listed when one is not there."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. `str()` is its text in one normal form."""

    node: Node

    def __str__(self) -> str:
        return grammar.printed(self.node)

    @property
    def names(self) -> tuple[str, ...]:
        """The dotted paths that it reads, each once; `*` for a part that is read itself."""
        return tuple(dict.fromkeys(path.name for path in _paths(self.node)))

    @property
    def roots(self) -> frozenset[str]:
        """The first words of what it reads: `status`, `load`."""
        return frozenset(name.partition(".")[0] for name in self.names)

    @property
    def condition(self) -> bool:
        """Can it be true or false? A text, a number or a list that is written down cannot."""
        return not isinstance(self.node, ListOf) and not (
            isinstance(self.node, Literal) and not isinstance(self.node.value, bool)
        )

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """What it is worth. Raises `UnknownValue` for a name that is not there, `NotEvaluable` where types
        differ."""
        return _value(self.node, values)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Is it true? Raises `NotEvaluable`, also when it is neither true nor false."""
        return _truth(self.node, values)

    def explain(self, values: Mapping[str, Any]) -> str:
        """`expected status.voters_up == 3, was 2`; of several joined parts, those that decide."""
        try:
            return _explained(self.node, values)
        except NotEvaluable as error:
            return f"expected {self}: {error}"

    def bind(self, values: Mapping[str, "Node"]) -> "Expression":
        """The same with these names replaced, each by a value or by another name; what is below follows."""
        return Expression(_bound(self.node, values))

    def type_under(self, type_of_name: Callable[[str], Type]) -> Type:
        """Its type, before there are values; raises `NotEvaluable` for what can never be compared."""
        return _type(self.node, type_of_name)


def parse(text: str) -> Expression:
    """Raises `InvalidExpression`."""
    return Expression(grammar.parse(text))


def literal(value: Any) -> Node:
    """The node of a value; raises `InvalidExpression` for one that cannot be written down."""
    match value:
        case None | bool() | int() | float() | str():
            return Literal(value)
        case list() | tuple():
            return ListOf(tuple(literal(one) for one in value))
        case _:
            raise InvalidExpression(f"{type(value).__name__} cannot be a value here")


# --- values -------------------------------------------------------------------------------------------


def _value(node: Node, values: Mapping[str, Any]) -> Any:
    match node:
        case Literal(value):
            return value
        case ListOf(items):
            return [_value(item, values) for item in items]
        case Path():
            return look_up(node, values)
        case Compare(op, left, right):
            return _compared(op, (left, _value(left, values)), (right, _value(right, values)))
        case BoolOp("and", parts):
            return all(_truth(part, values) for part in parts)
        case BoolOp(_, parts):
            return any(_truth(part, values) for part in parts)
        case Not(inner):
            return not _truth(inner, values)
        case _:
            assert_never(node)


def _truth(node: Node, values: Mapping[str, Any]) -> bool:
    value = _value(node, values)
    if not isinstance(value, bool):
        raise NotEvaluable(f"{grammar.printed(node)} is {_shown(value)}, neither true nor false")
    return value


def look_up(path: Path, values: Mapping[str, Any]) -> Any:
    """The value at a path; raises `UnknownValue`, which lists what is there."""
    found: Any = values
    walked = ""
    for part in path.parts:
        key = part if isinstance(part, str) else _key(part, values)
        found = _below(found, key, walked)
        walked = f"{walked}.{key}" if walked else key
    return found


def _key(node: Node, values: Mapping[str, Any]) -> str:
    value = _value(node, values)
    if type_of(value) not in (Type.TEXT, Type.NUMBER):
        raise NotEvaluable(f"[{grammar.printed(node)}] is {_shown(value)}: it names nothing")
    return str(int(value)) if isinstance(value, int) else str(value)


def _below(found: Any, key: str, walked: str) -> Any:
    """One step down."""
    if isinstance(found, Mapping):
        if key in found:
            return found[key]
        if key.isascii() and key.isdigit() and int(key) in found:
            return found[int(key)]
        raise UnknownValue(
            f"there is no {f'{walked}.{key}' if walked else key}{_instead(walked, key, found)}"
        )
    if isinstance(found, list | tuple):
        if key.isascii() and key.isdigit() and int(key) < len(found):
            return found[int(key)]
        raise UnknownValue(f"there is no {walked}.{key}: {walked} is a list of {len(found)}, counted from 0")
    raise UnknownValue(f"there is no {walked}.{key}: {walked} is {_shown(found)}")


def _instead(walked: str, key: str, found: Mapping[Any, Any]) -> str:
    known = sorted(map(str, found))
    near = get_close_matches(key, known, 1)
    if near:
        return f"; did you mean {f'{walked}.' if walked else ''}{near[0]}?"
    listed = ", ".join(known[:MAX_SHOWN]) + (", ..." if len(known) > MAX_SHOWN else "")
    return f"; {walked or 'what can be read'} has {listed or 'nothing'}"


def _compared(op: str, left: tuple[Node, Any], right: tuple[Node, Any]) -> bool:
    (left_node, a), (right_node, b) = left, right
    left_type, right_type = type_of(a), type_of(b)
    if op in ("in", "not in"):
        return _contains(left, right) is (op == "in")
    if op in ("==", "!="):
        if not comparable(left_type, right_type):
            raise _differing(left_node, left_type, right_node, right_type)
        return _equal(a, b) is (op == "==")
    for node, value, kind in ((left_node, a, left_type), (right_node, b, right_type)):
        if kind not in ORDERED:
            raise NotEvaluable(f"{_named(node, value)}, which `{op}` cannot compare")
    if left_type != right_type:
        raise _differing(left_node, left_type, right_node, right_type)
    return _ORDER[op](a, b)


def _contains(left: tuple[Node, Any], right: tuple[Node, Any]) -> bool:
    (left_node, a), (right_node, b) = left, right
    if isinstance(b, str) and isinstance(a, str):
        return a in b
    if not isinstance(b, list | tuple):
        raise NotEvaluable(f"{_named(right_node, b)}, and not a list that something could be in")
    if b and not any(comparable(type_of(a), type_of(one)) for one in b):
        raise _differing(left_node, type_of(a), right_node, type_of(b[0]), "each of ")
    return any(_equal(a, one) for one in b)


def _equal(a: Any, b: Any) -> bool:
    """Of the same type and equal, in lists too: true is not 1."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(one, other) for one, other in zip(a, b, strict=True))
    return type_of(a) == type_of(b) and bool(a == b)


def _differing(left: Node, a: Type, right: Node, b: Type, each: str = "") -> NotEvaluable:
    return NotEvaluable(
        f"{grammar.printed(left)} is {a} and {each}{grammar.printed(right)} is {b}: they are never equal,"
        " and cannot be compared"
    )


# --- explaining ---------------------------------------------------------------------------------------


def _explained(node: Node, values: Mapping[str, Any]) -> str:
    text = grammar.printed(node)
    match node:
        case BoolOp("and", parts):
            failed = next((part for part in parts if not _truth(part, values)), None)
            return _explained(failed, values) if failed is not None else f"{text} holds"
        case BoolOp(_, parts) if not _truth(node, values):
            return f"expected {text}: {'; '.join(_read(part, values) for part in parts)}"
        case Compare(_, left, right) if not _reads(right) and _reads(left):
            return f"expected {text}, was {_shown(_value(left, values))}"
        case Path():
            return f"expected {text}, was {_shown(_value(node, values))}"
        case _:
            return f"expected {text}; {_read(node, values)}"


def _read(node: Node, values: Mapping[str, Any]) -> str:
    """Each name and what it was; a name that could not be read is left out."""
    said = []
    for path in dict.fromkeys(_paths(node)):
        try:
            said.append(f"{grammar.printed(path)} was {_shown(look_up(path, values))}")
        except NotEvaluable:
            continue
    return ", ".join(said) or "nothing was read"


def _reads(node: Node) -> bool:
    return any(True for _ in _paths(node))


def _named(node: Node, value: Any) -> str:
    shown = _shown(value)
    return f"{grammar.printed(node)} is {shown}" if _reads(node) else f"{shown} stands there"


def _shown(value: Any) -> str:
    """As an expression would write it; long ones are cut."""
    try:
        text = grammar.printed(literal(value))
    except InvalidExpression:
        text = str(type_of(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- names, replacing, types --------------------------------------------------------------------------


def _children(node: Node) -> Sequence[Node]:
    match node:
        case Literal():
            return ()
        case ListOf(items):
            return items
        case Path(parts):
            return [part for part in parts if not isinstance(part, str)]
        case Compare(_, left, right):
            return (left, right)
        case BoolOp(_, parts):
            return parts
        case Not(inner):
            return (inner,)
        case _:
            assert_never(node)


def _paths(node: Node) -> Iterator[Path]:
    if isinstance(node, Path):
        yield node
    for child in _children(node):
        yield from _paths(child)


def _bound(node: Node, values: Mapping[str, Node]) -> Node:
    match node:
        case Literal():
            return node
        case ListOf(items):
            return ListOf(tuple(_bound(item, values) for item in items))
        case Path(parts):
            return _bound_path(
                tuple(p if isinstance(p, str) else grammar.segment(_bound(p, values)) for p in parts), values
            )
        case Compare(op, left, right):
            return Compare(op, _bound(left, values), _bound(right, values))
        case BoolOp(op, parts):
            return BoolOp(op, tuple(_bound(part, values) for part in parts))
        case Not(inner):
            return Not(_bound(inner, values))
        case _:
            assert_never(node)


def _bound_path(parts: tuple[str | Node, ...], values: Mapping[str, Node]) -> Node:
    """The longest beginning that is replaced decides."""
    for length in range(len(parts), 0, -1):
        begin, rest = Path(parts[:length]).name, parts[length:]
        if begin in values:
            new = values[begin]
            if isinstance(new, Path):
                return Path(new.parts + rest)
            if rest:
                raise InvalidExpression(f"nothing is below {begin}: it is {grammar.printed(new)}")
            return new
    return Path(parts)


def _type(node: Node, named: Callable[[str], Type]) -> Type:
    for child in _children(node):
        _type(child, named)
    match node:
        case Literal(value):
            return type_of(value)
        case ListOf():
            return Type.LIST
        case Path():
            return named(node.name)
        case Compare(op, left, right):
            _check_types(op, left, _type(left, named), right, _type(right, named))
        case BoolOp(_, parts):
            for part in parts:
                _check_truth(part, _type(part, named))
        case Not(inner):
            _check_truth(inner, _type(inner, named))
        case _:
            assert_never(node)
    return Type.BOOL


def _check_truth(node: Node, found: Type) -> None:
    if found not in (Type.BOOL, Type.ANY):
        raise NotEvaluable(f"{grammar.printed(node)} is {found}, neither true nor false")


def _check_types(op: str, left: Node, a: Type, right: Node, b: Type) -> None:
    if op in ("in", "not in"):
        if b not in (Type.LIST, Type.ANY) and not (a in (Type.TEXT, Type.ANY) and b is Type.TEXT):
            raise NotEvaluable(f"{grammar.printed(right)} is {b}, and not a list that something could be in")
    elif not comparable(a, b):
        raise _differing(left, a, right, b)
    elif op not in ("==", "!="):
        for node, found in ((left, a), (right, b)):
            if found not in ORDERED:
                raise NotEvaluable(f"{grammar.printed(node)} is {found}, which `{op}` cannot compare")
