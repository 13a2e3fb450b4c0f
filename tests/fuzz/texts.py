"""The doors of what people and producers write: events in a batch, and a node's configuration file.

Events that are read back can be written again, or are refused by name; a configuration is `InvalidConfig`
or one that a node can live with. Used by `targets`.
"""

import dataclasses
from functools import cache
from pathlib import Path, PosixPath
from typing import Final

from esnode import limits
from esnode.apply import Machine
from esnode.config import Address, Config, Member, dump, load
from esnode.dedup.batch import Batch, select
from esnode.errors import EventTooLarge, InvalidConfig, InvalidEvent, ProtocolError
from esnode.events import decode_events, key_of, make_batch, split_payload
from esnode.messages import Append, LeaderIs
from esnode.raft.entry import EntryKind, seal
from esnode.wire import FrameReader, Message, encode
from esnode.wire.clients import check_payload

from . import samples
from .source import Source
from .target import Finding, told


def events(data: bytes) -> str:
    """A stored payload: split, decoded, and sent again."""
    try:
        parts = split_payload(data)
        decoded = decode_events(data)
    except ProtocolError as error:
        return told(error)
    if len(decoded) != len(parts):
        raise Finding("events were lost between two readers")
    _can_be_taken_apart(data, len(parts))
    if not decoded or len(decoded) > limits.MAX_BATCH_EVENTS:
        return "no batch"
    try:
        batch = make_batch(decoded)
    except (InvalidEvent, EventTooLarge) as error:
        return told(error)
    if [key_of(event) for event in decode_events(batch.payload)] != [key_of(event) for event in decoded]:
        raise Finding("the events have other keys after a round trip")
    (append,) = FrameReader().feed(encode(Append(1, batch)))
    if append != Append(1, batch):
        raise Finding("a batch that was made did not come through the wire")
    return "sent again"


def _can_be_taken_apart(payload: bytes, count: int) -> None:
    """What the wire lets in, the admission can split."""
    if not 0 < count <= limits.MAX_BATCH_EVENTS:
        return
    try:
        check_payload(count, payload)
    except ProtocolError:
        return  # an encoding that the wire does not take, such as a longer head than needed
    left = select(Batch(count, bytes(limits.KEY_BYTES * count), payload), range(0, count, 2))
    check_payload(left.count, left.payload)


def event_seeds() -> list[bytes]:
    """Batches of events of several shapes."""
    rich = {
        "id": "1",
        "source": "s",
        "type": "t",
        "data": {"a": [1, 2.5, None, True, -(2**64)], "deep": [[[{"x": "é"}]]]},
        "time": "2025-01-01T00:00:00Z",
    }
    return [
        samples.batch("a").payload,
        samples.batch("a", "b", "c").payload,
        make_batch([rich, rich]).payload,
    ]


def configuration(data: bytes) -> str:
    """The bytes of a configuration file; after a byte 0 or 1, a good file and the edits to make in it."""
    if data[:1] in {b"\0", b"\1"}:
        data = _edited(Source(data)).encode()
    try:
        config = load(_File.of(data))
    except InvalidConfig as error:
        return told(error)
    if load(_File.of(dump(config).encode())) != config:
        raise Finding(f"{config} does not come back from its own text")
    _can_be_lived_with(config)
    return "a configuration"


VALUES: Final = (
    *("0", "1", "-1", "2", "3", "149", "451", "1024", "86400000", "86400001", "4294967295", "4294967296"),
    *("4398046511104", "4398046511105", "50000000", "50000001", "9223372036854775807", "9" * 30, "9" * 4400),
    *("true", "1.5", "1979-05-27", "[]", "{}", "''", '""', '"memory"', '"rocksdb"', '"debug"', '"refuse"'),
    *('"/"', '"~"', '"~no-such-user"', '"a\\u0000b"', '"é"', '"\\U0001F600"', f'"{"x" * 256}"', "[" * 400),
    *('"[::1]:7101"', '"localhost:7101"', '"a..b:1"', '"h:0"', '"h:65536"', '"[]:1"', f'"{"a" * 64}:1"'),
)
"""What is put in the place of a value."""


def _edited(source: Source) -> str:
    """A good file with other values, and lines that are doubled or gone."""
    lines = _good_files()[source.byte() % 2].splitlines()
    for _ in range(8):
        if not source:
            break
        at, how = source.byte() % len(lines), source.byte()
        name, equals, _ = lines[at].partition(" = ")
        if how >= 250:
            lines[at : at + 1] = [lines[at]] * (how % 2 * 2)
        elif equals:
            lines[at] = f"{name} = {VALUES[how % len(VALUES)]}"
    return "\n".join(lines or [""])


def _can_be_lived_with(config: Config) -> None:
    """Its numbers fit where they are stored and sent."""
    wanted = config.peers[0].id if config.peers else 0
    hello = dataclasses.replace(
        samples.hello(), cluster=config.cluster, node_id=config.node_id, wanted_id=wanted
    )
    answers: list[Message] = [hello, LeaderIs(1, config.node_id, str(config.me.client)[:255])]
    if FrameReader().feed(b"".join(encode(one) for one in answers)) != answers:
        raise Finding("the name or the ids do not go over the wire")
    machine = Machine(config.dedup, searchable=False)
    batch = samples.batch("a")
    machine.apply(
        seal(
            index=1,
            term=1,
            kind=EntryKind.BATCH,
            base_offset=0,
            log_time_ms=2**40,
            count=1,
            keys=batch.keys,
            payload=batch.payload,
        )
    )
    machine.restore(machine.snapshot())


def config_seeds() -> list[bytes]:
    """Good files of one node and of three, and what people get wrong."""
    texts = _good_files()
    edits = [
        bytes([which, line, value]) for which in (0, 1) for line in range(20) for value in range(0, 52, 4)
    ]
    odd = [texts[0].replace("7201", "7" * 4301), texts[0].replace('"data"', "[" * 400)]
    return [*(text.encode() for text in (*texts, *odd)), *edits]


@cache
def _good_files() -> tuple[str, str]:
    """Of a cluster of one node, and of three."""
    one, three = (
        Config(
            cluster=samples.CLUSTER,
            node_id=1,
            data_dir=Path("data"),
            members=tuple(
                Member(n, Address("127.0.0.1", 7200 + n), Address("127.0.0.1", 7100 + n))
                for n in range(1, count)
            ),
        )
        for count in (2, 4)
    )
    return dump(one), dump(three)


class _File(PosixPath):
    """A file whose bytes are here: a disk would cost more than all else."""

    content = b""

    @classmethod
    def of(cls, content: bytes) -> "_File":
        """A file of these bytes."""
        path = cls("node.toml")
        path.content = content
        return path

    def read_text(self, *_arguments: object, **_options: object) -> str:
        """As `Path.read_text` does: universal newlines."""
        return self.content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
