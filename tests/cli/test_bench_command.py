"""`esctl bench produce`: what it counts, what it says of an overload, and the run as it is typed."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esctl.commands.bench import produce as bench
from esctl.exits import Exit
from esctl.load.generator import Generator
from esctl.load.runner import Load, Plan
from esnode.client import BatchAck
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import EventStreamError, NoQuorum, OperationTimeout, WindowFull
from esnode.events import decode_events
from tests.cli import conftest as clusters
from tests.cli.sink_node import SinkNode, sink

RUN = "0123456789abcdef"
FACTS: dict[str, Any] = {
    "rate": 0, "window": 4, "nodes": [{"rss_bytes": 50_000_000}], "cluster_nodes": 3, "storage": "sqlite",
    "durability": "fsync", "size_bytes": 128, "events_a_batch": 10, "seconds": 2.0, "warmup_s": 1.0,
    "generator_us_per_event": 0.5, "cpus": 2, "cpu": None, "machine": "x", "python": "3",
}  # fmt: skip


class Log:
    """Acks after `delay_s`; stands still from `still_from` to `still_to`; may fail."""

    def __init__(self, delay_s: float = 0.01, still_from: float = -1, still_to: float = -1) -> None:
        self.delay_s, self.still_from, self.still_to = delay_s, still_from, still_to
        self.begun = trio.current_time()
        self.batches = 0
        self.error: EventStreamError | None = None
        self.fails_every = 10
        self.leads = True

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> BatchAck:
        self.batches += 1
        if on_sent is not None and self.leads:
            on_sent()
        await trio.sleep(self.delay_s)
        now = trio.current_time() - self.begun
        if self.still_from <= now < self.still_to:
            await trio.sleep(self.still_to - now)
        if self.error is not None and self.batches % self.fails_every == 0:
            raise self.error
        return BatchAck((OffsetRange(0, batch.count),), 0, False)


def load_on(log: Log, plan: Plan) -> Load:
    return Load(log, Generator(RUN, 128, plan.events_a_batch), plan)


async def test_a_closed_loop_keeps_its_window_full(autojump_clock: trio.abc.Clock) -> None:
    plan = Plan(seconds=2, warmup_s=1, rate=0, batch=10, window=4)
    load = load_on(Log(), plan)
    await load.run()
    answer = bench.answer_of(load, plan, FACTS)
    assert answer.data["events_per_s"] == pytest.approx(4 * 10 / 0.01, rel=0.02)
    assert answer.data["acked"] == pytest.approx(8_000, rel=0.02)
    assert answer.data["acked_in_all"] == pytest.approx(12_000, rel=0.02)
    assert (answer.data["failed"], answer.data["unknown"]) == (0, 0)
    assert answer.data["latency_ms"] == answer.data["raw_latency_ms"]
    assert answer.data["latency_ms"]["p50"] == pytest.approx(10, rel=0.01)
    assert answer.exit_code == Exit.OK


async def test_a_rate_is_kept_and_a_stall_is_charged_to_every_event_it_delayed(
    autojump_clock: trio.abc.Clock,
) -> None:
    plan = Plan(seconds=10, warmup_s=1, rate=1000, batch=64, window=64)
    assert plan.events_a_batch == 1
    load = load_on(Log(still_from=5, still_to=6), plan)
    await load.run()
    data = bench.answer_of(load, plan, {**FACTS, "rate": 1000}).data
    assert data["events_per_s"] == pytest.approx(1000, rel=0.01)
    # A tenth of the events was meant to be sent while the log stood still for a second.
    assert data["latency_ms"]["p99"] > 800
    assert data["latency_ms"]["p50"] == pytest.approx(10, rel=0.5)
    assert data["raw_latency_ms"]["p99"] == pytest.approx(10, rel=0.1)
    assert data["generator_late_ms"] > 500


def test_a_batch_at_a_rate_holds_what_falls_due_in_a_millisecond() -> None:
    assert Plan(1, 0, rate=60_000, batch=64, window=1).events_a_batch == 60
    assert Plan(1, 0, rate=10_000_000, batch=64, window=1).events_a_batch == 64
    assert Plan(1, 0, rate=10, batch=64, window=1).events_a_batch == 1
    assert Plan(1, 0, rate=0, batch=64, window=1).events_a_batch == 64


@pytest.mark.parametrize(("error", "failed"), [(WindowFull("full"), True), (OperationTimeout("late"), False)])
async def test_events_without_an_ack_are_counted_by_what_is_known_of_them(
    error: EventStreamError, failed: bool, autojump_clock: trio.abc.Clock
) -> None:
    plan = Plan(seconds=1, warmup_s=0, rate=0, batch=10, window=1)
    log = Log()
    log.error = error
    load = load_on(log, plan)
    await load.run()
    answer = bench.answer_of(load, plan, FACTS)
    assert answer.data["failed" if failed else "unknown"] == pytest.approx(100, abs=10)
    assert answer.data["unknown" if failed else "failed"] == 0
    assert answer.data["errors_by_code"] == {error.code: pytest.approx(100, abs=10)}
    assert answer.exit_code == Exit.ERROR


@pytest.mark.parametrize("delay_s", [0.01, 1000])
async def test_events_that_never_left_are_not_unknown(delay_s: float, autojump_clock: trio.abc.Clock) -> None:
    plan = Plan(seconds=1, warmup_s=0, rate=0, batch=10, window=1)
    log = Log(delay_s)
    log.leads, log.error = False, NoQuorum("nobody leads")
    log.fails_every = 1
    load = load_on(log, plan)
    await load.run()
    assert (load.acked, load.unknown) == (0, 0)
    assert load.failed == load.sent


async def test_an_overload_is_called_one(autojump_clock: trio.abc.Clock) -> None:
    plan = Plan(seconds=2, warmup_s=0, rate=1000, batch=64, window=1)
    load = load_on(Log(delay_s=0.1), plan)
    await load.run()
    answer = bench.answer_of(load, plan, {**FACTS, "rate": 1000})
    assert answer.data["events_per_s"] < 20
    assert "did not keep up" in str(answer.views[-1])


async def test_nothing_acked_is_an_error_and_its_latencies_are_empty(autojump_clock: trio.abc.Clock) -> None:
    plan = Plan(seconds=1, warmup_s=0, rate=0, batch=10, window=2)
    load = load_on(Log(delay_s=1000), plan)
    await load.run()
    answer = bench.answer_of(load, plan, FACTS)
    assert answer.exit_code == Exit.ERROR
    assert answer.data["unknown"] == 20
    assert answer.data["latency_ms"] == {"p50": None, "p99": None, "p999": None, "max": None}


def test_making_an_event_costs_little() -> None:
    assert 0 < bench.generator_cost_us(100, 64) < 50  # 0.4 on a quiet machine


@pytest.mark.slow
async def test_a_bench_prints_its_figures_and_sends_each_event_once(tmp_path: Path) -> None:
    node = SinkNode()
    words = ["bench", "produce", "--seconds", "0.5", "--warmup", "0.1", "--rate", "2000", "-o", "json"]
    async with sink(tmp_path, node):
        run: subprocess.CompletedProcess[bytes] = await trio.run_process(
            [sys.executable, "-m", "esctl.main", *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert run.returncode == 0
    data = json.loads(run.stdout)["data"]
    assert data["acked_in_all"] == len(node.offsets)
    assert run.stderr.decode().splitlines() == [
        f"{len(node.offsets):,} generated events are in the log of sink now, for good;"
        " for a throw-away one: esctl cluster up bench"
    ]
    assert 0 < data["acked"] <= data["acked_in_all"]
    assert data["failed"] == data["unknown"] == 0
    assert data["latency_ms"]["p50"] <= data["latency_ms"]["p999"] <= data["latency_ms"]["max"]
    assert data["facts"]["size_bytes"] == 100
    assert data["facts"]["events_a_batch"] == 2
    assert data["facts"]["cluster_nodes"] == 1


async def test_a_bench_says_what_may_be_in_the_log_and_how_its_own_cluster_goes(
    autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    plan = Plan(seconds=1, warmup_s=0, rate=0, batch=10, window=2)
    load = load_on(Log(delay_s=1000), plan)
    await load.run()
    own = clusters.plan("bench", tmp_path)
    assert bench.added(load, own) == (
        "0 generated events, and up to 20 more are in the log of bench now, for good;"
        " next, when done: esctl cluster destroy bench"
    )


def test_the_help_of_bench_says_that_its_events_stay() -> None:
    assert "they stay in the log" in " ".join((inspect.getdoc(bench.produce) or "").split())


def test_the_smallest_events_of_a_bench_are_whole_cloudevents() -> None:
    events = decode_events(Generator(RUN, 100, 2).next_batch().payload)
    assert [sorted(event) for event in events] == [["data", "id", "source", "specversion", "type"]] * 2
