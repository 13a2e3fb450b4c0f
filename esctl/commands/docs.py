"""`esctl docs NAME`: the documents that came with `esctl`, wherever it is installed."""

from pathlib import Path
from typing import Annotated, TypedDict

import typer

from esctl.cli import candidates, packagedfiles
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.errors import InvalidArgument
from esctl.ui.answer import Answer, Line, Table
from esctl.ui.values import FilePath

app = new_typer()


class DocumentRow(TypedDict):
    """A document that came with esctl."""

    name: str
    title: str
    file: FilePath


class DocumentsAnswer(TypedDict):
    """The documents."""

    documents: list[DocumentRow]


class DocumentAnswer(DocumentRow):
    """A whole document."""

    text: Annotated[str, "Markdown"]


@command(app, "docs")
def docs(
    run: Invocation,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Name of the document, such as operations",
            show_default=False,
            autocompletion=candidates.documents,
        ),
    ] = None,
) -> Answer[DocumentsAnswer | DocumentAnswer]:
    """Print a document that is shipped with esctl, or list the documents"""
    known = packagedfiles.documents()
    if name is None:
        rows = [(each, path.read_text(encoding="utf-8"), path) for each, path in known.items()]
        listed: list[DocumentRow] = [
            {"name": each, "title": _title(text), "file": str(path)} for each, text, path in rows
        ]
        table = Table(["name", "title"], [[one["name"], one["title"]] for one in listed])
        return Answer({"documents": listed}, [table])
    path = known.get(Path(name).stem)
    if path is None:
        raise InvalidArgument(
            f"there is no document {name}; there are: {', '.join(known)}", next_step="esctl docs"
        )
    text = path.read_text(encoding="utf-8")
    data: DocumentAnswer = {"name": path.stem, "title": _title(text), "file": str(path), "text": text}
    return Answer(data, [Line(line) for line in text.rstrip().split("\n")])


def _title(text: str) -> str:
    """Its first heading; a page that is made from the code opens with a comment that says so."""
    return next(line for line in text.splitlines() if line.startswith("# ")).removeprefix("# ")
