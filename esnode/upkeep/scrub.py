"""Checks what the start did not read: the log before the checkpoint, and the snapshot of what was cut.

Decides only the pace. The storage checks everything that it reads; damage is handled as for any other reader
(`repair`). Runs once after each start; later records are checked when they arrive. A task of `node.py`.
"""

import logging
from functools import partial

import trio

from esnode import limits
from esnode.storage.interface import check_snapshot
from esnode.storage.worker import StorageWorker

log = logging.getLogger(__name__)


class Scrub:
    """One look at the old part of one node's log."""

    def __init__(self, worker: StorageWorker, last_index: int) -> None:
        """`last_index`: where the start began to read; 0 where it has read everything."""
        self._worker = worker
        self._last_index = last_index

    async def run(self) -> None:
        """Read it all, without hurry; returns when that is done. Raises `DamagedRecord`."""
        storage = self._worker.storage
        if self._last_index:
            await self._worker.aside(partial(check_snapshot, storage))
        entries = 0
        next_index = await self._first_index()
        while next_index <= self._last_index:
            page = await self._worker.read(next_index, self._last_index, limits.SCRUB_PAGE_BYTES)
            entries += len(page)
            next_index = page[-1].index + 1 if page else await self._first_index()
            await trio.sleep(limits.SCRUB_PAUSE_S)
        log.info("log_checked", extra={"entries": entries})

    async def _first_index(self) -> int:
        """The beginning of the log as it is now: its prefix may have been cut meanwhile."""
        found = await self._worker.call(self._worker.storage.recover)
        return found.prefix_index + 1
