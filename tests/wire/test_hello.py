"""The first two frames: what every version reads of them, and what was added later."""

import cbor2
import pytest

from esnode.errors import ProtocolError
from esnode.messages import PROTOCOL_VERSION, Hello, Side, Welcome
from esnode.wire import encode
from tests.wire_messages import decode, frame, number_of


@pytest.mark.parametrize(
    "rest", [[], [7], [b"m" * 16, "", b"d" * 16, "", 4, 4, {}]], ids=["older", "other", "newer"]
)
def test_a_hello_of_other_versions_is_read_and_one_of_this_version_must_be_whole(rest: list[object]) -> None:
    """Its sender is told that the versions differ, not that its bytes make no sense."""
    other = PROTOCOL_VERSION + (-1 if not rest else 1)
    said = [2, other, other, "blue", 2, 1, 7, b"t" * 16, False, *rest]
    (read,) = decode(frame(number_of(Hello), cbor2.dumps(said)))
    common = ("blue", 2, 1, 7, b"t" * 16) if not rest else ("", 0, 0, 0)
    assert read == Hello(Side.PEER, other, other, *common)
    said[1:3] = PROTOCOL_VERSION, PROTOCOL_VERSION
    if rest:
        with pytest.raises(ProtocolError, match=r"array of 15 to 16|\.partition must be"):
            decode(frame(number_of(Hello), cbor2.dumps(said)))


def test_a_client_that_says_what_only_nodes_have_is_refused() -> None:
    said = [1, PROTOCOL_VERSION, PROTOCOL_VERSION, "blue", 0, 0, 7, b"", False]
    (read,) = decode(frame(number_of(Hello), cbor2.dumps(said)))
    assert read == Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "blue", 0, 0, 7)
    with pytest.raises(ProtocolError, match="array of 9 to 10"):
        decode(frame(number_of(Hello), cbor2.dumps([*said, b"m" * 16, "", b"d" * 16, "", 4])))


@pytest.mark.parametrize(
    ("hello", "fields"),
    [
        (Hello(Side.CLIENT, 3, 3, "", 0, 0, 7), 9),
        (Hello(Side.CLIENT, 3, 3, "", 0, 0, 7, partition=5), 10),
        (Hello(Side.PEER, 3, 3, "c", 1, 2, 7), 15),
        (Hello(Side.PEER, 3, 3, "c", 1, 2, 7, partition=5), 16),
        (Welcome(3, "c", 1, 7), 4),
        (Welcome(3, "c", 1, 7, partitions=4), 6),
        (Welcome(3, "c", 1, 7, 2), 5),
    ],
)
def test_what_came_later_is_sent_only_where_it_is_not_what_it_always_was(
    hello: Hello | Welcome, fields: int
) -> None:
    """Versions from before there were partitions read the shortest form."""
    data = encode(hello)
    assert len(cbor2.loads(data[5:])) == fields
    assert decode(data) == [hello]


def test_a_partition_that_no_cluster_has_is_for_the_handshake_to_refuse_and_a_count_is_not() -> None:
    (read,) = decode(encode(Hello(Side.CLIENT, 3, 3, "", 0, 0, 7, partition=65_535)))
    assert isinstance(read, Hello)
    assert read.partition == 65_535
    for partitions in (0, 65):
        with pytest.raises(ProtocolError, match=r"Welcome\.partitions must be a whole number from 1 to 64"):
            decode(encode(Welcome(3, "c", 1, 7, 2, partitions)))
