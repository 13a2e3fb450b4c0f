"""What the node does for whoever looks after its data: entries and snapshot for a backup, cuts, savepoints.

Gives only what is applied, as the disk has it: nothing is encoded anew. Decides nothing about what may be
cut: the operator's tool looks at the other nodes, this one knows only itself. Told by the sessions.
"""

from collections.abc import Awaitable, Callable

from esnode import limits
from esnode.errors import OffsetOutOfRange
from esnode.keeper import SavepointKeeper
from esnode.messages import (
    CutPrefix,
    Entries,
    FetchSnapshot,
    KeepSavepoint,
    PrefixCutTo,
    ReadEntries,
    SavepointKept,
    SnapshotPiece,
)
from esnode.retention import PrefixCutter
from esnode.storage.worker import StorageWorker
from esnode.view import View


class Custody:
    """One node's log and state, for operators."""

    def __init__(
        self, view: View, worker: StorageWorker, cutter: PrefixCutter, keeper: SavepointKeeper
    ) -> None:
        self._view = view
        self._worker = worker
        self._cutter = cutter
        self._keeper = keeper

    async def entries(self, request: ReadEntries) -> Entries:
        """Entries from `first_index` on; raises `OffsetOutOfRange` where the prefix is cut beyond it."""
        applied_index = self._view.applied_index
        max_bytes = min(request.max_bytes, limits.MAX_READ_BYTES)
        page = await self._worker.read(request.first_index, applied_index, max_bytes)
        prefix_index = (await self._worker.call(self._worker.storage.recover)).prefix_index
        if request.first_index <= prefix_index and not page:
            raise OffsetOutOfRange(f"the entries up to index {prefix_index} are cut away on this node")
        records = [entry.record for entry in page]
        return Entries(request.request_id, prefix_index, applied_index, records)

    async def snapshot(
        self, request: FetchSnapshot, send: Callable[[SnapshotPiece], Awaitable[None]]
    ) -> None:
        """The stored snapshot, read once; one empty piece where nothing is cut away."""
        snapshot = await self._worker.aside(self._worker.storage.load_snapshot)
        if snapshot is None:
            await send(SnapshotPiece(request.request_id, 0, 0, 0, 0, 0, 0, b""))
            return
        place = (snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)
        total_bytes, step = len(snapshot.data), limits.SNAPSHOT_CHUNK_BYTES
        for position in range(0, max(total_bytes, 1), step):
            data = bytes(snapshot.data[position : position + step])
            await send(SnapshotPiece(request.request_id, *place, total_bytes, position, data))

    async def cut(self, request: CutPrefix) -> PrefixCutTo:
        """Cut whole entries only, and none that is not applied."""
        prefix_index = await self._cutter.cut_before(request.before_offset)
        return PrefixCutTo(request.request_id, prefix_index, self._view.first_offset)

    async def keep(self, request: KeepSavepoint) -> SavepointKept:
        """Keep a savepoint of the state as it is now."""
        savepoint = await self._keeper.keep(self._worker)
        return SavepointKept(request.request_id, savepoint.index)
