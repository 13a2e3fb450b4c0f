"""Writes the JSON Schemas of esctl/schemas from the types of what the commands answer.

`make docs` runs it; with `--check` it writes nothing and tells which file is not current. The return type of
a command says what its answer holds, `record=` of its `@command` what one line of its stream is. A TypedDict
and a name of `esctl/ui/values.py` become a definition; each file has all that it refers to.
"""

import argparse
import ast
import enum
import functools
import importlib
import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from esctl import schemas
from esctl.cli.commandtable import every_command
from esctl.ui import values
from esctl.ui.answer import Answer
from esctl.ui.plain import Envelope, Nothing

WIDTH: Final = 110
_BY_TYPE: Final = {
    int: "integer", float: "number", str: "string", bool: "boolean", types.NoneType: "null",
}  # fmt: skip
_BY_VALUE: Final = {
    hint: name for name, hint in vars(values).items() if get_origin(hint) in (Annotated, Literal)
}
_TYPES: Final[dict[str, Any]] = {}
"""Every named type that an answer holds; a name has one meaning."""
_NO_ERROR_IF_OK: Final = {
    "if": {"properties": {"ok": {"const": True}}},
    "then": {"properties": {"errors": {"maxItems": 0}}},
}


class Definitions:
    """The schemas of named types, each made once, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, dict[str, Any]] = {}

    def of(self, hint: Any) -> dict[str, Any]:
        """The schema of any type that an answer may hold; a named one is a reference to its definition."""
        name = _BY_VALUE.get(hint) if get_origin(hint) in (Annotated, Literal) else None
        if name is not None:
            return self._reference(name, hint, lambda: self._plain(hint))
        if is_typeddict(hint):
            return self._reference(hint.__name__, hint, lambda: self._object(hint))
        if is_typeddict(get_origin(hint)):
            return self._object(hint)
        return self._plain(hint)

    def _reference(self, name: str, hint: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        assert _TYPES.setdefault(name, hint) == hint, f"two types of answers are called {name}"
        if name not in self.by_name:
            self.by_name[name] = {}  # a type may hold itself
            self.by_name[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, hint: Any) -> dict[str, Any]:
        """Of a TypedDict; of one that is generic, with the types that it was given."""
        whole = get_origin(hint) or hint
        given = dict(zip(getattr(whole, "__parameters__", ()), get_args(hint), strict=True))
        found = get_type_hints(whole, localns=_seen_by_checkers(), include_extras=True)
        hints = {key: given.get(one, one) for key, one in found.items()}
        optional = {key for key, one in hints.items() if get_origin(one) is NotRequired}
        described = inspect.cleandoc(whole.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        return {
            "type": "object",
            "description": described.removesuffix("."),
            "required": [key for key in hints if key not in optional],
            "additionalProperties": False,
            "properties": {
                key: self.of(get_args(one)[0] if key in optional else one) for key, one in hints.items()
            },
        }

    def _plain(self, hint: Any) -> dict[str, Any]:
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            pairs = [("description", one) if isinstance(one, str) else one for one in hint.__metadata__]
            opened = is_typeddict(args[0]) and len(pairs) > 0 and pairs[0][0] != "description"
            return {**(self._object(args[0]) if opened else self.of(args[0])), **dict(pairs)}
        if origin in (Union, types.UnionType):
            return self._choice([self.of(one) for one in args])
        if origin is Literal:
            return {"const": args[0]} if len(args) == 1 else {"enum": list(args)}
        if origin is tuple and args[-1] is not Ellipsis:
            parts = [self.of(one) for one in args]
            return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
        if origin in (list, tuple, Sequence):
            return {"type": "array", "items": self.of(args[0])}
        if origin in (dict, Mapping):
            inner = self.of(args[1])
            return {"type": "object", **({"additionalProperties": inner} if inner else {})}
        if isinstance(hint, enum.EnumType):
            return {"enum": [one.value for one in list[enum.Enum](hint)]}
        if hint in _BY_TYPE:
            return {"type": _BY_TYPE[hint]}
        assert hint in (object, Any), f"no schema is known for {hint}"
        return {}

    def _choice(self, branches: list[dict[str, Any]]) -> dict[str, Any]:
        """Of branches that are no more than a type, one list of types."""
        simple = [one["type"] for one in branches if list(one) == ["type"]]
        if len(simple) == len(branches):
            return {"type": simple}
        return {"anyOf": branches}


def texts() -> dict[Path, str]:
    """Every schema that there is to be, by its file, each whole in itself."""
    found = {}
    for command, answers, record in _answers():
        title = f"esctl {command} -o json" + (": a record a line, or this at the end" if record else "")
        definitions = Definitions()
        properties = {
            "command": {"const": command},
            "data": {"anyOf": [definitions.of(one) for one in (Nothing, *answers)]},
        }
        own = {"record": definitions.of(record)} if record is not None else {}
        whole = _document(title, properties, {**own, **definitions.by_name})
        found[schemas.file_of(command)] = written(whole) + "\n"
    return found


def _document(title: str, properties: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema of the envelope, with more known of its properties."""
    shared = Definitions()
    shared.of(Envelope)
    envelope = shared.by_name.pop(Envelope.__name__)
    return {
        "$schema": schemas.DRAFT,
        "title": title,
        **envelope,
        "properties": {**envelope["properties"], **properties},
        **_NO_ERROR_IF_OK,
        "$defs": {**shared.by_name, **definitions},
    }


def _answers() -> Iterator[tuple[str, Sequence[Any], Any]]:
    """Each command by its full name, the types of what it answers, and that of a record of its stream."""
    for name, each in every_command().items():
        function = inspect.unwrap(each.callback)
        hint = get_type_hints(function, localns=_seen_by_checkers(), include_extras=True)["return"]
        answers = [get_args(one)[0] for one in _branches(hint) if get_origin(one) is Answer]
        record = each.callback.declared.record
        if answers or record is not None:
            yield name, [one for all_ in answers for one in _branches(all_)], record


def _branches(hint: Any) -> Sequence[Any]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@functools.cache
def _seen_by_checkers() -> dict[str, Any]:
    """What modules of `esctl` import for the type checker alone, by name: there a type may be found, too."""
    found: dict[str, Any] = {}
    every_command()
    looked_at: set[str] = set()
    while names := {name for name in sys.modules if name.startswith("esctl.")} - looked_at:
        looked_at |= names
        for name in names:
            for block in ast.parse(inspect.getsource(sys.modules[name])).body:
                if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
                    for line in block.body:
                        if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("esctl."):
                            module = importlib.import_module(str(line.module))
                            found |= {one.asname or one.name: getattr(module, one.name) for one in line.names}
    return found


def written(value: Any, depth: int = 0, taken: int = 0) -> str:
    """JSON that people read: whatever fits in a line is on one. `taken` is what stands before it there."""
    flat = json.dumps(value)
    if not value or not isinstance(value, dict | list) or 2 * depth + taken + len(flat) < WIDTH:
        return flat
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        heads = [f"{json.dumps(name)}: " for name in value]
        parts = [
            head + written(one, depth + 1, len(head)) for head, one in zip(heads, value.values(), strict=True)
        ]
        opening, closing = "{", "}"
    else:
        parts = [written(one, depth + 1) for one in value]
        opening, closing = "[", "]"
    inside = ",\n".join(pad + part for part in parts)
    return f"{opening}\n{inside}\n{end}{closing}"


def main() -> int:
    """The program; its exit code is 1 when `--check` finds a file that is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and say what is not current")
    only_look = parser.parse_args().check
    wanted = texts()
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        if only_look:
            sys.stderr.write(f"{path.name} is not current: run `make docs`\n")
        else:
            path.write_text(wanted[path], encoding="utf-8")
            sys.stdout.write(f"esctl/schemas/{path.name} is written\n")
    left = set(schemas.DIRECTORY.glob("*.json")) - set(wanted)
    for path in left:
        if only_look:
            sys.stderr.write(f"{path.name} belongs to no command: run `make docs`\n")
        else:
            path.unlink()
            sys.stdout.write(f"esctl/schemas/{path.name} is removed: it belongs to no command\n")
    return 1 if only_look and (stale or left) else 0


if __name__ == "__main__":
    sys.exit(main())
