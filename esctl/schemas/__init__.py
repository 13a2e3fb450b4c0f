"""The JSON Schemas of every `-o json` answer, a file a command, each whole in itself.

Draft 2020-12, and no property beyond those that are named: a schema that allows anything says nothing.
`docs/make_schemas.py` makes them, and the tests hold every answer of the suite to them. Finds files,
validates nothing. Called by `esctl schema` and the tests.
"""

import json
from pathlib import Path
from typing import Any, Final

from esctl.errors import NoSchema

DIRECTORY: Final = Path(__file__).resolve().parent
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


def of(command: str) -> dict[str, Any]:
    """The schema of a command as its file has it. Raises `NoSchema`."""
    try:
        document = json.loads(file_of(command).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoSchema(f"no command named {command!r} answers in JSON") from None
    assert isinstance(document, dict)
    return document
