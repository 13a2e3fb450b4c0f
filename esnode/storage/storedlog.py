"""The storage contract, kept once for every engine: what an engine stores, checked and put in shape.

Decides what damage is, when everything is refused (after the first failed write), and in which order
the snapshot's file, the engine's commit and the durable mark are written. Never opens a file itself:
an `Engine` holds the rows, a `Home` the rest. Called by the storage worker and at start.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from esnode import limits
from esnode.apply import Checkpoint
from esnode.dedup.keychunk import ChunkSource
from esnode.dedup.keysegment import IndexSource
from esnode.errors import DamagedRecord, FilesGone, OlderDirectory, StorageFailed
from esnode.raft.entry import Entry
from esnode.raft.messages import NodeId, Snapshot, Write
from esnode.storage.checkpoints import Checkpoints
from esnode.storage.interface import Distrust, Identity, Recovered
from esnode.storage.logoutline import (
    Change,
    Contents,
    Outline,
    Row,
    Standing,
    check_entry,
    check_row,
    fold,
    fold_prefix_cut,
    outline_of,
)


class Engine(Protocol):
    """Rows by index, and two small records. Raises `StorageFailed` and `DamagedRecord` only."""

    def contents(self) -> Contents:
        """What is there."""
        ...

    def commit(self, change: Change) -> None:
        """Store `change` durably, all or nothing; the snapshot is not the engine's."""
        ...

    def row(self, index: int) -> Row | None:
        """One row."""
        ...

    def records(self, first_index: int, last_index: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Index and record of the rows there are, in order: at most `max_bytes`, but one if it is there."""
        ...

    def last_at_offset(self, offset: int, first_index: int, last_index: int) -> int:
        """The last of these rows whose base offset is at most `offset`; `first_index - 1` when none is."""
        ...

    def tend(self) -> bool:
        """`Storage.tend`."""
        ...

    def check_files(self) -> None:
        """Raise `FilesGone` where its own files are no longer those that it opened."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class Home(Protocol):
    """What surrounds an engine: the lock, the names, the snapshot, and the mark of what was durable."""

    @property
    def directory(self) -> bytes:
        """`Storage.directory`."""
        ...

    @property
    def peers(self) -> Mapping[NodeId, bytes]:
        """`Storage.peer_directories`."""
        ...

    def remember_peer(self, peer: NodeId, directory: bytes) -> None:
        """`Storage.remember_peer`."""
        ...

    @property
    def reached(self) -> Mapping[NodeId, int]:
        """`Storage.peers_reached`."""
        ...

    def remember_reached(self, reached: Mapping[NodeId, int]) -> None:
        """`Storage.remember_reached`."""
        ...

    @property
    def distrust(self) -> Distrust | None:
        """What the marker says: why this disk is not to be believed; None when it is."""
        ...

    def end_rejoin(self) -> None:
        """Remove the marker, durably."""
        ...

    @property
    def is_new(self) -> bool:
        """Nothing was ever stored here."""
        ...

    @property
    def mark(self) -> int:
        """The number of a write call that was durable: not always the last, never one that was not."""
        ...

    @property
    def witnessed(self) -> int:
        """The number of a write call that was durable, as something says that no restore in place undoes."""
        ...

    def advance(self, number: int) -> None:
        """Write call `number` is durable."""
        ...

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store it durably beside the one in use."""
        ...

    def load_snapshot(self, index: int, term: int) -> Snapshot:
        """Read it back; raises `DamagedRecord`."""
        ...

    def drop_snapshots(self, index: int, term: int) -> None:
        """Forget all snapshots but this one."""
        ...

    def sync_mark(self) -> None:
        """Make the mark durable, beside the log: it only tells a torn end from damage."""
        ...

    def check_files(self, index: int, term: int) -> None:
        """Raise `FilesGone` where its files, or that snapshot, are no longer those that it opened."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """Where they are kept. Writing there raises `StorageFailed` where the disk refuses."""
        ...

    def close(self) -> None:
        """Give up the lock."""
        ...


class StoredLog:
    """A `Storage`: one engine and its home."""

    def __init__(self, identity: Identity, home: Home, engine: Engine) -> None:
        """Look at what is there, all of it durable.

        Raises `DamagedRecord` and `OlderDirectory`, now and at every later open.
        """
        self._identity = identity
        self._home = home
        self._engine = engine
        self._failure: StorageFailed | FilesGone | None = None
        self._closed = False
        self._one_at_a_time = threading.Lock()
        self._outline = self._look()
        if self._outline.number > home.mark:
            home.advance(self._outline.number)  # a killed process did not come to it
        home.drop_snapshots(self._outline.prefix.index, self._outline.prefix.term)

    @property
    def identity(self) -> Identity:
        """Whose data this is."""
        return self._identity

    @property
    def directory(self) -> bytes:
        """`Storage.directory`."""
        return self._home.directory

    @property
    def peer_directories(self) -> Mapping[NodeId, bytes]:
        """`Storage.peer_directories`."""
        return self._home.peers

    def remember_peer(self, peer: NodeId, directory: bytes) -> None:
        """`Storage.remember_peer`."""
        with self._at_work():
            self._home.remember_peer(peer, directory)

    @property
    def peers_reached(self) -> Mapping[NodeId, int]:
        """`Storage.peers_reached`."""
        return self._home.reached

    def remember_reached(self, reached: Mapping[NodeId, int]) -> None:
        """`Storage.remember_reached`."""
        with self._noticing():
            self._home.remember_reached(reached)

    @property
    def last_index(self) -> int:
        """`Storage.last_index`."""
        return self._outline.last_index

    @property
    def distrust(self) -> Distrust | None:
        """`Storage.distrust`."""
        return self._home.distrust

    def recover(self) -> Recovered:
        """`Storage.recover`."""
        with self._at_work():
            now = self._outline
            return Recovered(
                hard_state=now.hard_state,
                commit=min(max(now.commit, now.prefix.index), now.last_index),
                prefix_index=now.prefix.index,
                prefix_term=now.prefix.term,
                last_index=now.last_index,
                terms=now.terms,
                prefix_offset=now.prefix.next_offset,
                rejoining=self._home.distrust is not None,
            )

    def write(self, writes: Sequence[Write]) -> None:
        """`Storage.write`."""
        with self._at_work():
            self._store(*fold(self._outline, writes, self._place), self._commit)
            if self._home.distrust is not None and any(write.rejoined for write in writes):
                self._home.end_rejoin()

    def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        """`Storage.read`."""
        with self._at_work():
            last_index = min(last_index, self._outline.last_index)
            if not self._outline.prefix.index < first_index <= last_index:
                return []
            found = self._engine.records(first_index, last_index, max_bytes)
            entries = [check_entry(first_index + at, *each) for at, each in enumerate(found)]
            if not entries:
                raise DamagedRecord(f"entry {first_index} is missing in the middle of the log")
            return entries

    def index_of_offset(self, offset: int) -> int:
        """`Storage.index_of_offset`."""
        with self._at_work():
            first_index, last_index = self._outline.prefix.index + 1, self._outline.last_index
            index = self._engine.last_at_offset(offset, first_index, last_index)
            if index < first_index:
                if first_index <= last_index and self._entry(first_index).base_offset <= offset:
                    raise DamagedRecord(f"the search for offset {offset} missed entry {first_index}")
                return first_index
            entry = self._entry(index)
            if entry.base_offset > offset:
                raise DamagedRecord(f"entry {index} begins after offset {offset}, and was found to hold it")
            if offset < entry.next_offset:
                return index
            if index < last_index:
                raise DamagedRecord(f"no entry holds offset {offset}, which is in the middle of the log")
            return last_index + 1

    def load_snapshot(self) -> Snapshot | None:
        """`Storage.load_snapshot`."""
        with self._noticing():
            while (prefix := self._outline.prefix).index:
                try:
                    return self._home.load_snapshot(prefix.index, prefix.term)
                except DamagedRecord:
                    if prefix == self._outline.prefix:  # else another one has just come in its place
                        raise
            return None

    def stage_snapshot(self, snapshot: Snapshot) -> None:
        """`Storage.stage_snapshot`."""
        with self._noticing():
            self._home.save_snapshot(snapshot)

    def cut_prefix(self, snapshot: Snapshot) -> None:
        """`Storage.cut_prefix`."""
        with self._at_work():
            if snapshot.index > self._outline.prefix.index:
                self._store(*fold_prefix_cut(self._outline, snapshot, self._place), self._commit)

    def keep_keys(self, first_chunk: int, chunks: Sequence[bytes | memoryview]) -> None:
        """`Storage.keep_keys`."""
        with self._noticing():
            self._home.checkpoints.keep_keys(first_chunk, chunks)

    @contextmanager
    def holding_keys(self, first_chunk: int) -> Iterator[None]:
        """`Storage.holding_keys`."""
        with self._home.checkpoints.needed.held(first_chunk):
            yield

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """`Storage.save_checkpoint`."""
        with self._noticing():
            self._home.checkpoints.keep(checkpoint)

    def load_checkpoint(self) -> Checkpoint | None:
        """`Storage.load_checkpoint`."""
        with self._at_work():
            return self._home.checkpoints.load()

    def kept_keys(self, first_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """`Storage.kept_keys`."""
        with self._noticing():
            yield from self._home.checkpoints.keys(first_chunk, end_chunk)

    def chunk_source(self, number: int) -> ChunkSource:
        """`Storage.chunk_source`."""
        with self._noticing():
            return self._home.checkpoints.source(number)

    def keep_index(self, end_chunk: int, parts: Sequence[bytes | memoryview]) -> None:
        """`Storage.keep_index`."""
        with self._noticing():
            self._home.checkpoints.keep_index(end_chunk, parts)

    def index_source(self, end_chunk: int) -> IndexSource | None:
        """`Storage.index_source`."""
        with self._noticing():
            return self._home.checkpoints.index(end_chunk)

    def size_bytes(self) -> int:
        """`Storage.size_bytes`."""
        now = self._outline
        return now.next_position - now.first_position

    def tend(self) -> bool:
        """`Storage.tend`."""
        with self._at_work():
            return self._engine.tend()

    def sync_mark(self) -> None:
        """`Storage.sync_mark`."""
        with self._noticing():
            self._home.sync_mark()

    def check_files(self) -> None:
        """`Storage.check_files`."""
        with self._at_work():
            self._home.check_files(self._outline.prefix.index, self._outline.prefix.term)
            self._engine.check_files()

    def close(self) -> None:
        """`Storage.close`."""
        if not self._one_at_a_time.acquire(timeout=limits.STOP_TIMEOUT_S):
            return  # the disk hangs in another thread: the end of the process releases everything
        try:
            if not self._closed:
                self._closed = True
                self._let_go()
        finally:
            self._one_at_a_time.release()

    def _let_go(self) -> None:
        failed = self._failure is not None
        self._failure = self._failure or StorageFailed("the storage is closed")
        try:
            self._engine.close()
        except StorageFailed:
            if not failed:  # an engine that has failed may say so once more
                raise
        finally:
            self._home.close()

    def _look(self) -> Outline:
        contents = self._engine.contents()
        if self._home.is_new and (contents.state is not None or contents.last is not None):
            raise DamagedRecord("the mark of what was durable is missing beside a log that is not empty")
        outline = outline_of(contents, self._engine.row)
        if outline.number < self._home.mark:
            raise DamagedRecord(
                f"the log ends with write {outline.number}, and write {self._home.mark} was durable:"
                " its end is lost"
            )
        if outline.number < self._home.witnessed and self._home.distrust is None:
            raise OlderDirectory(
                f"the log ends with write {outline.number}, and write {self._home.witnessed} was durable"
                " here: older files were restored in place"
            )
        return outline

    def _store(self, outline: Outline, change: Change | None, commit: Callable[[Change], None]) -> None:
        if change is not None:
            # The file first, then the record that names it: a crash between leaves a file too many.
            if change.snapshot is not None:
                self._home.save_snapshot(change.snapshot)
            try:
                commit(change)
            except DamagedRecord as error:  # how much of it was done, nobody knows
                self._failure = StorageFailed(str(error))
                raise
        self._outline = outline
        if change is not None and change.snapshot is not None:
            self._home.drop_snapshots(outline.prefix.index, outline.prefix.term)

    def _commit(self, change: Change) -> None:
        self._engine.commit(change)
        self._home.advance(change.number)

    def _place(self, index: int) -> Standing:
        return Standing(self._row(index).stamp.position, self._entry(index).base_offset)

    def _row(self, index: int) -> Row:
        row = self._engine.row(index)
        if row is None:
            raise DamagedRecord(f"entry {index} is missing in the middle of the log")
        check_row(row)
        return row

    def _entry(self, index: int) -> Entry:
        return check_entry(index, index, self._row(index).record)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """One call at a time, none after a failure."""
        with self._one_at_a_time, self._noticing():
            try:
                yield
            except StorageFailed:
                self._engine.check_files()  # a log whose files were removed is the reason, not the disk
                raise

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        if self._failure is not None:
            reason = self._reason(self._failure)
            raise type(reason)(str(reason)) from self._failure
        try:
            yield
        except (StorageFailed, FilesGone) as error:
            self._failure = error  # at once: another thread may be about to call
            reason = self._reason(error)
            if reason is error:
                raise
            raise reason from error

    def _reason(self, failure: StorageFailed | FilesGone) -> StorageFailed | FilesGone:
        """What to raise for it: where nothing is left to write to, that is the reason, not the disk.

        Every thread gets the same: which of them ends the node first, nobody knows.
        """
        if isinstance(failure, FilesGone) or self._closed:
            return failure
        try:
            self._home.check_files(0, 0)
        except FilesGone as gone:
            return gone
        if isinstance(failure.__cause__, FileNotFoundError):  # half of them are: somebody is removing them
            return FilesGone(str(failure))
        return failure


class Closable(Protocol):
    """What holds files open."""

    def close(self) -> None:
        """Let go of them."""
        ...


@contextmanager
def closed_on_error(*opened: Closable) -> Iterator[None]:
    """Close what was opened when the block that goes on with it fails."""
    with ExitStack() as undo:
        for each in opened:
            undo.callback(each.close)
        yield
        undo.pop_all()
