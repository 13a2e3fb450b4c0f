"""What a node repairs by itself, how often, and what it leaves to the operator or to the next start."""

import gc
import os
import signal
import weakref
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
import trio.testing

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.errors import (
    CopiedDirectory,
    DamagedIndex,
    DamagedRecord,
    DamagedSnapshot,
    DistrustedDirectory,
    EventStreamError,
    StorageFailed,
    UnknownDirectory,
)
from esnode.loop.clocks import Elapsed
from esnode.loop.driver import Driver
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.node import run_until_stopped
from esnode.raft.messages import Input, Ready, Write
from esnode.storage.interface import Distrust, Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.place import MemoryPlace
from esnode.storage.worker import StorageWorker
from esnode.upkeep.repair import MAX_REPAIRS, REPAIRS_BACK_AFTER_S, Repair, keep_running, repairable

US = Identity("c", 1)


def test_a_disk_that_refuses_a_write_is_never_repaired() -> None:
    damage, refusal = DamagedRecord("a bit"), StorageFailed("no space")
    assert repairable(damage) is damage
    assert repairable(ExceptionGroup("", [ExceptionGroup("", [damage])])) is damage
    assert repairable(ExceptionGroup("", [damage, refusal])) is None
    assert repairable(refusal) is None


async def test_a_damaged_snapshot_of_the_leader_is_not_taken_for_damage_of_this_disk() -> None:
    @dataclass
    class Installing:
        """A core that has just been sent a snapshot."""

        def step(self, item: Input) -> None:
            pass

        def ready(self) -> Ready:
            return Ready(Write(1, snapshot, None, (), 0), (), (), (), (), (), (), (), None)

    whole = Machine(Dedup()).snapshot()
    snapshot = replace(whole, index=7, data=whole.data[:-1] + b"?")
    worker = StorageWorker(MemoryStorage(MemoryDisk(), US), inline=True)
    view = View(1, term=0, applied_index=0, first_offset=0, next_offset=0)
    core: Any = Installing()
    nobody: Any = None
    driver = Driver(core, Machine(Dedup()), Inbox(), view, worker, nobody, nobody, Elapsed())
    with pytest.raises(DamagedSnapshot) as caught:
        driver.turn([])
    assert repairable(caught.value) is None
    assert worker.pending_writes == 0


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (DamagedRecord("again"), "check the disk"),
        (DamagedIndex("again"), "check the disk"),
        (UnknownDirectory("again"), "two processes"),
    ],
)
async def test_a_node_that_repairs_itself_again_and_again_ends(error: EventStreamError, helps: str) -> None:
    disk = MemoryDisk()
    repair = Repair(MemoryPlace(disk, US), alone=False)
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        repair.open().close()
        raise error

    with pytest.raises(type(error), match="again") as caught:
        await keep_running(repair, run)
    assert helps in caught.value.next_step
    assert runs == 1 + MAX_REPAIRS
    assert disk.set_aside == (MAX_REPAIRS if type(error) is DamagedRecord else 0)


@pytest.mark.parametrize("alone", [False, True])
async def test_a_damaged_index_is_made_anew_and_the_log_is_believed_as_before(
    alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Two nodes that rejoined for it were no majority any more, and all three logs were whole."""
    disk = MemoryDisk()
    repair = Repair(MemoryPlace(disk, US), alone=alone)
    asked, runs = [], 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        repair.open().close()
        if runs == 1:
            raise DamagedIndex("page 0 of an index of keys is not what was written")

    async def unsound() -> list[int]:
        asked.append(runs)
        return [2]

    caplog.set_level("WARNING")
    await keep_running(repair, run, inline=True, unsound=unsound)
    assert (runs, asked) == (2, [])
    assert (disk.distrust, disk.set_aside) == (None, 0)
    assert [record.message for record in caplog.records] == ["index_discarded"]


async def test_what_the_operator_says_is_done_once() -> None:
    disk = MemoryDisk()
    repair = Repair(MemoryPlace(disk, US), alone=False, rejoin=True)
    name = disk.directory
    repair.open().close()
    first = disk.directory
    repair.open().close()
    assert disk.rejoining
    assert name != first == disk.directory


# --- a run and the next one -------------------------------------------------------------------------


async def test_the_first_node_is_gone_before_the_second_runs() -> None:
    """The error's traceback would hold its driver, its machine and the whole table of keys."""

    class Machinery:
        pass

    disk = MemoryDisk()
    held: list[weakref.ref[Machinery]] = []
    repair = Repair(MemoryPlace(disk, US), alone=False)

    async def run() -> None:
        if held:
            gc.collect()
            assert held[0]() is None
            return
        machinery = Machinery()
        held.append(weakref.ref(machinery))
        repair.open().close()
        async with trio.open_nursery():
            raise UnknownDirectory("the peers know another one")

    await keep_running(repair, run, inline=True)
    assert len(held) == 1
    assert disk.distrust is Distrust.PEERS


async def test_repairs_come_back_while_a_node_is_sound(autojump_clock: trio.testing.MockClock) -> None:
    disk = MemoryDisk()
    repair = Repair(MemoryPlace(disk, US), alone=False)
    runs = 0

    async def run(*, sound: bool, lasts_s: float) -> None:
        nonlocal runs
        runs += 1
        storage = repair.open()
        if sound:
            storage.write([Write(0, None, None, (), 0, rejoined=True)])
        storage.close()
        await trio.sleep(lasts_s)
        if runs <= 3 * MAX_REPAIRS:
            raise UnknownDirectory("again")

    await keep_running(repair, lambda: run(sound=True, lasts_s=REPAIRS_BACK_AFTER_S), inline=True)
    assert runs == 1 + 3 * MAX_REPAIRS
    for sound, lasts_s in [(True, 0.9 * REPAIRS_BACK_AFTER_S), (False, 2 * REPAIRS_BACK_AFTER_S)]:
        runs = 0
        repair = Repair(MemoryPlace(MemoryDisk(), US), alone=False, rejoin=True)
        with pytest.raises(UnknownDirectory):
            await keep_running(repair, lambda s=sound, t=lasts_s: run(sound=s, lasts_s=t), inline=True)  # type: ignore[misc]
        assert runs == 1 + MAX_REPAIRS


@pytest.mark.parametrize("late", [False, True])
async def test_a_node_that_was_stopped_does_not_run_again(late: bool) -> None:
    """Whatever it finds while it stops; the next start finds it too."""

    class Stopping:
        """A node that finds something out after it was asked to stop: at once, or while its tasks end."""

        async def run(self, *_: object, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await self.handing_over.wait()
                if not late:
                    raise UnknownDirectory("a peer has said so")
                await trio.sleep_forever()
            finally:
                if late:
                    raise DamagedRecord("read while the worker ends")

        async def hand_over(self) -> None:
            self.handing_over.set()
            with trio.move_on_after(0 if late else 60):
                await trio.sleep_forever()

        def __init__(self) -> None:
            self.handing_over = trio.Event()

    disk = MemoryDisk()
    repair = Repair(MemoryPlace(disk, US), alone=False)
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        assert runs == 1
        node: Any = Stopping()
        await run_until_stopped(node, [], [])

    await keep_running(repair, run, inline=True)
    assert runs == 1


async def test_a_refused_write_is_told_also_by_a_node_that_was_stopped() -> None:
    class Failing:
        async def run(self, *_: object, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()

        async def hand_over(self) -> None:
            raise StorageFailed("no space")

    node: Any = Failing()
    with pytest.raises(ExceptionGroup) as caught:
        await run_until_stopped(node, [], [])
    assert caught.value.subgroup(StorageFailed) is not None


# --- a cluster of one, and copies -------------------------------------------------------------------


@pytest.mark.parametrize("why", [Distrust.PEERS, Distrust.OPERATOR, Distrust.DAMAGE])
def test_a_cluster_of_one_that_has_to_rejoin_does_not_start(why: Distrust) -> None:
    """Its `members` were cut down to itself: nobody could ever answer it."""
    disk = MemoryDisk()
    disk.begin_rejoin(why)
    repair = Repair(MemoryPlace(disk, US), alone=True)
    for _ in range(2):
        with pytest.raises(DistrustedDirectory, match="cannot rejoin") as caught:
            repair.open()
        assert "members" in caught.value.next_step
    assert disk.distrust is why


def test_a_cluster_of_one_takes_a_copy_that_has_begun_to_rejoin(caplog: pytest.LogCaptureFixture) -> None:
    disk = MemoryDisk()
    disk.begin_rejoin(Distrust.COPY)
    storage = Repair(MemoryPlace(disk, US), alone=True).open()
    assert storage.distrust is None
    assert [record.message for record in caplog.records] == ["copy_trusted"]


def test_the_operator_can_trust_a_copy_late_and_nothing_else() -> None:
    for why in Distrust:
        disk = MemoryDisk()
        disk.begin_rejoin(why)
        repair = Repair(MemoryPlace(disk, US), alone=False, trust_copy=True)
        if why is Distrust.COPY:
            assert repair.open().distrust is None
            continue
        with pytest.raises(DistrustedDirectory, match="is for a copy") as caught:
            repair.open()
        assert "without --trust-copy" in caught.value.next_step
        assert disk.distrust is why


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DamagedRecord("a bit"), Distrust.DAMAGE),
        (CopiedDirectory("moved"), Distrust.COPY),
        (UnknownDirectory("another"), Distrust.PEERS),
    ],
)
def test_a_repair_notes_its_cause(error: EventStreamError, why: Distrust) -> None:
    disk = MemoryDisk()
    Repair(MemoryPlace(disk, US), alone=False).after(error)
    assert disk.distrust is why
