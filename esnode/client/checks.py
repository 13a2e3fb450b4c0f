"""Checks what an application asks for: an invalid request raises `InvalidRequest` before anything is sent.

Computes only. Called by `log.py`.
"""

from esnode import limits
from esnode.dedup.batch import Batch
from esnode.errors import InvalidRequest, ProtocolError
from esnode.wire.clients import check_payload


def check_batch(batch: Batch) -> None:
    """That a node will take it; else the connection would end with it."""
    if not 0 < batch.count <= limits.MAX_BATCH_EVENTS:
        raise InvalidRequest(
            f"a batch of {batch.count} events is not within 1 to {limits.MAX_BATCH_EVENTS} (MAX_BATCH_EVENTS)"
        )
    if len(batch.keys) != limits.KEY_BYTES * batch.count:
        raise InvalidRequest(f"a batch of {batch.count} events has {len(batch.keys)} bytes of keys")
    if len(batch.payload) > limits.MAX_BATCH_BYTES:
        raise InvalidRequest(
            f"the payload has {len(batch.payload)} bytes, over {limits.MAX_BATCH_BYTES} (MAX_BATCH_BYTES)"
        )
    if batch.producer is not None:
        raise InvalidRequest("the client stamps batches itself: connect with producer_session=True")
    try:
        check_payload(batch.count, batch.payload)
    except ProtocolError as error:
        raise InvalidRequest(str(error)) from error


def check_unnumbered(first_sequence: int | None) -> None:
    """That an append to several partitions has no number of its own."""
    if first_sequence is not None:
        raise InvalidRequest("each partition numbers its own events: give numbers to those of one partition")


def check_range(from_offset: int, max_events: int) -> None:
    """That there can be so many events from this offset on."""
    if not 0 <= from_offset <= limits.MAX_INDEX or not 0 < max_events < 2**32:
        raise InvalidRequest(f"{max_events} events from offset {from_offset} is not a range")
