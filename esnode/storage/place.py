"""Where one node's data is kept while its storages come and go: a data directory, or a disk in memory.

Decides nothing: it opens storages, and carries out what `esnode/upkeep/repair.py` decides for a place that
cannot be trusted. Made by `__main__` and by the tests of whole nodes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from esnode.config import Config
from esnode.storage.directory import begin_rejoin, trust_copy
from esnode.storage.engines import open_storage
from esnode.storage.files import disk_errors
from esnode.storage.identity import new_name, read_marker
from esnode.storage.interface import Distrust, Identity, Storage
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.versioncheck import refuse_newer_directory


class Place(Protocol):
    """One node's data; at most one storage is open on it at a time."""

    def open(self) -> Storage:
        """Raises what `open_storage` says."""
        ...

    @property
    def rejoins(self) -> bool:
        """Whether what is here is not believed already."""
        ...

    def begin_rejoin(self, why: Distrust) -> str:
        """Note durably that what is here is not to be believed; what is damaged is put aside.

        Returns where it was put, or an empty text. Raises `DirectoryInUse`, `WrongDirectory`,
        `NewerFormat` (nothing is changed then), `StorageFailed`.
        """
        ...

    def trust_copy(self, *, older: bool = False) -> None:
        """This copy is the node's own from now on, and its latest, or the one that is left (`older`).

        Raises as `begin_rejoin`, `DamagedRecord`, and `DistrustedDirectory` where it is not that simple.
        """
        ...


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """A data directory."""

    engine: str
    path: Path
    identity: Identity

    def open(self) -> Storage:
        """See `Place.open`."""
        return open_storage(self.engine, self.path, self.identity)

    @property
    def rejoins(self) -> bool:
        """See `Place.rejoins`."""
        with disk_errors(f"look at {self.path}"):
            return read_marker(self.path) is not None

    def begin_rejoin(self, why: Distrust) -> str:
        """See `Place.begin_rejoin`."""
        refuse_newer_directory(self.engine, self.path)
        aside = begin_rejoin(self.path, self.engine, self.identity, why)
        return "" if aside is None else str(aside)

    def trust_copy(self, *, older: bool = False) -> None:
        """See `Place.trust_copy`."""
        refuse_newer_directory(self.engine, self.path)
        trust_copy(self.path, self.engine, self.identity, older=older)


@dataclass(frozen=True, slots=True)
class MemoryPlace:
    """A disk in memory."""

    disk: MemoryDisk
    identity: Identity

    def open(self) -> Storage:
        """See `Place.open`."""
        return MemoryStorage(self.disk, self.identity)

    @property
    def rejoins(self) -> bool:
        """See `Place.rejoins`."""
        return self.disk.distrust is not None

    def begin_rejoin(self, why: Distrust) -> str:
        """See `Place.begin_rejoin`."""
        self.disk.begin_rejoin(why)
        return ""

    def trust_copy(self, *, older: bool = False) -> None:
        """See `Place.trust_copy`."""
        self.disk.trust_copy(older=older)


def place_of(config: Config) -> Place:
    """Where a node with this configuration keeps its data.

    The engine `memory` begins empty with each process, under a new name: the other nodes notice.
    """
    members = tuple(sorted(member.id for member in config.members))
    identity = Identity(config.cluster, config.node_id, members, config.partition)
    if config.storage == "memory":
        return MemoryPlace(MemoryDisk(new_name()), identity)
    return DirectoryPlace(config.storage, config.data_dir, identity)
