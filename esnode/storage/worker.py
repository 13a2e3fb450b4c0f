"""The one task that owns the disk: takes writes without waiting, tells when they are durable.

Decides what goes into one commit: everything that waits. A thread of its own does the disk's work,
writes first, then one other call, then a piece of tending; the results come back over a socket pair, in
order, into the trio thread. Never drops, reorders or retries a write; the first error ends `run`. With
`inline` there is no thread: the simulation runs the same calls in the trio thread, at its own pace.
Called by the driver, the readers and retention; run by `node.py`.
"""

import contextlib
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import outcome
import trio

from esnode import limits
from esnode.coalescing import sleep_to_next
from esnode.errors import DamagedRecord, FilesGone, NewerFormat, StorageFailed
from esnode.faults import DiskFaults, same
from esnode.raft.entry import Entry
from esnode.raft.messages import Snapshot, Write
from esnode.storage.interface import Storage

T = TypeVar("T")

ENDS_THE_NODE: Final = (StorageFailed, DamagedRecord, FilesGone, NewerFormat)
"""What a call may say of the disk that no node goes on with."""
STARVED_AFTER_S: Final = 0.003
BREATHE_EVERY_S: Final = 0.0005
BREATHE_S: Final = 0.00002


class _Call(Generic[T]):
    """A call that waits for its turn, and then its result for the one who asked."""

    def __init__(self, fn: Callable[[], T]) -> None:
        self.fn = fn
        self.done = trio.Event()
        self.result: outcome.Value[T] | outcome.Error | None = None

    def carry_out(self) -> None:
        self.result = outcome.capture(self.fn)


@dataclass(frozen=True, slots=True)
class _Written:
    """So many writes are durable."""

    count: int


@dataclass(frozen=True, slots=True)
class _Submitted:
    """What to call back once everything submitted up to here is durable."""

    size_bytes: int
    is_write: bool
    on_durable: Callable[[], None]


class Pace(Protocol):
    """How long a disk takes that has no thread of its own: the simulated disk says so."""

    async def commit(self, writes: Sequence[Write]) -> None:
        """`Storage.write`, in its time; the rest of the node goes on meanwhile."""
        ...

    async def call(self) -> None:
        """The time that a read takes, before it is done."""
        ...


class StorageWorker:
    """Group commit, reads in between, and callbacks in order."""

    def __init__(self, storage: Storage, *, inline: bool = False, pace: Pace | None = None) -> None:
        """From `run` on, only the worker calls `storage`, but for `size_bytes`. A `pace` means `inline`."""
        self.storage = storage
        self.pending_bytes = 0
        """Records and snapshots that are submitted and not yet durable."""
        self.pending_writes = 0
        self.commits = 0
        """Write calls that were carried out."""
        self._submitted: deque[_Submitted] = deque()
        inline = inline or pace is not None
        self._hands: _Thread | _Inline = _Inline(storage, pace) if inline else _Thread(storage)
        # The thread's time is real, whatever clock the event loop goes by.
        self._now = trio.current_time if inline else time.monotonic
        self._moved_at = 0.0
        """When something became durable, or began to wait for it; later by what `watch` leaves out."""

    def submit(self, write: Write | None, on_durable: Callable[[], None]) -> None:
        """Queue `write`; `on_durable` runs in the trio thread once it and all before it are durable.

        None only waits its turn, and is called at once when nothing is pending.
        """
        if write is None:
            if self._submitted:
                self._submitted.append(_Submitted(0, is_write=False, on_durable=on_durable))
            else:
                on_durable()
            return
        size_bytes = sum(entry.size_bytes for entry in write.entries)
        if write.snapshot is not None:
            size_bytes += len(write.snapshot.data)
        if not self._submitted:
            self._moved_at = self._now()
        self._submitted.append(_Submitted(size_bytes, is_write=True, on_durable=on_durable))
        self.pending_bytes += size_bytes
        self.pending_writes += 1
        self._hands.put(write)

    def strike(self, faults: DiskFaults | None) -> None:
        """What is committed from now on suffers these faults."""
        if not same(self._hands.faults, faults):
            self._hands.strike(faults)

    async def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        """`Storage.read`, between writes; sees all that was submitted before."""
        return await self.call(lambda: self.storage.read(first_index, last_index, max_bytes))

    async def call(self, fn: Callable[[], T]) -> T:
        """Run `fn`, which calls the storage, between writes; sees all that was submitted before.

        When the caller is cancelled, `fn` may still be run. Raises what `fn` raises.
        """
        call = _Call(fn)
        self._hands.put(call)
        await call.done.wait()
        assert call.result is not None, "a call is done when it has a result"
        return call.result.unwrap()

    async def cut_prefix(self, take: Callable[[], Snapshot]) -> Snapshot:
        """`Storage.cut_prefix` for the snapshot that `take` returns; commits go on while it is written."""

        def stage() -> Snapshot:
            snapshot = take()
            self.storage.stage_snapshot(snapshot)
            return snapshot

        snapshot = await self.aside(stage)
        await self.call(lambda: self.storage.cut_prefix(snapshot))
        return snapshot

    async def aside(self, fn: Callable[[], T]) -> T:
        """Run `fn`, which takes long, in a thread of its own, while commits go on.

        It may call what the storage allows in another thread, and nothing else of it. When the caller is
        cancelled, `fn` may still be run. Raises what `fn` raises; damage ends `run`, too.
        """
        if isinstance(self._hands, _Inline):
            await self._hands.pause()
            result = outcome.capture(fn)
        else:
            result = await trio.to_thread.run_sync(outcome.capture, fn, abandon_on_cancel=True)
        if isinstance(result, outcome.Error) and isinstance(result.error, ENDS_THE_NODE):
            await self.call(result.unwrap)  # so that it does what any error of the disk does
        return result.unwrap()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is submitted, until cancelled; then close the storage.

        Raises `StorageFailed` after the disk's first error, `DamagedRecord` once a call has met damage. A
        write that is under way when the task is cancelled is finished; those that wait are not begun, and
        nobody is called back any more.
        """
        with self._hands.at_work(), self._breathing():
            try:
                task_status.started()
                while True:
                    for result in await self._hands.wait_results():
                        self._take(result)
            finally:
                await self._stop()

    async def watch(self) -> None:
        """End the node when its disk hangs: a leader that cannot apply must not go on leading.

        Raises `StorageFailed` when writes wait and none became durable for `limits.DISK_SILENCE_S`, not
        counting time in which the node itself stood still.
        """
        look_s, looked_at = limits.DISK_SILENCE_S / 5, self._now()
        while True:
            slept_s = await sleep_to_next(look_s)
            now = self._now()
            # A late look: the process was stopped, or its loop was blocked. Neither is the disk's fault.
            late_s = max(0.0, now - looked_at - slept_s)
            self._moved_at = min(now, self._moved_at + late_s)
            looked_at = now
            if self.waited_s(now) > limits.DISK_SILENCE_S:
                raise StorageFailed(f"nothing became durable for {limits.DISK_SILENCE_S:g} s")

    @property
    def has_thread(self) -> bool:
        """Whether the disk's work is done beside the event loop: what it waits for, nobody else does."""
        return isinstance(self._hands, _Thread)

    async def watch_files(self) -> None:
        """Look whether the files are still those that were opened, and sync the mark; for ever.

        Raises what they do by way of `run`: `FilesGone`, `StorageFailed`.
        """
        synced: int | None = None
        while True:
            await sleep_to_next(limits.FILES_CHECK_S)
            await self.call(self.storage.check_files)
            commits = self.commits
            if commits != synced:
                await self.aside(self.storage.sync_mark)
                synced = commits

    def _take(self, result: "_Written | _Call[Any]") -> None:
        if isinstance(result, _Call):
            result.done.set()
            if isinstance(result.result, outcome.Error) and isinstance(result.result.error, ENDS_THE_NODE):
                raise result.result.error
            return
        self._moved_at = self._now()
        self.commits += 1
        for _ in range(result.count):
            self._call_back_to_next_write()
        while self._submitted and not self._submitted[0].is_write:
            self._submitted.popleft().on_durable()

    def _call_back_to_next_write(self) -> None:
        while True:
            submitted = self._submitted.popleft()
            self.pending_bytes -= submitted.size_bytes
            self.pending_writes -= submitted.is_write
            submitted.on_durable()
            if submitted.is_write:
                return

    async def _stop(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + limits.STOP_TIMEOUT_S) as scope:
            await self._hands.stop()
        if scope.cancelled_caught:
            raise StorageFailed(f"the disk did not answer within {limits.STOP_TIMEOUT_S} s")

    @contextlib.contextmanager
    def _breathing(self) -> Iterator[None]:
        if isinstance(self._hands, _Inline):
            yield
            return
        instrument = _Breath(self)
        trio.lowlevel.add_instrument(instrument)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(instrument)

    def waited_s(self, now: float) -> float:
        """For how long, on the worker's clock, nothing has become durable while something should."""
        return now - self._moved_at if self._submitted else 0.0


class _Breath(trio.abc.Instrument):
    """Lets the disk's thread have the interpreter's lock when a busy event loop starves it.

    A loop that never sleeps gives the lock up often and for an instant: too short for a sleeping thread
    to wake up and take it, and each try starts its timeout anew. Seconds without a commit were
    measured so. When nothing became durable for some milliseconds, the loop sleeps for an instant.
    """

    def __init__(self, worker: StorageWorker) -> None:
        self._worker = worker
        self._breathed_at = 0.0

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0 or not self._worker.pending_writes:
            return
        now = time.monotonic()
        if self._worker.waited_s(now) > STARVED_AFTER_S and now - self._breathed_at > BREATHE_EVERY_S:
            time.sleep(BREATHE_S)
            self._breathed_at = time.monotonic()


class _Inline:
    """The disk's work in the trio thread, a piece each time the task runs: writes, then one other call."""

    def __init__(self, storage: Storage, pace: Pace | None) -> None:
        self._storage = storage
        self._pace = pace
        self._jobs: deque[Write | _Call[Any]] = deque()
        self._calls: deque[_Call[Any]] = deque()
        """Those that may see the disk as it is."""
        self._call_is_next = False
        self.faults: DiskFaults | None = None
        self._faults_changed = trio.Event()
        self._more = trio.Event()

    def put(self, job: "Write | _Call[Any]") -> None:
        self._jobs.append(job)
        self._more.set()

    async def wait_results(self) -> "list[_Written | _Call[Any]]":
        while not (self._jobs or self._calls):
            self._more = trio.Event()
            await self._more.wait()
        await trio.lowlevel.checkpoint()
        if not self._call_is_next and (count := await self._write()):
            self._call_is_next = bool(self._calls)
            results: list[_Written | _Call[Any]] = [_Written(count)]
        else:
            self._call_is_next = False
            call = self._calls.popleft()
            await self.pause()
            call.carry_out()
            results = [call]
        while self._storage.tend():
            await trio.lowlevel.checkpoint()
        return results

    def strike(self, faults: DiskFaults | None) -> None:
        self.faults = faults
        self._faults_changed.set()
        self._faults_changed = trio.Event()

    async def pause(self) -> None:
        """As long as a read takes."""
        if self._pace is not None:
            await self._pace.call()

    async def stop(self) -> None:
        self._storage.close()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        yield

    async def _write(self) -> int:
        """Commit the writes that wait; how many they were."""
        writes = [job for job in self._jobs if isinstance(job, Write)]
        self._calls.extend(job for job in self._jobs if isinstance(job, _Call))
        self._jobs.clear()
        if not writes:
            return 0
        if self.faults is not None:
            with trio.move_on_after(self.faults.before_commit()):
                await self._faults_changed.wait()
        if self._pace is None:
            self._storage.write(writes)
        else:
            await self._pace.commit(writes)
        return len(writes)


class _Thread:
    """The disk's work in a thread of its own.

    The thread takes its next round itself, without waiting for the event loop; it alone touches the
    storage, and it closes it.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._jobs: queue.SimpleQueue[Write | _Call[Any] | None] = queue.SimpleQueue()
        self._results: deque[_Written | _Call[Any]] = deque()
        self._ended = False
        self._failure: BaseException | None = None
        self.faults: DiskFaults | None = None
        self._faults_changed = threading.Event()

    def strike(self, faults: DiskFaults | None) -> None:
        self.faults = faults
        changed, self._faults_changed = self._faults_changed, threading.Event()
        changed.set()

    def put(self, job: "Write | _Call[Any]") -> None:
        self._jobs.put(job)

    async def wait_results(self) -> "Iterator[_Written | _Call[Any]]":
        await trio.lowlevel.checkpoint()
        while not self._results:
            if self._failure is not None:
                raise self._failure
            await self._wait_wake()
        return self._take_results()

    async def stop(self) -> None:
        self._jobs.put(None)
        self.strike(None)
        while not self._ended:
            await self._wait_wake()
        if self._failure is not None:
            raise self._failure

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        self._receive, self._send = socket.socketpair()
        with self._receive, self._send:
            self._receive.setblocking(False)
            self._send.setblocking(False)
            threading.Thread(target=self._run, name="storage", daemon=True).start()
            yield

    async def _wait_wake(self) -> None:
        await trio.lowlevel.wait_readable(self._receive)
        self._receive.recv(4096)

    def _take_results(self) -> "Iterator[_Written | _Call[Any]]":
        while self._results:
            yield self._results.popleft()

    # --- below: in the thread ---

    def _run(self) -> None:
        end = outcome.capture(self._work)
        if isinstance(end, outcome.Error):
            self._failure = end.error
        self._ended = True
        self._wake()

    def _work(self) -> None:
        writes: list[Write] = []
        calls: deque[_Call[Any]] = deque()
        more = False
        with contextlib.closing(self._storage):
            while self._drain(writes, calls, wait=not (calls or more)):
                if writes:
                    if self.faults is not None:
                        self._hesitate()
                    self._storage.write(writes)
                    self._post(_Written(len(writes)))
                    writes.clear()
                if calls:
                    call = calls.popleft()
                    call.carry_out()
                    self._post(call)
                more = self._storage.tend()

    def _hesitate(self) -> None:
        """Before a commit, as long as its faults want and last. Raises `StorageFailed`."""
        changed, faults = self._faults_changed, self.faults  # in this order: what comes between ends the wait
        if faults is not None:
            changed.wait(faults.before_commit())

    def _drain(self, writes: list[Write], calls: "deque[_Call[Any]]", wait: bool) -> bool:
        """Take all jobs that wait, at least one when `wait`; False when the end was asked for."""
        while wait or not self._jobs.empty():
            wait = False
            match self._jobs.get():
                case None:
                    return False
                case _Call() as call:
                    calls.append(call)
                case write:
                    writes.append(write)
        return True

    def _post(self, result: "_Written | _Call[Any]") -> None:
        self._results.append(result)
        self._wake()

    def _wake(self) -> None:
        # Full: a wake-up is on its way already. Closed: the event loop has given this thread up.
        with contextlib.suppress(OSError):
            self._send.send(b"\0")
