"""What has been broken on purpose in this cluster's life: one line a fault, kept by `esctl` beside its notes.

The nodes' logs have what each fault struck; only `esctl` knows which shape a partition had, and what was
done to processes and files. Never decides anything. Written by what strikes, read by `fault coverage`.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from esctl.clusters import jsonlines
from esctl.clusters.state import Cluster
from esctl.errors import MachineRefused

FILE: Final = "faults.jsonl"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One fault."""

    time: float
    """Seconds since 1970."""
    id: str
    ways: Sequence[str]
    """In the words of `coverage.WAYS`."""
    nodes: Sequence[int]

    @property
    def text(self) -> str:
        """When, as the nodes' logs write it."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec="microseconds")


def note(cluster: Cluster, fault: str, ways: Sequence[str], nodes: Sequence[int]) -> None:
    """Append a line; raises `MachineRefused`."""
    entry = LedgerEntry(round(time.time(), 3), fault, list(ways), list(nodes))
    try:
        descriptor = os.open(_path(cluster), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            jsonlines.append(descriptor, asdict(entry))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise MachineRefused(f"{_path(cluster)} cannot be written: {error.strerror}") from error


def read(cluster: Cluster) -> list[LedgerEntry]:
    """Every line that is whole, in the order of time."""
    found = []
    for line in jsonlines.read(_path(cluster)).splitlines():
        with suppress(ValueError, TypeError):  # one that was cut off
            found.append(LedgerEntry(**json.loads(line)))
    return found


def _path(cluster: Cluster) -> Path:
    return cluster.directory / FILE
