"""Connections: what they carry, how they end, and who is let in."""

import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import cbor2
import pytest
import trio
from trio.testing import MockClock, memory_stream_one_way_pair, memory_stream_pair, wait_all_tasks_blocked

from esnode import limits
from esnode.config import Address
from esnode.dedup.batch import Batch
from esnode.errors import (
    Bug,
    Busy,
    ConnectionLost,
    EventStreamError,
    FrameTooLarge,
    HandshakeTimeout,
    ProtocolError,
    UnknownPartition,
    Unreachable,
    VersionMismatch,
    WrongCluster,
    WrongNode,
)
from esnode.messages import (
    PROTOCOL_VERSION,
    Append,
    Goodbye,
    Hello,
    LeaderIs,
    Refused,
    Side,
    StatusRequest,
    Welcome,
)
from esnode.transport.connection import Connection, accept, greet, open_stream, say_goodbye
from esnode.wire import Message, encode

VERSIONS = (PROTOCOL_VERSION, PROTOCOL_VERSION)
CLIENT_HELLO = Hello(Side.CLIENT, *VERSIONS, "", 0, 0, 7)
PEER_HELLO = Hello(Side.PEER, *VERSIONS, "blue", 2, 1, 7)
accept_client = partial(accept, cluster="blue", node_id=1, incarnation=1, allowed_side=Side.CLIENT, peers=())
accept_peer = partial(accept, cluster="blue", node_id=1, incarnation=1, allowed_side=Side.PEER, peers=(2, 3))


def pair() -> tuple[Connection, Connection]:
    ours, theirs = memory_stream_pair()
    return Connection(ours), Connection(theirs)


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Both ends of a connection over loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    theirs = await listener.accept()
    async with listener, ours, theirs:
        yield ours, theirs


# --- messages -------------------------------------------------------------------------------------


async def test_messages_sent_together_arrive_together() -> None:
    ours, theirs = pair()
    await ours.send(StatusRequest(1), StatusRequest(2))
    assert await theirs.receive() == [StatusRequest(1), StatusRequest(2)]


async def test_one_message_at_a_time_leaves_the_rest_for_later() -> None:
    ours, theirs = pair()
    await ours.send(StatusRequest(1), StatusRequest(2), StatusRequest(3))
    assert await theirs.receive_one() == StatusRequest(1)
    assert await theirs.receive() == [StatusRequest(2), StatusRequest(3)]


async def test_a_clean_end_is_an_empty_list() -> None:
    ours, theirs = pair()
    await ours.aclose()
    assert await theirs.receive() == []
    assert await theirs.receive_one() is None


async def test_an_end_within_a_frame_is_a_lost_connection() -> None:
    ours, theirs = pair()
    await ours.send_bytes(encode(StatusRequest(1))[:-1])
    await ours.aclose()
    with pytest.raises(ConnectionLost, match="within a frame"):
        await theirs.receive()


async def test_errors_of_the_stream_become_lost_connections() -> None:
    ours, theirs = pair()
    await theirs.aclose()
    with pytest.raises(ConnectionLost, match="broke while sending"):
        await ours.send(StatusRequest(1))
    with pytest.raises(ConnectionLost, match="closed on this side"):
        await theirs.send(StatusRequest(1))
    with pytest.raises(ConnectionLost, match="closed on this side"):
        await theirs.receive()


async def test_a_reset_by_the_other_side_is_a_lost_connection_with_the_systems_reason() -> None:
    async with tcp_pair() as (ours, theirs):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await theirs.aclose()
        async with Connection(ours) as connection:
            with pytest.raises(ConnectionLost, match="reset"):
                await connection.receive()


async def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    ours, theirs = pair()
    frame = encode(StatusRequest(1))
    await ours.send_bytes(frame[:3])
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.receive)
            await wait_all_tasks_blocked()
            scope.cancel()
    await ours.send_bytes(frame[3:])
    assert await theirs.receive() == [StatusRequest(1)]


async def test_tcp_connections_send_small_frames_at_once() -> None:
    async with tcp_pair() as (ours, _):
        descriptor = ours.socket.fileno()
        async with Connection(ours) as connection:
            with socket.socket(fileno=os.dup(descriptor)) as same:
                assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert connection.peer_address.startswith("127.0.0.1:")


async def test_an_address_where_nobody_listens_is_unreachable() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(Unreachable, match=r"^127\.0\.0\.1:\d+ cannot be reached: Connection refused$"):
        await open_stream(Address("127.0.0.1", port))


def largest_append() -> Append:
    """A frame of 4 MiB."""
    encoded = [bytes(limits.MAX_EVENT_BYTES - 100)] * 4
    return Append(1, Batch(4, bytes(64), cbor2.dumps(encoded)))


# --- deadlines ------------------------------------------------------------------------------------


async def test_an_idle_connection_may_wait_for_ever(autojump_clock: MockClock) -> None:
    ours, theirs = pair()

    async def send_late() -> None:
        await trio.sleep(1000 * limits.FRAME_TIMEOUT_S)
        await ours.send(StatusRequest(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_late)
        assert await theirs.receive() == [StatusRequest(1)]


async def test_a_frame_that_has_begun_must_become_whole_in_time(autojump_clock: MockClock) -> None:
    ours, theirs = pair()
    await ours.send_bytes(encode(StatusRequest(1))[:-1])
    begun = trio.current_time()
    with pytest.raises(ConnectionLost, match="FRAME_TIMEOUT_S"):
        await theirs.receive()
    assert trio.current_time() - begun == pytest.approx(limits.FRAME_TIMEOUT_S)


async def test_a_byte_a_second_does_not_stretch_the_deadline(autojump_clock: MockClock) -> None:
    ours, theirs = pair()

    async def drip() -> None:
        for byte in encode(Goodbye("ES1101", "x" * 100)):
            await trio.sleep(1)
            await ours.send_bytes(bytes([byte]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(ConnectionLost, match="FRAME_TIMEOUT_S"):
            await theirs.receive()
        assert trio.current_time() <= limits.FRAME_TIMEOUT_S + 2
        nursery.cancel_scope.cancel()


async def test_a_frame_that_comes_at_the_slowest_rate_is_waited_for(autojump_clock: MockClock) -> None:
    """The largest there is; at half that rate it is given up, long before it is whole."""
    frame = encode(largest_append())
    for share, arrives in ((1.01, True), (0.5, False)):
        ours, theirs = pair()
        piece = 10_000
        pause_s = piece / (share * limits.SLOWEST_LINK_BYTES_PER_S)

        async def send(connection: Connection = ours, piece: int = piece, pause_s: float = pause_s) -> None:
            for at in range(0, len(frame), piece):
                await connection.send_bytes(frame[at : at + piece])
                await trio.sleep(pause_s)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            if arrives:
                assert await theirs.receive() == [largest_append()]
            else:
                begun = trio.current_time()
                with pytest.raises(ConnectionLost, match="SLOWEST_LINK_BYTES_PER_S"):
                    await theirs.receive()
                assert trio.current_time() - begun < 2.1 * limits.FRAME_TIMEOUT_S
            nursery.cancel_scope.cancel()


async def test_more_of_a_large_frame_is_a_sign_of_life_and_a_byte_now_and_then_is_none(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = pair()
    frame = encode(largest_append())
    signs: list[float] = []
    theirs.on_progress(lambda: signs.append(trio.current_time()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.receive)
        at = 0
        for size, pause_s in [(1, 0.5)] * 10 + [(10_000, 0.02)] * 50:
            await ours.send_bytes(frame[at : at + size])
            at += size
            await trio.sleep(pause_s)
        nursery.cancel_scope.cancel()
    assert 15 <= len(signs) <= 20
    assert signs[0] >= 5.0
    gaps = [later - sign for sign, later in itertools.pairwise(signs)]
    assert limits.SIGN_OF_LIFE_S <= min(gaps) <= max(gaps) < limits.MAX_SIGN_GAP_S


async def test_each_frame_has_its_own_deadline(autojump_clock: MockClock) -> None:
    ours, theirs = pair()
    frame = encode(StatusRequest(1))

    async def send_slowly() -> None:
        for _ in range(5):
            await ours.send_bytes(frame[:3])
            await trio.sleep(limits.FRAME_TIMEOUT_S * 0.9)
            await ours.send_bytes(frame[3:])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_slowly)
        for _ in range(5):
            assert await theirs.receive() == [StatusRequest(1)]


async def test_time_in_which_nobody_receives_does_not_count(autojump_clock: MockClock) -> None:
    ours, theirs = pair()
    frame = encode(StatusRequest(1))
    await ours.send_bytes(frame + frame[:3])
    assert await theirs.receive() == [StatusRequest(1)]
    await trio.sleep(limits.FRAME_TIMEOUT_S * 2)
    await ours.send_bytes(frame[3:])
    assert await theirs.receive() == [StatusRequest(1)]


# --- the handshake --------------------------------------------------------------------------------


async def shake(hello: Hello, acceptor: partial[object]) -> tuple[object, object]:
    """What both sides end with: a message or an error."""
    ours, theirs = pair()
    outcome: list[object] = [None, None]

    async def open_side() -> None:
        try:
            outcome[0] = await greet(ours, hello)
        except EventStreamError as error:
            outcome[0] = error

    async def accept_side() -> None:
        try:
            outcome[1] = await acceptor(theirs)  # type: ignore[misc]
        except EventStreamError as error:
            outcome[1] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_side)
        nursery.start_soon(accept_side)
    return outcome[0], outcome[1]


@pytest.mark.parametrize(
    ("hello", "acceptor"), [(CLIENT_HELLO, accept_client), (PEER_HELLO, accept_peer)], ids=["client", "peer"]
)
async def test_a_good_hello_is_welcome(hello: Hello, acceptor: partial[object]) -> None:
    assert await shake(hello, acceptor) == (Welcome(PROTOCOL_VERSION, "blue", 1, 1), hello)


@pytest.mark.parametrize(
    ("hello", "acceptor", "error"),
    [
        (
            Hello(Side.CLIENT, PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 2, "", 0, 0, 7),
            accept_client,
            VersionMismatch,
        ),
        (Hello(Side.CLIENT, 1, 1, "", 0, 0, 7), accept_client, VersionMismatch),
        (Hello(Side.PEER, 1, 1, "blue", 2, 1, 7), accept_peer, VersionMismatch),
        (Hello(Side.CLIENT, *VERSIONS, "red", 0, 0, 7), accept_client, WrongCluster),
        (Hello(Side.CLIENT, *VERSIONS, "", 0, 2, 7), accept_client, WrongNode),
        (Hello(Side.CLIENT, *VERSIONS, "", 0, 0, 7, partition=1), accept_client, UnknownPartition),
        (Hello(Side.PEER, *VERSIONS, "blue", 2, 1, 7, partition=1), accept_peer, UnknownPartition),
        (PEER_HELLO, accept_client, ProtocolError),
        (CLIENT_HELLO, accept_peer, ProtocolError),
        (Hello(Side.PEER, *VERSIONS, "", 2, 1, 7), accept_peer, WrongCluster),
        (Hello(Side.PEER, *VERSIONS, "red", 2, 1, 7), accept_peer, WrongCluster),
        (Hello(Side.PEER, *VERSIONS, "blue", 2, 0, 7), accept_peer, WrongNode),
        (Hello(Side.PEER, *VERSIONS, "blue", 2, 3, 7), accept_peer, WrongNode),
        (Hello(Side.PEER, *VERSIONS, "blue", 4, 1, 7), accept_peer, WrongNode),
        (Hello(Side.PEER, *VERSIONS, "blue", 1, 1, 7), accept_peer, WrongNode),
        (Hello(Side.PEER, *VERSIONS, "blue", 2, 1, 1), accept_peer, WrongNode),
    ],
)
async def test_both_sides_of_a_bad_hello_get_the_same_typed_error(
    hello: Hello, acceptor: partial[object], error: type[EventStreamError]
) -> None:
    opened, accepted = await shake(hello, acceptor)
    assert type(opened) is error
    assert type(accepted) is error
    assert str(opened) == str(accepted)


@pytest.mark.parametrize(
    ("versions", "older"),
    [((PROTOCOL_VERSION + 1, PROTOCOL_VERSION + 3), "node 1"), ((0, PROTOCOL_VERSION - 1), "node 2")],
    ids=["newer", "older"],
)
async def test_a_hello_with_the_fields_of_another_version_is_told_what_to_upgrade(
    versions: tuple[int, int], older: str
) -> None:
    """Before its other fields are looked at: they may mean anything."""
    ours, theirs = pair()
    body = cbor2.dumps([2, *versions, "blue", 2, 1, 7, b"", False, {"of another": "version"}])
    await ours.send_bytes(struct.pack(">IB", 1 + len(body), 1) + body)
    with pytest.raises(VersionMismatch) as caught:
        await accept_peer(theirs)
    assert f"speaks version {PROTOCOL_VERSION}" in str(caught.value)
    assert f"{versions[0]} to {versions[1]}" in str(caught.value)
    said = older if older == "node 1" else "the other side"
    assert str(caught.value).endswith(f"upgrade {said}")
    assert await ours.receive_one() == Goodbye(VersionMismatch.code, str(caught.value))


async def test_a_hello_with_other_fields_and_a_version_in_common_is_no_message() -> None:
    ours, theirs = pair()
    body = cbor2.dumps([2, PROTOCOL_VERSION, PROTOCOL_VERSION, "blue", 2, 1, 7, b"", False, *range(40)])
    await ours.send_bytes(struct.pack(">IB", 1 + len(body), 1) + body)
    with pytest.raises(ProtocolError):
        await accept_peer(theirs)


async def test_a_hello_that_does_not_come_is_not_waited_for(autojump_clock: MockClock) -> None:
    ours, theirs = pair()
    with pytest.raises(HandshakeTimeout, match="HANDSHAKE_TIMEOUT_S"):
        await accept_client(theirs)
    assert trio.current_time() == pytest.approx(limits.HANDSHAKE_TIMEOUT_S, abs=1)
    assert await ours.receive() == [
        Goodbye(HandshakeTimeout.code, "no Hello within 5 s (HANDSHAKE_TIMEOUT_S)")
    ]


async def test_an_answer_that_does_not_come_is_not_waited_for(autojump_clock: MockClock) -> None:
    ours, _theirs = pair()
    with pytest.raises(HandshakeTimeout):
        await greet(ours, CLIENT_HELLO)


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (encode(StatusRequest(1)), ProtocolError),
        (b"GET / HTTP/1.1\r\n\r\n", FrameTooLarge),
        (b"\x00\x00\x00\x00", FrameTooLarge),
        (b"\x00\x00\x00\x02\xee\x00", ProtocolError),
    ],
)
async def test_what_is_no_hello_gets_a_goodbye_with_its_code(
    first: bytes, error: type[EventStreamError], autojump_clock: MockClock
) -> None:
    ours, theirs = pair()
    await ours.send_bytes(first)
    with pytest.raises(error):
        await accept_client(theirs)
    goodbye = await ours.receive_one()
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code == error.code


@pytest.mark.parametrize("cut", [0, 5])
async def test_a_connection_that_ends_before_its_hello_is_lost(cut: int) -> None:
    ours, theirs = pair()
    await ours.send_bytes(encode(CLIENT_HELLO)[:cut])
    await ours.aclose()
    with pytest.raises(ConnectionLost):
        await accept_client(theirs)


@pytest.mark.parametrize(
    ("hello", "answer", "error"),
    [
        (CLIENT_HELLO, StatusRequest(1), ProtocolError),
        (CLIENT_HELLO, Welcome(PROTOCOL_VERSION + 1, "blue", 1, 1), VersionMismatch),
        (
            Hello(Side.CLIENT, *VERSIONS, "red", 0, 0, 7),
            Welcome(PROTOCOL_VERSION, "blue", 1, 1),
            WrongCluster,
        ),
        (Hello(Side.CLIENT, *VERSIONS, "", 0, 2, 7), Welcome(PROTOCOL_VERSION, "blue", 1, 1), WrongNode),
        (CLIENT_HELLO, Goodbye(Busy.code, "full"), Busy),
        (CLIENT_HELLO, Goodbye("ES7777", "from the future"), ProtocolError),
        (CLIENT_HELLO, Goodbye(Bug.code, "the other side's own"), ConnectionLost),
    ],
)
async def test_a_wrong_answer_to_hello_is_a_typed_error(
    hello: Hello, answer: Message, error: type[EventStreamError]
) -> None:
    ours, theirs = pair()
    await theirs.send(answer)
    with pytest.raises(error):
        await greet(ours, hello)


async def test_an_end_instead_of_an_answer_is_a_lost_connection() -> None:
    ours, theirs = pair()
    await theirs.aclose()
    with pytest.raises(ConnectionLost):
        await greet(ours, CLIENT_HELLO)


async def test_what_follows_the_welcome_is_not_lost() -> None:
    ours, theirs = pair()
    await theirs.send(Welcome(PROTOCOL_VERSION, "blue", 1, 1), LeaderIs(1, 1, "a:1"), LeaderIs(2, 1, "a:1"))
    await greet(ours, CLIENT_HELLO)
    assert await ours.receive() == [LeaderIs(1, 1, "a:1"), LeaderIs(2, 1, "a:1")]


async def test_a_header_of_one_gigabyte_is_answered_before_its_body_comes() -> None:
    async with tcp_pair() as (ours, theirs), Connection(ours) as client, Connection(theirs) as node:
        await client.send_bytes(b"\x40\x00\x00\x00" + bytes(100_000))
        with pytest.raises(FrameTooLarge):
            await accept_client(node)
        await node.aclose()
        assert [type(message) for message in await client.receive()] == [Goodbye]
        assert await client.receive() == []


async def test_a_stranger_may_not_even_announce_a_large_frame() -> None:
    ours, theirs = pair()
    await ours.send_bytes(struct.pack(">IB", limits.MAX_HELLO_BYTES + 1, 1))
    with pytest.raises(FrameTooLarge, match=str(limits.MAX_HELLO_BYTES)):
        await accept_client(theirs)


async def test_after_the_handshake_frames_may_be_large() -> None:
    ours, theirs = pair()
    await ours.send(CLIENT_HELLO)
    await accept_client(theirs)
    large = Refused(1, "ES1101", "x" * limits.MAX_HELLO_BYTES)
    await ours.send(large)
    assert await theirs.receive() == [large]


# --- saying goodbye -------------------------------------------------------------------------------


async def test_a_goodbye_to_somebody_who_has_gone_is_no_error() -> None:
    ours, theirs = pair()
    await theirs.aclose()
    await say_goodbye(ours, Busy("full"))


async def test_a_goodbye_waits_only_a_moment_for_the_other_side(autojump_clock: MockClock) -> None:
    send_stream, _ = memory_stream_one_way_pair()
    blocked = send_stream

    async def wait_for_ever() -> None:
        await trio.sleep_forever()

    blocked.send_all_hook = wait_for_ever
    _, receive_stream = memory_stream_one_way_pair()
    connection = Connection(trio.StapledStream(blocked, receive_stream))
    await say_goodbye(connection, Busy("full"))
    assert trio.current_time() == pytest.approx(limits.STOP_TIMEOUT_S)
