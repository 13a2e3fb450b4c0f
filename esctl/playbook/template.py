"""`${inputs.rate}` in the arguments of a step: which names stand there, and the values in their place.

A text that is one reference and nothing else becomes the value itself, type and all; within a longer text
a value is written as people type it. `$${` is a plain `${`. Pure. Called by the reader, the linter, the plan
and the run.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from esctl.playbook import expression, grammar
from esctl.playbook.grammar import Literal, Node, Path
from esctl.playbook.types import Type, type_of
from esctl.playbookerrors import InvalidExpression, NotEvaluable

_REFERENCE: Final = re.compile(r"\$(\$?)\{([^{}]*)\}")
_UNCLOSED: Final = re.compile(r"(?<!\$)\$\{(?![^{}]*\})")


def reference(text: str) -> Path:
    """The name between the braces; raises `InvalidExpression`."""
    node = grammar.parse(text)
    if not isinstance(node, Path):
        raise InvalidExpression(f"${{{text}}}: only a name can stand there")
    return node


def references(value: Any) -> list[Path]:
    """Every name in a text, and in the texts of a list or a table; raises `InvalidExpression`."""
    found = []
    for text in _texts(value):
        if _UNCLOSED.search(text):
            raise InvalidExpression(f"{text!r}: a `${{` is not closed; a plain one is written `$${{`")
        found += [reference(match[2]) for match in _REFERENCE.finditer(text) if not match[1]]
    return found


def names(value: Any) -> tuple[str, ...]:
    """Their dotted names, each once, as an expression has them."""
    paths = references(value)
    return tuple(dict.fromkeys(name for path in paths for name in expression.Expression(path).names))


def has_reference(value: Any) -> bool:
    """Is something still open in it?"""
    return any(not match[1] for text in _texts(value) for match in _REFERENCE.finditer(text))


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """The value with everything filled in; raises `NotEvaluable` for what is not there."""
    return _each_text(value, lambda text: _filled(text, values))


def fill_known(value: Any, values: Mapping[str, Any]) -> Any:
    """The same, as far as it is there: a text with something that is not keeps its references."""

    def fill_one(text: str) -> Any:
        try:
            return _filled(text, values)
        except NotEvaluable:
            return text

    return _each_text(value, fill_one)


def bind(value: Any, values: Mapping[str, Node]) -> Any:
    """The value with these names replaced by values or by other names; all others stay as they are."""
    return _each_text(value, lambda text: _rewritten(text, values))


def written(value: Any, name: str) -> str:
    """A value within a longer text; raises `NotEvaluable` for what nobody would type there."""
    match type_of(value):
        case Type.BOOL:
            return "true" if value else "false"
        case Type.NUMBER | Type.TEXT:
            return str(value)
        case other:
            raise NotEvaluable(f"${{{name}}} is {other} and cannot stand in a text")


def _filled(text: str, values: Mapping[str, Any]) -> Any:
    whole = _REFERENCE.fullmatch(text)
    if whole is not None and not whole[1]:
        return expression.look_up(reference(whole[2]), values)

    def put(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        return written(expression.look_up(reference(match[2]), values), match[2])

    return _REFERENCE.sub(put, text)


def _rewritten(text: str, values: Mapping[str, Node]) -> Any:
    whole = _REFERENCE.fullmatch(text)
    if whole is not None and not whole[1]:
        node = expression.Expression(reference(whole[2])).bind(values).node
        return node.value if isinstance(node, Literal) else f"${{{grammar.printed(node)}}}"

    def rewrite(match: re.Match[str]) -> str:
        if match[1]:
            return match[0]
        node = expression.Expression(reference(match[2])).bind(values).node
        if isinstance(node, Literal):
            return written(node.value, match[2]).replace("${", "$${")
        return f"${{{grammar.printed(node)}}}"

    return _REFERENCE.sub(rewrite, text)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list() | tuple():
            for one in value:
                yield from _texts(one)
        case Mapping():
            for one in value.values():
                yield from _texts(one)


def _each_text(value: Any, change: Callable[[str], Any]) -> Any:
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_each_text(one, change) for one in value]
        case Mapping():
            return {key: _each_text(one, change) for key, one in value.items()}
        case _:
            return value
