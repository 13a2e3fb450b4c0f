"""Events: what is taken, what is refused and why, and that a reader gets what was given."""

import math
from collections import UserDict
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits
from esnode.dedup.batch import event_key, split_keys
from esnode.errors import EventTooLarge, InvalidEvent, InvalidRequest, ProtocolError
from esnode.events import decode_event, decode_events, encode_event, key_of, make_batch, pack, wrong_key
from esnode.messages import Append
from esnode.wire import FrameReader, encode

EVENT: dict[str, Any] = {"id": "1", "source": "/s", "type": "t"}

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
required = st.text(min_size=1, max_size=50)
events = st.builds(
    lambda more, event_id, source, kind: {**more, "id": event_id, "source": source, "type": kind},
    st.dictionaries(st.text(max_size=8), json_like, max_size=5),
    required,
    required,
    required,
)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(st.lists(events, min_size=1, max_size=8))
def test_a_reader_gets_exactly_what_the_producer_gave(given_events: list[dict[str, Any]]) -> None:
    batch = make_batch(given_events)
    assert decode_events(batch.payload) == given_events
    assert [list(event) for event in decode_events(batch.payload)] == [list(event) for event in given_events]
    assert split_keys(batch.keys) == tuple(event_key(e["source"], e["id"]) for e in given_events)


@given(st.lists(events, min_size=1, max_size=8))
def test_every_batch_that_is_made_passes_the_wire(given_events: list[dict[str, Any]]) -> None:
    message = Append(1, make_batch(given_events))
    assert FrameReader().feed(encode(message)) == [message]


def test_nothing_is_added_to_an_event() -> None:
    assert decode_event(encode_event(EVENT)) == EVENT
    assert "specversion" not in decode_event(encode_event(EVENT))


def test_any_mapping_is_an_event() -> None:
    assert encode_event(UserDict(EVENT)) == encode_event(EVENT)


def test_a_tuple_is_stored_as_an_array() -> None:
    assert decode_event(encode_event({**EVENT, "data": (1, 2)}))["data"] == [1, 2]


@pytest.mark.parametrize("name", ["id", "source", "type"])
@pytest.mark.parametrize("value", [None, "", 7, b"x", ["x"]])
def test_an_attribute_that_is_missing_or_no_text_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidEvent, match=f"'{name}'"):
        encode_event({**EVENT, name: value})
    with pytest.raises(InvalidEvent, match=f"no '{name}'"):
        encode_event({key: text for key, text in EVENT.items() if key != name})


@pytest.mark.parametrize("event", [None, 7, "text", ["list"]])
def test_what_is_no_mapping_is_no_event(event: Any) -> None:
    with pytest.raises(InvalidEvent, match="an event is an object"):
        encode_event(event)


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        {1, 2},
        datetime(2013, 1, 1, tzinfo=UTC),
        Decimal("1.5"),
        math.nan,
        math.inf,
        2**64,
        -(2**64) - 1,
        pytest.param(object(), id="an object"),
        {1: "a"},
        {None: "a"},
        "lone \ud800 surrogate",
    ],
    ids=repr,
)
@pytest.mark.parametrize("depth", [0, 2])
def test_what_json_cannot_hold_is_refused_at_any_depth(value: object, depth: int) -> None:
    for _ in range(depth):
        value = {"inner": [value]}
    with pytest.raises(InvalidEvent):
        encode_event({**EVENT, "data": value})


def test_an_attribute_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="name 7"):
        encode_event({**EVENT, 7: "x"})  # type: ignore[dict-item]


def test_nesting_ends_where_readers_stop() -> None:
    deepest = {**EVENT, "data": nested(limits.MAX_CBOR_DEPTH - 1)}
    assert decode_event(encode_event(deepest)) == deepest
    with pytest.raises(InvalidEvent, match="MAX_CBOR_DEPTH"):
        encode_event({**EVENT, "data": nested(limits.MAX_CBOR_DEPTH)})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidEvent, match="MAX_CBOR_DEPTH"):
        encode_event({**EVENT, "data": endless})


@pytest.mark.parametrize("name", ["id", "source", "type"])
@pytest.mark.parametrize("letter", ["x", "é", "𝄞"])
def test_the_length_of_an_attribute_is_counted_in_bytes(name: str, letter: str) -> None:
    fits = letter * (limits.MAX_ID_BYTES // len(letter.encode()))
    assert decode_event(encode_event({**EVENT, name: fits}))[name] == fits
    with pytest.raises(EventTooLarge, match=rf"'{name}'.*MAX_ID_BYTES"):
        encode_event({**EVENT, name: fits + letter})


def test_an_event_of_the_largest_size_fits_and_one_byte_more_does_not() -> None:
    room = limits.MAX_EVENT_BYTES - len(encode_event({**EVENT, "data": "x" * 70_000})) + 70_000
    assert len(encode_event({**EVENT, "data": "x" * room})) == limits.MAX_EVENT_BYTES
    with pytest.raises(EventTooLarge, match="MAX_EVENT_BYTES"):
        encode_event({**EVENT, "data": "x" * (room + 1)})


def test_a_batch_has_at_least_one_event_and_no_more_than_the_limit() -> None:
    most = [{**EVENT, "id": str(n)} for n in range(limits.MAX_BATCH_EVENTS)]
    assert make_batch(most).count == limits.MAX_BATCH_EVENTS
    for wrong in ([], [*most, EVENT]):
        with pytest.raises(InvalidRequest, match="MAX_BATCH_EVENTS"):
            make_batch(wrong)


def test_a_batch_over_the_size_limit_is_refused() -> None:
    with pytest.raises(EventTooLarge, match="MAX_BATCH_BYTES"):
        make_batch([{**EVENT, "data": "x" * (limits.MAX_EVENT_BYTES - 100)}] * 5)


def test_keys_and_events_must_be_as_many() -> None:
    with pytest.raises(InvalidRequest, match="1 events and 2 keys"):
        pack([key_of(EVENT)] * 2, [encode_event(EVENT)])


@pytest.mark.parametrize(
    "payload", [b"", b"\x80\x00", b"\x81\x01", b"\xa0", b"\x81\x41\x80", b"\x81\x41\xff"]
)
def test_a_stored_payload_that_holds_no_events_is_a_declared_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_events(payload)


@given(st.binary(max_size=100))
def test_any_stored_bytes_are_events_or_a_declared_error(payload: bytes) -> None:
    try:
        found = decode_events(payload)
    except ProtocolError:
        return
    assert all(isinstance(event, dict) for event in found)


def test_a_stored_event_under_a_tag_is_refused_by_the_reader() -> None:
    with pytest.raises(ProtocolError):
        decode_event(cbor2.dumps({"time": datetime(2013, 1, 1, tzinfo=UTC)}))


def test_a_wrong_key_is_named_with_its_place() -> None:
    events = [{**EVENT, "id": str(number)} for number in range(3)]
    good = make_batch(events)
    assert wrong_key(good) == ""
    swapped = replace(good, keys=good.keys[16:32] + good.keys[:16] + good.keys[32:])
    assert "of event 0 of the batch is not" in wrong_key(swapped)
    without_token = replace(good, keys=good.keys[:32] + bytes(4) + good.keys[36:])
    assert "of event 2 of the batch is not" in wrong_key(without_token)
    assert "event 0 of the batch has no source" in wrong_key(
        replace(good, payload=cbor2.dumps([b"\xa0"] * 3))
    )
    assert "map" in wrong_key(replace(good, payload=cbor2.dumps([b"\x01"] * 3)))
