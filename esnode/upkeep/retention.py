"""Cutting the log's prefix, when the log exceeds its configured limits or an operator asks for it.

Decides up to which entry the log may go: by bytes, by age in log time, by offset, never past what is applied.
The snapshot that replaces the prefix holds exactly what the prefix meant: the old snapshot, rolled
forward over the entries that go. Its sealed chunks of keys are files that checkpoints share, so a cut writes
only those that are not there yet. Pages are read between the log's own writes. A task of `node.py`.
"""

import logging
from collections.abc import Callable
from functools import partial

import trio

from esnode import limits
from esnode.apply import Machine, sealed_in
from esnode.config import Config
from esnode.dedup.keychunk import in_runs
from esnode.dedup.keywindow import missing_chunks
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.entry import Entry
from esnode.raft.messages import PrefixCut, Snapshot
from esnode.storage.worker import StorageWorker

log = logging.getLogger(__name__)


class PrefixCutter:
    """Keeps one node's log within its bounds."""

    def __init__(
        self, config: Config, machine: Machine, view: View, worker: StorageWorker, inbox: Inbox
    ) -> None:
        """`machine` is the live one; only its log time is looked at."""
        self._bounds = config.retention
        self._dedup = config.dedup
        self._machine = machine
        self._view = view
        self._worker = worker
        self._inbox = inbox
        self._turn = trio.Lock()

    async def run(self) -> None:
        """Look every `check_every_ms`, for ever; returns at once when nothing bounds the log."""
        while self._bounds.bytes or self._bounds.age_ms:
            await trio.sleep(self._bounds.check_every_ms / 1000)
            await self.cut()

    async def cut(self) -> None:
        """Cut once, if the log is over its bounds."""
        async with self._turn:
            storage = self._worker.storage
            excess_bytes = 0
            if self._bounds.bytes:
                excess_bytes = await self._worker.call(storage.size_bytes) - self._bounds.bytes
            too_old_ms = self._machine.log_time_ms - self._bounds.age_ms if self._bounds.age_ms else 0
            first = await self._worker.call(self._first_entry)

            def goes(entry: Entry) -> bool:
                nonlocal excess_bytes
                too_much = excess_bytes > 0 or entry.log_time_ms < too_old_ms
                excess_bytes -= entry.size_bytes
                return too_much

            if first is not None and (excess_bytes > 0 or first.log_time_ms < too_old_ms):
                await self._cut_while(goes)

    async def cut_before(self, offset: int) -> int:
        """Cut the entries whose events are all before `offset`; the index up to which the log is cut now."""
        async with self._turn:
            await self._cut_while(lambda entry: entry.next_offset <= offset)
            return (await self._worker.call(self._worker.storage.recover)).prefix_index

    async def _cut_while(self, goes: Callable[[Entry], bool]) -> None:
        """Cut the first entries, as long as `goes` says so of each; what is not applied waits its turn."""
        with self._worker.storage.holding_keys(0):  # a checkpoint of now needs fewer than the prefix
            await self._roll_forward(goes)

    async def _roll_forward(self, goes: Callable[[Entry], bool]) -> None:
        prefix = await self._worker.aside(self._load_prefix)
        cut_already = prefix.applied_index
        going = True
        while going and prefix.applied_index < self._view.applied_index:
            first_index = prefix.applied_index + 1
            page = await self._worker.read(first_index, self._view.applied_index, limits.MAX_FETCH_BYTES)
            if not page:
                return  # the leader's snapshot has replaced this log meanwhile
            for entry in page:
                going = goes(entry)
                if not going:
                    break
                prefix.apply(entry)
        if prefix.applied_index == cut_already:
            return
        await self._worker.cut_prefix(partial(self._outline, prefix))
        self._inbox.put(PrefixCut(prefix.applied_index))
        self._view.show_first_offset(prefix.next_offset)
        log.info("prefix_cut", extra={"cut_index": prefix.applied_index, "first_offset": prefix.next_offset})

    def _first_entry(self) -> Entry | None:
        storage = self._worker.storage
        first_index = storage.recover().prefix_index + 1
        return next(iter(storage.read(first_index, first_index, 1)), None)

    def _load_prefix(self) -> Machine:
        """What the prefix that is already cut meant."""
        prefix = Machine(self._dedup, searchable=False)
        snapshot = self._worker.storage.load_snapshot()
        if snapshot is not None:
            prefix.restore(snapshot, self._worker.storage)
        return prefix

    def _outline(self, prefix: Machine) -> Snapshot:
        """The snapshot of `prefix`; the chunks of keys that it names are on disk when this returns."""
        snapshot, storage = prefix.outline(), self._worker.storage
        missing = missing_chunks(sealed_in(snapshot.data), storage)
        for run in in_runs(missing, limits.CHECKPOINT_PIECE_CHUNKS):
            storage.keep_keys(run.start, [prefix.keys.sealed_chunk(number) for number in run])
        return snapshot
