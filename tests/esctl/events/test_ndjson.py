"""What is an event in a file and what is not: lines, gzip, limits, batches."""

import gzip
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esctl.events import decoding, ndjson
from esctl.events.ndjson import BadLine, BatchMaker, EventReader, GoodLine, Line
from esnode import limits
from esnode.dedup.batch import event_key
from esnode.events import decode_event, decode_events

FLIGHTS = Path(__file__).resolve().parents[3] / "examples" / "flights-2013-01.ndjson.gz"


def event(number: int, **more: object) -> dict[str, object]:
    return {"id": f"e-{number}", "source": "/test", "type": "t", **more}


def text_of(*events: object) -> bytes:
    return b"".join(json.dumps(e).encode() + b"\n" for e in events)


def read(data: bytes, chunk: int = 1 << 20) -> list[Line]:
    reader = EventReader()
    lines = [line for at in range(0, len(data), chunk) for line in reader.feed(data[at : at + chunk])]
    return [*lines, *reader.end()]


def the_bad_line(data: bytes) -> BadLine:
    lines = [line for line in read(data) if isinstance(line, BadLine)]
    assert len(lines) == 1
    return lines[0]


def test_the_flights_are_27004_events_with_27004_keys() -> None:
    lines = read(FLIGHTS.read_bytes(), 10_000)
    assert len(lines) == 27_004
    good = [line for line in lines if isinstance(line, GoodLine)]
    assert len({line.key for line in good}) == 27_004
    first = decode_event(good[0].encoded)
    assert first["id"] == "UA1545-2013-01-01-0515"
    assert good[0].key == event_key("/nyc/EWR", "UA1545-2013-01-01-0515")


@given(st.integers(1, 40), st.booleans())
def test_it_does_not_matter_how_the_bytes_are_cut(chunk: int, packed: bool) -> None:
    data = text_of(*(event(n, data={"text": "ü" * n}) for n in range(5))) + b"\n{broken\n"
    whole = gzip.compress(data) if packed else data
    lines = read(whole, chunk)
    assert lines == read(data)
    assert [line.number for line in lines] == [1, 2, 3, 4, 5, 7]
    assert isinstance(lines[-1], BadLine)


def test_a_last_line_needs_no_end_and_a_first_line_may_have_a_byte_order_mark() -> None:
    lines = read(b"\xef\xbb\xbf" + text_of(event(1)) + text_of(event(2)).rstrip() + b"\r")
    assert [type(line) for line in lines] == [GoodLine, GoodLine]
    assert read(b"") == []
    assert read(b"\n") == []
    assert [type(line) for line in read(b"{")] == [BadLine]


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        (b"{oops}", "ES1001", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"id":"\xff"}', "ES1001", "not UTF-8: invalid start byte at byte 8"),
        (b"[1]", "ES1001", "the line holds an array, not an object"),
        (b"null", "ES1001", "the line holds null, not an object"),
        (b"true", "ES1001", "the line holds true or false, not an object"),
        (b'{"id":"1","source":"s"}', "ES1001", "the event has no 'type'"),
        (b'{"id":"1","type":"t"}', "ES1001", "the event has no 'source'"),
        (b'{"source":"s","type":"t"}', "ES1001", "the event has no 'id'"),
        (b'{"id":"1","source":"s","type":"t","n":NaN}', "ES1001", "the number nan"),
        (
            b'{"id":"1","source":"s","type":"t","n":' + b"9" * 5000 + b"}",
            "ES1001",
            "not JSON that can be read",
        ),
        (b"[" * 200_000, "ES1001", "nested deeper than 32 (MAX_CBOR_DEPTH)"),
        (
            b'{"id":"' + b"x" * 1025 + b'","source":"s","type":"t"}',
            "ES1002",
            "over 1024 bytes (MAX_ID_BYTES)",
        ),
        (
            b'{"id":"1","source":"s","type":"t","data":"' + b"x" * limits.MAX_EVENT_BYTES + b'"}',
            "ES1002",
            "over the limit of 1048576 (MAX_EVENT_BYTES)",
        ),
    ],
)
def test_a_bad_line_is_named_by_number_code_and_reason(line: bytes, code: str, reason: str) -> None:
    bad = the_bad_line(text_of(event(1)) + line + b"\n" + text_of(event(3)))
    assert (bad.number, bad.code) == (2, code)
    assert reason in bad.reason
    assert str(bad).startswith(f"line 2: {code} ")


def test_an_endless_line_is_refused_in_bounded_memory() -> None:
    reader = EventReader()
    for _ in range(40):
        assert list(reader.feed(b"x" * limits.MIB)) == []
        assert sum(map(len, reader._parts)) <= decoding.MAX_LINE_BYTES + 1
    lines = list(reader.feed(b"\n" + text_of(event(2))))
    assert [type(line) for line in lines] == [BadLine, GoodLine]
    assert isinstance(lines[0], BadLine)
    assert lines[0].code == "ES1002"
    assert "over the limit of 8388608 bytes" in lines[0].reason


def test_a_small_gzip_that_holds_a_large_text_is_unpacked_in_pieces() -> None:
    data = gzip.compress(b" " * (30 * limits.MIB) + b"\n" + text_of(event(2)))
    unpacker = ndjson._Gunzip()
    assert max(map(len, unpacker.feed(data))) <= ndjson.PIECE_BYTES
    assert [line.number for line in read(data) if isinstance(line, GoodLine)] == [2]


def test_gzip_members_in_a_row_are_one_text_and_padding_is_no_damage() -> None:
    data = gzip.compress(text_of(event(1))) + gzip.compress(text_of(event(2))) + b"\0" * 512
    assert [type(line) for line in read(data, 7)] == [GoodLine, GoodLine]


def test_a_gzip_cut_short_gives_what_it_holds_and_says_so() -> None:
    data = text_of(*(event(n) for n in range(2000)))
    whole = gzip.compress(data)
    lines = read(whole[: len(whole) // 2])
    assert all(isinstance(line, GoodLine) for line in lines[:-1])
    assert 0 < len(lines) < 2000
    bad = lines[-1]
    assert isinstance(bad, BadLine)
    assert "the rest of the input is missing" in bad.reason


def test_a_gzip_without_its_checksum_loses_no_event() -> None:
    lines = read(gzip.compress(text_of(event(1), event(2)).rstrip())[:-8])
    assert [type(line) for line in lines] == [GoodLine, GoodLine, BadLine]


def test_damage_within_a_gzip_is_reported_once() -> None:
    member = zlib.compressobj(0, wbits=16 + zlib.MAX_WBITS)
    data = bytearray(member.compress(text_of(event(1))) + member.flush(zlib.Z_FULL_FLUSH))
    lines = read(bytes(data) + b"\xff" * 64, 11)
    assert [type(line) for line in lines] == [GoodLine, BadLine]
    bad = lines[1]
    assert isinstance(bad, BadLine)
    assert "damaged" in bad.reason


def test_batches_are_closed_by_number_and_by_size() -> None:
    maker = BatchMaker(3)
    lines = [line for line in read(text_of(*map(event, range(7)))) if isinstance(line, GoodLine)]
    batches = [batch for line in lines for batch in maker.add(line)]
    assert [batch.count for batch in batches] == [3, 3]
    assert maker.waiting == 1
    assert decode_events(maker.take().payload) == [event(6)]
    assert maker.waiting == 0
    large = [GoodLine(n, b"x" * 200_000, bytes([n]) * 16) for n in range(5)]
    maker = BatchMaker(1024)
    assert [batch.count for line in large for batch in maker.add(line)] == [2, 2]
    assert maker.waiting == 1
