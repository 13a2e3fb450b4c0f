"""`esctl playbook ls`: what there is to run, what each is for, and how dangerous it is."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esctl.cli.invocation import Invocation
from esctl.playbook import catalog
from esctl.playbookerrors import InvalidPlaybook, PlaybookNotFound
from esctl.ui.answer import Answer, Cell, Line, Table, Tone, Value

if TYPE_CHECKING:
    from esctl.playbook.answers import PlaybooksAnswer, ReadablePlaybookRow, UnreadablePlaybookRow
    from esctl.playbook.schema import Playbook

RISK_TONES: Final = {"low": Tone.GOOD, "moderate": Tone.WARN, "severe": Tone.BAD}


def ls(run: Invocation) -> "Answer[PlaybooksAnswer]":
    """List the shipped playbooks and those in ./playbooks, with their risk"""
    from esctl.playbook import parser

    rows: list[list[Value]] = []
    listed: list[ReadablePlaybookRow | UnreadablePlaybookRow] = []
    for name, path in catalog.every().items():
        try:
            found = parser.read(path)
        except (InvalidPlaybook, PlaybookNotFound) as error:
            run.terminal.warn(f"{error}; next: {error.next_step}")
            rows.append([name, Cell("unreadable", Tone.BAD), str(path)])
            listed.append({"id": name, "path": str(path), "shipped": _is_shipped(path), "readable": False})
            continue
        rows.append([found.id, Cell(found.risk.value, RISK_TONES[found.risk]), in_short(found.title)])
        listed.append(_data(found, path))
    table = Table(["playbook", "risk", "in short"], rows, empty="no playbooks are found")
    return Answer({"playbooks": listed}, [table, Line("next: esctl playbook show PLAYBOOK", Tone.DIM)])


def in_short(title: str) -> str:
    """What is done, without what it is to show: one line on a narrow terminal."""
    return re.split(r"[,:] ", title, maxsplit=1)[0]


def needs_text(playbook: "Playbook") -> str:
    """What the cluster must be, for people."""
    wanted = playbook.requires
    parts = [f"{wanted.nodes} node{'s' if wanted.nodes > 1 else ''}"] if wanted.nodes else ["no cluster"]
    parts += ["faults"] if wanted.faults else []
    parts += [" or ".join(wanted.backends)] if wanted.backends else []
    return ", ".join(parts)


def _data(playbook: "Playbook", path: Path) -> "ReadablePlaybookRow":
    wanted = playbook.requires
    return {
        "id": playbook.id,
        "path": str(path),
        "shipped": _is_shipped(path),
        "readable": True,
        "version": playbook.version,
        "title": playbook.title,
        "risk": playbook.risk,
        "max_duration_ms": playbook.max_duration_ms,
        "requires": {
            "nodes": wanted.nodes,
            "backends": list(wanted.backends),
            "faults": wanted.faults,
        },
        "inputs": [spec.name for spec in playbook.inputs],
        "steps": len(playbook.steps),
    }


def _is_shipped(path: Path) -> bool:
    return path.resolve().parent == catalog.shipped().resolve()
