"""`esctl version`: what is installed here."""

import platform
import sqlite3
from importlib import metadata

from esctl.answer import Answer, Fields
from esctl.invocation import Invocation, command, new_typer
from esnode import __version__
from esnode.messages import PROTOCOL_VERSION

app = new_typer()


@command(app, "version")
def version(run: Invocation) -> Answer:
    """Show the versions of esctl and of what it runs on"""
    data: dict[str, str | int | None] = {
        "esctl": __version__,
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rocksdict": _installed("rocksdict"),
        "trio": _installed("trio"),
    }
    return Answer(
        data=data, views=[Fields([(name, str(value) if value else None) for name, value in data.items()])]
    )


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
