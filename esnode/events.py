"""Events as the application has them <-> the bytes of a batch.

Decides what an event must have (CloudEvents 1.0: `id`, `source` and `type`) and may hold (what JSON
can hold). Stores it as it was given: nothing is added, renamed or put in another form, and a missing
`specversion` stays missing. Runs in the client only; nodes never look inside. Called by the client.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import cbor2

from esnode import limits
from esnode.dedup.batch import Batch, event_key, split_keys
from esnode.errors import EventTooLarge, InvalidEvent, InvalidRequest, ProtocolError
from esnode.wire.cbor import load

_REQUIRED: Final = ("id", "source", "type")
HEAD_BYTES: Final = 5
"""The most that the head of an array or of a byte string takes in CBOR."""
_SHORT_TEXT: Final = limits.MAX_ID_BYTES // 4
_MIN_INTEGER, _MAX_INTEGER = -(2**64), 2**64 - 1
"""What CBOR has without a tag (RFC 8949, 3.1)."""


def encode_event(event: Mapping[str, Any]) -> bytes:
    """The CBOR map of one event; raises `InvalidEvent` or `EventTooLarge`, which name the field."""
    _check_required(event)
    plain = event if type(event) is dict else dict(event)
    _check_map(plain, 1)
    try:
        encoded = cbor2.dumps(plain)
    except UnicodeEncodeError as error:
        raise InvalidEvent(f"the event holds a text that is not Unicode: {error.reason}") from error
    if len(encoded) > limits.MAX_EVENT_BYTES:
        raise EventTooLarge(
            f"the event has {len(encoded)} bytes,"
            f" over the limit of {limits.MAX_EVENT_BYTES} (MAX_EVENT_BYTES)"
        )
    return encoded


def key_of(event: Mapping[str, Any]) -> bytes:
    """The deduplication key of an event that `encode_event` has taken."""
    return event_key(event["source"], event["id"])


def pack(keys: Sequence[bytes], encoded: Sequence[bytes]) -> Batch:
    """The batch of events that are encoded already, with their keys; 1 to `MAX_BATCH_EVENTS`."""
    if not 0 < len(keys) == len(encoded) <= limits.MAX_BATCH_EVENTS:
        raise InvalidRequest(
            f"a batch of {len(encoded)} events and {len(keys)} keys is not within"
            f" 1 to {limits.MAX_BATCH_EVENTS} (MAX_BATCH_EVENTS)"
        )
    payload = cbor2.dumps(encoded)
    if len(payload) > limits.MAX_BATCH_BYTES:
        raise EventTooLarge(
            f"the batch has {len(payload)} bytes,"
            f" over the limit of {limits.MAX_BATCH_BYTES} (MAX_BATCH_BYTES)"
        )
    return Batch(len(keys), b"".join(keys), payload)


def make_batch(events: Iterable[Mapping[str, Any]]) -> Batch:
    """Check and encode `events`; raises `InvalidEvent`, `EventTooLarge`, `InvalidRequest`."""
    listed = list(events)
    encoded = [encode_event(event) for event in listed]
    return pack([key_of(event) for event in listed], encoded)


def make_batches(events: Iterable[Mapping[str, Any]], most_events: int) -> list[Batch]:
    """The same in batches of at most `most_events` and `MAX_BATCH_BYTES`, in the order of the events."""
    batches: list[Batch] = []
    keys: list[bytes] = []
    encoded: list[bytes] = []
    size_bytes = HEAD_BYTES
    for event in events:
        one = encode_event(event)
        cost = HEAD_BYTES + len(one)
        if len(keys) == most_events or size_bytes + cost > limits.MAX_BATCH_BYTES:
            batches.append(pack(keys, encoded))
            keys, encoded, size_bytes = [], [], HEAD_BYTES
        keys.append(key_of(event))
        encoded.append(one)
        size_bytes += cost
    if keys:
        batches.append(pack(keys, encoded))
    return batches


def stored_key(event: Mapping[str, Any]) -> bytes | None:
    """The key that an event has which a client has sent; None where it has no source and id."""
    source, event_id = event.get("source"), event.get("id")
    if type(source) is not str or type(event_id) is not str:
        return None
    return event_key(source, event_id)


def wrong_key(batch: Batch) -> str:
    """Which key of `batch` is not its event's, and why; empty when each is. Decodes every event."""
    try:
        events = decode_events(batch.payload)
    except ProtocolError as error:
        return str(error)
    for place, (key, event) in enumerate(zip(split_keys(batch.keys), events, strict=True)):
        own = stored_key(event)
        if own is None:
            return f"event {place} of the batch has no source and id"
        if own != key:
            return f"the key {key.hex()} of event {place} of the batch is not that of its source and id"
    return ""


def decode_event(encoded: bytes) -> dict[str, Any]:
    """One event; raises `ProtocolError` when its producer wrote something else than a CBOR map."""
    event = load(encoded)
    if not isinstance(event, dict):
        raise ProtocolError("the stored event is not a map")
    return event


def split_payload(payload: bytes) -> list[bytes]:
    """The encoded events of one batch; raises `ProtocolError`."""
    encoded_events = load(payload)
    if not isinstance(encoded_events, list) or not all(type(item) is bytes for item in encoded_events):
        raise ProtocolError("the stored batch is not an array of byte strings")
    return encoded_events


def decode_events(payload: bytes) -> list[dict[str, Any]]:
    """The events of one batch, as they were given; raises `ProtocolError`."""
    return [decode_event(encoded) for encoded in split_payload(payload)]


def _check_required(event: Mapping[str, Any]) -> None:
    if not isinstance(event, Mapping):
        raise InvalidEvent(f"an event is an object with attributes, not a {type(event).__name__}")
    for name in _REQUIRED:
        value = event.get(name)
        if type(value) is not str or not value:
            raise InvalidEvent(
                f"the event has no {name!r}"
                if value is None
                else f"the {name!r} of the event must be a non-empty text, not {value!r:.40}"
            )
        # A character takes at most 4 bytes: most texts need no second look.
        if len(value) > _SHORT_TEXT and len(value.encode(errors="replace")) > limits.MAX_ID_BYTES:
            raise EventTooLarge(
                f"the {name!r} of the event is over {limits.MAX_ID_BYTES} bytes (MAX_ID_BYTES)"
            )


def _check_map(value: dict[Any, Any], depth: int) -> None:
    for key in value:
        if type(key) is not str:
            raise InvalidEvent(f"the event has the attribute name {key!r:.40}, which is not a text")
    _check_values(value.values(), depth)


def _check_values(values: Iterable[Any], depth: int) -> None:
    """Only what JSON can hold, within the nesting that a reader accepts."""
    if depth > limits.MAX_CBOR_DEPTH:
        raise InvalidEvent(f"the event is nested deeper than {limits.MAX_CBOR_DEPTH} (MAX_CBOR_DEPTH)")
    for value in values:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            continue
        if kind is int:
            if not _MIN_INTEGER <= value <= _MAX_INTEGER:
                raise InvalidEvent("the event holds a whole number of more than 64 bits")
        elif kind is float:
            if not isfinite(value):
                raise InvalidEvent(f"the event holds the number {value}, which JSON does not know")
        elif kind is dict:
            _check_map(value, depth + 1)
        elif kind is list or kind is tuple:
            _check_values(value, depth + 1)
        else:
            raise InvalidEvent(f"the event holds a {kind.__name__}, which JSON does not know")
