"""What a client's session may use of its node.

Decides nothing. Made by `ingest.py`, one for all sessions.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from esnode import limits
from esnode.faults import Answer as FaultAnswer
from esnode.faults import not_allowed
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.loop.waiting import WaitingRequests
from esnode.messages import (
    CheckpointTaken,
    CutPrefix,
    Entries,
    FetchSnapshot,
    LeaderIs,
    MovingKeys,
    PrefixCutTo,
    ReadEntries,
    ReadMovingKeys,
    SnapshotPiece,
    TakeCheckpoint,
)
from esnode.raft.messages import NodeId
from esnode.server.appendlatency import AppendLatency
from esnode.server.batchcheck import BatchCheck
from esnode.server.reading import Reader
from esnode.transport.clientmemory import ClientMemory
from esnode.transport.connectionslots import Openings


class AdminHandler(Protocol):
    """Carries out the requests of an operator; `AdminService` in `adminservice.py` does."""

    async def entries(self, request: ReadEntries) -> Entries:
        """Some of them, as far as they are applied."""
        ...

    async def snapshot(
        self, request: FetchSnapshot, send: Callable[[SnapshotPiece], Awaitable[None]]
    ) -> None:
        """What the cut prefix meant, in pieces."""
        ...

    async def cut(self, request: CutPrefix) -> PrefixCutTo:
        """Let the prefix go."""
        ...

    async def checkpoint(self, request: TakeCheckpoint) -> CheckpointTaken:
        """Take a checkpoint."""
        ...

    async def moving_keys(self, request: ReadMovingKeys) -> MovingKeys:
        """Live keys that another partition is to own."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What a session may use of its node."""

    inbox: Inbox
    view: View
    waiting: WaitingRequests
    reader: Reader
    members: Sequence[NodeId]
    leader_news: Callable[[], LeaderIs]
    status: Callable[[], Mapping[str, Any]]
    explain: Callable[[bytes], tuple[int, int]]
    faults: FaultAnswer = not_allowed
    admin: AdminHandler | None = None
    memory: ClientMemory = field(default_factory=ClientMemory)
    openings: Openings = field(
        default_factory=lambda: Openings(limits.PRODUCERS_OPENED_AT_ONCE, limits.PRODUCERS_OPENED_PER_S)
    )
    latency: AppendLatency = field(default_factory=AppendLatency)
    check: BatchCheck = field(default_factory=BatchCheck)
    cold: Callable[[bytes], Sequence[Callable[[], object]]] = lambda keys: ()
    """Reads that a decision on these keys needs from a disk; they belong into a thread."""
    restored: bool = False
    """Whether this log was restored from a backup: offsets of the old log, past its end, mean nothing."""
