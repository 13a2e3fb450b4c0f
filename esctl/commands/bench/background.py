"""`esctl bench start`, `ls` and `stop`: a steady load that goes on while the next commands are typed.

It ends by itself when its time is over, so that none is forgotten. What it was told is held against the log
by a playbook's exactly-once check; the load itself is in `esctl/bench/background.py`.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from esctl.cli.arguments import DryRun
from esctl.cli.durationoption import duration_option
from esctl.cli.invocation import Invocation
from esctl.clusters import state
from esctl.errors import InvalidArgument
from esctl.exits import Exit
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Trouble, Value, elapsed
from esctl.ui.formatting import duration

if TYPE_CHECKING:
    from esctl.commands.bench.answers import (
        LoadRow,
        LoadsAnswer,
        PlannedLoadAnswer,
        PlannedStopLoadAnswer,
        StartedLoadAnswer,
        StoppedLoadAnswer,
    )

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
LoadArgument = Annotated[str, typer.Argument(metavar="[NAME]", help="Name of the background load")]


def start(
    run: Invocation,
    name: LoadArgument = "load",
    rate: Annotated[
        float,
        typer.Option(
            "--rate", metavar="EVENTS", min=1, max=200_000, help="Rate of the load, in events per second"
        ),
    ] = 1000.0,
    seconds: Annotated[
        float, duration_option("--duration", "Stop after this time", low_s=0.1, high_s=86_400)
    ] = 60.0,
    size: Annotated[int, typer.Option("--size", metavar="BYTES", help="Size of an event")] = 100,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            metavar="DIR",
            help="Directory for the load's samples and its ledger of acks; by default, one beside "
            "the cluster",
        ),
    ] = None,
    dry_run: DryRun = False,
) -> "Answer[StartedLoadAnswer | PlannedLoadAnswer]":
    """Start a steady load in the background; the events stay in the log"""
    from esctl.bench import backgroundloads
    from esctl.bench.generator import Generator

    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{name!r} cannot name a load", next_step="use letters, digits, . _ and -")
    if into is not None and into.exists() and any(into.iterdir()):
        raise InvalidArgument(f"{into} is not empty; nothing was done", next_step="name a new directory")
    cluster = run.cluster()
    plan = run.trio(lambda: backgroundloads.new_plan(name, cluster, rate, seconds, size))
    Generator(plan.run, size, plan.batch)  # raises for a size that no event has
    what = f"{rate:,.0f} events of {size} bytes a second for {duration(seconds)}"
    if dry_run:
        planned: PlannedLoadAnswer = {
            "cluster": cluster.name, "load": name, "dry_run": True, "rate_per_s": rate,
        }  # fmt: skip
        return Answer(planned, [Line(f"would send {what} to {cluster.name}; the quorum stays as it is")])
    with run.terminal.progress(f"starting {name}"):
        load = backgroundloads.start(cluster, plan, into)
    data: StartedLoadAnswer = {
        "cluster": cluster.name, "rate_per_s": rate, "seconds": seconds, **load.as_data(),
    }  # fmt: skip
    helps = f"esctl bench stop {name} --cluster {cluster.name}"
    return Answer(
        data, [Line(f"{name} sends {what} to {cluster.name}", Tone.GOOD), Fields([("to end it", helps)])]
    )


def ls(
    run: Invocation,
    every: Annotated[bool, typer.Option("--all", help="Include the loads that have ended")] = False,
) -> "Answer[LoadsAnswer]":
    """List the running background loads, including those of playbooks; of all clusters, unless --cluster
    names one"""
    from esctl.bench import backgroundloads, ledger
    from esctl.playbookerrors import RunUnreadable

    clusters = [run.cluster()] if run.cluster_name is not None else list(state.readable())
    listed: list[LoadRow] = []
    rows: list[list[Value]] = []
    errors: list[Trouble] = []
    for cluster, load in ((c, load) for c in clusters for load in backgroundloads.listed(c)):
        if not (load.running or every):
            continue
        try:
            plan = ledger.read_plan(load.directory)
        except RunUnreadable as error:  # one damaged plan does not hide the others
            errors.append(Trouble.of(error))
            continue
        sample: Mapping[str, Any] = load.sample
        begun = datetime.fromtimestamp(plan.begun, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        left_s = max(0.0, plan.begun + plan.seconds - time.time()) if load.running else 0.0
        listed.append(
            {"cluster": cluster.name, "begun": begun, "seconds": plan.seconds, "left_s": round(left_s, 1),
             "rate_per_s": plan.rate, **load.as_data()}
        )  # fmt: skip
        rows.append(
            [
                cluster.name,
                load.name,
                Cell("under way", Tone.GOOD) if load.running else Cell("over", Tone.DIM),
                begun,
                elapsed(left_s),
                f"{plan.rate:,.0f}/s",
                sample.get("acked", 0),
                str(load.directory),
            ]
        )
    columns = ["cluster", "load", "", "begun", "left", "rate", "acked", "files"]
    table = Table(columns, rows, empty="no load is under way")
    return Answer({"loads": listed}, [table], errors, Exit.ERROR if errors else Exit.OK)


def stop(
    run: Invocation, name: LoadArgument = "load", dry_run: DryRun = False
) -> "Answer[StoppedLoadAnswer | PlannedStopLoadAnswer]":
    """Stop a background load, and show its results"""
    from esctl.bench import backgroundloads

    cluster = run.cluster()
    load = backgroundloads.get(cluster, name)
    if dry_run:
        fate = "runs and would be stopped" if load.running else "is over already"
        planned: PlannedStopLoadAnswer = {"cluster": cluster.name, "dry_run": True, **load.as_data()}
        return Answer(planned, [Line(f"the load {name} {fate}; the quorum stays as it is")])
    with run.terminal.progress(f"stopping {name}"):
        stopped = backgroundloads.stop(load)
    data: StoppedLoadAnswer = {"cluster": cluster.name, "stopped": stopped, **load.as_data()}
    head = Line(f"{name} is stopped" if stopped else f"{name} was over already")
    return Answer(data, [head, Fields(_figures(data["sample"]))])


def _figures(sample: Mapping[str, Any]) -> list[tuple[str, Value]]:
    """What people want to know of a load that is over."""
    if not sample:
        return [("acked", 0)]
    return [
        ("sent", sample["sent"]),
        ("acked", sample["acked"]),
        ("refused", sample["failed"]),
        ("without an answer", sample["unknown"]),
        ("longest time without an ack", f"{sample['longest_gap_ms']:,.0f} ms"),
        ("acked and not in the log", sample["acked_lost"]),
    ]
