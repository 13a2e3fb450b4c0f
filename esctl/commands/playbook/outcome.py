"""What a run of a playbook answers with: the verdict, what is left to be undone, and the exit code.

Called by the commands that drive a run, and by `esctl playbook report`.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esctl.exits import Exit, exit_of
from esctl.playbookerrors import PlaybookFailed, PlaybookInconclusive, UndoIncomplete
from esctl.ui.answer import Answer, Cell, Fields, Line, Tone, Trouble, Value, View

if TYPE_CHECKING:
    from esctl.playbook.answers import RunAnswer
    from esctl.playbook.progress import RunProgress

TONES = {"pass": Tone.GOOD, "fail": Tone.BAD, "inconclusive": Tone.WARN}


def answer_of(progress: "RunProgress", directory: Path, *, aborted: bool = False) -> "Answer[RunAnswer]":
    """How it ended. A clean-up that is not complete comes before the verdict: somebody has to act."""
    from esctl.playbook.report import document_of
    from esctl.playbook.undo import left_over

    data = document_of(progress, directory)
    errors: list[Trouble] = []
    codes: list[Exit] = []
    left = left_over(progress)
    if left:
        steps = ", ".join(step.id for step in progress.pending if step.undo_why)
        error = UndoIncomplete(
            f"not undone: {steps}", next_step=f"{'; '.join(left)}; or: esctl playbook abort {progress.run}"
        )
        errors.append(Trouble.of(error))
        codes.append(exit_of(UndoIncomplete))
    errors += _verdict_errors(progress, codes, aborted=aborted)
    views = views_of(progress, left)
    if not errors:  # an error says the same as its next step
        views.append(Fields([("to read it", f"esctl playbook report {progress.run}")]))
    return Answer(data, views, errors, codes[0] if codes else Exit.OK)


def cut_short(progress: "RunProgress", directory: Path) -> "Answer[RunAnswer]":
    """What Ctrl-C leaves: that there is no verdict needs no error beside the one that says why."""
    answer = answer_of(progress, directory)
    errors = [error for error in answer.errors if error.code != PlaybookInconclusive.code]
    return replace(answer, errors=errors)


def _verdict_errors(progress: "RunProgress", codes: list[Exit], *, aborted: bool) -> list[Trouble]:
    if aborted or progress.verdict == "pass":
        return []
    helps = f"esctl playbook report {progress.run}"
    if progress.verdict == "fail":
        codes.append(exit_of(PlaybookFailed))
        return [Trouble(PlaybookFailed.code, PlaybookFailed.title, progress.why, helps)]
    codes.append(exit_of(PlaybookInconclusive))
    return [
        Trouble(PlaybookInconclusive.code, PlaybookInconclusive.title, progress.why or progress.words, helps)
    ]


def views_of(progress: "RunProgress", left: list[str]) -> list[View]:
    """The end of a run on a screen."""
    verdict = str(progress.verdict or "none")
    pairs: list[tuple[str, Value]] = [
        ("run", Cell(progress.run, Tone.STRONG)),
        ("verdict", Cell(verdict, TONES.get(verdict, Tone.NORMAL))),
    ]
    if progress.why and verdict != "pass":
        pairs.append(("why", progress.why))
    found = exactly_once(progress)
    if found:
        pairs.append(("exactly once", ", ".join(found)))
    views: list[View] = [Fields(pairs)]
    if left:
        views.append(Line("type this, in this order:", Tone.BAD))
        views += [Line(f"  {line}", Tone.STRONG) for line in left]
    elif not progress.clean:
        views.append(Line(f"what it did stays as it is; to undo it: esctl playbook abort {progress.run}"))
    return views


def exactly_once(progress: "RunProgress") -> list[str]:
    """The figures of the newest exactly-once check, in words; empty when there was none."""
    facts: dict[str, Any] = dict(progress.exactly_once or {})
    if not facts:
        return []
    if "passed" not in facts:
        return ["inconclusive", *map(str, facts.get("doubts", ()))]
    return [
        f"{facts['acked']:,} acked",
        f"{facts['acked_lost']:,} lost",
        f"{facts['duplicates']:,} duplicates",
        "hashes equal" if facts["hashes_equal"] else "hashes differ",
    ]
