"""The commands of `esctl`: what its first page says of each, and how one is loaded when it is asked for.

To read the table loads no command. Called by `main.py`, and by `esctl/playbook`, whose steps are commands.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import typer.main


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
    Row("event", "Show one event, by its offset or by its source and id", "Events"),
    Row("dedup", "Show what is remembered, and what becomes of a repeated event", "Events"),
    Row("verify", "Prove that nothing was lost, doubled, changed or reordered", "Events"),
    Row("export", "Copy events into an SQLite database, or into lines of JSON", "Events"),
    Row("backup", "Back up the whole log, check and restore it", "Data"),
    Row("snapshot", "Show what each node starts from, and make that younger", "Data"),
    Row("compact", "Let go of the oldest events", "Data"),
    Row("status", "Show every node: role, log, lag, memory", "Look"),
    Row("health", "Check in stages whether the cluster is well, and say what helps", "Look"),
    Row("top", "Watch nodes, rates, lag, latency and faults; keys act on them", "Look"),
    Row("why", "Say what is wrong, what shows it, and what to type next", "Look"),
    Row("check", "Read single figures for monitors: nagios, prometheus, json", "Look"),
    Row("logs", "Show the logs of all nodes, merged by time", "Look"),
    Row("timeline", "Show what happened: elections, faults, starts, on one axis", "Look"),
    Row("trace", "Show where one event is on each node, or a probe on its way", "Look"),
    Row("audit", "Show who changed what, when, and how it ended", "Look"),
    Row("doctor", "Check that this machine can run a cluster", "Look"),
    Row("debug", "Make an archive for support, without secrets", "Look"),
    Row("fault", "Break links, disks and nodes on purpose, for a while", "Break"),
    Row("bench", "Measure throughput and latency", "Measure"),
    Row("playbook", "Read, check, plan and run drills and runbooks", "Playbooks"),
    Row("config", "Show and change settings, and where each comes from", "Learn"),
    Row("context", "Name the clusters that you work with, and use one", "Learn"),
    Row("explain", "Explain an error code", "Learn"),
    Row("docs", "Print the documents: operations, guarantees, faults and others", "Learn"),
    Row("schema", "Print the JSON Schema of what a command answers", "Learn", hidden=True),
    Row("completion", "Print the completion script for a shell", "Learn", hidden=True),
    Row("version", "Show the versions of esctl and of what it runs on", "Learn"),
)
ROW_BY_NAME: Final = {row.name: row for row in ROWS}


@cache
def load(row: Row) -> Any:
    """Import the module of a command and give its click command, named and described by the row.

    To make one costs milliseconds, and a linter or a plan asks for each of them many times.
    """
    module = importlib.import_module(f"esctl.commands.{row.name}")
    loaded = typer.main.get_command(module.app)
    loaded.name, loaded.help = row.name, loaded.help or row.help
    return loaded
