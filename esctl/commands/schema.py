"""`esctl schema COMMAND`: the JSON Schema of what a command prints under `-o json`."""

import json
from typing import Annotated, Any, TypedDict

import typer

from esctl import schemas
from esctl.cli import candidates
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.ui.answer import Answer, Line

app = new_typer()


class CommandNamesAnswer(TypedDict):
    """The commands that have a schema."""

    commands: list[str]


class SchemaAnswer(TypedDict):
    """The schema of one command's answer."""

    command: str
    schema: Annotated[dict[str, Any], "A JSON Schema, draft 2020-12"]


@command(app, "schema")
def schema(
    run: Invocation,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND]...",
            help="Command, such as cluster up",
            show_default=False,
            autocompletion=candidates.commands_with_schema,
        ),
    ] = None,
) -> Answer[CommandNamesAnswer | SchemaAnswer]:
    """Print the JSON Schema of a command's JSON output, or list the commands that have one"""
    if not words:
        known = schemas.commands()
        return Answer({"commands": known}, [Line(name) for name in known])
    whole = schemas.of(" ".join(words))
    return Answer(
        {"command": " ".join(words), "schema": whole},
        [Line(line) for line in json.dumps(whole, indent=2).splitlines()],
    )
