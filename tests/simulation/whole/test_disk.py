"""The simulated disk under the storage worker that ships: time passes, reads wait, crashes bite."""

import random

import pytest
import trio

from esnode.errors import StorageFailed
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from tests.storage.logs import entries, write

from .disk import DiskSpeed, SimulatedPace

pytestmark = pytest.mark.usefixtures("autojump_clock")

US = Identity("test", 1)
SPEED = DiskSpeed(commit_s=(1.0, 1.0), hiccup=0.0, read_s=(0.25, 0.25))


def worker_on(disk: MemoryDisk) -> tuple[StorageWorker, SimulatedPace]:
    storage = MemoryStorage(disk, US)
    pace = SimulatedPace(storage, SPEED, random.Random(1))
    return StorageWorker(storage, pace=pace), pace


async def test_a_commit_takes_its_time_and_a_read_waits_for_it() -> None:
    worker, _ = worker_on(MemoryDisk())
    durable_at: list[float] = []
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        worker.submit(write(entries(1, [1])), lambda: durable_at.append(trio.current_time() - begun))
        assert [entry.index for entry in await worker.read(1, 1, 1)] == [1]
        assert trio.current_time() - begun == pytest.approx(1.25)
        nursery.cancel_scope.cancel()
    assert durable_at == [pytest.approx(1.0)]


async def test_reads_take_turns_with_commits() -> None:
    """As in the thread: writes first, then one other call."""
    worker, _ = worker_on(MemoryDisk())
    order: list[str] = []

    async def read(name: str) -> None:
        await worker.read(1, 1, 1)
        order.append(name)

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        async with trio.open_nursery() as readers:
            worker.submit(write(entries(1, [1])), lambda: order.append("first write"))
            readers.start_soon(read, "a read")
            readers.start_soon(read, "a read")
            await trio.sleep(1.1)
            worker.submit(write(entries(2, [1], base_offset=1)), lambda: order.append("second write"))
        nursery.cancel_scope.cancel()
    assert order == ["first write", "a read", "second write", "a read"]


async def test_a_power_cut_within_a_commit_loses_it() -> None:
    disk = MemoryDisk()
    worker, _ = worker_on(disk)
    durable: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        worker.submit(write(entries(1, [1])), lambda: durable.append("acked"))
        await trio.sleep(0.5)
        assert disk.cache
        disk.crash()
        nursery.cancel_scope.cancel()
    assert not durable
    assert MemoryStorage(disk, US).recover().last_index == 0


async def test_a_disk_that_hangs_ends_the_worker_that_watches_it() -> None:
    worker, pace = worker_on(MemoryDisk())
    pace.slow_until = trio.current_time() + 60
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match="nothing became durable")):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(worker.watch)
            worker.submit(write(entries(1, [1])), lambda: None)
