"""What JSON may say and an event cannot keep, and inputs that are no event a line: told once."""

import codecs
import gzip
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esctl.events import shape
from esctl.events.decoding import decode
from esctl.events.ndjson import BadLine, EventReader, GoodLine, Line
from esctl.events.producer import ProduceTally, Watch, check
from esnode.errors import InvalidEvent
from esnode.events import decode_event, encode_event

GOOD = b'{"id":"1","source":"/t","type":"t"}\n'
PRETTY = {"id": "p-1", "source": "/t/a", "type": "t", "data": {"x": [1, {"y": "}{"}], "z": {}}}


def read(data: bytes, chunk: int = 1 << 16) -> list[Line]:
    reader = EventReader()
    lines = [line for at in range(0, len(data), chunk) for line in reader.feed(data[at : at + chunk])]
    return [*lines, *reader.end()]


def told(lines: list[Line]) -> list[str]:
    return [line.reason for line in lines if isinstance(line, BadLine) and not line.again]


def numbers_of(lines: list[Line]) -> list[int]:
    return [line.number for line in lines if isinstance(line, GoodLine)]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"id":"dk-1","source":"/t/a","type":"t","data":{"amount":10,"amount":20}}', "amount"),
        (b'{"id":"dk-2","source":"/t/a","type":"t","id":"dk-3"}', "id"),
        (b'{"id":"1","source":"/t/a","type":"t","data":[{"a":{"b":1,"\\u0062":1}}]}', "b"),
        (b'{"id":"1","source":"/t/a","type":"t","type":"t"}', "type"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_by_line_and_name(line: bytes, key: str) -> None:
    (good, bad) = read(GOOD + line)
    assert isinstance(good, GoodLine)
    assert isinstance(bad, BadLine)
    assert str(bad).startswith(f"line 2: ES1001 the key '{key}' is there twice")


@pytest.mark.parametrize(
    "number", ["10.00", "1E2", "-0.0", "0.1", "18446744073709551615", "-18446744073709551616", "1e-5",
               "12345678901234567168.0", "0.30000000000000004", "1.7976931348623157e308", "5e-324", "0e999",
               "9007199254740992.0", "0.000000000000000000000000000000000000"],
)  # fmt: skip
def test_a_number_that_can_be_kept_is_kept(number: str) -> None:
    event = decode(b'{"id":"1","source":"/t","type":"t","data":%b}' % number.encode())
    kept = decode_event(encode_event(event))["data"]
    assert Decimal(number) in (Decimal(repr(kept)), Decimal(kept))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("0.1234567890123456789", "cannot be kept exactly, it would become 0.12345678901234568"),
        ("9007199254740993.0", "cannot be kept exactly, it would become 9007199254740992.0"),
        ("1e400", "the number 1e400 is larger than a double can be"),
        ("-1e400", "the number -1e400 is larger than a double can be"),
        ("1e-400", "cannot be kept exactly, it would become 0.0"),
        ("1e-99999999999999999999", "cannot be kept exactly, it would become 0.0"),
        ("1e99999999999999999999", "is larger than a double can be"),
        ("18446744073709551616", "a whole number of more than 64 bits"),
        ("9" * 5_000, "a whole number of thousands of digits"),
        ("1" + "0" * 400 + ".0", "is larger than a double can be"),
    ],
)
def test_a_number_that_would_be_changed_is_refused_with_what_it_would_become(
    number: str, reason: str
) -> None:
    (bad,) = read(b'{"id":"1","source":"/t","type":"t","data":%b}' % number.encode())
    assert isinstance(bad, BadLine)
    assert reason in bad.reason
    assert len(bad.reason) < 200


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.floats(allow_nan=False).map(Decimal))
def test_no_number_is_ever_changed(number: Decimal) -> None:
    try:
        event = decode(b'{"id":"1","source":"/t","type":"t","data":%b}' % f"{number:f}".encode())
        kept = decode_event(encode_event(event))["data"]
    except InvalidEvent:
        return
    assert number in (Decimal(repr(kept)), Decimal(kept))


def test_what_consume_prints_as_json_is_taken_for_the_events_in_it() -> None:
    event = {"id": "1", "source": "/t", "type": "t"}
    assert decode(json.dumps({"partition": 0, "offset": 7, "event": event}).encode()) == event
    other = {"partition": 0, "offset": 7, "event": "x", "id": "1", "source": "/t", "type": "t"}
    assert decode(json.dumps(other).encode()) == other, "an event may have attributes of these names"


@pytest.mark.parametrize("indent", [0, 1, 4, "\t"])
@pytest.mark.parametrize("packed", [False, True])
def test_pretty_printed_events_are_told_once_with_what_helps(indent: int | str, packed: bool) -> None:
    text = "\n".join(json.dumps(PRETTY, indent=indent) for _ in range(50)).encode()
    lines = read(gzip.compress(text) if packed else text, 17)
    assert told(lines) == [shape.SPREAD]
    assert "jq -c ." in shape.SPREAD
    assert len(lines) == len(text.splitlines())
    assert not numbers_of(lines)


@pytest.mark.parametrize("text", [
    json.dumps([PRETTY] * 20), json.dumps([PRETTY] * 20, indent=2), json.dumps([PRETTY] * 20, indent=0),
    "[\n" + ",\n".join(json.dumps(PRETTY) for _ in range(20)) + "\n]\n", "\n [\n" + json.dumps(PRETTY) + "]",
])  # fmt: skip
def test_an_array_is_told_once_with_what_helps(text: str) -> None:
    lines = read(text.encode())
    assert told(lines) == [shape.ARRAY]
    assert not numbers_of(lines)


def test_a_torn_line_takes_no_other_line_with_it() -> None:
    for torn in (b'{"id":"1","data":{\n', b'{"id":"1","sou\n', b"{\n", b'{"id":"1",\n', b"{oops\n"):
        lines = read(GOOD + torn + GOOD + torn + b"oops\n" + GOOD)
        assert numbers_of(lines) == [1, 3, 6], torn
        assert len(lines) == 6


@pytest.mark.parametrize("torn", [b'{"id":"q4","data":{"a":\n', b'{"id":"q4","data":[\n', b'{"id":"q4",\n'])
def test_indented_events_after_a_torn_line_go_in(torn: bytes) -> None:
    lines = read(torn + b" " + GOOD + b"  " + GOOD + GOOD + torn + b"\t" + GOOD)
    assert numbers_of(lines) == [2, 3, 4, 6]
    assert [line.number for line in lines] == [1, 2, 3, 4, 5, 6]


def test_events_around_a_pretty_printed_one_go_in() -> None:
    pretty = json.dumps(PRETTY, indent=2).encode() + b"\n"
    count = len(pretty.splitlines())
    lines = read(GOOD + pretty + GOOD + pretty + GOOD)
    assert numbers_of(lines) == [1, count + 2, 2 * count + 3]
    assert told(lines) == [shape.SPREAD]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_told_once_with_what_helps(encoding: str) -> None:
    text = (GOOD * 30).decode().encode(encoding)
    assert told(read(text)) == [shape.UTF_16]
    assert told(read(gzip.compress(text))) == [shape.UTF_16]
    assert "jq -c ." in shape.UTF_16
    assert numbers_of(read(codecs.BOM_UTF8 + GOOD)) == [1]


@pytest.mark.parametrize("padding", [b"\n", b"\r\n", b"\n\n \t", b"\0" * 600, b"\n\0\n"])
def test_what_an_editor_leaves_behind_gzip_is_no_damage(padding: bytes) -> None:
    packed = gzip.compress(GOOD) + gzip.compress(GOOD)
    for chunk in (1, 7, 1 << 16):
        assert numbers_of(read(packed + padding, chunk)) == [1, 2]
        assert not told(read(packed + padding, chunk))


def test_what_is_no_gzip_after_gzip_is_told_and_nothing_is_called_missing() -> None:
    for chunk in (1, 7, 1 << 16):
        lines = read(gzip.compress(GOOD * 3) + b"\nsigned by nobody\n", chunk)
        assert numbers_of(lines) == [1, 2, 3]
        assert told(lines) == ["what follows the end of the gzip data is no gzip, and was not read"]


async def test_lines_that_are_told_once_are_all_counted(autojump_clock: object) -> None:
    class Source:
        data = json.dumps(PRETTY, indent=2).encode()

        async def read(self) -> bytes:
            whole, Source.data = Source.data, b""
            return whole

    tally, warned = ProduceTally(), list[BadLine]()
    lines = len(Source.data.splitlines())
    assert await check(Source(), tally, Watch(bad_line=warned.append)) == 0
    assert tally.malformed == lines
    assert tally.bad_lines == warned
    assert len(warned) == 1
