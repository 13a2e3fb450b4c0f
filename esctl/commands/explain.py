"""`esctl explain CODE`: what an error code means, whether anything was done, and what helps."""

import inspect
from typing import Annotated, TypedDict

import typer

from esctl import errors
from esctl.cli import candidates
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.exits import exit_of
from esctl.ui.answer import Answer, Fields, Table, Value
from esctl.ui.values import ErrorCode
from esnode.errors import declared

app = new_typer()


class ErrorRow(TypedDict):
    """An error that is declared."""

    code: ErrorCode
    title: str
    exit_code: int


class ErrorsAnswer(TypedDict):
    """All errors that are declared."""

    errors: list[ErrorRow]


class ErrorAnswer(ErrorRow):
    """What an error means, and what helps."""

    meaning: str
    definite: bool
    whose_turn: str
    next: str


@command(app, "explain")
def explain(
    run: Invocation,
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]",
            help="Error code, such as ES1203",
            show_default=False,
            autocompletion=candidates.codes,
        ),
    ] = None,
) -> Answer[ErrorsAnswer | ErrorAnswer]:
    """Explain an error code, or list all of them"""
    known = declared()
    if code is None:
        rows: list[list[Value]] = [[each, cls.title, int(exit_of(cls))] for each, cls in known.items()]
        listed: list[ErrorRow] = [
            {"code": each, "title": cls.title, "exit_code": int(exit_of(cls))} for each, cls in known.items()
        ]
        return Answer({"errors": listed}, [Table(["code", "meaning", "exit code"], rows)])
    found = known.get(code.upper())
    if found is None:
        raise errors.UnknownCode(f"no error has the code {code}")
    outcome = "it may have been done: look, or repeat it"
    if found.definite:
        checked = issubclass(found, errors.Finding)
        outcome = (
            "the check was made, and changed nothing"
            if checked
            else "what was asked for was certainly not done"
        )
    data: ErrorAnswer = {
        "code": found.code,
        "title": found.title,
        "meaning": inspect.getdoc(found) or "",
        "definite": found.definite,
        "whose_turn": errors.family_of(found),
        "exit_code": int(exit_of(found)),
        "next": found.next_step,
    }
    pairs = [(found.code, found.title), ("meaning", str(data["meaning"])), ("outcome", outcome)]
    pairs += [
        ("whose turn", str(data["whose_turn"])),
        ("exit code", str(data["exit_code"])),
        ("next", found.next_step),
    ]
    return Answer(data, [Fields(pairs)])
