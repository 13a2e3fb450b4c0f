"""`esctl version`: what is installed here."""

import platform
import sqlite3
from importlib import metadata
from typing import Annotated, TypedDict

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.ui.answer import Answer, Fields
from esnode import __version__
from esnode.messages import PROTOCOL_VERSION

app = new_typer()


class VersionAnswer(TypedDict):
    """What is installed."""

    esctl: str
    protocol: int
    python: str
    sqlite: str
    rocksdict: Annotated[str | None, "null where it is not installed"]
    trio: str


@command(app, "version")
def version(run: Invocation) -> Answer[VersionAnswer]:
    """Show the versions of esctl, Python and its libraries"""
    data = versions()
    return Answer(
        data=data, views=[Fields([(name, str(value) if value else None) for name, value in data.items()])]
    )


def versions() -> VersionAnswer:
    """Of everything that matters here; None is not installed."""
    return {
        "esctl": __version__,
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rocksdict": _installed("rocksdict"),
        "trio": metadata.version("trio"),
    }


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
