"""Records of the first version have keys without a token: their events are judged by the key of today."""

from collections.abc import Sequence

import google_crc32c

from esctl.verify.sightings import Sightings
from esctl.verify.verdict import Flaw
from esnode.events import key_of
from esnode.raft.entry import DIGEST_KEYS_VERSION
from tests.esctl.verify.test_history import Event, event, judged, record


def first_version(base_offset: int, events: Sequence[Event], keys: Sequence[bytes] | None = None) -> bytes:
    """A record as the first version wrote it: its keys are whole digests."""
    digests = [b"\x07" * 4 + key_of(one)[4:] for one in events] if keys is None else keys
    made = bytearray(record(base_offset, events, keys=digests))
    made[4] = DIGEST_KEYS_VERSION
    made[:4] = google_crc32c.value(bytes(made[4:])).to_bytes(4, "big")
    return bytes(made)


def test_an_event_of_the_first_version_is_the_one_that_was_sent() -> None:
    assert judged({1: [first_version(0, [event(0)])]}, expected=[event(0)], voters=1).clean


def test_an_event_that_both_versions_have_stored_is_there_twice() -> None:
    verdict = judged({1: [first_version(0, [event(0)]), record(1, [event(0)])]}, voters=1)
    assert verdict.counts == {Flaw.DUPLICATE: 1}


def test_a_key_of_the_first_version_that_is_not_the_event_s_is_found() -> None:
    verdict = judged({1: [first_version(0, [event(0)], keys=[key_of(event(1))])]}, voters=1)
    assert verdict.counts == {Flaw.WRONG_KEY: 1}


def test_the_events_of_one_source_are_spread_over_the_buckets() -> None:
    """Their keys begin alike: in one bucket, all of them would be looked at, and held, at once."""
    found = Sightings()
    found.add_record(0, 0, [(key_of(event(number)), bytes(16)) for number in range(1_000)])
    assert max(map(len, found._seen)) < sum(map(len, found._seen)) / 50
