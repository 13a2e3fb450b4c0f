"""The commands of `esctl`: what its first page says of each, and how one is loaded when it is asked for.

To read the table loads no command. Called by `main.py`, and by `esctl/playbook`, whose steps are commands.
"""

import importlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import typer.main

from esnode.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A command or a group: its name, what `esctl --help` says of it, and under which heading.

    Its module is `esctl.commands.NAME`, whose `app` is a `typer.Typer`.
    """

    name: str
    help: str
    panel: str
    hidden: bool = False
    """It works and is in docs/commands.md; the first pages leave it out."""


ROWS: Final = (
    Row("demo", "Run a demo: real events, a killed leader, proof of no loss", "Get started"),
    Row("cluster", "Create, start, stop, list and remove clusters", "Clusters"),
    Row("node", "List, start, stop, kill, pause and resume single nodes", "Clusters"),
    Row("leader", "Show which node leads, or transfer the leadership", "Clusters"),
    Row("ring", "Show who owns which sources, and where a source belongs", "Clusters"),
    Row("produce", "Append the events of a file or a pipe", "Events"),
    Row("consume", "Print the events of the log, and follow new ones", "Events"),
    Row("event", "Show an event, trace it on each node, check for a duplicate", "Events"),
    Row("verify", "Prove that no event was lost, duplicated, changed or reordered", "Events"),
    Row("export", "Copy events into an SQLite database or an NDJSON file", "Events"),
    Row("snapshot", "Show each node's checkpoint, or write a new one", "Log and backups"),
    Row("compact", "Delete the oldest events", "Log and backups"),
    Row("dedup", "Show the deduplication tables", "Log and backups"),
    Row("backup", "Back up the whole log; check and restore backups", "Log and backups"),
    Row("status", "Show every node, check the health, print figures for monitors", "Observe"),
    Row("top", "Watch nodes, rates, lag, latency and faults; act with keys", "Observe"),
    Row("why", "Show what is wrong, the evidence, and the next command", "Observe"),
    Row("logs", "Show the logs of all nodes, merged by time", "Observe"),
    Row("timeline", "Show elections, faults and starts on one time axis", "Observe"),
    Row("audit", "Show who changed what, when, and with which outcome", "Observe"),
    Row("doctor", "Check that this machine can run a cluster", "Observe"),
    Row("bundle", "Create an archive for support, without secrets", "Observe"),
    Row("fault", "Inject temporary faults into links, disks and nodes", "Inject faults"),
    Row("bench", "Measure throughput and latency", "Measure"),
    Row("playbook", "Read, check, plan and run drills and runbooks", "Playbooks"),
    Row("config", "Show and change settings; define names for clusters", "Settings and help"),
    Row("explain", "Explain an error code", "Settings and help"),
    Row("docs", "Print a document: operations, guarantees, faults or another", "Settings and help"),
    Row("schema", "Print the JSON Schema of a command's JSON output", "Settings and help", hidden=True),
    Row("completion", "Print the completion script for a shell", "Settings and help", hidden=True),
    Row("version", "Show the versions of esctl, Python and its libraries", "Settings and help"),
)
ROW_BY_NAME: Final = {row.name: row for row in ROWS}
SHOWN: Final = tuple(row for row in ROWS if not row.hidden)
"""Those on the first pages."""


@cache
def load(row: Row) -> Any:
    """Import the module of a command and give its click command, named and described by the row.

    A group's command that has the group's own name is what that name alone runs: `esctl status`.
    To make one costs milliseconds, and a linter or a plan asks for each of them many times.
    """
    module = importlib.import_module(f"esctl.commands.{row.name}")
    loaded: Any = typer.main.get_command(module.app)
    loaded.name, loaded.help = row.name, loaded.help or row.help
    if row.name in getattr(loaded, "commands", {}):
        loaded.own = loaded.commands.pop(row.name)
    return loaded


def find(words: Sequence[str]) -> tuple[Any, list[str]]:
    """What a line after `esctl` runs, and the words that name it.

    It is a group where the line names none of its commands, and None where there is no such row.
    """
    row = ROW_BY_NAME.get(words[0]) if words else None
    if row is None:
        return None, []
    found, path = load(row), [row.name]
    for word in words[1:]:
        if word not in getattr(found, "commands", {}):
            break
        found = found.commands[word]
        path.append(word)
    return getattr(found, "own", None) or found, path


def every_command() -> dict[str, Any]:
    """Every command, by its full name such as `cluster up`; loads them all."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        members = getattr(command, "commands", None)
        if members is None:
            yield name, command
            return
        if command.own is not None:
            yield name, command.own
        for member, inner in members.items():
            yield from below(f"{name} {member}", inner)

    return {name: command for row in ROWS for name, command in below(row.name, load(row))}
