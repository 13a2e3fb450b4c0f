"""Starts a background load, finds it again, and stops it, for commands that are processes of their own.

A note in the cluster's directory says where a load's files are, and one of its own which process it is; one
of a name at a time. The load is in a session of its own and ends by itself when its time is over. Never
prints. Called by `esctl bench start`, `ls` and `stop`, and by playbooks.
"""

import json
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from esctl.bench import ledger
from esctl.bench.ledger import LoadPlan
from esctl.clusters import state
from esctl.clusters.backends import pidfile
from esctl.clusters.detached import Starting
from esctl.clusters.state import Cluster, make_directory, write_atomically
from esctl.errors import MachineRefused
from esctl.playbookerrors import LoadNotFound, LoadRuns
from esctl.ui.plain import Nothing
from esctl.ui.values import FilePath

STOP_TIMEOUT_S: Final = 5.0
"""From SIGTERM to SIGKILL: longer than the load waits for its last acks."""
LOOK_EVERY_S: Final = 0.02
_PLACE: Final = "loads"
_PROCESS: Final = "process.json"


class LoadData(TypedDict):
    """A load that was started, and its newest sample."""

    load: str
    directory: FilePath
    pid: int | None
    running: bool
    sample: ledger.SampleData | Nothing


@dataclass(frozen=True, slots=True)
class KnownLoad:
    """A load that was started, whether it runs or not."""

    name: str
    directory: Path
    process: pidfile.ProcessNote | None

    @property
    def running(self) -> bool:
        """Is its process there?"""
        return pidfile.live(self.process) is not None

    @property
    def sample(self) -> ledger.SampleData | Nothing:
        """The newest sample; empty before the first."""
        return ledger.last_sample(self.directory) or Nothing()

    def as_data(self) -> LoadData:
        """For the JSON answer."""
        return {
            "load": self.name,
            "directory": str(self.directory),
            "pid": self.process.pid if self.process is not None else None,
            "running": self.running,
            "sample": self.sample,
        }


def start(cluster: Cluster, plan: LoadPlan, directory: Path | None) -> KnownLoad:
    """Start it and return once it is ready; its files are new in `directory`, or in one of their own.

    Raises `LoadRuns`, `MachineRefused`, with what the load said of why it ended.
    """
    with state.locked(f"{cluster.name}/{_PLACE}", lambda _: None):  # two of one name would hide each other
        known = find(cluster, plan.name)
        if known is not None and known.running:
            raise LoadRuns(
                f"the load {plan.name} of {cluster.name} is under way since"
                f" {time.time() - ledger.read_plan(known.directory).begun:.0f} s; nothing was done",
                next_step=f"esctl bench stop {plan.name} --cluster {cluster.name}",
            )
        place = (directory or _notes(cluster) / f"{plan.name}-{secrets.token_hex(4)}").absolute()
        make_directory(place)
        ledger.write_plan(place, plan)
        write_atomically(_note(cluster, plan.name), json.dumps({"directory": str(place)}) + "\n")
        Starting("the load", "esctl.bench.background", str(place)).wait_ready()
    return at(place, plan.name)


def listed(cluster: Cluster) -> list[KnownLoad]:
    """Every load that was started on the cluster and has files still, the oldest name first."""
    names = sorted(path.stem for path in _notes(cluster).glob("*.json"))
    found = [known for name in names if (known := find(cluster, name)) is not None]
    return [known for known in found if known.directory.is_dir()]


def note_self(directory: Path) -> None:
    """The load's own process leaves the note, before it sends anything. Raises `MachineRefused`."""
    pidfile.take_note(directory / _PROCESS, os.getpid(), str(directory))


def find(cluster: Cluster, name: str) -> KnownLoad | None:
    """The load of that name; None when there never was one."""
    try:
        directory = Path(json.loads(_note(cluster, name).read_text(encoding="utf-8"))["directory"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return at(directory, name)


def at(directory: Path, name: str) -> KnownLoad:
    """The load whose files are there."""
    return KnownLoad(name, directory, pidfile.read_note(directory / _PROCESS))


def get(cluster: Cluster, name: str) -> KnownLoad:
    """The same; raises `LoadNotFound`."""
    known = find(cluster, name)
    if known is None:
        raise LoadNotFound(
            f"no load {name} was started on {cluster.name}",
            next_step=f"esctl bench start {name} --cluster {cluster.name}",
        )
    return known


def stop(load: KnownLoad) -> bool:
    """End it, if it runs, and wait until it has written its last sample; False when it was over already.

    Raises `MachineRefused` when its process does not end.
    """
    note = load.process
    if note is None or not pidfile.send(note, signal.SIGTERM):
        return False
    if not _ended(note, STOP_TIMEOUT_S):
        pidfile.send(note, signal.SIGKILL)
        if not _ended(note, STOP_TIMEOUT_S):
            raise MachineRefused(f"the load {load.name} does not end: process {note.pid}")
    return True


def _ended(note: pidfile.ProcessNote, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while pidfile.live(note) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)  # it is not our child, so nothing tells when it ends
    return True


def _notes(cluster: Cluster) -> Path:
    return cluster.directory / _PLACE


def _note(cluster: Cluster, name: str) -> Path:
    return _notes(cluster) / f"{name}.json"


async def new_plan(name: str, cluster: Cluster, rate: float, seconds: float, size: int) -> LoadPlan:
    """A plan whose events nobody has sent before, with a source for each partition that owns any."""
    from esctl.bench.generator import sources_of  # loaded late: they bring trio
    from esctl.bench.openloop import events_a_batch
    from esctl.query.ringsurvey import ring_of

    return LoadPlan(
        name,
        cluster.name,
        secrets.token_hex(8),
        rate,
        seconds,
        size,
        events_a_batch(rate),
        time.time(),
        sources_of(await ring_of(cluster)),
    )
