"""`esctl playbook show`: a playbook as the document that it is, with the command of each step."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from esctl.cli.invocation import Invocation
from esctl.commands.playbook.ls import RISK_TONES, needs_text
from esctl.commands.playbook.options import PlaybookArgument
from esctl.playbook import catalog
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value, View
from esctl.ui.escape import quoted

if TYPE_CHECKING:
    from esctl.playbook.answers import PlaybookAnswer, StepData
    from esctl.playbook.schema import Action, Input, Playbook, Step

_WIDTH: Final = 8
"""Of the words before what they are about, so that the steps stand in one line."""


def show(run: Invocation, playbook: PlaybookArgument) -> "Answer[PlaybookAnswer]":
    """Show a playbook as a document: its purpose, and each step with its reason, command, expectations
    and undo"""
    from esctl.playbook import parser

    found = parser.read(catalog.find(playbook))
    views: list[View] = [Line(f"{found.title}", Tone.STRONG)]
    views += _paragraphs(found.doc)
    views.append(_padded(_head(found)))
    if found.inputs:
        views += [Line(""), Line("Inputs", Tone.STRONG), _inputs(found.inputs)]
    views += [Line(""), Line("Steps", Tone.STRONG)]
    for number, step in enumerate(found.steps, 1):
        views += _of_step(step, str(number))
    next_steps = [("to plan", f"esctl playbook plan {quoted(playbook)}")]
    return Answer(data_of(found), [*views, Line(""), _padded(next_steps)])


def _head(playbook: "Playbook") -> Iterator[tuple[str, Value]]:
    from esctl.ui.duration import Duration

    yield "playbook", f"{playbook.id} {playbook.version}"
    yield "risk", Cell(playbook.risk.value, RISK_TONES[playbook.risk])
    yield "needs", needs_text(playbook)
    yield "at most", str(Duration(playbook.max_duration_ms))
    for guard in playbook.guards:
        lasting = f" for {Duration(guard.for_ms)}" if guard.for_ms else ""
        yield "watched", f"{guard.expr}; otherwise{lasting} it ends with {guard.on_breach}"
    yield "file", playbook.path


def _inputs(inputs: Iterable["Input"]) -> Table:
    from esctl.playbook import nodechoice
    from esctl.playbook.schema import InputType

    rows: list[list[Value]] = []
    for spec in inputs:
        words = nodechoice.WORDS if spec.type is InputType.NODE else ()
        takes = ", ".join(spec.choices or (spec.type.value, *words))
        rows.append([spec.name, takes, None if spec.default is None else str(spec.default), spec.help])
    return Table(["input", "takes", "default", "what it is"], rows)


def _of_step(step: "Step", number: str) -> Iterator[View]:
    what = step.title or step.id
    yield Line("")
    yield Line(f"{number}. {what}", Tone.ACCENT)
    yield _padded(_step_pairs(step))
    for place, inner in enumerate(step.steps, 1):
        yield from _of_step(inner, f"{number}.{place}")


def _step_pairs(step: "Step") -> Iterator[tuple[str, Value]]:
    from esctl.playbook.schema import Impact

    if step.doc:
        yield "", " ".join(step.doc.split())
    impact = {Impact.READS: Tone.NORMAL, Impact.WRITES: Tone.WARN, Impact.DESTROYS: Tone.BAD}[step.impact]
    yield "step", Cell(f"{step.id}: {step.action.kind}, {_IMPACTS[step.impact.value]}", impact)
    for name, text in (("only if", step.when), ("asks", step.confirm)):
        if text:
            yield name, text
    if command := command_text(step.action):
        yield "does", Cell(command, Tone.STRONG)
    yield from (("before", text) for text in step.pre)
    yield from (("expects", text) for text in step.expect)
    yield from (("keeps", f"{name} = {text}") for name, text in step.capture.items())
    if step.undo is not None:
        yield "undo", command_text(step.undo)
    elif step.irreversible:
        yield "undo", "cannot be undone"


_IMPACTS: Final = {"ro": "only looks", "rw": "changes something", "destructive": "takes data away"}


def command_text(action: "Action") -> str:
    """The command of an action as far as the file tells; of others what they ask or are about."""
    from esctl.playbook.commands import shown
    from esctl.playbook.schema import ActionKind

    given = action.arguments
    match action.kind:
        case ActionKind.HEAL if "fault" in given:
            return f"esctl fault heal (the fault of {given['fault']})"
        case ActionKind.APPROVE | ActionKind.ASK:
            return f"asks: {given['question']}"
        case ActionKind.NOTE:
            return str(given.get("text", ""))
        case ActionKind.FOREACH:
            return f"for each {given.get('as', 'node')} of {given['items']}:"
        case ActionKind.INCLUDE:
            return f"the steps of {given['playbook']}:"
        case ActionKind.WAIT if "for" in given:
            return f"lets {given['for']} pass"
        case _:
            return shown(action)


def data_of(playbook: "Playbook") -> "PlaybookAnswer":
    """For the JSON answer."""
    wanted = playbook.requires
    return {
        "id": playbook.id,
        "version": playbook.version,
        "title": playbook.title,
        "doc": playbook.doc,
        "risk": playbook.risk,
        "max_duration_ms": playbook.max_duration_ms,
        "requires": {"nodes": wanted.nodes, "backends": list(wanted.backends), "faults": wanted.faults},
        "path": playbook.path,
        "digest": playbook.digest,
        "inputs": [
            {
                "name": spec.name,
                "type": spec.type,
                "default": None if spec.default is None else spec.default,
                "choices": list(spec.choices),
                "help": spec.help,
            }
            for spec in playbook.inputs
        ],
        "guards": [
            {
                "expr": guard.expr,
                "every_ms": guard.every_ms,
                "for_ms": guard.for_ms,
                "on_breach": guard.on_breach,
            }
            for guard in playbook.guards
        ],
        "steps": [_step_data(step) for step in playbook.steps],
    }


def _step_data(step: "Step") -> "StepData":
    return {
        "id": step.id,
        "title": step.title or None,
        "doc": step.doc or None,
        "kind": step.action.kind,
        "with": dict(step.action.arguments),
        "impact": step.impact,
        "command": command_text(step.action) or None,
        "when": step.when or None,
        "pre": list(step.pre),
        "expect": list(step.expect),
        "capture": dict(step.capture),
        "timeout_ms": step.timeout_ms,
        "retry": {"attempts": step.retry.attempts, "every_ms": step.retry.every_ms},
        "confirm": step.confirm or None,
        "undo": command_text(step.undo) if step.undo is not None else None,
        "irreversible": step.irreversible,
        "on_fail": step.on_fail,
        "steps": [_step_data(inner) for inner in step.steps],
    }


def _paragraphs(text: str) -> Iterator[View]:
    """Each paragraph of a text as one field, which a terminal breaks between words."""
    for paragraph in text.split("\n\n"):
        if paragraph.strip():
            yield Fields([("", " ".join(paragraph.split()))])
            yield Line("")


def _padded(pairs: Iterable[tuple[str, Value]]) -> Fields:
    return Fields([(name.ljust(_WIDTH), value) for name, value in pairs])
