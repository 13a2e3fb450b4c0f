"""What leaves next: small frames before large ones, and large ones in fragments with small ones between."""

from hypothesis import given
from hypothesis import strategies as st

from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import AppendEntries, Heartbeat
from esnode.replication.outbox import Outbox
from esnode.wire import Fragment, FragmentAssembler, FrameReader, Message, encode, encode_parts


def entry(index: int, size_bytes: int) -> Entry:
    return seal(
        index=index,
        term=1,
        kind=EntryKind.BATCH,
        base_offset=index - 1,
        log_time_ms=0,
        count=1,
        keys=bytes(16),
        payload=bytes(size_bytes),
    )


def append(index: int, size_bytes: int) -> AppendEntries:
    return AppendEntries(1, index - 1, 1 if index > 1 else 0, 0, (entry(index, size_bytes),))


def put(outbox: Outbox, message: AppendEntries) -> None:
    parts = encode_parts(message)
    outbox.put_bulk(parts, sum(map(len, parts)))


class Far:
    """Who receives it."""

    def __init__(self) -> None:
        self.frames: list[Message] = []
        self.heard: list[Message] = []
        self._reader, self._assembler = FrameReader(), FragmentAssembler()

    def receive(self, parts: list[bytes]) -> None:
        for frame in self._reader.feed(b"".join(parts)):
            self.frames.append(frame)
            whole = self._assembler.add(frame) if isinstance(frame, Fragment) else frame
            if whole is not None:
                self.heard.append(whole)


def test_what_is_little_leaves_at_once_and_uncut() -> None:
    outbox, far = Outbox(), Far()
    beat, entries = Heartbeat(1, 0, 7), [append(1, 100), append(2, 100)]
    for message in entries:
        put(outbox, message)
    outbox.put_small(encode(beat))
    far.receive(outbox.take(10_000))
    assert far.frames == [beat, *entries]
    assert (outbox.size_bytes, outbox.take(10_000)) == (0, [])


def test_a_heartbeat_passes_between_the_fragments_of_a_batch() -> None:
    outbox, far = Outbox(), Far()
    large, beat = append(1, 40_000), Heartbeat(1, 0, 7)
    put(outbox, large)
    far.receive(outbox.take(16_000))
    assert outbox.cut_bytes == 16_000
    outbox.put_small(encode(beat))
    far.receive(outbox.take(16_000))
    assert far.heard == [beat]
    far.receive(outbox.take(16_000))
    assert far.heard == [beat, large]
    assert outbox.size_bytes == 0


def test_what_is_lost_in_the_middle_leaves_room_for_what_comes_next() -> None:
    outbox, far = Outbox(), Far()
    put(outbox, append(1, 40_000))
    far.receive(outbox.take(16_000))
    outbox.drop_large()
    assert outbox.size_bytes == 0
    put(outbox, append(2, 40_000))
    while parts := outbox.take(16_000):
        far.receive(parts)
    assert far.heard == [append(2, 40_000)]


def test_nothing_is_left_when_the_connection_is_gone() -> None:
    outbox = Outbox()
    put(outbox, append(1, 40_000))
    put(outbox, append(2, 40_000))
    outbox.put_small(encode(Heartbeat(1, 0, 1)))
    outbox.take(16_000)
    outbox.clear()
    assert (outbox.size_bytes, outbox.take(16_000)) == (0, [])


@given(st.lists(st.integers(0, 3000), max_size=12), st.lists(st.integers(1, 4000), min_size=1, max_size=8))
def test_whatever_leaves_at_once_all_arrives_and_entries_in_their_order(
    sizes: list[int], most: list[int]
) -> None:
    outbox, far, beats = Outbox(), Far(), 0
    sent = [append(number, size) for number, size in enumerate(sizes, 1)]
    for message in sent:
        put(outbox, message)
        outbox.put_small(encode(Heartbeat(1, 0, beats)))
        beats += 1
    turn = 0
    while outbox.size_bytes:
        before = outbox.size_bytes
        far.receive(outbox.take(most[turn % len(most)]))
        assert outbox.size_bytes < before
        turn += 1
    assert [message for message in far.heard if isinstance(message, AppendEntries)] == sent
    assert len(far.heard) == len(sent) + beats
