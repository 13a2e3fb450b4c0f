"""What deduplication costs: look-up, memory, the worst pause, the way of one batch.

`python bench/dedup.py [MILLIONS ...]` measures full tables of these sizes (default 0.1 1 4 10), each in a
process of its own. Pauses are also given in processor time, which other programs do not disturb.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.dedup.admission import Admission
from esnode.dedup.batch import Batch
from esnode.raft.entry import EntryKind, seal

BATCH = 64
ROUND = 16
"""Batches that are decided, then applied, together: what is under way in a busy pipeline."""
SAMPLES = 4_000


def main(arguments: list[str]) -> None:
    """Measure one size here, or each in a child."""
    if len(arguments) == 2 and arguments[0] == "--here":
        measure(float(arguments[1]))
        return
    for size in arguments or ["0.1", "1", "4", "10"]:
        subprocess.run([sys.executable, __file__, "--here", size], check=True)  # noqa: S603


def measure(millions: float) -> None:
    """Fill a table to its bound and beyond, then measure."""
    keys = int(millions * 1_000_000)
    source = Random(1)
    machine = Machine(Dedup.of_keys(keys, ttl_ms=10**9))
    say(f"{millions:g} million keys")
    resident = resident_bytes()
    worst, worst_cpu = fill(machine, keys + keys // 4, source)
    used = resident_bytes() - resident
    table_bytes = machine.keys.size_bytes
    say(f"  memory          {used / keys:6.1f} bytes a key, {table_bytes / keys:.1f} of them packed")
    say(f"  worst pause     {worst * 1e3:6.2f} ms; {worst_cpu * 1e3:.2f} ms of processor time")
    fresh = [source.randbytes(16 * BATCH) for _ in range(SAMPLES)]
    spent = timed(lambda n: machine.keys.find_sealed(fresh[n], machine.keys.hash(fresh[n])))
    say(f"  {BATCH} fresh keys   {spent[0]:6.1f} us; {spent[1]:.1f} at p99")
    snapshot = machine.snapshot()
    known = [machine.keys.first_offset + n * (keys // 2 // SAMPLES) for n in range(SAMPLES)]
    start = len(snapshot.data) - 16 * machine.next_offset
    data = bytes(snapshot.data)
    again = [data[start + 16 * at : start + 16 * (at + BATCH)] for at in known]
    spent = timed(lambda n: machine.keys.find_sealed(again[n], machine.keys.hash(again[n])))
    say(f"  {BATCH} known keys   {spent[0]:6.1f} us; {spent[1]:.1f} at p99")
    begun = time.perf_counter()
    machine.restore(snapshot)
    say(f"  restore         {(time.perf_counter() - begun) * 1e3:6.0f} ms of {len(snapshot.data) >> 20} MiB")
    decided, applied = way_of_one_batch(machine, source)
    say(f"  a fresh batch   {decided + applied:6.1f} us: decided {decided:.1f}, applied {applied:.1f}")


def fill(machine: Machine, count: int, source: Random) -> tuple[float, float]:
    """Add keys batch by batch; the longest addition, in time and in processor time."""
    table = machine.keys
    worst = worst_cpu = 0.0
    while table.next_offset < count:
        packed = source.randbytes(16 * BATCH)
        cpu, begun = time.thread_time(), time.perf_counter()
        table.add(packed, table.next_offset, 0)
        worst = max(worst, time.perf_counter() - begun)
        worst_cpu = max(worst_cpu, time.thread_time() - cpu)
    return worst, worst_cpu


def timed(one: Callable[[int], object]) -> tuple[float, float]:
    """Median and p99 of a call, in microseconds."""
    spent = []
    for number in range(SAMPLES):
        begun = time.perf_counter()
        one(number)
        spent.append(time.perf_counter() - begun)
    spent.sort()
    return spent[SAMPLES // 2] * 1e6, spent[SAMPLES * 99 // 100] * 1e6


def way_of_one_batch(machine: Machine, source: Random) -> tuple[float, float]:
    """Microseconds of processor time a batch: decide and appended; apply and applied."""
    admission = Admission(machine.keys, machine.producers)
    index, offset = machine.applied_index, machine.next_offset
    decided = applied = 0.0
    for _ in range(SAMPLES // ROUND):
        batches = [Batch(BATCH, source.randbytes(16 * BATCH), bytes(6400)) for _ in range(ROUND)]
        entries = [
            seal(
                index=index + n + 1,
                term=1,
                kind=EntryKind.BATCH,
                base_offset=offset + n * BATCH,
                log_time_ms=0,
                count=BATCH,
                keys=batch.keys,
                payload=batch.payload,
            )
            for n, batch in enumerate(batches)
        ]
        begun = time.thread_time()
        for batch, entry in zip(batches, entries, strict=True):
            admission.decide(batch, entry.base_offset)
            admission.appended(entry)
        half = time.thread_time()
        for entry in entries:
            machine.apply(entry)
        index, offset = machine.applied_index, machine.next_offset
        admission.applied(index)
        decided += half - begun
        applied += time.thread_time() - half
    return decided / SAMPLES * 1e6, applied / SAMPLES * 1e6


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def say(line: str) -> None:
    """One line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
