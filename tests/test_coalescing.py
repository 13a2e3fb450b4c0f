"""Tasks that look equally often wake up together, whenever they began."""

import trio

from esnode.coalescing import sleep_to_next


async def test_tasks_that_began_at_different_times_wake_up_together(autojump_clock: trio.abc.Clock) -> None:
    woken: list[float] = []

    async def look(begin_s: float) -> None:
        await trio.sleep(begin_s)
        for _ in range(3):
            await sleep_to_next(1.0)
            woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for begin_s in (0.0, 0.25, 0.9):
            nursery.start_soon(look, begin_s)
    assert woken == [1.0] * 3 + [2.0] * 3 + [3.0] * 3


async def test_it_tells_how_long_it_was_to_sleep(autojump_clock: trio.abc.Clock) -> None:
    await trio.sleep(0.25)
    assert await sleep_to_next(1.0) == 0.75
    assert await sleep_to_next(1.0) == 1.0  # never at once: a task would look twice at the same moment


async def test_an_interval_that_is_no_binary_fraction_does_not_look_twice(
    autojump_clock: trio.abc.Clock,
) -> None:
    for interval_s in (0.1, 0.3, 0.7, 0.049):
        for _ in range(1000):
            before = trio.current_time()
            await sleep_to_next(interval_s)
            assert trio.current_time() > before
