"""One run of the load against one cluster, and what it cost: events, latencies, processor time.

Decides what is measured: the same generator, load and recorder as `esctl bench`, in this process, whoever
carries the events. Processor time is that of all threads of a process, user and system, for each event
acked while it was taken. Never prints. Called by `__main__.py`.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from bench.floor.cluster import Opener
from esctl.bench.generator import Generator
from esctl.bench.result import Figures, median
from esctl.bench.runner import Load, TrialPlan
from esctl.errors import NodeNotRunning
from esnode.errors import OperationTimeout


@dataclass(frozen=True, slots=True)
class Window:
    """What the processes had used when it opened and closed, and when that was, on trio's clock."""

    begin_s: float
    end_s: float
    cpu_s: Mapping[str, float]


async def measure(opener: Opener, plan: TrialPlan, size: int, home: Path) -> Figures:
    """Start a cluster below `home`, load it, end it. Raises `OperationTimeout` when nothing was acked."""
    with tempfile.TemporaryDirectory(prefix="floor-", dir=home) as directory:
        async with opener(Path(directory), plan.window) as subject:
            load = Load(subject.log, Generator(secrets.token_hex(8), size, plan.events_a_batch), plan)
            windows: list[Window] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, {"client": os.getpid(), **subject.pids}, plan, windows)
                await load.run()
    return figures_of(load, plan, windows[0])


async def _watch(pids: Mapping[str, int], plan: TrialPlan, windows: list[Window]) -> None:
    """Look at the clocks of the processes, after the warm-up and at the end."""
    now = trio.current_time()
    await trio.sleep_until(now + plan.warmup_s)
    before, begin_s = {role: cpu_s(pid) for role, pid in pids.items()}, trio.current_time()
    await trio.sleep_until(now + plan.warmup_s + plan.seconds)
    used = {role: cpu_s(pid) - before[role] for role, pid in pids.items()}
    windows.append(Window(begin_s, trio.current_time(), used))


def cpu_s(pid: int) -> float:
    """The processor time of a process, in seconds (Linux makes its clock's number of the pid).

    Raises `NodeNotRunning`.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as error:
        raise NodeNotRunning(f"process {pid} ended while it was measured") from error


def figures_of(load: Load, plan: TrialPlan, window: Window) -> Figures:
    """The figures of a run that has ended."""
    acked = load.recorder.acked_between(window.begin_s, window.end_s)
    if not acked:
        raise OperationTimeout("nothing was acked")
    found = load.recorder.percentiles(window.begin_s, window.end_s, intended=plan.rate > 0)
    cpu_us = {f"{role}_us_per_event": 1e6 * used / acked for role, used in window.cpu_s.items()}
    return {
        "events_per_s": acked / (window.end_s - window.begin_s),
        "p50_ms": found.p50,
        "p99_ms": found.p99,
        "p999_ms": found.p999,
        "max_ms": found.max,
        **cpu_us,
        "all_us_per_event": sum(cpu_us.values()),
        "not_acked_events": float(load.sent - load.acked),
    }


def medians(runs: Sequence[Figures]) -> Figures:
    """Of each figure."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def ratios(ours: Sequence[Figures], floor: Sequence[Figures]) -> Figures:
    """Each of our figures, divided by that of the floor: the median of the turns.

    Both runs of a turn met the same minute of the machine; medians of either would mix the minutes.
    """
    turns = list(zip(ours, floor, strict=True))
    return {name: median(_ratio(one[name], below[name]) for one, below in turns) for name in ours[0]}


def _ratio(value: float | None, below: float | None) -> float | None:
    return value / below if value is not None and below else None
