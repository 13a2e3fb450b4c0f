"""What every system under measurement can do, esnode included, and what must be said with its figures.

A driver starts three nodes on loopback in a directory, says which process leads, and opens a client that
takes batches as `esnode.client` does. It never measures: that is `rounds.py`.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from esctl.events.producer import Appender

NODES: Final = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """What one must know to compare a system's figures with those of another."""

    system: str
    durable: str
    """Is an event on the disks of a majority before it is acked?"""
    client: str
    """Who speaks to the servers, and how one batch travels."""
    timers: str
    """After which time the cluster suspects a leader."""
    dialling: str
    """Where this client dials first and next; its own timers where they are not `Habits`."""


@dataclass(frozen=True, slots=True)
class Habits:
    """The timers of the clients here, the same for every system that has no client of its own."""

    patience_s: float
    """An event that waits longer than this for its ack is sent again, on a new connection."""
    timeout_s: float = 60.0
    """For so long an append is tried."""
    redial_s: float = 0.02
    """Between two attempts to connect that brought nothing."""
    dial_timeout_s: float = 1.0
    again_s: float = 0.05
    """When an event that a server refused for now is sent again."""

    def __str__(self) -> str:
        return (
            "leave a connection that is closed at once and one that owes an ack after"
            f" {self.patience_s * 1000:g} ms, dial again after {self.redial_s * 1000:g} ms, and send what was"
            f" refused for now again after {self.again_s * 1000:g} ms"
        )


THROUGHPUT: Final = Habits(patience_s=30.0)
"""Under overload a client that sends again makes it worse; no run is to measure that."""


class Peer(Protocol):
    """One system. Between `start` and `stop` three nodes run; both may be called again."""

    @property
    def version(self) -> str:
        """Of the server; raises `MachineRefused` when its binary is not here."""

    @property
    def facts(self) -> Facts:
        """What to say with its figures."""

    async def start(self, directory: Path) -> None:
        """Start three nodes that keep their data below `directory`, and wait until they take events.

        Raises `MachineRefused`, `NodeFailedToStart`, `NodeNotReady`.
        """

    async def wait_whole(self) -> None:
        """Return when every node follows, so that the loss of one is survived; raises as `start` does."""

    async def stop(self) -> None:
        """End every process that was started; does nothing when there is none."""

    def client(self, leader: int, habits: Habits) -> AbstractAsyncContextManager[Appender]:
        """A client whose `append_batch` returns once the whole batch is acked; it dials `leader` first."""

    async def leader(self) -> int:
        """The number of the node that leads, from 0 on."""

    def pids(self) -> Sequence[int]:
        """The processes of the nodes, in their order."""
