"""The open loop: its turns keep their times, whatever is done with them; what it passes over, it tells."""

import math

import pytest
import trio
import trio.testing

from esctl.bench.openloop import OpenLoop, PassedOver, Turn, events_a_batch


@pytest.mark.parametrize(
    ("rate", "most", "batch"),
    [(10, 1024, 1), (1_000, 1024, 1), (1_001, 1024, 2), (60_000, 1024, 60), (9e9, 1024, 1024), (9e9, 64, 64)],
)
def test_what_falls_due_within_a_millisecond_travels_together(rate: float, most: int, batch: int) -> None:
    assert events_a_batch(rate, most) == batch


class Server:
    """Serves turns, each in `takes_s`, and stands still between two times."""

    def __init__(self, takes_s: float = 0.0, still: tuple[float, float] = (math.inf, math.inf)) -> None:
        self.served: list[Turn] = []
        self.waited_s: list[float] = []
        self.under_way = self.most_under_way = 0
        self._takes_s, self._still = takes_s, still

    async def serve(self, turn: Turn) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        begin_s, end_s = self._still
        if begin_s <= trio.current_time() < end_s:
            await trio.sleep_until(end_s)
        await trio.sleep(self._takes_s)
        self.under_way -= 1
        self.served.append(turn)
        self.waited_s.append(trio.current_time() - turn.meant_s)


async def test_each_turn_is_served_at_its_time(autojump_clock: trio.testing.MockClock) -> None:
    server, begin_s = Server(takes_s=0.4), trio.current_time() + 1
    await OpenLoop(rate=1000, events=10).run(server.serve, begin_s, begin_s + 2)
    assert [turn.meant_s for turn in server.served] == pytest.approx([begin_s + n / 100 for n in range(200)])
    assert [turn.due_s - turn.meant_s for turn in server.served] == pytest.approx([0.009] * 200)
    assert server.waited_s == pytest.approx([0.409] * 200)


async def test_a_pause_is_in_the_wait_of_every_turn_that_was_meant_in_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begin_s = trio.current_time()
    server = Server(still=(begin_s + 1, begin_s + 3))
    await OpenLoop(rate=100, events=1, window=1).run(server.serve, begin_s, begin_s + 4)
    assert len(server.served) == 400
    late = sorted(waited_s for waited_s in server.waited_s if waited_s > 1e-6)
    assert late == pytest.approx([n / 100 for n in range(1, 201)])


async def test_no_more_turns_are_under_way_than_the_window_holds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server, begin_s = Server(takes_s=1.0), trio.current_time()
    await OpenLoop(rate=100, events=1, window=7).run(server.serve, begin_s, begin_s + 1)
    assert server.most_under_way == 7
    assert len(server.served) == 100, "what was meant in the time is served, however late"
    assert trio.current_time() == pytest.approx(begin_s + math.ceil(100 / 7), abs=0.2)


async def test_what_lies_too_far_back_is_passed_over_and_told(autojump_clock: trio.testing.MockClock) -> None:
    begin_s = trio.current_time()
    server, told = Server(still=(begin_s + 1, begin_s + 6)), list[PassedOver]()
    loop = OpenLoop(rate=100, events=1, window=50, most_behind_s=1.0, passed_over=told.append)
    await loop.run(server.serve, begin_s, begin_s + 10)
    (gap,) = told
    assert gap.count == pytest.approx(350, abs=2), "5 s without an answer, half a second of it in the window"
    assert (gap.newest_s, gap.oldest_s) == pytest.approx((1.0, 4.5), abs=0.03)
    assert len(server.served) + gap.count == loop.turns_between(begin_s, begin_s + 10) == 1000
    assert len({turn.meant_s for turn in server.served}) == len(server.served), "none is served twice"


async def test_a_loop_that_is_ended_begins_nothing_and_waits_for_what_is_under_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server, begin_s = Server(takes_s=2.0), trio.current_time()
    loop = OpenLoop(rate=100, events=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.run, server.serve, begin_s)
        await trio.sleep_until(begin_s + 0.995)
        loop.end()
    assert len(server.served) == 100
    assert trio.current_time() == pytest.approx(begin_s + 2.99)
