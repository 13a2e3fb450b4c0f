"""Where leases are kept that no node can end: a file each, and a watchdog that goes by it.

The file is there before the watchdog, and the watchdog before the fault; once the file is gone the fault has
ended, whoever ended it. Decides nothing about what a fault does. Called by `leases.py` for nodes that are
stopped, and by `linkcuts.py` for links that are cut.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from esctl.clusters import state
from esctl.clusters.detached import Starting
from esctl.clusters.state import Cluster
from esctl.errors import MachineRefused


class Lease(Protocol):
    """A dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str:
        """The fault's id, which is new for each."""


L = TypeVar("L", bound=Lease)


class LeaseStore(Generic[L]):
    """The leases of one sort, in the directory `place` of a cluster; `read` makes one of what was written."""

    def __init__(self, place: str, read: Callable[[Mapping[str, Any]], L]) -> None:
        self._place = place
        self._read = read

    def begin(self, cluster: Cluster, leases: Sequence[L]) -> None:
        """Keep them and start a watchdog for each; all watchdogs are there when it returns.

        Raises `MachineRefused`; nothing is kept then.
        """
        try:
            with ExitStack() as stack:
                started: list[Starting] = []
                for lease in leases:
                    self.put(cluster, lease)
                    started.append(Starting("it", "esctl.faults.watchdog", cluster.name, lease.id))
                    stack.callback(started[-1].abandon)
                for one in started:
                    one.wait_ready()
        except (OSError, MachineRefused) as error:
            for lease in leases:
                self.remove(cluster, lease.id)
            raise MachineRefused(f"no watchdog could be started, so nothing was done: {error}") from error

    def put(self, cluster: Cluster, lease: L) -> None:
        """Keep it as it is now. Raises `MachineRefused`."""
        # What came later is left out while it is not used: older versions read the rest.
        fields = {name: value for name, value in asdict(lease).items() if value is not None}
        state.write_atomically(self._path(cluster, lease.id), json.dumps(fields) + "\n")

    def get(self, cluster: Cluster, fault: str) -> L | None:
        """The lease of that fault; None when it has ended."""
        with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            fields: dict[str, Any] = json.loads(self._path(cluster, fault).read_text(encoding="utf-8"))
            return self._read(fields)
        return None

    def all(self, cluster: Cluster) -> list[L]:
        """Every lease that is kept, the first id first."""
        names = [path.stem for path in sorted((cluster.directory / self._place).glob("*.json"))]
        return [lease for lease in (self.get(cluster, name) for name in names) if lease is not None]

    def has(self, cluster: Cluster, fault: str) -> bool:
        """Is it kept still?"""
        return self._path(cluster, fault).exists()

    def remove(self, cluster: Cluster, fault: str) -> None:
        """Keep it no longer: the fault has ended."""
        self._path(cluster, fault).unlink(missing_ok=True)

    def _path(self, cluster: Cluster, fault: str) -> Path:
        return cluster.directory / self._place / f"{fault}.json"
