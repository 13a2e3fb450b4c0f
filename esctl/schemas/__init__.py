"""The JSON Schemas of every `-o json` answer, a file a command, and what they share in `envelope.json`.

Draft 2020-12, and no property beyond those that are named: a schema that allows anything says nothing. The
tests hold every answer of the suite to them. Finds and joins files, validates nothing. Called by
`esctl schema` and the tests.
"""

import json
from pathlib import Path
from typing import Any, Final

from esctl.errors import NoSchema

DIRECTORY: Final = Path(__file__).resolve().parent
ENVELOPE: Final = "envelope.json"
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def file_of(command: str) -> Path:
    """Where the schema of a command is, by its full name, such as `cluster up`."""
    return DIRECTORY / f"esctl.{command.replace(' ', '.')}.json"


def commands() -> list[str]:
    """The commands that have a schema, by their full names."""
    names = (
        path.name.removeprefix("esctl.").removesuffix(".json") for path in DIRECTORY.glob("esctl.*.json")
    )
    return sorted(name.replace(".", " ") for name in names)


def envelope() -> dict[str, Any]:
    """What all answers share."""
    return _read(DIRECTORY / ENVELOPE)


def of(command: str) -> dict[str, Any]:
    """The schema of a command as its file has it. Raises `NoSchema`."""
    try:
        return _read(file_of(command))
    except FileNotFoundError:
        raise NoSchema(f"no command named {command!r} answers in JSON") from None


def bundled(command: str) -> dict[str, Any]:
    """The same in one document, with what it refers to. Raises `NoSchema`."""
    whole, shared = of(command), envelope()
    definitions = {**shared.pop("$defs"), **whole.pop("$defs", {})}
    shared.pop("$schema")
    shared.pop("title")
    joined = {**whole, "$defs": {**definitions, "envelope": shared}}
    return dict(_with_inner_references(joined))


def _with_inner_references(part: Any) -> Any:
    if isinstance(part, list):
        return [_with_inner_references(one) for one in part]
    if not isinstance(part, dict):
        return part
    inner = {name: _with_inner_references(one) for name, one in part.items()}
    reference = inner.get("$ref")
    if isinstance(reference, str) and reference.startswith(ENVELOPE):
        inner["$ref"] = reference.removeprefix(ENVELOPE) or "#/$defs/envelope"
    return inner


def _read(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document
