"""`esctl version`: what is installed here."""

import platform
import sqlite3
from importlib import metadata

from esctl.cli.invocation import Invocation, command, new_typer
from esctl.ui.answer import Answer, Fields
from esnode import __version__
from esnode.messages import PROTOCOL_VERSION

app = new_typer()


@command(app, "version")
def version(run: Invocation) -> Answer:
    """Show the versions of esctl and of what it runs on"""
    data = versions()
    return Answer(
        data=data, views=[Fields([(name, str(value) if value else None) for name, value in data.items()])]
    )


def versions() -> dict[str, str | int | None]:
    """Of everything that matters here; None is not installed."""
    return {
        "esctl": __version__,
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rocksdict": _installed("rocksdict"),
        "trio": _installed("trio"),
    }


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
