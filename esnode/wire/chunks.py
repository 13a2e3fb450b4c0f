"""A snapshot cut into frames, and put together again; and the pieces of a frame that is large itself.

Decides how large a chunk is and which chunk may follow which. Never trusts a total or a position:
an assembler holds at most one snapshot, within `limits.MAX_SNAPSHOT_BYTES`, and allocates only what
has arrived. Called by the replication and the wire.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from esnode import limits
from esnode.errors import ProtocolError
from esnode.raft.messages import InstallSnapshot, Snapshot


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Part of an `InstallSnapshot`: `data` are the bytes from `position` of `total_bytes`.

    The chunk that reaches `total_bytes` is the last. A snapshot without data is one empty chunk.
    """

    term: int
    index: int
    snapshot_term: int
    next_offset: int
    log_time_ms: int
    total_bytes: int
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of a large frame: `data` are the bytes from `position` of its `total_bytes`, type and body.

    Other frames may come between two of them. Put together by `fragments.py`.
    """

    total_bytes: int
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FetchKeys:
    """Asks a peer for the sealed chunks of keys from `first_chunk` on, one for each digest."""

    first_chunk: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeyChunk:
    """A sealed chunk of keys; without `keys` where the sender does not have it any more."""

    number: int
    keys: bytes


def chunks(message: InstallSnapshot) -> Iterator[SnapshotChunk]:
    """The chunks of `message`, in the order in which they must be sent."""
    snapshot = message.snapshot
    total = len(snapshot.data)
    for position in range(0, max(total, 1), limits.SNAPSHOT_CHUNK_BYTES):
        yield SnapshotChunk(
            term=message.term,
            index=snapshot.index,
            snapshot_term=snapshot.term,
            next_offset=snapshot.next_offset,
            log_time_ms=snapshot.log_time_ms,
            total_bytes=total,
            position=position,
            data=bytes(snapshot.data[position : position + limits.SNAPSHOT_CHUNK_BYTES]),
        )


class SnapshotAssembler:
    """Puts the chunks of one connection together. One snapshot at a time; a new one starts at 0."""

    def __init__(self) -> None:
        self._first: SnapshotChunk | None = None
        self._data = bytearray()

    def add(self, chunk: SnapshotChunk) -> InstallSnapshot | None:
        """The whole message with its last chunk, None before; raises `ProtocolError`.

        A chunk at position 0 drops whatever was begun; any other must continue it exactly.
        """
        if chunk.position == 0:
            self._first = chunk
            self._data.clear()
        first = self._first
        if first is None or chunk.position != len(self._data) or _heading(chunk) != _heading(first):
            self._reset()
            raise ProtocolError(f"the snapshot chunk at byte {chunk.position} continues nothing")
        if chunk.total_bytes > limits.MAX_SNAPSHOT_BYTES:
            self._reset()
            raise ProtocolError(
                f"a snapshot of {chunk.total_bytes} bytes is over the limit of"
                f" {limits.MAX_SNAPSHOT_BYTES} (MAX_SNAPSHOT_BYTES)"
            )
        if len(self._data) + len(chunk.data) > chunk.total_bytes or not (chunk.data or not chunk.total_bytes):
            self._reset()
            raise ProtocolError(f"the snapshot chunk at byte {chunk.position} has a wrong size")
        self._data += chunk.data
        if len(self._data) < chunk.total_bytes:
            return None
        data = self._data  # no copy: of a large one it would stop the node for too long
        self._reset()
        snapshot = Snapshot(chunk.index, chunk.snapshot_term, chunk.next_offset, chunk.log_time_ms, data)
        return InstallSnapshot(chunk.term, snapshot)

    def _reset(self) -> None:
        self._first = None
        self._data = bytearray()


def _heading(chunk: SnapshotChunk) -> tuple[int, ...]:
    """What all chunks of one snapshot share."""
    return (
        chunk.term,
        chunk.index,
        chunk.snapshot_term,
        chunk.next_offset,
        chunk.log_time_ms,
        chunk.total_bytes,
    )
