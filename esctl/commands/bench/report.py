"""`esctl bench report`: results as one HTML page that needs nothing from anywhere.

What is on the page is decided in `esctl/bench/report`.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli import filesuffix
from esctl.cli.invocation import Invocation
from esctl.errors import InvalidArgument, MachineRefused
from esctl.ui.answer import Answer, Fields, Line

if TYPE_CHECKING:
    from esctl.commands.bench.answers import BenchReportAnswer

DEFAULT_OUT = Path("report.html")


def report(
    run: Invocation,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Files that --save wrote; results of the same kind are compared with the first of them",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--save", metavar="FILE", help="File to write; an existing file is replaced")
    ] = DEFAULT_OUT,
) -> "Answer[BenchReportAnswer]":
    """Write an HTML page with the figures and plots of saved results, and a comparison of them"""
    from esctl.bench import result  # loaded late: most of `bench` does without
    from esctl.bench.report.page import page

    filesuffix.form_of(out, {".html": "a page", ".htm": "a page"})
    if out.resolve() in {path.resolve() for path in files}:
        raise InvalidArgument(
            f"the page would be written over {out}, which is a result",
            next_step="name another file: --save FILE.html",
        )
    results = {str(path): result.read(path) for path in files}
    text = page(results, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineRefused(
            f"cannot write {out}: {error.strerror}", next_step="name another file with --save"
        ) from error
    size = len(text.encode())
    data: BenchReportAnswer = {"file": str(out), "bytes": size, "results": list(results)}
    return Answer(data, [Line(f"{out} is written"), Fields([("results", len(results)), ("bytes", size)])])
