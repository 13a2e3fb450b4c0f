"""The task that owns the disk: what is grouped, what is told to whom and when, and how it ends."""

import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.errors import DamagedRecord, OffsetOutOfRange, StorageFailed
from esnode.raft.entry import Entry
from esnode.raft.messages import Snapshot, Write
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import BREATHE_S, StorageWorker
from tests.storage.logs import WHOLE, entries, snapshot_of, write
from tests.storage.places import US


class GatedStorage(MemoryStorage):
    """A storage whose writes and calls can be held, and which notes what it is asked for."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk, US)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def write(self, writes: Sequence[Write]) -> None:
        self._enter(f"write {len(writes)}")
        super().write(writes)

    def read(self, first_index: int, last_index: int, max_bytes: int) -> list[Entry]:
        self._enter("read")
        return super().read(first_index, last_index, max_bytes)

    def close(self) -> None:
        self.calls.append("close")
        super().close()

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.get_ident())
        self.begun.set()
        assert self.gate.wait(30), "the test forgot to open the gate"


class Durable:
    """What was called back, and a way to wait for it."""

    def __init__(self) -> None:
        self.names: list[object] = []
        self._changed = trio.Event()

    def note(self, name: object) -> Callable[[], None]:
        """A callback that notes `name`."""

        def called() -> None:
            self.names.append(name)
            self._changed.set()
            self._changed = trio.Event()

        return called

    async def wait(self, count: int) -> list[object]:
        """Wait until there are so many."""
        while len(self.names) < count:
            await self._changed.wait()
        return self.names


@asynccontextmanager
async def running(storage: MemoryStorage, *, inline: bool = False) -> AsyncIterator[StorageWorker]:
    """A worker that runs as long as the block."""
    worker = StorageWorker(storage, inline=inline)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            yield worker
            nursery.cancel_scope.cancel()


def log_of(count: int) -> list[Write]:
    return [write(entries(index, [1], base_offset=index - 1)) for index in range(1, count + 1)]


@pytest.fixture(params=[False, True], ids=["thread", "inline"])
def inline(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def until(begun: threading.Event) -> None:
    """Wait for something in the disk's thread."""
    assert await trio.to_thread.run_sync(begun.wait, 30)


# --- writes ----------------------------------------------------------------------------------------


async def test_callbacks_run_in_order_in_the_trio_thread(inline: bool) -> None:
    durable = Durable()
    here = threading.get_ident()
    threads = []
    async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
        for number, each in enumerate(log_of(50)):
            worker.submit(each, lambda: threads.append(threading.get_ident()))
            worker.submit(None, durable.note(number))
        assert await durable.wait(50) == list(range(50))
    assert set(threads) == {here}
    assert len(threads) == 50


async def test_a_callback_means_that_the_write_is_synced(inline: bool) -> None:
    disk = MemoryDisk()
    seen = []
    durable = Durable()
    async with running(MemoryStorage(disk, US), inline=inline) as worker:
        for each in log_of(5):
            worker.submit(each, lambda: seen.append(disk.synced == disk.cache != b""))
            worker.submit(None, durable.note("next"))
            await durable.wait(len(seen))
        await durable.wait(5)
    assert seen == [True] * 5


async def test_all_that_waits_goes_into_one_commit() -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage) as worker:
        storage.gate.clear()
        writes = log_of(20)
        worker.submit(writes[0], durable.note(0))
        await until(storage.begun)
        for number, each in enumerate(writes[1:], start=1):
            worker.submit(each, durable.note(number))
        storage.gate.set()
        assert await durable.wait(20) == list(range(20))
        assert worker.commits == 2
    assert storage.calls == ["write 1", "write 19", "close"]


async def test_all_that_waits_goes_into_one_commit_inline() -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage, inline=True) as worker:
        for number, each in enumerate(log_of(20)):
            worker.submit(each, durable.note(number))
        assert await durable.wait(20) == list(range(20))
    assert storage.calls == ["write 20", "close"]
    assert storage.threads == {threading.get_ident()}


async def test_nothing_to_write_is_durable_at_once_when_nothing_is_pending(inline: bool) -> None:
    durable = Durable()
    async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
        worker.submit(None, durable.note("at once"))
        assert durable.names == ["at once"]


async def test_nothing_to_write_waits_for_the_writes_before_it_and_no_others() -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage) as worker:
        storage.gate.clear()
        first, second = log_of(2)
        worker.submit(first, durable.note("first"))
        worker.submit(None, durable.note("after the first"))
        worker.submit(None, durable.note("too"))
        await until(storage.begun)
        storage.begun.clear()
        worker.submit(second, durable.note("second"))
        assert durable.names == []
        storage.gate.set()
        assert await durable.wait(4) == ["first", "after the first", "too", "second"]


async def test_a_callback_may_submit_again(inline: bool) -> None:
    durable = Durable()
    writes = log_of(3)
    async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:

        def submit(number: int) -> None:
            durable.note(number)()
            if number + 1 < len(writes):
                worker.submit(writes[number + 1], lambda: submit(number + 1))

        worker.submit(writes[0], lambda: submit(0))
        assert await durable.wait(3) == [0, 1, 2]


async def test_what_is_pending_is_counted(inline: bool) -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage, inline=inline) as worker:
        first, second = log_of(2)
        snapshot = write(snapshot=Snapshot(9, 1, 9, 90, bytes(1000)))
        for each in (first, second, snapshot):
            worker.submit(each, durable.note(each))
        sizes = first.entries[0].size_bytes + second.entries[0].size_bytes
        assert (worker.pending_writes, worker.pending_bytes) == (3, sizes + 1000)
        await durable.wait(3)
        assert (worker.pending_writes, worker.pending_bytes) == (0, 0)


# --- calls -----------------------------------------------------------------------------------------


async def test_a_read_sees_what_was_submitted_before_it(inline: bool) -> None:
    durable = Durable()
    async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
        for number, each in enumerate(log_of(9)):
            worker.submit(each, durable.note(number))
            found = await worker.read(1, 99, WHOLE)
            assert [entry.index for entry in found] == list(range(1, number + 2))
        await durable.wait(9)


async def test_the_error_of_a_call_is_the_callers(inline: bool) -> None:
    def refuse() -> None:
        raise OffsetOutOfRange("found while reading")

    async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
        with pytest.raises(OffsetOutOfRange, match="while reading"):
            await worker.call(refuse)
        assert await worker.call(worker.storage.size_bytes) == 0


async def test_damage_met_by_any_call_ends_the_worker(inline: bool) -> None:
    def meet_damage() -> None:
        raise DamagedRecord("found while reading")

    async def serve() -> None:
        async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
            await worker.call(meet_damage)

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.group_contains(DamagedRecord)


async def test_a_disk_that_makes_nothing_durable_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DISK_SILENCE_S", 0.05)
    storage = GatedStorage(MemoryDisk())
    storage.gate.clear()
    caught: list[StorageFailed] = []
    async with running(storage) as worker:
        worker.submit(write(entries(1, [1])), lambda: None)
        try:
            await worker.watch()
        except StorageFailed as error:
            caught.append(error)
        storage.gate.set()
    assert "nothing became durable" in str(caught[0])


async def test_a_read_does_not_starve_while_writes_never_end() -> None:
    storage = GatedStorage(MemoryDisk())
    ended = trio.Event()
    async with running(storage) as worker:
        index = 0

        def submit_another() -> None:
            nonlocal index
            index += 1
            if not ended.is_set():
                worker.submit(write(entries(index, [1], base_offset=index - 1)), submit_another)

        for _ in range(3):
            submit_another()
        for _ in range(20):
            await worker.read(1, 1, WHOLE)
        ended.set()
    assert storage.calls.count("read") == 20


async def test_writes_go_before_the_reads_that_wait_with_them() -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage) as worker:
        storage.gate.clear()
        writes = log_of(3)
        worker.submit(writes[0], durable.note(0))
        await until(storage.begun)
        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(worker.read, 1, 9, WHOLE)
            await trio.testing.wait_all_tasks_blocked()
            worker.submit(writes[1], durable.note(1))
            worker.submit(writes[2], durable.note(2))
            storage.gate.set()
    assert storage.calls == ["write 1", "write 2", "read", "read", "read", "close"]


async def test_a_write_goes_before_the_next_read() -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage) as worker:
        storage.gate.clear()
        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(worker.read, 1, 9, WHOLE)
            await until(storage.begun)
            worker.submit(log_of(1)[0], durable.note("written"))
            storage.gate.set()
        await durable.wait(1)
    assert storage.calls == ["read", "write 1", "read", "read", "close"]


async def test_a_cancelled_reader_leaves_the_worker_as_it_was() -> None:
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    async with running(storage) as worker:
        storage.gate.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.read, 1, 9, WHOLE)
            await until(storage.begun)
            nursery.cancel_scope.cancel()
        storage.gate.set()
        worker.submit(log_of(1)[0], durable.note("written"))
        await durable.wait(1)


async def test_a_prefix_is_cut_while_commits_go_on(inline: bool) -> None:
    storage = MemoryStorage(MemoryDisk(), US)
    durable = Durable()
    async with running(storage, inline=inline) as worker:
        log = entries(1, [1] * 9)
        worker.submit(write(log, commit=9), durable.note("written"))
        await durable.wait(1)
        cut = await worker.cut_prefix(lambda: snapshot_of(log[5]))
        assert cut.index == 6
        assert (await worker.call(storage.recover)).prefix_index == 6


# --- the end ---------------------------------------------------------------------------------------


async def test_the_first_failed_write_ends_the_worker_and_calls_nobody_back(inline: bool) -> None:
    """raft-bugs 21."""
    disk = MemoryDisk()
    durable = Durable()
    disk.fail_write(after=1)
    first, second, third = log_of(3)
    with pytest.RaisesGroup(StorageFailed):
        async with running(MemoryStorage(disk, US), inline=inline) as worker:
            worker.submit(first, durable.note("first"))
            await durable.wait(1)
            worker.submit(second, durable.note("second"))
            worker.submit(third, durable.note("third"))
            worker.submit(None, durable.note("nothing"))
            await trio.sleep_forever()
    assert durable.names == ["first"]
    assert MemoryStorage(disk, US).recover().last_index == 1


async def test_a_storage_that_fails_in_a_call_ends_the_worker_too(inline: bool) -> None:
    def fail() -> None:
        raise StorageFailed("while cutting the prefix")

    with pytest.RaisesGroup(StorageFailed):
        async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
            with pytest.raises(StorageFailed):
                await worker.call(fail)
            await trio.sleep_forever()


async def test_an_error_of_a_callback_ends_the_worker(inline: bool) -> None:
    def fail() -> None:
        raise RuntimeError("in the callback")

    disk = MemoryDisk()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="in the callback")):
        async with running(MemoryStorage(disk, US), inline=inline) as worker:
            worker.submit(log_of(1)[0], fail)
            await trio.sleep_forever()
    MemoryStorage(disk, US).close()


async def test_a_write_under_way_is_finished_before_the_storage_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk()
    storage = GatedStorage(disk)
    durable = Durable()
    async with trio.open_nursery() as nursery:
        worker = StorageWorker(storage)
        await nursery.start(worker.run)
        storage.gate.clear()
        first, second = log_of(2)
        worker.submit(first, durable.note("first"))
        await until(storage.begun)
        worker.submit(second, durable.note("second"))
        hands = worker._hands
        stop = hands.stop

        async def stop_and_open_the_gate() -> None:
            hands.put(None)  # type: ignore[arg-type]
            storage.gate.set()
            await stop()

        monkeypatch.setattr(hands, "stop", stop_and_open_the_gate)
        nursery.cancel_scope.cancel()
    assert storage.calls == ["write 1", "close"]
    assert durable.names == []
    assert MemoryStorage(disk, US).recover().last_index == 1


async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STOP_TIMEOUT_S", 0.05)
    storage = GatedStorage(MemoryDisk())
    worker = StorageWorker(storage)
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match="did not answer")):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            storage.gate.clear()
            worker.submit(log_of(1)[0], lambda: None)
            await until(storage.begun)
            nursery.cancel_scope.cancel()
    (thread,) = [each for each in threading.enumerate() if each.name == "storage"]
    assert "close" not in storage.calls
    storage.gate.set()
    await trio.to_thread.run_sync(thread.join)
    assert storage.calls[-1] == "close"


async def test_no_thread_and_no_socket_is_left() -> None:
    for _ in range(3):
        async with running(MemoryStorage(MemoryDisk(), US)) as worker:
            await worker.read(1, 1, WHOLE)
    for thread in [each for each in threading.enumerate() if each.name == "storage"]:
        thread.join(30)  # it has told its end, and has a last line to go
        assert not thread.is_alive()
    gc.collect()  # an unclosed socket is a ResourceWarning, and that an error


async def test_a_busy_event_loop_lets_the_disk_have_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that never sleeps starves other threads of the interpreter's lock; it must pause then."""
    storage = GatedStorage(MemoryDisk())
    durable = Durable()
    pauses = []
    sleep = time.sleep

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", pause)
    async with running(storage) as worker:
        await trio.lowlevel.checkpoint()
        assert not pauses, "an idle worker needs no pause"
        storage.gate.clear()
        worker.submit(log_of(1)[0], durable.note("written"))
        while not pauses:
            await trio.lowlevel.checkpoint()
        storage.gate.set()
        while not durable.names:
            await trio.lowlevel.checkpoint()
    assert set(pauses) == {BREATHE_S}


async def test_the_simulations_clock_jumps_over_a_worker_that_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    durable = Durable()
    begun = trio.current_time()
    async with running(MemoryStorage(MemoryDisk(), US), inline=True) as worker:
        for number, each in enumerate(log_of(3)):
            await trio.sleep(5)
            worker.submit(each, durable.note(number))
        await durable.wait(3)
    assert trio.current_time() == begun + 15
