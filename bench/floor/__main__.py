"""`python -m bench.floor`: measures the bare floor, alone or in turns with `esnode` (`--beside`).

Tells of each run and of the medians, as text or as JSON. Whatever it starts ends with it, and whatever it
writes is deleted. The ratio esnode / floor is what a busy machine disturbs least.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from bench.floor.cluster import Opener, esnode_cluster, floor
from bench.floor.runs import measure, medians, ratios
from esctl.bench import machine
from esctl.bench.result import Figures
from esctl.bench.runner import TrialPlan
from esctl.clusters import state
from esctl.commands.bench.options import HIGHEST_RATE, LONGEST_S
from esnode import limits
from esnode.errors import EventStreamError, first_of

COLUMNS: Final = (
    ("events_per_s", "events/s", "{:,.0f}"),
    ("p50_ms", "p50", "{:.2f}"),
    ("p99_ms", "p99", "{:.2f}"),
    ("p999_ms", "p99.9", "{:.2f}"),
    ("client_us_per_event", "client", "{:.2f}"),
    ("leader_us_per_event", "leader", "{:.2f}"),
    ("follower_1_us_per_event", "foll.1", "{:.2f}"),
    ("follower_2_us_per_event", "foll.2", "{:.2f}"),
    ("all_us_per_event", "all", "{:.2f}"),
)
"""A figure, its column, how it is written. The last five are processor time for each event, in µs."""
MAX_WINDOW: Final = 512
"""As `esctl bench produce` has it: so few acks always fit into a socket."""


@dataclass(frozen=True, slots=True)
class Series:
    """All runs of one kind of cluster."""

    name: str
    opener: Opener
    runs: list[Figures] = field(default_factory=list)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.floor", description="Measure the bare floor")
    made.add_argument("--seconds", type=float, default=10.0, help="measure each run for so long")
    made.add_argument("--warmup", type=float, default=2.0, help="seconds of load before that")
    made.add_argument("--rate", type=float, default=0.0, help="events a second; 0 is as fast as it goes")
    made.add_argument("--batch", type=int, default=64, help="events in a batch")
    made.add_argument("--window", type=int, default=64, help="batches under way")
    made.add_argument("--size", type=int, default=100, help="bytes of an event")
    made.add_argument("--runs", type=int, default=3, help="runs of each")
    made.add_argument("--beside", action="store_true", help="in turns with a fresh cluster of esnode")
    made.add_argument("--directory", type=Path, help="on the disk to use; default: where esctl has clusters")
    made.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return made


async def take_turns(every: Sequence[Series], options: argparse.Namespace, home: Path) -> int | None:
    """All runs, in turns; the signal that ended them before their time, if one did."""
    plan = TrialPlan(options.seconds, options.warmup, options.rate, options.batch, options.window)
    ended_by: list[int] = []

    async def end_on_signal(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                ended_by.append(number)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(end_on_signal)
        for number in range(1, options.runs + 1):
            for series in every:
                note(f"{series.name}: run {number} of {options.runs}")
                series.runs.append(await measure(series.opener, plan, options.size, home))
        nursery.cancel_scope.cancel()
    return ended_by[0] if ended_by else None


def as_text(every: Sequence[Series], settings: dict[str, object]) -> list[str]:
    """A table: a line a run, the medians, and how they compare."""
    lines = [", ".join(f"{name} {value}" for name, value in settings.items())]
    lines.append("latencies in ms; processor time in µs an event, from the client on")
    lines.append(row(["", *(title for _, title, _ in COLUMNS)]))
    for series in every:
        for number, run in enumerate(series.runs, 1):
            lines.append(row([f"{series.name} {number}", *written(run)]))
        lines.append(row([f"{series.name} median", *written(medians(series.runs))]))
    if len(every) == 2:
        compared = ratios(every[1].runs, every[0].runs)
        values = [compared.get(name) for name, _, _ in COLUMNS]
        shown = ["-" if value is None else f"{value:.2f}" for value in values]
        lines.append(row([f"{every[1].name} / {every[0].name}", *shown]))
    return lines


def row(cells: Sequence[str]) -> str:
    """One line of the table."""
    return f"{cells[0]:<14}{cells[1]:>9}" + "".join(f"{cell:>7}" for cell in cells[2:])


def written(figures: Figures) -> list[str]:
    """The figures of a run, as they are shown."""
    values = [(figures.get(name), form) for name, _, form in COLUMNS]
    return ["-" if value is None else form.format(value) for value, form in values]


def as_json(every: Sequence[Series], settings: dict[str, object]) -> str:
    """The same, with all that one must know to compare."""
    document: dict[str, object] = {"settings": settings, "machine": machine.fingerprint()}
    for series in every:
        document[series.name] = {"runs": series.runs, "median": medians(series.runs)}
    if len(every) == 2:
        document["ratio"] = ratios(every[1].runs, every[0].runs)
    return json.dumps(document, indent=1)


def note(line: str) -> None:
    """What goes on, for whoever waits."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _wrong(options: argparse.Namespace) -> str:
    """What cannot be measured; empty when all of it can."""
    for name, least, most in (
        ("seconds", 0.1, LONGEST_S),
        ("warmup", 0, LONGEST_S),
        ("rate", 0, HIGHEST_RATE),
        ("batch", 1, limits.MAX_BATCH_EVENTS),
        ("window", 1, MAX_WINDOW),
        ("runs", 1, 1000),
    ):
        if not least <= getattr(options, name) <= most:
            return f"--{name} is {least} to {most:,.0f}"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and tell; the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    if wrong := _wrong(options):
        made.error(wrong)
    every = [Series("floor", floor)]
    if options.beside:
        every.append(Series("esnode", esnode_cluster))
    home = options.directory or state.clusters_root().parent
    failures: list[EventStreamError] = []
    ended_by: int | None = None
    try:
        state.make_directory(home)
        ended_by = trio.run(take_turns, every, options, home)
    except* EventStreamError as group:
        failures.append(first_of(group))
    if failures:
        note(f"bench.floor: {failures[0].code}: {failures[0]}\nnext: {failures[0].next_step}")
        return 1
    if ended_by is not None:
        return 128 + ended_by
    settings: dict[str, object] = {
        name: getattr(options, name) for name in ("seconds", "warmup", "rate", "batch", "window", "size")
    }
    told = as_json(every, settings) if options.output == "json" else "\n".join(as_text(every, settings))
    sys.stdout.write(told + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
