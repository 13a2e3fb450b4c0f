"""The producer table: its rules, its bounds, its bytes."""

import struct

import pytest

from esnode import limits
from esnode.dedup.batch import ProducerStamp
from esnode.dedup.producers import Opening, ProducerTable, SequenceRange
from esnode.errors import Bug, DamagedRecord


def record(table: ProducerTable, producer_id: int, sequence: int, base_offset: int, count: int) -> None:
    table.record(ProducerStamp(producer_id, 1, sequence, count), base_offset, count)


def test_a_new_session_expects_number_zero_of_epoch_one() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    assert table.place(7) == (1, 0)
    assert table.place(8) is None
    assert table.ranges(7, 0) == table.ranges(8, 0) == []


def test_a_session_remembers_where_its_batches_are() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    record(table, 7, 0, 100, 10)
    record(table, 7, 10, 200, 10)
    assert table.place(7) == (1, 20)
    assert table.ranges(7, 0) == [SequenceRange(10, 200, 10), SequenceRange(0, 100, 10)]
    assert table.ranges(7, 9) == table.ranges(7, 0)
    assert table.ranges(7, 10) == [SequenceRange(10, 200, 10)]
    assert table.ranges(7, 20) == []


def test_batches_that_follow_each_other_in_the_log_are_one_range() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    for sequence in range(0, 1_000, 10):
        record(table, 7, sequence, 500 + sequence, 10)
    assert table.ranges(7, 0) == [SequenceRange(0, 500, 1_000)]


def test_a_batch_of_which_a_part_was_known_moves_the_session_and_leaves_no_range() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    record(table, 7, 0, 0, 2)
    table.record(ProducerStamp(7, 1, 2, 5), 2, 3)
    table.record(ProducerStamp(7, 1, 7, 5), 5, 0)
    record(table, 7, 12, 5, 2)
    assert table.place(7) == (1, 14)
    assert table.ranges(7, 0) == [SequenceRange(12, 5, 2), SequenceRange(0, 0, 2)]


def test_batches_that_are_neighbours_in_the_log_but_not_in_the_session_are_two_ranges() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    record(table, 7, 0, 0, 2)
    table.record(ProducerStamp(7, 1, 2, 3), 2, 0)
    record(table, 7, 5, 2, 2)
    assert table.ranges(7, 0) == [SequenceRange(5, 2, 2), SequenceRange(0, 0, 2)]


def test_only_the_latest_ranges_are_remembered() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    for sequence in range(limits.MAX_PRODUCER_RANGES + 10):
        record(table, 7, sequence, 2 * sequence, 1)
    found = table.ranges(7, 0)
    assert len(found) == limits.MAX_PRODUCER_RANGES
    assert found[-1] == SequenceRange(10, 20, 1)


def test_many_sessions_share_what_may_be_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REMEMBERED_RANGES", 20)
    table = ProducerTable()
    for producer_id in range(1, 6):
        table.open(Opening(producer_id, 1, 0))
    for sequence in range(30):
        record(table, 3, sequence, 2 * sequence, 1)
    assert len(table.ranges(3, 0)) == 4
    for producer_id in range(6, 50):
        table.open(Opening(producer_id, 1, 0))
    record(table, 3, 30, 60, 1)
    assert table.ranges(3, 0) == [SequenceRange(30, 60, 1)]


def test_the_session_idle_for_longest_is_closed_to_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PRODUCERS", 3)
    table = ProducerTable()
    for producer_id in (1, 2, 3):
        table.open(Opening(producer_id, 1, 0))
    record(table, 1, 0, 0, 1)
    table.open(Opening(4, 1, 0))
    assert table.place(2) is None
    assert [table.place(n) for n in (1, 3, 4)] == [(1, 1), (1, 0), (1, 0)]
    assert (len(table), table.closed) == (3, 1)


def test_sessions_that_are_opened_and_not_used_close_each_other_and_none_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever opens sessions without end closes nobody's but those; so does a table out of its bytes."""
    monkeypatch.setattr(limits, "MAX_PRODUCERS", 6)
    monkeypatch.setattr(limits, "MAX_UNUSED_PRODUCERS", 2)
    table = ProducerTable()
    for producer_id in (1, 2, 3):
        table.open(Opening(producer_id, 1, 0))
        record(table, producer_id, 0, producer_id, 1)
    for producer_id in range(4, 100):
        table.open(Opening(producer_id, 1, 0))
        if producer_id == 50:
            table = ProducerTable.load(table.dump())
    assert [n for n in range(1, 100) if table.place(n)] == [1, 2, 3, 97, 98, 99]
    record(table, 98, 0, 9, 1)
    table.open(Opening(100, 1, 0))
    table.open(Opening(101, 1, 0))
    assert [n for n in range(1, 102) if table.place(n)] == [1, 2, 3, 98, 100, 101]


def test_an_entry_of_a_closed_session_or_an_old_epoch_is_passed_over() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    before = table.digest()
    table.record(ProducerStamp(8, 1, 0, 1), 0, 1)
    table.record(ProducerStamp(7, 2, 0, 1), 0, 1)
    assert table.digest() == before


def test_a_number_out_of_order_in_the_log_is_a_bug() -> None:
    table = ProducerTable()
    table.open(Opening(7, 1, 0))
    with pytest.raises(Bug, match="at 0, not at 1"):
        record(table, 7, 1, 0, 1)


def filled() -> ProducerTable:
    table = ProducerTable()
    for producer_id in (5, 9, 7):
        table.open(Opening(producer_id, 1, 0))
    record(table, 9, 0, 10, 4)
    record(table, 9, 4, 20, 4)
    record(table, 5, 0, 30, 1)
    table.closed = 3
    return table


def test_a_table_out_of_its_bytes_is_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = filled()
    other = ProducerTable()
    other.open(Opening(1, 1, 0))
    other.adopt(ProducerTable.load(table.dump()))
    assert other.dump() == table.dump()
    assert other.digest() == table.digest()
    assert other.place(1) is None
    monkeypatch.setattr(limits, "MAX_PRODUCERS", 3)
    for each in (table, other):
        record(each, 9, 8, 24, 4)
        each.open(Opening(11, 1, 0))
        assert each.place(7) is None  # idle for longest in both
    assert other.dump() == table.dump()


def test_the_digest_changes_with_whatever_is_known() -> None:
    table = ProducerTable()
    seen = {table.digest()}
    table.open(Opening(5, 1, 0))
    seen.add(table.digest())
    table.open(Opening(6, 1, 0))
    seen.add(table.digest())
    record(table, 5, 0, 10, 4)
    seen.add(table.digest())
    record(table, 5, 4, 14, 4)
    seen.add(table.digest())
    table.closed += 1
    seen.add(table.digest())
    assert len(seen) == 6
    assert table.digest() == table.digest()


def packed_session(producer_id: int, next_sequence: int, *ranges: tuple[int, int, int]) -> bytes:
    head = struct.pack(">QIQI", producer_id, 1, next_sequence, len(ranges))
    return head + b"".join(struct.pack(">QQQ", *known) for known in ranges)


def packed_table(*sessions: bytes) -> bytes:
    return struct.pack(">QI", 0, len(sessions)) + b"".join(sessions)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packed_table(packed_session(1, 0))[:-1],
        packed_table(packed_session(1, 1, (0, 0, 1)))[:-1],
        packed_table(packed_session(1, 2, (0, 0, 1), (1, 9, 1)))[:-24],
        packed_table(packed_session(1, 0)) + b"x",
        packed_table(packed_session(1, 0), packed_session(1, 0)),
        packed_table(packed_session(1, 1, (0, 0, 0))),
        packed_table(packed_session(1, 5, (2, 0, 1), (0, 8, 1))),
        packed_table(packed_session(1, 5, (0, 0, 2), (1, 8, 1))),
        packed_table(packed_session(1, 5, (0, 0, 6))),
        packed_table(packed_session(1, 999, *((n, 2 * n, 1) for n in range(limits.MAX_PRODUCER_RANGES + 1)))),
        struct.pack(">QI", 0, 2**32 - 1),
    ],
    ids=[
        "nothing",
        "a session cut short",
        "a range cut short",
        "a range missing",
        "a byte more",
        "one session twice",
        "an empty range",
        "ranges out of order",
        "ranges that overlap",
        "more than was sent",
        "too many ranges",
        "sessions missing",
    ],
)
def test_bytes_that_are_no_producer_table_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedRecord):
        ProducerTable.load(data)


def test_more_sessions_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = filled().dump()
    monkeypatch.setattr(limits, "MAX_PRODUCERS", 2)
    with pytest.raises(DamagedRecord):
        ProducerTable.load(data)


def packed_name(holder: int, used_ms: int, name: bytes) -> bytes:
    return struct.pack(">QQH", holder, used_ms, len(name)) + name


def with_names(*sessions: bytes) -> bytes:
    return packed_table(packed_session(1, 0)) + struct.pack(">I", len(sessions)) + b"".join(sessions)


def test_a_table_without_names_has_the_bytes_that_older_versions_read() -> None:
    table = ProducerTable()
    for producer_id in (5, 9):
        table.open(Opening(producer_id, 1, 0))
    record(table, 5, 0, 30, 4)
    assert table.dump() == packed_table(packed_session(9, 0), packed_session(5, 4, (0, 30, 4)))


def test_names_are_in_the_bytes_of_the_table_and_in_its_digest() -> None:
    table, seen = filled(), set()
    for opening in (
        Opening(11, 1, 0, "a", 1),
        Opening(12, 1, 0, "b", 1),
        Opening(11, 2, 0, "a", 1),
        Opening(11, 2, 0, "a", 9),
    ):
        table.open(opening, 60)
        seen.add(table.digest())
    table.record(ProducerStamp(11, 2, 0, 3), 40, 3, 70)
    seen.add(table.digest())
    assert len(seen) == 5
    loaded = ProducerTable.load(table.dump())
    assert (loaded.dump(), loaded.digest()) == (table.dump(), table.digest())
    for each in (table, loaded):
        assert each.find_name("a") == each.find(11) == Opening(11, 2, 3, "a", 9)
        assert each.find_name("c") is None
        assert (len(each), each.named) == (5, 2)
        assert each.last_offset(11) == 42


def test_a_name_is_one_session_only() -> None:
    table = ProducerTable()
    table.open(Opening(5, 1, 0, "a", 1))
    table.open(Opening(9, 1, 4, "a", 1))
    assert table.find(5) is None
    assert table.find_name("a") == Opening(9, 1, 4, "a", 1)
    table.open(Opening(9, 2, 4))
    assert table.find_name("a") is None
    assert (len(table), table.named) == (1, 0)


NAMED = packed_session(2, 0) + packed_name(7, 60, b"a")


@pytest.mark.parametrize(
    "data",
    [
        with_names(NAMED)[:-1],
        with_names(packed_session(2, 0)),
        with_names(NAMED) + b"x",
        with_names(NAMED, packed_session(3, 0) + packed_name(7, 60, b"a")),
        with_names(NAMED, packed_session(2, 0) + packed_name(7, 60, b"b")),
        with_names(packed_session(1, 0) + packed_name(7, 60, b"a")),
        with_names(packed_session(2, 0) + packed_name(7, 60, b"")),
        with_names(packed_session(2, 0) + packed_name(7, 60, b"\xff")),
        with_names(packed_session(2, 0) + packed_name(7, 60, b"a" * 256)),
        with_names(),
        with_names()[:-1],
    ],
    ids=[
        "a name cut short",
        "a name missing",
        "a byte more",
        "one name twice",
        "one session twice",
        "one session with a name and without",
        "an empty name",
        "a name that is no text",
        "a name too long",
        "no names",
        "the number of names cut short",
    ],
)
def test_bytes_that_are_no_named_sessions_are_refused(data: bytes) -> None:
    assert ProducerTable.load(with_names(NAMED)).find_name("a") == Opening(2, 1, 0, "a", 7)
    with pytest.raises(DamagedRecord):
        ProducerTable.load(data)
