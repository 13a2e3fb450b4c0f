"""`python -m bench.suite`: the standing measurements, each on a throw-away cluster, as JSON in bench/results.

Decides what is measured, on how many nodes, and in which order: the first ones find the log empty. It runs
`esctl` as a person would, and takes every cluster away again, whatever ends it short of `kill -9`. Called by
`make bench`.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from esctl.bench import result
from esctl.clusters import state
from esctl.ui.answer import Line, Table, Tone, Value
from esctl.ui.terminal import Terminal

RESULTS: Final = Path(__file__).resolve().parent / "results"
NAME: Final = "bench-suite"
"""Of the clusters, followed by their number of nodes."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One `esctl bench` command, and on how many nodes it is run."""

    name: str
    words: tuple[str, ...]
    timed: bool = True
    """It takes --duration."""
    struck: bool = False
    """Its runs are strikes."""
    nodes: int = 3


SCENARIOS: Final = (
    Scenario("produce-closed", ("produce",)),
    Scenario("produce-closed-by-256", ("produce", "--batch", "256")),
    Scenario("produce-60k", ("produce", "--rate", "60000")),
    Scenario("produce-20k-by-8", ("produce", "--rate", "20000", "--batch", "8")),
    Scenario("produce-1k", ("produce", "--size", "1024")),
    Scenario("produce-session", ("produce", "--session")),
    Scenario("e2e-20k", ("e2e", "--rate", "20000")),
    Scenario("consume", ("consume", "--max", "2000000"), timed=False),
    Scenario("failover-kill", ("failover", "--yes", "--times", "20"), timed=False, struck=True),
    Scenario(
        "failover-pause", ("failover", "--yes", "--kind", "pause", "--times", "5"), timed=False, struck=True
    ),
    Scenario(
        "failover-transfer",
        ("failover", "--yes", "--kind", "transfer", "--times", "10"),
        timed=False,
        struck=True,
    ),
    Scenario("one-node-closed", ("produce",), nodes=1),
)
SHOWN: Final = {
    "events/s": "events_per_s",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "p99.9 ms": "p999_ms",
    "leader µs": "leader_cpu_us_per_event",
    "client µs": "client_cpu_us_per_event",
}
"""The figure in each column of the table."""
SHOWN_OF_STRIKES: Final = {
    "gap ms": "unavailable_ms",
    "detect ms": "detect_ms",
    "elect ms": "elect_ms",
    "commit ms": "first_commit_ms",
    "client ms": "client_ms",
}


class Failed(Exception):
    """A command did not end well; what it said is on standard error already."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.suite", description="Run the standing measurements")
    made.add_argument("--seconds", type=float, default=20.0, help="measure each run for so long")
    made.add_argument("--runs", type=int, default=3, help="runs of each; the median counts")
    made.add_argument("--storage", default="sqlite", help="the storage engine of the clusters")
    made.add_argument("--only", default="", help=f"a comma-separated choice of {', '.join(_names())}")
    made.add_argument("--directory", type=Path, default=RESULTS, help="write the results there")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """The program; 0 when everything was measured."""
    options = parser().parse_args(words)
    wanted = options.only.split(",") if options.only else _names()
    if unknown := sorted(set(wanted) - set(_names())):
        parser().error(f"no such measurement: {', '.join(unknown)}")
    chosen = [scenario for scenario in SCENARIOS if scenario.name in wanted]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # whatever ends it, its clusters go
    terminal = Terminal()
    failed: list[str] = []
    try:
        for nodes in dict.fromkeys(scenario.nodes for scenario in chosen):
            with cluster_of(nodes, options.storage) as cluster:
                here = [scenario for scenario in chosen if scenario.nodes == nodes]
                failed += [one.name for one in here if not _measure(one, cluster, options)]
    except Failed as error:
        terminal.warn(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    for struck, shown in ((False, SHOWN), (True, SHOWN_OF_STRIKES)):
        if here := [scenario for scenario in chosen if scenario.struck is struck]:
            terminal.view(_table(here, shown, options.directory))
    if failed:
        terminal.view(Line(f"failed: {', '.join(failed)}", Tone.BAD))
    return 1 if failed else 0


@contextmanager
def cluster_of(nodes: int, storage: str) -> Iterator[str]:
    """A new cluster of so many nodes, destroyed at the end whatever happens."""
    name = f"{NAME}-{nodes}"
    if (state.clusters_root() / name).exists():
        raise Failed(f"cluster {name} is left of an earlier run; it goes with:"
                     f" esctl cluster destroy {name} --confirm {name}")  # fmt: skip
    try:
        up = ("cluster", "up", name, "--nodes", str(nodes), "--storage", storage, "--no-input")
        if _esctl(*up) != 0:
            raise Failed(f"cluster {name} could not be started")
        yield name
    finally:
        if (state.clusters_root() / name).exists():
            _esctl("cluster", "destroy", name, "--confirm", name, "--no-input")


def _measure(scenario: Scenario, cluster: str, options: argparse.Namespace) -> bool:
    """Run one; true when it measured without an error."""
    sys.stderr.write(f"{scenario.name}: esctl bench {' '.join(scenario.words)}\n")
    file = options.directory / f"{scenario.name}.json"
    file.unlink(missing_ok=True)  # what is there at the end is of this run
    words = words_of(scenario, options.seconds, options.runs)
    return _esctl("bench", *words, "--save", str(file), "--cluster", cluster) == 0


def words_of(scenario: Scenario, seconds: float, runs: int) -> list[str]:
    """What is typed after `esctl bench`."""
    timed = ["--duration", f"{seconds:g}s"] if scenario.timed else []
    return [*scenario.words, *timed, *([] if scenario.struck else ["--runs", str(runs)])]


def _esctl(*words: str) -> int:
    """Run a command; its answer is not shown, its progress and its errors are. Ctrl-C is handed on to it."""
    command = [sys.executable, "-m", "esctl.main", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:  # noqa: S603
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()  # it bounds its own clean-up
            raise


def _table(chosen: Sequence[Scenario], shown: Mapping[str, str], directory: Path) -> Table:
    """What was measured, a row each; of several runs or strikes the median."""
    rows: list[list[Value]] = []
    for scenario in chosen:
        file = directory / f"{scenario.name}.json"
        figures = result.read(file).figures if file.is_file() else {}
        rows.append([scenario.name, *(_number(figures.get(name)) for name in shown.values())])
    return Table(["measurement", *shown], rows)


def _number(value: float | None) -> Value:
    return None if value is None else round(value) if value >= 1000 else round(value, 2)


def _names() -> list[str]:
    return [scenario.name for scenario in SCENARIOS]


if __name__ == "__main__":
    sys.exit(main())
