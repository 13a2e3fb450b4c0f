"""What docs/protocol.md says of the frames is what the table of messages does."""

import re
import struct
from pathlib import Path

from esnode.dedup.batch import event_key
from esnode.messages import Hello
from esnode.ring import Ring, token_of
from esnode.wire import CODECS, encode
from esnode.wire.fields import Number
from esnode.wire.table import TABLE
from tests.wire_messages import decode

PROTOCOL_MD = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_worked_examples_of_the_protocol_document_decode() -> None:
    text = PROTOCOL_MD.read_text(encoding="utf-8")
    examples = re.findall(r"```hex\n(.*?)```\n+Decodes to `([^\n]+)`\n", text, re.DOTALL)
    assert len(examples) >= 3
    for dump, expected in examples:
        data = bytes.fromhex("".join(line.split("#")[0] for line in dump.splitlines()))
        (message,) = decode(data)
        assert repr(message) == expected
        assert encode(message) == data


def test_the_protocol_document_names_every_frame_and_its_number() -> None:
    text = PROTOCOL_MD.read_text(encoding="utf-8")
    for cls, codec in CODECS.items():
        assert f"| {codec.number:#04x} | `{cls.__name__}` |" in text


def test_the_protocol_document_has_the_fields_of_every_message_in_their_order() -> None:
    text = PROTOCOL_MD.read_text(encoding="utf-8")
    for codec in TABLE:
        name, fields = codec.message.__name__, list(codec.message.__dataclass_fields__)
        (body,) = re.findall(rf"\| `{name}` \| (.*) \| [^|]* \|\n", text)
        if body.startswith("CBOR: ") and codec.message is not Hello:
            assert re.sub(r" \(.*?\)", "", body) == "CBOR: " + ", ".join(fields)
        elif codec.kinds and codec.message is not Hello:
            section = text.split(f"**{name}**")[1].split("**")[0]
            told = [
                (field or in_row, int(size or in_table))
                for field, size, in_table, in_row in re.findall(r"(\w+) (\d)\b|\| (\d) \| (\w+)", section)
            ]
            sizes = [
                (field, struct.calcsize(">" + kind.code))
                for field, kind in zip(fields, codec.kinds, strict=True)
                if isinstance(kind, Number)
            ]
            assert told == sizes + [("flags", 1)] * (len(sizes) < len(fields))


def test_the_test_vectors_of_the_ring_and_of_keys_are_what_is_computed() -> None:
    section = PROTOCOL_MD.read_text(encoding="utf-8").split("## The key of an event, and the ring")[1]
    rings = [Ring(1, partitions) for partitions in (range(1), range(4), range(8), range(64), (0, 1, 3))]
    vectors = re.findall(r"^\| `(.+)` \| `(\w{8})` \| (\d.*) \|$", section.split("## ")[0], re.MULTILINE)
    assert len(vectors) >= 5
    for source, token, owners in vectors:
        assert token_of(source).hex() == token
        assert [ring.owner(int(token, 16)) for ring in rings] == [int(owner) for owner in owners.split(" | ")]
    keys = re.findall(r"^\| `(.+)` \| `(.+)` \| `(\w{32})` \|$", section.split("## ")[0], re.MULTILINE)
    assert len(keys) >= 3
    for source, event_id, key in keys:
        assert event_key(source, event_id).hex() == key
