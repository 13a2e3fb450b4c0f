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
    Row("demo", "See it work: real events, a killed leader, and the proof", "Begin"),
    Row("cluster", "Start, stop, list and remove clusters", "Clusters"),
    Row("node", "List, start, stop, kill, pause and resume single nodes", "Clusters"),
    Row("leader", "Show which node leads, or hand the leadership over", "Clusters"),
    Row("produce", "Append the events of a file or a pipe", "Events"),
    Row("consume", "Print the events of the log, and follow it", "Events"),
    Row("event", "Show one event, where each node has it, whether it is known", "Events"),
    Row("verify", "Prove that nothing was lost, doubled, changed or reordered", "Events"),
    Row("export", "Copy events into an SQLite database, or into lines of JSON", "Events"),
    Row("snapshot", "Show what each node starts from, and make that younger", "Log"),
    Row("compact", "Let go of the oldest events", "Log"),
    Row("dedup", "Show what is remembered, so that no event is stored twice", "Log"),
    Row("backup", "Back up the whole log, check and restore it", "Log"),
    Row("status", "Show every node, judge the health, give figures to monitors", "Look"),
    Row("top", "Watch nodes, rates, lag, latency and faults; keys act on them", "Look"),
    Row("why", "Say what is wrong, what shows it, and what to type next", "Look"),
    Row("logs", "Show the logs of all nodes, merged by time", "Look"),
    Row("timeline", "Show what happened: elections, faults, starts, on one axis", "Look"),
    Row("audit", "Show who changed what, when, and how it ended", "Look"),
    Row("doctor", "Check that this machine can run a cluster", "Look"),
    Row("bundle", "Make an archive for support, without secrets", "Look"),
    Row("fault", "Break links, disks and nodes on purpose, for a while", "Break"),
    Row("bench", "Measure throughput and latency", "Measure"),
    Row("playbook", "Read, check, plan and run drills and runbooks", "Playbooks"),
    Row("config", "Show and change settings; name the clusters that you work with", "Learn"),
    Row("explain", "Explain an error code", "Learn"),
    Row("docs", "Print the documents: operations, guarantees, faults and others", "Learn"),
    Row("schema", "Print the JSON Schema of what a command answers", "Learn", hidden=True),
    Row("completion", "Print the completion script for a shell", "Learn", hidden=True),
    Row("version", "Show the versions of esctl, Python and its libraries", "Learn"),
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
