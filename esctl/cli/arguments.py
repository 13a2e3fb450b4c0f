"""Options and arguments that several commands take, declared once so that they read the same everywhere.

Called by the modules of `esctl/commands`; the options of all commands are in `invocation.py`.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import typer

from esctl.cli import candidates
from esctl.cli.durationoption import duration_option
from esctl.clusters import state
from esnode import limits


def words_of(option: Any) -> tuple[str, ...]:
    """The words that set an option that is annotated so, such as `--dry-run` and `-n`."""
    declared = get_args(option)[1]
    return declared.default, *(declared.param_decls or ())  # typer keeps the first as the default


ClusterArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="Cluster name; the same as --cluster",
        show_default=False,
        autocompletion=state.names_that_begin,
    ),
]
NodeArgument = Annotated[
    int,
    typer.Argument(metavar="ID", help="Node number, 1 or higher", min=1, autocompletion=candidates.nodes),
]
MAX_NODES: Final = 15
"""Of a cluster on one machine."""
Nodes = Annotated[int, typer.Option("--nodes", min=1, max=MAX_NODES, help="Number of nodes; must be odd")]
Partitions = Annotated[
    int,
    typer.Option(
        "--partitions",
        min=1,
        max=limits.MAX_PARTITIONS,
        help="Number of partitions: each node runs a process for each of them; cannot be changed later",
    ),
]
PartitionOption = Annotated[
    int | None,
    typer.Option(
        "--partition",
        metavar="K",
        min=0,
        max=limits.MAX_PARTITIONS - 1,
        help="Partition to ask or change; required if there are several",
    ),
]
OnePartition = Annotated[
    int | None,
    typer.Option(
        "--partition",
        metavar="K",
        min=0,
        max=limits.MAX_PARTITIONS - 1,
        help="Read only this partition; by default, all",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Directory for configuration, data and logs; by default, one below esctl's state directory",
    ),
]
Engine = Annotated[Literal["sqlite", "segments", "rocksdb"], typer.Option("--storage", help="Storage engine")]
BasePort = Annotated[
    int | None,
    typer.Option(
        "--base-port",
        min=1024,
        max=65_000,
        help="First port; the other ports follow it; by default, esctl chooses",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Show what would be done, without doing it")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation")]
StartTimeout = Annotated[
    float, duration_option("--timeout", "Time to wait for the nodes to answer", low_s=0.1)
]
StopTimeout = Annotated[
    float, duration_option("--timeout", "Kill nodes that are still running after this time")
]
UpkeepTimeout = Annotated[
    float,
    duration_option("--timeout", "Time to wait for a node in each step", low_s=0.1),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Start time: 2026-03-01T09:15:00Z, 09:15 (UTC), or 10m ago"),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="End time")]
