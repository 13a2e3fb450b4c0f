"""What counts against a disk that makes nothing durable: only time in which the node itself ran."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.errors import StorageFailed
from esnode.raft.messages import Write
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from tests.storage.logs import entries, write
from tests.storage.places import US


class HungDisk:
    """A pace at which nothing ever becomes durable."""

    async def commit(self, writes: Sequence[Write]) -> None:
        await trio.sleep_forever()

    async def call(self) -> None:
        """At once."""


async def test_only_time_in_which_the_node_ran_counts_against_its_disk(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A process that was stopped, or whose loop was blocked, looks late: its disk had no fair chance."""
    worker = StorageWorker(MemoryStorage(MemoryDisk(), US), pace=HungDisk())
    begun_s, stopped_s = trio.current_time(), 10 * limits.DISK_SILENCE_S
    with pytest.RaisesGroup(pytest.RaisesExc(StorageFailed, match="nothing became durable")):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(worker.watch)
            worker.submit(write(entries(1, [1])), lambda: None)
            await trio.sleep(limits.DISK_SILENCE_S / 2)
            autojump_clock.jump(stopped_s)
    ran_s = trio.current_time() - begun_s - stopped_s
    assert limits.DISK_SILENCE_S <= ran_s <= 1.5 * limits.DISK_SILENCE_S


async def test_what_is_written_after_a_stop_waits_from_its_own_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    worker = StorageWorker(MemoryStorage(MemoryDisk(), US), pace=HungDisk())
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        nursery.start_soon(worker.watch)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.jump(60)
        worker.submit(write(entries(1, [1])), lambda: None)
        await trio.sleep(0.25)
        assert worker.waited_s(trio.current_time()) == pytest.approx(0.25)
        nursery.cancel_scope.cancel()
