"""Cutting the log's prefix when the log is over the bounds of the configuration.

Decides up to which entry the log may go: by bytes, by age in log time, never past what is applied.
The snapshot that replaces the prefix holds exactly what the prefix meant: the old snapshot, rolled
forward over the entries that go. Pages are read between the log's own writes. A task of `node.py`.
"""

import logging

import trio

from esnode import limits
from esnode.apply import Machine
from esnode.config import Config
from esnode.inbox import Inbox
from esnode.raft.entry import Entry
from esnode.raft.messages import PrefixCut
from esnode.storage.worker import StorageWorker
from esnode.view import View

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

    async def run(self) -> None:
        """Look every `check_every_ms`, for ever; returns at once when nothing bounds the log."""
        while self._bounds.bytes or self._bounds.age_ms:
            await trio.sleep(self._bounds.check_every_ms / 1000)
            await self.cut()

    async def cut(self) -> None:
        """Cut once, if the log is over its bounds."""
        storage = self._worker.storage
        excess_bytes = 0
        if self._bounds.bytes:
            excess_bytes = await self._worker.call(storage.size_bytes) - self._bounds.bytes
        too_old_ms = self._machine.log_time_ms - self._bounds.age_ms if self._bounds.age_ms else 0
        first = await self._worker.call(self._first_entry)
        if first is None or not (excess_bytes > 0 or first.log_time_ms < too_old_ms):
            return
        prefix = await self._worker.aside(self._load_prefix)
        if prefix.applied_index >= self._view.applied_index:
            return  # what is too much waits to be committed
        going = True
        while going and prefix.applied_index < self._view.applied_index:
            first_index = prefix.applied_index + 1
            page = await self._worker.read(first_index, self._view.applied_index, limits.MAX_FETCH_BYTES)
            if not page:
                return  # the leader's snapshot has replaced this log meanwhile
            for entry in page:
                going = excess_bytes > 0 or entry.log_time_ms < too_old_ms
                if not going:
                    break
                prefix.apply(entry)
                excess_bytes -= entry.size_bytes
        await self._worker.cut_prefix(prefix.snapshot)
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
            prefix.restore(snapshot)
        return prefix
