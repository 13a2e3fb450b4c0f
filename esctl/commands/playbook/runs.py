"""`esctl playbook runs` and `report`: what was run, and what came of it.

Reads the runs' directories and changes nothing. The documents are made in `esctl/playbook/report.py` and
`esctl/playbook/page.py`.
"""

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from esctl.cli import filesuffix
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.commands.playbook import outcome
from esctl.commands.playbook.runner import RunArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.ui.formatting import duration
from esnode.errors import EventStreamError

if TYPE_CHECKING:
    from esctl.playbook.answers import (
        RunAnswer,
        RunFileAnswer,
        RunRow,
        RunsAnswer,
        RunTextAnswer,
        SampledRunAnswer,
    )


class Format(enum.StrEnum):
    """The form of a report."""

    TEXT = "text"
    MD = "md"
    JSON = "json"
    HTML = "html"


_FORMATS: Final = {".txt": Format.TEXT, ".md": Format.MD, ".json": Format.JSON, ".html": Format.HTML}


def runs(run: Invocation) -> "Answer[RunsAnswer]":
    """List the runs of playbooks, newest first, and how each ended"""
    from esctl.playbook import journal
    from esctl.playbook.progress import progress_of
    from esctl.playbook.report import clock

    rows: list[list[Value]] = []
    listed: list[RunRow] = []
    errors: list[Trouble] = []
    for name in journal.run_ids():
        directory = journal.runs_root() / name
        try:
            driven = journal.is_driven(directory)
            progress = progress_of(journal.read(directory), driven=driven)
        except EventStreamError as error:  # one damaged journal does not hide the others
            errors.append(Trouble.of(error))
            continue
        words = "under way" if driven else progress.words
        tone = outcome.TONES.get(words, Tone.ACCENT if driven else Tone.WARN)
        rows.append([name, progress.cluster, Cell(words, tone), clock(progress.begun_s)])
        listed.append(
            {
                "run": name,
                "playbook": progress.playbook["id"] or None,
                "cluster": progress.cluster,
                "state": words,
                "verdict": progress.verdict,
                "clean": progress.clean,
                "rehearsal": progress.rehearsal,
                "begun": progress.begun_s,
            }
        )
    table = Table(["run", "cluster", "state", "begun"], rows, empty="no playbook was run yet")
    return Answer({"runs": listed}, [table], errors, Exit.ERROR if errors else Exit.OK)


def report(
    run: Invocation,
    name: RunArgument = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Format of the report: text, Markdown, JSON or HTML"),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE", help="File to write: .txt, .md, .json or .html", show_default=False
        ),
    ] = None,
) -> "Answer[RunAnswer | SampledRunAnswer | RunTextAnswer | RunFileAnswer]":
    """Report on a run: its steps, guards, latency under load, exactly-once check and verdict"""
    import json

    from esctl.playbook import journal
    from esctl.playbook.progress import progress_of
    from esctl.playbook.report import document_of, markdown, with_samples

    form = form if into is None else filesuffix.form_of(into, _FORMATS, form)
    directory = journal.find(name)
    progress = progress_of(journal.read(directory), driven=journal.is_driven(directory))
    document = document_of(progress, directory)
    if form in (None, Format.TEXT) and into is None:
        return Answer(document, _views(document, outcome.views_of(progress, document["left"])))
    whole = with_samples(document)
    if form is Format.HTML:
        from esctl.playbook.page import page

        text = page(whole)
    else:
        text = json.dumps(whole, indent=2, default=str) + "\n" if form is Format.JSON else markdown(document)
    if into is None:
        lines = [Line(line) for line in text.splitlines()]
        if form is Format.JSON:
            return Answer(whole, lines)
        told: RunTextAnswer = {**document, "text": text}
        return Answer(told, lines)
    state.write_atomically(into.absolute(), text)
    size = len(text.encode())
    data: RunFileAnswer = {"run": progress.run, "file": str(into), "bytes": size}
    return Answer(data, [Line(f"{into} is written"), Fields([("bytes", size)])])


_TONES = {
    "passed": Tone.GOOD,
    "skipped": Tone.DIM,
    "failed": Tone.BAD,
    "inconclusive": Tone.WARN,
    "cut off": Tone.WARN,
}


def _views(document: "RunAnswer", end: list[View]) -> list[View]:
    rows: list[list[Value]] = []
    for step in document["steps"]:
        state_text = str(step["state"])
        seconds = step["seconds"]
        rows.append(
            [
                str(step["step"]),
                Cell(state_text, _TONES.get(state_text, Tone.NORMAL)),
                duration(seconds) if isinstance(seconds, float | int) else None,
                str(step["why"] or step["title"] or step["kind"]),
                str(step["undo"]) if step["undo"] != "none" else None,
            ]
        )
    views: list[View] = [Table(["step", "state", "took", "what", "undo"], rows)]
    if document["guards"]:
        views.append(
            Table(["guard", "state"], [[str(one["expr"]), str(one["state"])] for one in document["guards"]])
        )
    return [*views, *end]
