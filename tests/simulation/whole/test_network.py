"""The simulated network is a network: streams as trio wants them, and the ways in which they fail."""

import random
from dataclasses import dataclass

import pytest
import trio
from trio.testing import check_half_closeable_stream

from esnode.config import Address
from esnode.errors import Unreachable

from .network import Network
from .streams import End, Weather

pytestmark = pytest.mark.usefixtures("autojump_clock")

PORT = Address("10.0.0.1", 7200)
WEATHER = Weather(latency_s=(0.001, 0.01), straggler=0.1, split=0.5)


@dataclass
class Pair:
    """A connection from host `a` to host `b`."""

    network: Network
    near: End
    far: End


async def pair(seed: int = 0, weather: Weather = WEATHER, confirm_within_s: float = 2.0) -> Pair:
    network = Network(random.Random(seed), weather)
    listener = network.listen("b", PORT, confirm_within_s)
    near = await network.dialer("a")(PORT)
    far = await listener.accept()
    assert isinstance(near, End)
    assert isinstance(far, End)
    return Pair(network, near, far)


async def receive_exactly(end: End, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await end.receive_some()
        assert part, "it ended early"
        data += part
    return data


async def test_the_streams_are_what_trio_calls_a_half_closeable_stream() -> None:
    async def make() -> tuple[End, End]:
        made = await pair()
        return made.near, made.far

    async def make_clogged() -> tuple[End, End]:
        near, far = await make()
        for end in (near, far):
            await end.send_all(bytes(WEATHER.buffer_bytes))
        return near, far

    await check_half_closeable_stream(make, make_clogged)


async def test_bytes_arrive_in_order_and_are_split_and_merged() -> None:
    made = await pair(weather=Weather((0.0, 0.01), split=0.9, buffer_bytes=300))
    sent = [bytes([n]) * n for n in range(1, 200)]
    sizes: list[int] = []

    async def send() -> None:
        for part in sent:
            await made.near.send_all(part)
        await made.near.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = b""
        while part := await made.far.receive_some():
            sizes.append(len(part))
            received += part
    assert received == b"".join(sent)
    assert sizes != [len(part) for part in sent]


async def test_a_full_connection_holds_its_sender_up() -> None:
    made = await pair(weather=Weather(buffer_bytes=100), confirm_within_s=float("inf"))
    with trio.move_on_after(5) as scope:
        await made.near.send_all(bytes(101))
    assert scope.cancelled_caught


async def test_a_reset_breaks_both_ends_and_loses_what_is_on_its_way() -> None:
    made = await pair()
    await made.near.send_all(b"lost")
    made.network.reset(made.near)
    for end in (made.near, made.far):
        with pytest.raises(trio.BrokenResourceError):
            await end.receive_some()


async def test_the_other_side_of_a_half_open_connection_finds_out_when_it_sends() -> None:
    made = await pair()
    made.network.half_open(made.near)
    with pytest.raises(trio.BrokenResourceError):
        await made.near.receive_some()
    with trio.move_on_after(60) as scope:
        await made.far.receive_some()
    assert scope.cancelled_caught, "nobody told it"
    await made.far.send_all(b"?")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(1):
        await made.far.receive_some()


async def test_what_a_cut_holds_up_arrives_when_it_is_mended() -> None:
    made = await pair()
    made.network.cut([("a", "b")])
    await made.near.send_all(b"late")
    with trio.move_on_after(1) as scope:
        await made.far.receive_some()
    assert scope.cancelled_caught
    made.network.mend([("a", "b")])
    with trio.fail_after(1):
        assert await receive_exactly(made.far, 4) == b"late"
    await trio.sleep(60)
    await made.near.send_all(b"x")  # it was confirmed in time


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
async def test_bytes_that_nobody_confirms_break_the_connection_of_the_sender(way: tuple[str, str]) -> None:
    made = await pair(confirm_within_s=2.0)
    made.network.cut([way])
    begun = trio.current_time()
    await made.near.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await made.near.receive_some()
    assert trio.current_time() - begun == pytest.approx(2.0)


async def test_one_who_is_not_heard_still_hears() -> None:
    made = await pair()
    made.network.cut([("a", "b")])
    await made.far.send_all(b"news")
    assert await receive_exactly(made.near, 4) == b"news"


async def test_a_stalled_connection_holds_up_nobody_else() -> None:
    made = await pair()
    made.network.stall(made.near, True)
    await made.near.send_all(b"x")
    await made.far.send_all(b"y")
    assert await made.near.receive_some() == b"y"
    with trio.move_on_after(1) as scope:
        await made.far.receive_some()
    assert scope.cancelled_caught
    made.network.stall(made.near, False)
    assert await made.far.receive_some() == b"x"


async def test_a_process_that_ends_closes_its_connections_and_refuses_new_ones() -> None:
    made = await pair()
    await made.far.send_all(b"last words")
    made.network.end_process("b")
    assert await receive_exactly(made.near, 10) == b"last words"
    assert await made.near.receive_some() == b""
    with pytest.raises(Unreachable, match="refused"):
        await made.network.dialer("a")(PORT)


async def test_a_machine_without_power_answers_nothing_until_it_is_back() -> None:
    made = await pair(confirm_within_s=float("inf"))
    made.network.power_off("b")
    begun = trio.current_time()
    with pytest.raises(Unreachable, match="does not answer"):
        await made.network.dialer("a")(PORT)
    assert trio.current_time() - begun == pytest.approx(5.0)
    await made.near.send_all(b"?")
    with trio.move_on_after(60) as scope:
        await made.near.receive_some()
    assert scope.cancelled_caught
    made.network.power_on("b")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(1):
        await made.near.receive_some()


async def test_a_dial_into_a_cut_goes_through_with_a_later_try() -> None:
    network = Network(random.Random(0), WEATHER)
    listener = network.listen("b", PORT)
    network.cut([("b", "a")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.dialer("a"), PORT)
        await trio.sleep(0.5)
        network.mend([("b", "a")])
        await listener.accept()
        assert 1.0 < trio.current_time() < 1.1
