"""`esctl doctor`: can this machine run a cluster, and is there anything left of an old one?

Each check has a result, a figure where there is one, and what to do. Nothing is changed without --fix,
and with it only notes of processes that have ended and networks of clusters that are gone are removed.
"""

import os
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import typer

from esctl import ports, state
from esctl.answer import Answer, Cell, Line, Table, Tone, Value
from esctl.backends import network, pidfile
from esctl.errors import PortTaken
from esctl.exits import Exit
from esctl.invocation import Invocation, command, new_typer
from esnode import limits
from esnode.errors import EventStreamError

app = new_typer()
FSYNC_ROUNDS: Final = 40
SLOW_FSYNC_MS: Final = 20.0
"""Every batch waits for one fsync; at this speed an ack takes longer than an operator expects."""
FEWEST_DESCRIPTORS: Final = limits.MAX_CLIENT_CONNECTIONS + 256
OLDEST_SQLITE: Final = (3, 35, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: `result` is ok, warning or bad."""

    check: str
    result: str
    found: str
    next: str = ""


@command(app, "doctor")
def doctor(
    run: Invocation,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Measure the disk of this directory")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Remove what clusters and nodes have left")] = False,
) -> Answer:
    """Check that this machine can run a cluster"""
    with run.terminal.progress("checking"):
        findings = [_python(), _sqlite(), _rocksdb(), _descriptors(), _clock(), _ports(), _fsync(data_dir)]
        findings += [_namespaces(), *_leftovers(fix=fix), *_strays(), *_networks(fix=fix)]
    tones = {"ok": Tone.GOOD, "warning": Tone.WARN, "bad": Tone.BAD}
    rows: list[list[Value]] = [[f.check, Cell(f.result, tones[f.result]), f.found, f.next] for f in findings]
    bad = sum(f.result == "bad" for f in findings)
    verdict = f"{bad} of {len(findings)} checks are bad" if bad else "this machine can run a cluster"
    return Answer(
        data={"healthy": not bad, "checks": [asdict(f) for f in findings]},
        views=[
            Table(["check", "result", "found", "next"], rows),
            Line(verdict, Tone.BAD if bad else Tone.GOOD),
        ],
        exit_code=Exit.UNHEALTHY if bad else Exit.OK,
    )


def _python() -> Finding:
    new_enough = sys.version_info >= (3, 11)
    return Finding(
        "python",
        "ok" if new_enough else "bad",
        platform.python_version(),
        "" if new_enough else "install 3.11 or newer",
    )


def _sqlite() -> Finding:
    new_enough = sqlite3.sqlite_version_info >= OLDEST_SQLITE
    wanted = ".".join(map(str, OLDEST_SQLITE))
    help_text = "" if new_enough else f"use a Python that is linked with SQLite {wanted} or newer"
    return Finding("sqlite", "ok" if new_enough else "bad", sqlite3.sqlite_version, help_text)


def _rocksdb() -> Finding:
    if find_spec("rocksdict") is not None:
        return Finding("rocksdb", "ok", "rocksdict is installed")
    return Finding("rocksdb", "ok", "not installed; needed only for --storage rocksdb")


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= FEWEST_DESCRIPTORS
    help_text = (
        ""
        if enough
        else f"ulimit -n {min(hard, 4 * FEWEST_DESCRIPTORS) if hard > 0 else 4 * FEWEST_DESCRIPTORS}"
    )
    return Finding("file descriptors", "ok" if enough else "warning", f"{soft:,} a process", help_text)


def _clock() -> Finding:
    clock = time.get_clock_info("monotonic")
    good = clock.monotonic and clock.resolution <= limits.TICK_MS / 1000
    found = f"{clock.implementation}, resolution {clock.resolution:g} s"
    return Finding(
        "monotonic clock", "ok" if good else "bad", found, "" if good else "the timers need a finer clock"
    )


def _ports() -> Finding:
    try:
        chosen = ports.choose(6, ())
    except PortTaken as error:
        return Finding("ports", "bad", str(error), "stop what listens there")
    return Finding("ports", "ok", f"six in a row are free, such as {chosen[0]} to {chosen[-1]}")


def _namespaces() -> Finding:
    lack = network.missing()
    found = f"{lack}; needed only for --backend netns" if lack else "can be made, for --backend netns"
    return Finding("network namespaces", "ok", found)


def _fsync(data_dir: Path | None) -> Finding:
    """The median time to make 4 KiB durable, where the data of a cluster would be."""
    directory = _existing(data_dir or state.clusters_root())
    took_ms = []
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(FSYNC_ROUNDS):
                file.write(os.urandom(4096))
                file.flush()
                begun = time.perf_counter()
                os.fdatasync(file.fileno())
                took_ms.append(1000 * (time.perf_counter() - begun))
    except OSError as error:
        return Finding(
            "fsync", "bad", f"{directory}: {error.strerror}", "choose a directory that can be written"
        )
    found = f"{median(took_ms):.2f} ms (median), {max(took_ms):.2f} ms (worst) in {directory}"
    slow = median(took_ms) > SLOW_FSYNC_MS
    return Finding(
        "fsync", "warning" if slow else "ok", found, "use a faster disk: --data-dir" if slow else ""
    )


def _existing(path: Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    return next((each for each in (path, *path.parents) if each.is_dir()), Path.cwd())


def _leftovers(*, fix: bool) -> Iterator[Finding]:
    """A finding for each cluster that is not as its description says."""
    for name in state.names():
        check = f"cluster {name}"
        try:
            cluster = state.load(name)
        except EventStreamError as error:
            yield Finding(check, "bad", str(error), error.next_step)
            continue
        missing = [
            node.id for node in cluster.nodes if not node.config.exists() or not node.data_dir.is_dir()
        ]
        dead = [
            path for path in cluster.directory.glob("node-*.pid") if not pidfile.live(pidfile.read_note(path))
        ]
        if missing:
            helps = f"esctl cluster destroy {name}"
            yield Finding(
                check, "bad", f"the files of nodes {missing} are gone from {cluster.data_dir}", helps
            )
        elif dead and fix:
            for path in dead:
                path.unlink(missing_ok=True)
            yield Finding(check, "ok", f"removed the notes of {len(dead)} processes that had ended")
        elif dead:
            found = f"{len(dead)} nodes have ended without being stopped"
            yield Finding(check, "warning", found, f"esctl cluster start {name}")
        else:
            yield Finding(check, "ok", "as its description says")


def _strays() -> Iterator[Finding]:
    """Nodes of this user whose cluster is not known here."""
    known = {str(node.config) for cluster in _readable() for node in cluster.nodes}
    for entry in Path("/proc").glob("[0-9]*"):
        words = pidfile.command_line(int(entry.name)).split()
        if not {"esnode", "--config"} <= set(words) or words[-1] in known:
            continue
        try:
            owner = entry.stat().st_uid
        except FileNotFoundError:  # it has just ended
            continue
        if owner != os.getuid():
            continue
        if Path(words[-1]).exists():
            # Most likely a good cluster that is noted elsewhere: nobody should be told to kill it.
            found, helps = "a node of a cluster of another XDG_STATE_HOME", ""
        else:
            found, helps = "a node whose files are gone", f"kill {entry.name}"
        yield Finding(f"process {entry.name}", "warning" if helps else "ok", f"{found}: {words[-1]}", helps)


def _networks(*, fix: bool) -> Iterator[Finding]:
    """Namespaces and links that a cluster had and left: one that was killed, or deleted by hand."""
    if os.geteuid() != 0:
        return  # only root makes and removes them
    for name in network.abandoned():
        check, what = f"network {name}", "namespaces and links of a cluster that is gone"
        if not fix:
            yield Finding(check, "warning", what, "esctl doctor --fix")
            continue
        try:
            network.take_down(name)
        except EventStreamError as error:
            yield Finding(check, "bad", str(error), f"ip link show {name}b")
        else:
            yield Finding(check, "ok", f"removed the {what}")


def _readable() -> Iterator[state.Cluster]:
    for name in state.names():
        try:
            yield state.load(name)
        except EventStreamError:  # reported by `_leftovers`
            continue
