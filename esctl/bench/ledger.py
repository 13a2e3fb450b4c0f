"""What a background load keeps on the disk: its plan, a sample each 100 ms, and the ledger of its events.

A directory a load: `plan.json`, `samples.jsonl` (an object a line) and `ledger.jsonl`. A line of the ledger
is `[what, first, count, begun, ended, ranges, duplicates]` for one batch: `a` was acked, at `ranges` of
[base offset, count]; `r` was refused for certain; `u` has no answer. Its events have the ids `RUN-first` and
on, and one source: the sources of the plan take turns, a batch each. With several partitions, a line ends
with that of the batch. Times are seconds of one clock that never goes back. What was not written when the
process died was promised to nobody here. Read by playbooks and their exactly-once check; written by
`background.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO, TypedDict

from esctl.bench.generator import DIGITS, SOURCE
from esctl.clusters import jsonlines
from esctl.clusters.state import write_atomically
from esctl.playbookerrors import RunUnreadable
from esctl.ui.values import Count, Milliseconds, UnixTime
from esctl.verify.operations import Operations
from esnode.dedup.batch import OffsetRange, event_key

PLAN: Final = "plan.json"
SAMPLES: Final = "samples.jsonl"
LEDGER: Final = "ledger.jsonl"
ACKED, REFUSED, UNKNOWN = "a", "r", "u"
_TAIL_BYTES: Final = 4096
"""A sample is shorter."""


class SampleData(TypedDict):
    """What a load had done at one moment; null of latencies is that nothing was acked lately."""

    at: UnixTime
    running: bool
    sent: Count
    acked: Count
    failed: Count
    unknown: Count
    waiting: Count
    rate_per_s: float
    p50_ms: Milliseconds | None
    p99_ms: Milliseconds | None
    max_ms: Milliseconds | None
    silence_ms: Milliseconds
    longest_gap_ms: Milliseconds
    acked_lost: Count
    checked: Count


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a load does: `rate` events a second of `size` bytes for `seconds`, to `cluster`."""

    name: str
    cluster: str
    run: str
    """What begins the ids of its events; new for each load."""
    rate: float
    seconds: float
    size: int
    batch: int
    begun: float = 0.0
    """Seconds since 1970."""
    sources: Sequence[str] = (SOURCE,)
    """Of its events: one of each partition."""

    def source_of(self, first: int) -> str:
        """That of the batch that begins with event `first`."""
        return self.sources[first // self.batch % len(self.sources)]


def write_plan(directory: Path, plan: LoadPlan) -> None:
    """Keep the plan; raises `MachineRefused`."""
    written = asdict(plan)
    if len(plan.sources) == 1:
        del written["sources"]  # as it was when there was one partition only
    write_atomically(directory / PLAN, json.dumps(written) + "\n")


def read_plan(directory: Path) -> LoadPlan:
    """Raises `RunUnreadable`."""
    try:
        plan = LoadPlan(**json.loads((directory / PLAN).read_text(encoding="utf-8")))
        if not all(isinstance(number, int | float) for number in (plan.rate, plan.seconds, plan.begun)):
            raise TypeError("what should be numbers is not")
        if not plan.sources or not all(isinstance(source, str) for source in plan.sources):
            raise TypeError("its sources are none")
        return plan
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunUnreadable(f"{directory / PLAN} cannot be used: {error}") from error


class Ledger:
    """Writes down what became of each batch."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def acked(
        self,
        first: int,
        count: int,
        times: tuple[float, float],
        ranges: Sequence[OffsetRange],
        known: int,
        partition: int | None = None,
    ) -> None:
        """A batch was acked; `known` of its events the log had already."""
        placed = [[r.base_offset, r.count] for r in ranges]
        self._line([ACKED, first, count, *times, placed, known], partition)

    def failed(
        self,
        first: int,
        count: int,
        times: tuple[float, float],
        *,
        definite: bool,
        partition: int | None = None,
    ) -> None:
        """A batch was refused, or nobody knows what became of it."""
        self._line([REFUSED if definite else UNKNOWN, first, count, *times, [], 0], partition)

    def flush(self) -> None:
        """What was written can be read."""
        self._file.flush()

    def _line(self, fields: list[Any], partition: int | None) -> None:
        beside = [] if partition is None else [partition]
        self._file.write(jsonlines.line_of([*fields, *beside]).decode())


def operations_of(directory: Path, partition: int = 0) -> tuple[Operations, int]:
    """All that the ledger says of a partition, to be held against its log; and how many events it has as
    acked.

    Take it before the log is read: what is acked afterwards is not in it. Raises `RunUnreadable`.
    """
    plan = read_plan(directory)
    operations, acked = Operations(), 0
    for line in jsonlines.read(directory / LEDGER).splitlines():
        try:
            what, first, count, begun, ended, ranges, known, *where = json.loads(line)
            if (where or [0])[0] != partition:
                continue
            attempt = operations.append_begins(keys_of(plan, first, count), begun)
            if what == ACKED:
                operations.acked(attempt, [OffsetRange(base, n) for base, n in ranges], ended, known)
                acked += count
            elif what == REFUSED:
                operations.refused(attempt)
        except (ValueError, TypeError) as error:
            raise RunUnreadable(f"{directory / LEDGER} cannot be used: {error}") from error
    return operations, acked


def keys_of(plan: LoadPlan, first: int, count: int) -> bytes:
    """The packed keys of the batch from `RUN-first` on, as the generator makes them."""
    source = plan.source_of(first)
    return b"".join(
        event_key(source, f"{plan.run}-{number:0{DIGITS}}") for number in range(first, first + count)
    )


def last_sample(directory: Path) -> SampleData | None:
    """The newest sample; None before the first."""
    try:
        with (directory / SAMPLES).open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - _TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return None
    lines = tail[: tail.rfind(b"\n") + 1].splitlines()
    sample: SampleData | None = json.loads(lines[-1]) if lines else None
    return sample


def samples(directory: Path) -> list[SampleData]:
    """All samples, in the order of time."""
    return [json.loads(line) for line in jsonlines.read(directory / SAMPLES).splitlines()]
