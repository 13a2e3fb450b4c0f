"""What operators may ask of one node at once."""

from pathlib import Path

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.apply import Machine
from esnode.config import Address, Config, Dedup, Member
from esnode.errors import Busy
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.messages import CutPrefix, FetchSnapshot, SnapshotPiece
from esnode.raft.messages import HardState, Write
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.upkeep.adminservice import AdminService
from esnode.upkeep.checkpointer import Checkpointer
from esnode.upkeep.retention import PrefixCutter
from tests.backup.logs import DEDUP, log_of, machine_of


def admin_of_an_empty_log() -> AdminService:
    member = Member(1, Address("127.0.0.1", 7201), Address("127.0.0.1", 7101))
    config = Config("c", 1, Path("unused"), (member,))
    storage = MemoryStorage(MemoryDisk(), Identity("c", 1))
    machine, worker = Machine(Dedup()), StorageWorker(storage, inline=True)
    view = View(1, term=0, applied_index=0, first_offset=0, next_offset=0)
    cutter = PrefixCutter(config, machine, view, worker, Inbox())
    return AdminService(view, worker, cutter, Checkpointer(machine, storage, None), machine.keys)


async def test_no_more_than_a_few_clients_hold_a_snapshot_in_memory() -> None:
    admin = admin_of_an_empty_log()

    async def never_read(_piece: SnapshotPiece) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number in range(limits.MAX_SNAPSHOTS_GIVEN):
            nursery.start_soon(admin.snapshot, FetchSnapshot(number), never_read)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Busy):
            await admin.snapshot(FetchSnapshot(9), never_read)
        nursery.cancel_scope.cancel()
    with trio.move_on_after(0) as over:
        await admin.snapshot(FetchSnapshot(9), never_read)  # their places are free again
    assert over.cancelled_caught


async def test_cuts_that_nobody_comes_to_carry_out_are_refused_in_the_end() -> None:
    admin = admin_of_an_empty_log()
    async with trio.open_nursery() as nursery:
        for number in range(limits.MAX_ADMIN_JOBS):
            nursery.start_soon(admin.cut, CutPrefix(number, 1))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Busy):
            await admin.cut(CutPrefix(99, 1))
        nursery.cancel_scope.cancel()


async def test_a_checkpoint_waits_for_the_snapshot_that_it_goes_by() -> None:
    """A leader's snapshot is in the state at once, and on disk later. A checkpoint that was there before it
    would say after a crash that the log has lost what was acked."""
    storage = MemoryStorage(MemoryDisk(), Identity("c", 1))
    machine, worker = Machine(DEDUP), StorageWorker(storage, inline=True)
    snapshot = machine_of(log_of([3, 1])).snapshot()
    worker.submit(Write(1, snapshot, HardState(snapshot.term, None), (), 0), lambda: None)
    machine.restore(snapshot)
    checkpointer = Checkpointer(machine, storage, None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checkpointer.take, worker)
        await trio.testing.wait_all_tasks_blocked()
        assert checkpointer.last_index == 0
        await nursery.start(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        assert (checkpointer.last_index, storage.recover().prefix_index) == (4, 4)
        nursery.cancel_scope.cancel()
