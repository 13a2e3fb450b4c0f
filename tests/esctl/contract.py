"""Holds every JSON answer of the suite to the committed schema of its command.

In-process runs are checked where the answer becomes a document (see `conftest.py`), real processes where
the helpers of the tests read what they printed. A new command without a schema fails a test of its own.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jsonschema import Draft202012Validator

from esctl import schemas
from esctl.ui.answer import Answer
from esctl.ui.plain import envelope
from tests.esctl import pasting

A = TypeVar("A", bound=Mapping[str, object])
D = TypeVar("D", bound=Mapping[str, Any])
STREAMS = {name for name in schemas.commands() if "record" in schemas.of(name).get("$defs", {})}
"""They print a record a line, always or when they are told to go on."""


@cache
def validator(command: str) -> Draft202012Validator:
    """Of one command's answers; where there is no such command, of what all answers share."""
    if command in schemas.commands():
        return Draft202012Validator(schemas.of(command))
    whole = schemas.of("version")
    whole["properties"] |= {"command": {"type": "string"}, "data": {"type": "object"}}
    return Draft202012Validator(whole)


def check(document: D) -> D:
    """The document, which must fit the schema of the command that it names."""
    kept = os.environ.get("ESCTL_ANSWERS")
    if kept:
        with Path(kept).open("a", encoding="utf-8") as file:
            file.write(json.dumps(document, default=str) + "\n")
    printed = json.loads(json.dumps(document, default=str))
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in _innermost(validator(document["command"]).iter_errors(printed))
    ]
    assert not found, f"esctl {document['command']} -o json does not fit its schema:\n" + "\n".join(found)
    pasting.check(printed)
    return document


def checked(command: str, answer: Answer[A]) -> Answer[A]:
    """The answer, which must fit the schema of the command as soon as it is printed."""
    check(envelope(command, answer))
    return answer


@cache
def record_validator(command: str) -> Draft202012Validator:
    """Of one line of a stream: what the command's schema calls a record."""
    return Draft202012Validator({"$ref": "#/$defs/record", "$defs": schemas.of(command)["$defs"]})


def check_record(command: str, record: Mapping[str, Any]) -> None:
    """One line of a stream must fit its schema."""
    record_validator(command).validate(json.loads(json.dumps(record, default=str)))


def _innermost(errors: Any) -> list[Any]:
    """The errors that say most: of a choice, those of the branch that came nearest."""
    found = []
    for error in errors:
        branches: dict[Any, list[Any]] = {}
        for inner in error.context or ():
            branches.setdefault(inner.schema_path[0], []).append(inner)
        if error.validator in ("anyOf", "oneOf") and branches:
            # That there is nothing to tell is always the first branch: of equals, the last says more.
            nearest = max(reversed(branches.values()), key=lambda one: max(len(e.absolute_path) for e in one))
            found += _innermost(nearest)
        else:
            found.append(error)
    return found
