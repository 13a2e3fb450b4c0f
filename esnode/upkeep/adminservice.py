"""Serves operators' requests: entries and snapshot for a backup, cuts, checkpoints; and moving keys.

Returns only applied entries, as the disk has them: nothing is encoded again. Does not decide what may be cut:
the operator's tool checks the other nodes, which this one does not know. A task of `node.py` finishes a cut
or a checkpoint that was begun, even if its client has left. Called by the sessions.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import trio

from esnode import limits
from esnode.apply import whole_bytes, whole_state
from esnode.dedup.keytable import KeyTable
from esnode.dedup.keywindow import CHUNK_KEYS
from esnode.dedup.movingkeys import KeyRange
from esnode.errors import Busy, OffsetOutOfRange
from esnode.loop.view import View
from esnode.messages import (
    CheckpointTaken,
    CutPrefix,
    Entries,
    FetchSnapshot,
    MovingKeys,
    PrefixCutTo,
    ReadEntries,
    ReadMovingKeys,
    SnapshotPiece,
    TakeCheckpoint,
)
from esnode.raft.entry import Entry
from esnode.ring import FIRST_VERSION, Ring
from esnode.storage.interface import resized
from esnode.storage.worker import StorageWorker
from esnode.upkeep.checkpointer import Checkpointer
from esnode.upkeep.retention import PrefixCutter

T = TypeVar("T")


class AdminService:
    """One node's log and state, for operators."""

    def __init__(
        self,
        view: View,
        worker: StorageWorker,
        cutter: PrefixCutter,
        checkpointer: Checkpointer,
        keys: KeyTable,
    ) -> None:
        self._view = view
        self._worker = worker
        self._cutter = cutter
        self._checkpointer = checkpointer
        self._keys = keys
        self._snapshots_given = 0
        self._hand_in, self._handed_in = trio.open_memory_channel[Callable[[], Awaitable[None]]](
            limits.MAX_ADMIN_JOBS
        )

    async def run(self) -> None:
        """Carry out cuts and checkpoints, one at a time, for ever. Raises what the disk does."""
        while True:
            job = await self._handed_in.receive()
            await job()

    async def entries(self, request: ReadEntries) -> Entries:
        """Entries from `first_index` on; raises `OffsetOutOfRange` where the prefix is cut beyond it."""
        applied_index, storage = self._view.applied_index, self._worker.storage
        max_bytes = min(request.max_bytes, limits.MAX_READ_BYTES)

        def look() -> tuple[list[Entry], int]:
            page = storage.read(request.first_index, applied_index, max_bytes)
            return page, storage.recover().prefix_index

        page, prefix_index = await self._worker.call(look)
        if request.first_index <= prefix_index:
            raise OffsetOutOfRange(f"the entries up to index {prefix_index} are cut away on this node")
        records = [entry.record for entry in page]
        return Entries(request.request_id, prefix_index, applied_index, records)

    async def snapshot(
        self, request: FetchSnapshot, send: Callable[[SnapshotPiece], Awaitable[None]]
    ) -> None:
        """The stored snapshot with all keys, as it was when this began; one empty piece where nothing is cut
        away. Raises `Busy`."""
        with self._giving_a_snapshot():
            await self._give(request, send)

    async def cut(self, request: CutPrefix) -> PrefixCutTo:
        """Cut whole entries only, and none that is not applied. Raises `Busy`."""
        prefix_index = await self._seen_through(lambda: self._cutter.cut_before(request.before_offset))
        return PrefixCutTo(request.request_id, prefix_index, self._view.first_offset)

    async def checkpoint(self, request: TakeCheckpoint) -> CheckpointTaken:
        """Take a checkpoint of the state as it is by then. Raises `Busy`."""
        checkpoint = await self._seen_through(lambda: self._checkpointer.take(self._worker))
        return CheckpointTaken(request.request_id, checkpoint.index)

    async def moving_keys(self, request: ReadMovingKeys) -> MovingKeys:
        """Applied keys only: these are final."""
        floor = self._keys.first_offset
        with self._worker.storage.holding_keys(floor // CHUNK_KEYS):
            keys = KeyRange.of(self._keys.window, request.from_offset)
            ring = Ring(FIRST_VERSION, range(request.partitions))
            moving, end = await self._worker.aside(partial(keys.moving, ring, request.partition))
        return MovingKeys(request.request_id, end, floor, moving)

    async def _seen_through(self, work: Callable[[], Awaitable[T]]) -> T:
        """Let `run` do it. A session ends when its client leaves: a cut that ends in the middle would be
        one that the disk has made, and of which the core was never told."""
        results: list[T] = []
        done = trio.Event()

        async def job() -> None:
            results.append(await work())
            done.set()

        try:
            self._hand_in.send_nowait(job)
        except trio.WouldBlock:
            raise Busy(f"{limits.MAX_ADMIN_JOBS} cuts and checkpoints wait already") from None
        await done.wait()
        return results[0]

    @contextmanager
    def _giving_a_snapshot(self) -> Iterator[None]:
        """Each holds the files of one, as long as its client takes to read it."""
        if self._snapshots_given >= limits.MAX_SNAPSHOTS_GIVEN:
            raise Busy(f"{self._snapshots_given} others are being given the snapshot")
        self._snapshots_given += 1
        try:
            with self._worker.storage.holding_keys(0):  # after a cut meanwhile they would go
                yield
        finally:
            self._snapshots_given -= 1

    async def _give(self, request: FetchSnapshot, send: Callable[[SnapshotPiece], Awaitable[None]]) -> None:
        storage = self._worker.storage
        snapshot = await self._worker.aside(storage.load_snapshot)
        if snapshot is None:
            await send(SnapshotPiece(request.request_id, 0, 0, 0, 0, 0, 0, b""))
            return
        place = (snapshot.index, snapshot.term, snapshot.next_offset, snapshot.log_time_ms)
        total_bytes, position = whole_bytes(snapshot.data), 0
        pieces = resized(whole_state(snapshot.data, storage), limits.SNAPSHOT_CHUNK_BYTES)
        while not position or position < total_bytes:
            data = await self._worker.aside(partial(next, pieces, b""))
            await send(SnapshotPiece(request.request_id, *place, total_bytes, position, data))
            position += len(data)
            if not data:
                return
