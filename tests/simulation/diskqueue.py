"""The way of a simulated process to its disk: as `esnode/storage/worker.py`, with a schedule for a thread.

Group commit, calls in between, callbacks in order; a sync takes its time, and may never end. Used by the
hosts of tier A.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from esnode import limits
from esnode.errors import DamagedRecord, StorageFailed
from esnode.raft.entry import Entry
from esnode.raft.messages import Write
from esnode.storage.memory import MemoryStorage

from .schedule import SECOND

DISK_SAYS: Final = {
    "failed_sync": "did not sync",
    "full_disk": "no space",
    "hung_disk": "nothing became durable",
}

if TYPE_CHECKING:
    from .host import Host

T = TypeVar("T")

DISK_SILENCE_NS: Final = int(limits.DISK_SILENCE_S * SECOND)


class DiskQueue:
    """As `esnode/storage/worker.py`: group commit, calls in between, callbacks in order."""

    def __init__(self, host: "Host", storage: MemoryStorage) -> None:
        self.storage = storage
        self._host = host
        self._life = host.life
        self._submitted: deque[tuple[Write | None, Callable[[], None]]] = deque()
        self._calls: deque[tuple[int, Callable[[], None]]] = deque()
        """Each with how many writes were submitted before it: it sees them all."""
        self._submitted_writes = 0
        self._written = 0
        self._busy = False

    def submit(self, write: Write | None, on_durable: Callable[[], None]) -> None:
        """`StorageWorker.submit`."""
        if write is None and not self._submitted:
            on_durable()
            return
        if write is not None:
            self._host.world.invariants.wrote(self._host, write)
            self._submitted_writes += 1
        self._submitted.append((write, on_durable))
        self._begin_soon()

    def call(self, fn: Callable[[], None]) -> None:
        """`StorageWorker.call`."""
        self._calls.append((self._submitted_writes, fn))
        self._begin_soon()

    async def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        """Never awaited: the turn's fetches are served by `Host`."""
        raise NotImplementedError

    async def aside(self, fn: Callable[[], T]) -> T:
        """Never awaited: a turn of `Host` reads a snapshot at once."""
        raise NotImplementedError

    def _begin_soon(self) -> None:
        if not self._busy:
            self._busy = True
            self._host.world.schedule.after(0, self._guarded, self._begin)

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._life != self._host.life or not self._host.up:
            return
        if self._host.paused:
            self._host.defer(partial(self._guarded, step))
        else:
            self._host.guard(step)

    def _begin(self) -> None:
        host = self._host
        writes = [write for write, _ in self._submitted if write is not None]
        if not writes:
            self._finish(0)
            return
        host.passes("writing")
        self.storage.write_unsynced(writes)
        host.passes("syncing")
        took_ns = host.sync_time_ns()
        if took_ns > DISK_SILENCE_NS:
            host.world.schedule.after(DISK_SILENCE_NS, self._guarded, _hang)
        else:
            host.world.schedule.after(took_ns, self._guarded, partial(self._synced, writes))

    def _synced(self, writes: list[Write]) -> None:
        self.storage.sync()
        for write in writes:
            self._host.world.invariants.persisted(self._host, write)
        self._host.passes("synced")
        self._finish(len(writes))

    def _finish(self, written: int) -> None:
        """Call back for so many writes and what waits behind them; then the calls; then the next round."""
        self._written += written
        while self._submitted and (written or self._submitted[0][0] is None):
            write, on_durable = self._submitted.popleft()
            written -= write is not None
            on_durable()
        due = [call for needed, call in self._calls if needed <= self._written]
        for call in due:
            self._calls.popleft()
            call()
        self._busy = False
        if self._submitted or self._calls:
            self._begin_soon()


def _hang() -> None:
    raise StorageFailed(f"nothing became durable for {limits.DISK_SILENCE_S:g} s")


def cause_of(error: StorageFailed | DamagedRecord) -> str:
    """What has really hit, by what the disk said."""
    if isinstance(error, DamagedRecord):
        return "node.ended by DamagedRecord"
    return next(f"fault.{kind}" for kind, said in DISK_SAYS.items() if said in str(error))
