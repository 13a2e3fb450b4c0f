"""What a commit costs: each storage engine by batch size, on the disk that holds DIRECTORY.

    python bench/storage.py [--directory DIRECTORY] [--seconds 2] [--engine sqlite] [--size 100]

For each engine and number of events in a commit: the median and the 99th percentile of `write`, the
longest pause between two commits (`write` and `tend` together), and events per second. Then the same
through the storage worker, from `submit` to the callback, with that many events always on their way.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import trio

from esnode.errors import EngineMissing
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import Write
from esnode.storage.engines import open_storage
from esnode.storage.interface import Identity, Storage
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker

ENGINES = ("sqlite", "segments", "rocksdb", "memory")
BATCH_EVENTS = 64
COMMITS_OF_BATCHES = (1, 4, 16, 64)


class Source:
    """Entries of one batch each, one after the other."""

    def __init__(self, event_bytes: int) -> None:
        self._payload = random.Random(1).randbytes(BATCH_EVENTS * event_bytes)
        self._index = 0

    def write(self, batches: int) -> Write:
        """A write of the next entries."""
        return Write(0, None, None, tuple(self._entry() for _ in range(batches)), max(0, self._index - 100))

    def _entry(self) -> Entry:
        self._index += 1
        return seal(
            index=self._index,
            term=1,
            kind=EntryKind.BATCH,
            base_offset=(self._index - 1) * BATCH_EVENTS,
            log_time_ms=self._index,
            count=BATCH_EVENTS,
            keys=os.urandom(16 * BATCH_EVENTS),
            payload=self._payload,
        )


def per_cent(values: list[float], share: float) -> float:
    """The value that this share of the sorted values is below, in ms."""
    return 1000 * values[min(len(values) - 1, int(len(values) * share))]


def commits(storage: Storage, source: Source, batches: int, seconds: float) -> str:
    """Commit one write after the other."""
    costs, pauses, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        write = source.write(batches)
        begun = time.perf_counter()
        storage.write([write])
        costs.append(time.perf_counter() - begun)
        storage.tend()
        pauses.append(time.perf_counter() - begun)
    rate = len(costs) * batches * BATCH_EVENTS / sum(pauses)
    costs.sort()
    return (
        f"median {per_cent(costs, 0.5):6.2f} ms   p99 {per_cent(costs, 0.99):6.2f} ms"
        f"   longest pause {1000 * max(pauses):6.1f} ms   {rate:10,.0f} events/s"
    )


async def through_worker(storage: Storage, source: Source, batches: int, seconds: float) -> str:
    """Keep `batches` writes of one batch on their way."""
    worker, costs = StorageWorker(storage), []
    end = time.perf_counter() + seconds
    ended = trio.Event()

    def submit() -> None:
        begun = time.perf_counter()

        def durable() -> None:
            costs.append(time.perf_counter() - begun)
            if time.perf_counter() < end:
                submit()
            elif not worker.pending_writes:
                ended.set()

        worker.submit(source.write(1), durable)

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        for _ in range(batches):
            submit()
        await ended.wait()
        nursery.cancel_scope.cancel()
    costs.sort()
    return (
        f"median {per_cent(costs, 0.5):6.2f} ms   p99 {per_cent(costs, 0.99):6.2f} ms"
        f"   {len(costs) / max(1, worker.commits):5.1f} batches a commit"
        f"   {len(costs) * BATCH_EVENTS / seconds:10,.0f} events/s"
    )


def measure(engine: str, directory: Path, size: int, what: Callable[[Storage, Source], str]) -> str:
    """Run `what` on a fresh log."""
    with tempfile.TemporaryDirectory(dir=directory) as data_dir:
        identity = Identity("bench", 1)
        storage: Storage = (
            MemoryStorage(MemoryDisk(), identity)
            if engine == "memory"
            else open_storage(engine, Path(data_dir) / "data", identity)
        )
        try:
            return what(storage, Source(size))
        finally:
            storage.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what a commit costs")
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--size", type=int, default=100, help="bytes of an event")
    options = parser.parse_args()
    for engine in options.engine or ENGINES:
        for batches in COMMITS_OF_BATCHES:

            def direct(storage: Storage, source: Source, batches: int = batches) -> str:
                return commits(storage, source, batches, options.seconds)

            def worked(storage: Storage, source: Source, batches: int = batches) -> str:
                return trio.run(through_worker, storage, source, batches, options.seconds)

            name = f"{engine:8} {batches * BATCH_EVENTS:5} events"
            try:
                say(f"{name}  write   {measure(engine, options.directory, options.size, direct)}")
                say(f"{name}  worker  {measure(engine, options.directory, options.size, worked)}")
            except EngineMissing as error:
                say(f"{name}  {error}")


def say(line: str) -> None:
    """One line of the result, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
