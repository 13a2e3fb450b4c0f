"""The checker of histories must be able to fail: each kind of damage is made here on purpose."""

from collections.abc import Callable, Sequence
from typing import Any

import cbor2
import pytest

from esctl.verify.history import History
from esctl.verify.operations import Operations
from esctl.verify.placement import NO_KEY
from esctl.verify.verdict import Flaw, LogVerdict, StoredAgain
from esctl.verify.window import DedupWindow
from esnode.dedup.batch import OffsetRange, event_key
from esnode.events import encode_event, key_of
from esnode.raft.entry import EntryKind, seal

Event = dict[str, Any]


def event(number: int, **more: Any) -> Event:
    return {"id": f"e{number}", "source": "/test", "type": "t", "data": {"n": number}, **more}


def record(
    base_offset: int,
    events: Sequence[Event],
    *,
    keys: Sequence[bytes] | None = None,
    at_ms: int | None = None,
) -> bytes:
    encoded = [encode_event(one) for one in events]
    packed = b"".join(keys if keys is not None else [key_of(one) for one in events])
    return seal(
        index=base_offset + 1,
        term=1,
        kind=EntryKind.BATCH,
        base_offset=base_offset,
        log_time_ms=base_offset if at_ms is None else at_ms,
        count=len(events),
        keys=packed,
        payload=cbor2.dumps(encoded),
    ).record


def log(count: int, size: int = 2) -> list[bytes]:
    """`count` events in records of `size`."""
    numbers = range(count)
    return [record(start, [event(n) for n in numbers[start : start + size]]) for start in numbers[::size]]


def history(logs: dict[int, list[bytes]], *, expected: Sequence[Event] = (), voters: int = 3) -> History:
    """The logs of nodes, shown one record at a time in turn."""
    made = History(range(1, voters + 1))
    for line, one in enumerate(expected, start=1):
        made.expect(key_of(one), encode_event(one), 0, line)
    for node in logs:
        made.begin(node, 0)
    for turn in range(max(map(len, logs.values()))):
        for node, records in logs.items():
            if turn < len(records):
                made.add(node, records[turn])
    for node in logs:
        made.finish(node)
    return made


def judged(logs: dict[int, list[bytes]], **settings: Any) -> LogVerdict:
    return history(logs, **settings).verdict()


def three(change: Callable[[list[bytes]], list[bytes]], count: int = 8) -> dict[int, list[bytes]]:
    """Three nodes of `count` events, the log of node 3 changed."""
    return {1: log(count), 2: log(count), 3: change(log(count))}


def test_equal_logs_are_clean_and_have_one_hash() -> None:
    verdict = judged(three(lambda records: records), expected=[event(n) for n in range(8)])
    assert verdict.clean
    assert (verdict.events, verdict.next_offset, verdict.expected) == (8, 8, 8)
    assert verdict.hashes_equal
    assert len({node.hash for node in verdict.nodes.values()}) == 1
    assert (verdict.lost, verdict.duplicates, verdict.changed, verdict.unexpected) == (0, 0, 0, 0)


def test_an_event_that_one_node_has_passed_over_is_lost_and_leaves_a_hole() -> None:
    verdict = judged(three(lambda records: records[:1] + records[2:]))
    assert verdict.lost == 2
    assert verdict.counts[Flaw.HOLE] == 1
    assert verdict.counts[Flaw.LOST] == 2
    assert not verdict.hashes_equal
    hole = next(finding for finding in verdict.examples if finding.flaw is Flaw.HOLE)
    assert (hole.node, hole.offset) == (3, 2)


def test_a_hole_on_every_node_counts_as_lost_once() -> None:
    holed = log(8)[:1] + log(8)[2:]
    verdict = judged({1: holed, 2: holed, 3: holed})
    assert verdict.lost == 2
    assert verdict.counts == {Flaw.HOLE: 3}
    assert verdict.hashes_equal


def test_an_expected_event_that_no_node_has_is_lost_and_named_by_its_line() -> None:
    verdict = judged(three(lambda records: records), expected=[event(n) for n in range(9)])
    assert verdict.lost == 1
    (finding,) = verdict.examples
    assert (finding.flaw, finding.file, finding.line) == (Flaw.LOST, 0, 9)


def test_a_hole_and_the_expected_event_that_was_there_are_one_loss() -> None:
    holed = log(8)[:1] + log(8)[2:]
    assert judged({1: holed, 2: holed, 3: holed}, expected=[event(n) for n in range(8)]).lost == 2


def test_an_event_replaced_by_another_on_one_node_is_lost_there_and_the_other_a_phantom() -> None:
    verdict = judged(three(lambda records: [*records[:3], record(6, [event(6), event(99)])]))
    assert verdict.lost == 1
    assert verdict.counts[Flaw.LOST] == 1
    assert verdict.counts[Flaw.PHANTOM] == 1
    assert not verdict.hashes_equal


def test_an_event_twice_on_every_node_is_one_duplicate() -> None:
    doubled = [*log(4), record(4, [event(1)])]
    verdict = judged({1: doubled, 2: doubled, 3: doubled})
    assert verdict.duplicates == 1
    assert verdict.hashes_equal
    assert not verdict.clean


def test_an_event_three_times_is_two_duplicates() -> None:
    doubled = [*log(4), record(4, [event(1), event(1)])]
    assert judged({1: doubled}, voters=1).duplicates == 2


WINDOW = DedupWindow(ttl_ms=640_000, max_keys=2_000_000, shrinks=True)
"""A generation of its keys is 10 s long."""


def allowing(records: list[bytes], window: DedupWindow = WINDOW) -> History:
    """Three nodes with this log, whose window is over when `window` says so."""
    made = history(dict.fromkeys((1, 2, 3), records))
    made.allow(window)
    return made


@pytest.mark.parametrize(("at_ms", "again"), [(649_999, 0), (650_000, 1), (35 * 60_000, 1)])
def test_an_event_that_is_sent_again_when_its_key_may_be_forgotten_is_stored_again_and_no_duplicate(
    at_ms: int, again: int
) -> None:
    made = allowing([*log(4), record(4, [event(1)], at_ms=at_ms)])
    verdict = made.verdict(strict=True)
    assert (verdict.stored_again, verdict.duplicates, verdict.clean) == (again, 1 - again, bool(again))
    assert verdict.again == ([StoredAgain(4, 1, at_ms)] if again else [])
    assert made.may_repeat(2)(1, 4) is bool(again)


def test_what_was_stored_again_is_named_only_when_it_is_asked_for() -> None:
    verdict = allowing([*log(4), record(4, [event(1)], at_ms=700_000)]).verdict()
    assert (verdict.stored_again, verdict.again) == (1, [])


def test_each_time_counts_from_the_one_before() -> None:
    times = [record(4, [event(1)], at_ms=700_000), record(5, [event(1)], at_ms=900_000),
             record(6, [event(1)], at_ms=1_700_000)]  # fmt: skip
    verdict = allowing([*log(4), *times]).verdict()
    assert (verdict.stored_again, verdict.duplicates) == (2, 1)
    assert [(one.flaw, one.offset) for one in verdict.examples] == [(Flaw.DUPLICATE, 5)]


@pytest.mark.parametrize(("max_keys", "shrinks", "again"), [(3, True, 1), (4, True, 0), (3, False, 0)])
def test_a_window_that_shrinks_forgets_what_more_than_its_keys_came_after(
    max_keys: int, shrinks: bool, again: int
) -> None:
    """The log ends at 4 when the event of offset 0 comes again, within a batch with others."""
    records = [*log(4), record(4, [event(8), event(0)])]
    made = allowing(records, DedupWindow(640_000, max_keys, shrinks))
    verdict = made.verdict()
    assert (verdict.stored_again, verdict.duplicates) == (again, 1 - again)
    assert made.may_repeat(1)(0, 5) is bool(again)


def test_an_event_that_is_stored_again_on_two_nodes_of_three_is_lost_on_the_third() -> None:
    whole = [*log(4), record(4, [event(1)], at_ms=700_000), record(5, [event(9)], at_ms=700_000)]
    made = history({1: whole, 2: whole, 3: [*whole[:2], whole[3]]})
    made.allow(WINDOW)
    verdict = made.verdict()
    assert (verdict.stored_again, verdict.lost) == (1, 1)
    assert verdict.counts == {Flaw.HOLE: 1, Flaw.LOST: 1, Flaw.HASH: 1}


def test_other_content_under_the_same_id_is_a_change_within_the_window_only() -> None:
    for at_ms, changed in ((600_000, 1), (700_000, 0)):
        verdict = allowing([*log(4), record(4, [event(1, data="new")], at_ms=at_ms)]).verdict()
        assert verdict.changed == changed


def test_of_an_event_that_retention_has_cut_it_is_taken_that_it_came_with_the_first_that_is_left() -> None:
    made = History([1])
    made.begin(1, 2)
    for one in (record(2, [event(2), event(3)], at_ms=50_000), record(4, [event(1)], at_ms=710_000)):
        made.add(1, one)
    made.allow(WINDOW)
    assert made.may_repeat(1)(1, 4)
    made.allow(DedupWindow(700_000, 100, shrinks=False))
    assert made.may_repeat(1)(1, 4), "what one node may forget may be stored again"


def test_a_duplicate_on_one_node_only_is_found() -> None:
    logs = {1: log(4), 2: log(4), 3: [*log(4), record(4, [event(1)])]}
    verdict = judged(logs)
    assert verdict.duplicates == 1
    assert verdict.hashes_equal, "the hashes end where the shortest log does"


def test_two_events_in_another_order_on_one_node_are_reordered() -> None:
    verdict = judged(three(lambda records: [record(0, [event(1), event(0)]), *records[1:]]))
    assert verdict.counts[Flaw.REORDERED] == 2
    assert not verdict.hashes_equal
    assert verdict.lost == 0


def test_offsets_that_go_back_are_reordered_and_the_event_is_a_duplicate() -> None:
    verdict = judged(three(lambda records: [*records, records[1]]))
    assert verdict.counts[Flaw.REORDERED] == 1
    assert verdict.lost == 0


def test_other_content_on_one_node_is_changed() -> None:
    changed = record(2, [event(2), event(3, data="other")])
    verdict = judged(three(lambda records: [records[0], changed, *records[2:]]))
    assert verdict.changed == 1
    assert not verdict.hashes_equal


def test_content_that_differs_from_the_input_is_changed_and_named_by_its_line() -> None:
    expected = [event(n) for n in range(7)] + [event(7, data="as it was sent")]
    verdict = judged(three(lambda records: records), expected=expected)
    assert verdict.changed == 1
    assert verdict.hashes_equal
    (finding,) = verdict.examples
    assert (finding.flaw, finding.line, finding.offset) == (Flaw.CHANGED, 8, 7)


def test_the_order_of_attributes_is_no_change_against_the_input() -> None:
    expected = [dict(reversed(event(n).items())) for n in range(8)]
    assert judged(three(lambda records: records), expected=expected).clean


def test_an_event_of_the_input_that_stands_there_twice_is_expected_once() -> None:
    verdict = judged(three(lambda records: records), expected=[event(0), event(0)])
    assert verdict.expected == 1
    assert verdict.clean
    assert verdict.unexpected == 7


def test_an_event_that_nobody_sent_is_a_phantom_where_the_input_is_all() -> None:
    made = history(three(lambda records: records), expected=[event(n) for n in range(7)])
    assert made.verdict().clean
    exact = made.verdict(exact=True)
    assert exact.counts == {Flaw.PHANTOM: 1}
    assert exact.unexpected == 1


def test_a_flipped_bit_is_damage_and_its_events_are_a_hole() -> None:
    def flip(records: list[bytes]) -> list[bytes]:
        bad = bytearray(records[1])
        bad[-1] ^= 1
        return [records[0], bytes(bad), *records[2:]]

    verdict = judged(three(flip))
    assert verdict.counts[Flaw.DAMAGED] == 1
    assert verdict.counts[Flaw.HOLE] == 1
    assert verdict.lost == 2


def test_a_key_that_is_not_its_events_is_found() -> None:
    forged = record(2, [event(2), event(3)], keys=[key_of(event(2)), event_key("/test", "forged")])
    verdict = judged(three(lambda records: [records[0], forged, *records[2:]]))
    assert verdict.counts[Flaw.WRONG_KEY] == 1
    assert verdict.lost == 1


@pytest.mark.parametrize(
    "payload",
    [b"\xff", cbor2.dumps("no list"), cbor2.dumps([b"x"]), cbor2.dumps([1, 2])],
    ids=["no CBOR", "no list", "one event short", "no bytes"],
)
def test_a_payload_that_is_no_batch_is_damage(payload: bytes) -> None:
    keys = key_of(event(2)) + key_of(event(3))
    bad = seal(
        index=3,
        term=1,
        kind=EntryKind.BATCH,
        base_offset=2,
        log_time_ms=0,
        count=2,
        keys=keys,
        payload=payload,
    ).record
    verdict = judged(three(lambda records: [records[0], bad, *records[2:]]))
    assert verdict.counts[Flaw.DAMAGED] == 1
    assert verdict.lost == 2


@pytest.mark.parametrize("encoded", [b"\xff", cbor2.dumps([]), cbor2.dumps({"id": 3, "source": "/test"})])
def test_a_stored_event_that_is_none_is_found_by_its_key(encoded: bytes) -> None:
    key = event_key("/test", "e0")
    bad = seal(
        index=1, term=1, kind=EntryKind.BATCH, base_offset=0, log_time_ms=0, count=1, keys=key,
        payload=cbor2.dumps([encoded]),
    ).record  # fmt: skip
    for expected in ([], [event(0)]):
        verdict = judged({1: [bad], 2: [bad], 3: [bad]}, expected=expected)
        assert verdict.counts[Flaw.WRONG_KEY] == 1
        assert verdict.changed == len(expected)


def test_a_node_that_is_behind_has_lost_nothing() -> None:
    verdict = judged({1: log(8), 2: log(8), 3: log(8)[:2]})
    assert verdict.clean
    assert verdict.hashes_equal
    assert (verdict.next_offset, verdict.nodes[3].next_offset, verdict.nodes[1].next_offset) == (4, 4, 8)


def test_the_hash_is_of_the_events_and_not_of_how_they_came_in_records() -> None:
    verdict = judged({1: log(8, 2), 2: log(8, 4), 3: log(8, 1)})
    assert verdict.hashes_equal
    assert verdict.clean
    assert judged({1: log(8, 3)[:2], 2: log(8, 4)[:1]}).next_offset == 4


def test_the_hash_of_a_longer_log_is_another_one() -> None:
    hashes = {judged({1: log(count)}, voters=1).nodes[1].hash for count in range(1, 9)}
    assert len(hashes) == 8


def test_a_node_that_goes_away_gets_no_hash_and_the_others_are_compared() -> None:
    made = History([1, 2, 3])
    for node in (1, 2, 3):
        made.begin(node, 0)
    for place, one in enumerate(log(8)):
        for node in (1, 2, 3):
            if node != 3 or place < 2:
                made.add(node, one)
        if place == 2:
            made.finish(3, gone=True)
    verdict = made.verdict()
    assert verdict.clean
    assert verdict.nodes[3].hash is None
    assert verdict.next_offset == 8
    assert verdict.hashes_equal


def test_what_retention_has_cut_on_one_node_is_not_lost_there() -> None:
    made = History([1, 2, 3])
    for node, first in ((1, 0), (2, 0), (3, 4)):
        made.begin(node, first)
    for node, first in ((1, 0), (2, 0), (3, 4)):
        for start, one in zip(range(0, 8, 2), log(8), strict=True):
            if start >= first:
                made.add(node, one)
    verdict = made.verdict()
    assert verdict.clean
    assert verdict.hashes_equal
    assert verdict.events == 4


def test_an_expected_event_that_every_node_may_have_cut_is_not_judged() -> None:
    made = History([1])
    for n in range(8):
        made.expect(key_of(event(n)), encode_event(event(n)), 0, n + 1)
    made.begin(1, 4)
    for one in log(8)[2:]:
        made.add(1, one)
    verdict = made.verdict()
    assert verdict.unjudged == 4
    assert verdict.lost == 0
    assert verdict.clean


def test_a_first_record_that_begins_before_the_first_offset_is_in_order() -> None:
    made = History([1, 2])
    for node in (1, 2):
        made.begin(node, 3)
    for one in log(8)[1:]:
        made.add(1, one)
        made.add(2, one)
    verdict = made.verdict()
    assert verdict.clean
    assert (verdict.events, verdict.next_offset) == (5, 8)


def test_a_minority_cannot_say_that_the_others_lost_an_event() -> None:
    """With one of five voters unread, two that hold an event may be a majority with it; one may not."""
    full, short = log(2), [record(0, [event(0), event(9)])]
    both = judged({1: full, 2: full, 3: short, 4: short}, voters=5)
    assert both.counts == {Flaw.LOST: 4, Flaw.HASH: 1}
    assert both.lost == 2
    alone = judged({1: full, 2: short, 3: short, 4: short}, voters=5)
    assert alone.counts == {Flaw.LOST: 1, Flaw.PHANTOM: 1, Flaw.HASH: 1}


def test_every_finding_is_counted_and_a_few_are_told() -> None:
    verdict = judged({1: log(40), 2: log(40), 3: [log(40)[0], log(40)[-1]]})
    assert verdict.counts[Flaw.LOST] == 36
    assert sum(finding.flaw is Flaw.LOST for finding in verdict.examples) == 5


def test_no_nodes_at_all_are_no_proof() -> None:
    made = History([1, 2, 3])
    made.expect(key_of(event(0)), encode_event(event(0)), 0, 1)
    verdict = made.verdict()
    assert not verdict.hashes_equal
    assert verdict.events == 0
    assert verdict.unjudged == 1


def test_memory_is_shared_by_nodes_that_agree() -> None:
    agreed = history(three(lambda records: records, count=640))
    assert agreed.size_bytes < 640 * 50


def test_an_event_that_json_cannot_hold_is_compared_by_its_bytes() -> None:
    strange = {**event(0), "data": b"bytes"}
    keys = [key_of(event(0))]

    def holding(content: dict[str, Any]) -> bytes:
        return seal(
            index=1, term=1, kind=EntryKind.BATCH, base_offset=0, log_time_ms=0, count=1, keys=keys[0],
            payload=cbor2.dumps([cbor2.dumps(content)]),
        ).record  # fmt: skip

    same = {node: [holding(strange)] for node in (1, 2, 3)}
    assert judged(same, expected=[event(1)]).counts == {Flaw.LOST: 1}
    assert judged(same | {3: [holding(strange | {"data": b"other"})]}).changed == 1


def test_nodes_that_go_on_behind_a_finished_one_are_still_compared_event_by_event() -> None:
    made = History([1, 2, 3])
    for node in (1, 2, 3):
        made.begin(node, 0)
    for one in log(4):
        made.add(3, one)
    made.finish(3)
    for one in log(8):
        made.add(1, one)
        made.add(2, one if one != log(8)[3] else record(6, [event(6), event(77)]))
    assert made.position(1) == 8
    verdict = made.verdict()
    assert verdict.next_offset == 4
    assert verdict.hashes_equal
    assert verdict.counts == {Flaw.LOST: 2}


def test_the_keys_of_a_node_are_those_of_its_log_by_offset() -> None:
    numbers = [0, 1, 2, 3]
    made = history({1: log(4), 2: [record(0, [event(n) for n in numbers])], 3: log(4)[1:]})
    keys = [key_of(event(number)) for number in numbers]
    assert made.keys(1) == made.keys(2) == b"".join(keys)
    assert made.keys(3) == 2 * NO_KEY + b"".join(keys[2:])


def test_the_keys_of_a_cut_log_begin_at_its_first_offset() -> None:
    made = History([1])
    made.begin(1, 3)
    for one in log(8)[1:]:
        made.add(1, one)
    assert made.keys(1) == b"".join(key_of(event(number)) for number in range(3, 8))


def test_the_keys_of_a_damaged_record_are_not_there() -> None:
    bad = bytearray(log(4)[1])
    bad[-1] ^= 1
    made = history({1: [log(4)[0], bytes(bad)]}, voters=1)
    assert made.keys(1) == key_of(event(0)) + key_of(event(1))


def test_what_clients_were_told_is_held_against_the_keys_that_a_node_has_shown() -> None:
    operations = Operations()
    sent = b"".join(key_of(event(number)) for number in range(4))
    operations.acked(operations.append_begins(sent, 0), [OffsetRange(0, 4)], 1, 0)
    made = history({1: log(4), 2: log(4), 3: log(4)[:1] + log(6)[2:]})
    assert operations.check(made.keys(1)).clean
    assert operations.check(made.keys(3)).counts == {Flaw.LOST: 2, Flaw.PHANTOM: 2}
