"""What the worker runs beside the disk's own work: commits go on, and damage counts like any other."""

import threading

import pytest
import trio

from esnode.errors import DamagedRecord, OffsetOutOfRange
from esnode.raft.messages import Snapshot
from esnode.storage.memory import MemoryDisk, MemoryStorage
from tests.storage.logs import entries, snapshot_of, write
from tests.storage.places import US
from tests.storage.test_worker import Durable, running


async def test_commits_go_on_while_something_is_done_aside() -> None:
    storage, durable = MemoryStorage(MemoryDisk(), US), Durable()
    begun, gate = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert gate.wait(30), "the test forgot to open the gate"
        return threading.current_thread().name

    async with running(storage) as worker, trio.open_nursery() as nursery:
        names: list[str] = []
        done = trio.Event()

        async def aside() -> None:
            names.append(await worker.aside(slow))
            done.set()

        nursery.start_soon(aside)
        await trio.to_thread.run_sync(begun.wait)
        worker.submit(write(entries(1, [1])), durable.note(1))
        assert await durable.wait(1) == [1]
        assert names == []
        gate.set()
        await done.wait()
        assert names != [threading.current_thread().name]


@pytest.mark.parametrize("inline", [False, True])
async def test_what_is_raised_aside_reaches_the_one_who_asked(inline: bool) -> None:
    def fails() -> None:
        raise OffsetOutOfRange("no such thing")

    async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
        assert await worker.aside(lambda: 7) == 7
        with pytest.raises(OffsetOutOfRange):
            await worker.aside(fails)
        assert await worker.aside(lambda: 8) == 8


@pytest.mark.parametrize("inline", [False, True])
async def test_damage_that_is_met_aside_ends_the_worker(inline: bool) -> None:
    def meets_damage() -> None:
        raise DamagedRecord("a bit")

    async def met() -> None:
        async with running(MemoryStorage(MemoryDisk(), US), inline=inline) as worker:
            with pytest.raises(DamagedRecord):
                await worker.aside(meets_damage)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await met()
    assert caught.group_contains(DamagedRecord)


async def test_a_snapshot_is_read_aside_while_another_one_takes_its_place() -> None:
    """The file that a reader was about to open may be gone by then: the one that came instead is read."""
    storage = MemoryStorage(MemoryDisk(), US)
    log = entries(1, [1] * 9)
    storage.write([write(log, commit=9)])
    storage.cut_prefix(snapshot_of(log[3], b"first"))
    load, later = storage._home.load_snapshot, [snapshot_of(log[6], b"second")]

    def too_late(index: int, term: int) -> Snapshot:
        while later:
            storage.cut_prefix(later.pop())
        return load(index, term)

    storage._home.load_snapshot = too_late  # type: ignore[method-assign]
    async with running(storage) as worker:
        found = await worker.aside(storage.load_snapshot)
    assert found is not None
    assert found.data == b"second"
