"""Describes where a measurement was taken: the machine, the versions and the cluster.

What it cannot find out is None. Called by `esctl/commands/bench`.
"""

import os
import platform
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

from esnode import __version__

if TYPE_CHECKING:
    from esctl.clusters.state import Cluster

DURABILITY: Final = "fsync on a majority before the ack"


class MachineFingerprint(TypedDict):
    """A machine and the versions of what runs on it; null is not known."""

    machine: str
    cpu: str | None
    cpus: int | None
    memory_bytes: int | None
    system: str
    python: str
    sqlite: str
    eventstreamcore: str


class MachineData(MachineFingerprint):
    """A machine, and how busy it was before the measurement; null is not known."""

    load_average: float | None


class ClusterData(TypedDict):
    """The cluster that was measured; its timers where they are part of what is measured, and its number of
    partitions where there are several."""

    nodes: int
    storage: str
    durability: str
    heartbeat_ms: NotRequired[int]
    election_ms: NotRequired[int]
    election_jitter_ms: NotRequired[int]
    partitions: NotRequired[int]


def fingerprint() -> MachineFingerprint:
    """The machine and the versions of what runs on it; two results with another one are not comparable."""
    return {
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "eventstreamcore": __version__,
    }


def surroundings() -> MachineData:
    """The fingerprint, and how busy the machine is before the measurement."""
    return {**fingerprint(), "load_average": load_average()}


def cluster_facts(cluster: "Cluster") -> ClusterData:
    """What was measured."""
    facts: ClusterData = {
        "nodes": len(cluster.nodes), "storage": cluster.storage, "durability": DURABILITY
    }  # fmt: skip
    if cluster.partitions > 1:
        facts["partitions"] = cluster.partitions
    return facts


def load_average() -> float | None:
    """Processes that wanted a processor in the last minute, on average."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_model() -> str | None:
    """What /proc/cpuinfo calls the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else None


def _memory_bytes() -> int | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
