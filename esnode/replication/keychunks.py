"""Chunks of keys between nodes: gives those that a peer asks for, fetches those that a snapshot names.

A snapshot comes as an outline. What of its chunks is on disk already is not asked for again, whoever wrote
it: a checkpoint, an earlier snapshot, a fetch that broke off. Every chunk is checked against its digest, on
its way out and on its way in. Memory holds a few at a time, however large the window is. Decides nothing
about Raft. Called by `replication.py`, the links and the driver.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import trio

from esnode import limits
from esnode.apply import sealed_in
from esnode.dedup.keychunk import in_runs
from esnode.dedup.keywindow import SealedChunks, is_chunk, missing_chunks
from esnode.errors import DamagedRecord, ProtocolError
from esnode.raft.messages import NodeId, Snapshot
from esnode.storage.interface import Storage
from esnode.wire.chunks import FetchKeys, KeyChunk

log = logging.getLogger(__name__)

T = TypeVar("T")
Ask = Callable[[FetchKeys], None]
"""Sends it to the peer, or drops it."""


class Disk(Protocol):
    """The way to the disk; `storage/worker.py` has it."""

    @property
    def storage(self) -> Storage:
        """For `aside`."""
        ...

    async def aside(self, fn: Callable[[], T]) -> T:
        """Run what takes long beside the event loop."""
        ...


class _Run:
    """Chunks that one peer was asked for, and what has come of them."""

    def __init__(self, peer: NodeId, request: FetchKeys) -> None:
        self.peer = peer
        self.arrived: list[bytes] = []
        self.is_over = False
        """No more of it will come."""
        self.news = trio.Event()
        self._request = request

    def take(self, chunk: KeyChunk) -> None:
        """Raises `ProtocolError` for keys that are not the ones that were asked for."""
        place = chunk.number - self._request.first_chunk
        if self.is_over or place != len(self.arrived):
            return  # of an earlier request
        if not chunk.keys:
            self.end()  # the peer has cut its log again: a newer snapshot is there
            return
        if not is_chunk(chunk.keys, self._request.digests[place]):
            self.end()
            raise ProtocolError(f"chunk {chunk.number} of the keys is not the one that its digest names")
        self.arrived.append(chunk.keys)
        self.is_over = len(self.arrived) == len(self._request.digests)
        self._tell()

    def end(self) -> None:
        """The peer has no more, or is gone."""
        self.is_over = True
        self._tell()

    @property
    def is_whole(self) -> bool:
        """All that was asked for is here."""
        return len(self.arrived) == len(self._request.digests)

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


class KeyChunks:
    """One node's chunks of keys, for its peers and from them."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._run: _Run | None = None

    # --- what peers ask for ---

    async def read(self, number: int, digest: bytes) -> bytes:
        """The chunk of this number and digest; empty where it is not here any more.

        Raises `DamagedRecord` where the stored snapshot needs it and it is not what was written.
        """
        return await self._disk.aside(partial(_read, self._disk.storage, number, digest))

    # --- what is asked of peers ---

    async def fetch(self, peer: NodeId, snapshot: Snapshot, ask: Ask) -> bool:
        """Whether all chunks that `snapshot` names are on disk now. One fetch at a time.

        False when `peer` has no more of them, or is silent; what has come by then stays.
        """
        try:
            sealed = sealed_in(snapshot.data)
        except DamagedRecord:
            return True  # whoever loads it says so
        missing = await self._disk.aside(partial(missing_chunks, sealed, self._disk.storage))
        log.info("keys_missing", extra={"peer": peer, "chunks": len(sealed.digests), "missing": len(missing)})
        for run in in_runs(missing, limits.FETCHED_CHUNKS):
            if not await self._fetch_run(peer, _request(sealed, run), ask):
                return False
        return True

    def take(self, peer: NodeId, chunk: KeyChunk) -> None:
        """A chunk has come from `peer`; raises `ProtocolError`."""
        if self._run is not None and self._run.peer == peer:
            self._run.take(chunk)

    def lost(self, peer: NodeId) -> None:
        """Nothing more comes from `peer`."""
        if self._run is not None and self._run.peer == peer:
            self._run.end()

    async def _fetch_run(self, peer: NodeId, request: FetchKeys, ask: Ask) -> bool:
        self._run = run = _Run(peer, request)
        ask(request)
        while not run.is_over:
            with trio.move_on_after(limits.KEYS_SILENCE_S) as silence:
                await run.news.wait()
            if silence.cancelled_caught:
                run.end()
        self._run = None
        if run.arrived:
            storage = self._disk.storage
            await self._disk.aside(partial(storage.keep_keys, request.first_chunk, run.arrived))
        return run.is_whole


def _request(sealed: SealedChunks, run: range) -> FetchKeys:
    begin, end = run.start - sealed.first_chunk, run.stop - sealed.first_chunk
    return FetchKeys(run.start, tuple(sealed.digests[begin:end]))


def _read(storage: Storage, number: int, digest: bytes) -> bytes:
    if (keys := _stored(storage, number)) and is_chunk(keys, digest):
        return keys
    snapshot = storage.load_snapshot()
    if snapshot is not None:
        sealed = sealed_in(snapshot.data)
        place = number - sealed.first_chunk
        if 0 <= place < len(sealed.digests) and sealed.digests[place] == digest:
            raise DamagedRecord(f"chunk {number} of the keys is not the one that the snapshot names")
    return b""


def _stored(storage: Storage, number: int) -> bytes:
    try:
        return next(iter(storage.kept_keys(number, number + 1)))
    except DamagedRecord:
        return b""
