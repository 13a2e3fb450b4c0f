"""`esctl bench e2e`: deliveries are matched with the events that were meant to be sent, by their offsets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trio

from esctl.bench.delivery import Deliveries, EndToEnd, Followed, run_end_to_end
from esctl.bench.generator import Generator
from esctl.bench.runner import TrialPlan
from esctl.commands.bench import e2e
from esctl.exits import Exit
from esctl.ui.answer import Answer
from esctl.ui.terminal import Output, Terminal
from esnode.client import StoredBatch
from tests.esctl import contract
from tests.esctl.fake_log import RUN, Log, Nodes
from tests.esctl.results import CLUSTER, MACHINE

PLAN = TrialPlan(seconds=4, warmup_s=1, rate=1000, batch=64, window=16)


class Follower:
    """Delivers each batch `late_s` after its ack; stops after `last_offset`."""

    def __init__(self, log: Log, late_s: float, last_offset: float = float("inf")) -> None:
        self.late_s, self.last_offset = late_s, last_offset
        self._sender, self._receiver = trio.open_memory_channel[tuple[float, int]](10_000)
        log.on_ack = lambda end: self._sender.send_nowait((trio.current_time(), end))

    async def next_batch(self) -> StoredBatch | None:
        acked_s, end = await self._receiver.receive()
        await trio.sleep_until(acked_s + self.late_s)
        if end > self.last_offset:
            await trio.sleep_forever()
        # Only where it ends is looked at.
        return StoredBatch(None, end - 1, end)  # type: ignore[arg-type]


async def measured(follower_of: Callable[[Log], Follower], log: Log | None = None) -> EndToEnd:
    log = log or Log()
    followed = Followed(follower_of(log), from_offset=0, node=2, follower=True)
    return await run_end_to_end(log, [followed], Nodes().look, Generator(RUN, 128, PLAN.events_a_batch), PLAN)


def answered(*ended: EndToEnd) -> Answer[Any]:
    result = e2e.result_of(list(ended), MACHINE, CLUSTER)
    answer = e2e.answer_of(result, [one.trial.load for one in ended], plot=True)
    return contract.checked("bench e2e", answer)


async def test_delivery_counts_from_the_intended_time_and_stands_beside_the_ack(
    autojump_clock: trio.abc.Clock,
) -> None:
    answer = answered(await measured(lambda log: Follower(log, late_s=0.005)))
    found: dict[str, Any] = answer.data["figures"]
    assert found["p50_ms"] == pytest.approx(15, rel=0.02)
    assert found["ack_p50_ms"] == pytest.approx(10, rel=0.02)
    assert found["raw_p50_ms"] == pytest.approx(15, rel=0.02)
    assert found["events_per_s"] == pytest.approx(1000, rel=0.02)
    assert found["undelivered"] == 0
    assert found["leader_cpu_us_per_event"] == pytest.approx(500, rel=0.02)
    assert answer.exit_code is Exit.OK
    assert answer.data["settings"]["from"] == "follower"
    for output in (Output.TABLE, Output.PLAIN, Output.JSON):
        Terminal(output).show("bench e2e", answer)


async def test_a_log_that_stands_still_delays_the_deliveries_of_all_that_waits(
    autojump_clock: trio.abc.Clock,
) -> None:
    log = Log(still_from=2, still_to=3)
    found = answered(await measured(lambda it: Follower(it, late_s=0.005), log)).data["figures"]
    assert found["p99_ms"] > 900
    assert found["raw_p99_ms"] < found["p99_ms"]


async def test_a_rate_that_the_deliveries_do_not_reach_is_an_overload(
    autojump_clock: trio.abc.Clock,
) -> None:
    answer = answered(await measured(lambda log: Follower(log, late_s=0.005), Log(still_from=3, still_to=6)))
    assert answer.data["figures"]["undelivered"] == 0
    assert answer.data["detail"]["rate_reached"] is False
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert "the rate was not reached" in answer.errors[0].message


async def test_events_that_never_arrive_are_told_and_make_it_an_error(
    autojump_clock: trio.abc.Clock,
) -> None:
    ended = await measured(lambda log: Follower(log, late_s=0.005, last_offset=3000))
    answer = answered(ended)
    assert answer.data["figures"]["undelivered"] == ended.trial.load.acked - 3000
    assert answer.exit_code is Exit.ERROR
    assert "did not reach the subscriber" in answer.errors[0].message


def test_an_event_is_delivered_when_the_batch_that_holds_it_comes() -> None:
    deliveries = Deliveries(100)
    for end, at_s in ((110, 1.0), (111, 2.0), (200, 3.0)):
        deliveries.delivered(end, at_s)
    times = deliveries.times(np.array([99, 100, 109, 110, 111, 199, 200]))
    assert [None if np.isnan(time) else time for time in times] == [None, 1.0, 1.0, 2.0, 3.0, 3.0, None]


async def test_whoever_waits_for_an_offset_hears_of_it(autojump_clock: trio.abc.Clock) -> None:
    deliveries = Deliveries(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliveries.wait_for, 5)
        await trio.sleep(1)
        deliveries.delivered(5, 1.0)
        await trio.sleep(1)
        assert nursery.child_tasks
        deliveries.delivered(6, 2.0)
