"""Chunks of keys between nodes: what is asked for, what is believed, what stays, and when it is given up."""

from collections.abc import Callable, Sequence

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.apply import sealed_in
from esnode.dedup.keywindow import missing_chunks
from esnode.errors import DamagedRecord, ProtocolError
from esnode.raft.messages import HardState, Write
from esnode.replication.keychunks import KeyChunks
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.wire.chunks import FetchKeys, KeyChunk
from tests.storage.places import US
from tests.upkeep.test_recovery import applied, log_of

LOG = log_of([1_000] * 30)
MACHINE = applied(LOG[:25])
SNAPSHOT = MACHINE.outline()
SEALED = sealed_in(SNAPSHOT.data)
NUMBERS = list(range(SEALED.first_chunk, SEALED.end_chunk))
PEER = 2


def chunk(number: int) -> KeyChunk:
    return KeyChunk(number, bytes(MACHINE.keys.sealed_chunk(number)))


class Follower:
    """A node's chunks, and what it has asked for."""

    def __init__(self) -> None:
        self.storage = MemoryStorage(MemoryDisk(), US)
        self.keys = KeyChunks(StorageWorker(self.storage, inline=True))
        self.asked: list[FetchKeys] = []
        self.found: list[bool] = []

    async def fetch(self) -> None:
        self.found.append(await self.keys.fetch(PEER, SNAPSHOT, self.asked.append))

    def missing(self) -> Sequence[int]:
        return missing_chunks(SEALED, self.storage)

    async def fetch_while(self, answer: Callable[[FetchKeys], None]) -> bool:
        """Fetch, and let `answer` have each request as soon as it is there."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.fetch)
            answered = 0
            while not self.found:
                await trio.testing.wait_all_tasks_blocked()
                if answered == len(self.asked):
                    break  # it is silent
                answered = len(self.asked)
                answer(self.asked[-1])
        return self.found[0]

    def give_all(self, request: FetchKeys) -> None:
        for number in range(request.first_chunk, request.first_chunk + len(request.digests)):
            self.keys.take(PEER, chunk(number))


async def test_all_that_is_missing_is_fetched_a_bounded_piece_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "FETCHED_CHUNKS", 2)
    follower = Follower()
    assert await follower.fetch_while(follower.give_all)
    asked = [(one.first_chunk, len(one.digests)) for one in follower.asked]
    assert asked == [(NUMBERS[0], 2), (NUMBERS[2], 2), (NUMBERS[4], 1)]
    assert follower.missing() == []


async def test_what_is_on_disk_is_not_asked_for() -> None:
    follower = Follower()
    follower.storage.keep_keys(NUMBERS[1], [chunk(NUMBERS[1]).keys])
    follower.storage.keep_keys(NUMBERS[3], [chunk(NUMBERS[0]).keys])  # another one under its number
    assert await follower.fetch_while(follower.give_all)
    assert [(one.first_chunk, len(one.digests)) for one in follower.asked] == [
        (NUMBERS[0], 1),
        (NUMBERS[2], 3),
    ]
    again = len(follower.asked)
    follower.found.clear()
    assert await follower.fetch_while(follower.give_all)
    assert len(follower.asked) == again


async def test_keys_that_their_digest_does_not_name_are_refused_and_not_stored() -> None:
    follower = Follower()

    def lie(request: FetchKeys) -> None:
        follower.keys.take(PEER, chunk(NUMBERS[0]))
        with pytest.raises(ProtocolError, match="digest"):
            follower.keys.take(PEER, KeyChunk(NUMBERS[1], chunk(NUMBERS[2]).keys))

    assert not await follower.fetch_while(lie)
    assert follower.missing() == NUMBERS[1:]  # what came before stays


async def test_a_peer_that_has_no_more_of_them_ends_the_fetch_and_what_came_stays() -> None:
    follower = Follower()

    def give_one(request: FetchKeys) -> None:
        follower.keys.take(PEER, chunk(request.first_chunk))
        follower.keys.take(PEER, KeyChunk(request.first_chunk + 1, b""))

    assert not await follower.fetch_while(give_one)
    assert follower.missing() == NUMBERS[1:]


async def test_a_connection_that_breaks_ends_the_fetch_and_another_one_goes_on_from_there() -> None:
    follower = Follower()

    def break_off(request: FetchKeys) -> None:
        follower.keys.take(PEER, chunk(request.first_chunk))
        follower.keys.lost(3)
        follower.keys.take(3, KeyChunk(NUMBERS[1], b"of somebody who was not asked"))
        follower.keys.lost(PEER)

    assert not await follower.fetch_while(break_off)
    follower.found.clear()
    assert await follower.fetch_while(follower.give_all)
    assert (follower.asked[-1].first_chunk, follower.missing()) == (NUMBERS[1], [])


async def test_a_silent_peer_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    follower = Follower()
    begun = trio.current_time()
    assert not await follower.fetch_while(lambda request: follower.keys.take(PEER, chunk(NUMBERS[0])))
    assert trio.current_time() - begun == pytest.approx(limits.KEYS_SILENCE_S)
    assert follower.missing() == NUMBERS[1:]


async def test_what_comes_late_or_unasked_harms_nobody() -> None:
    follower = Follower()
    follower.keys.take(PEER, chunk(NUMBERS[0]))

    def give_twice(request: FetchKeys) -> None:
        follower.give_all(request)
        follower.give_all(request)

    assert await follower.fetch_while(give_twice)


async def test_a_chunk_is_given_as_its_digest_names_it() -> None:
    leader = Follower()
    leader.storage.write([_logged()])
    for number in NUMBERS:
        leader.storage.keep_keys(number, [chunk(number).keys])
    leader.storage.cut_prefix(SNAPSHOT)
    for number, digest in zip(NUMBERS, SEALED.digests, strict=True):
        assert await leader.keys.read(number, digest) == chunk(number).keys
    assert await leader.keys.read(NUMBERS[-1] + 1, SEALED.digests[0]) == b""
    assert await leader.keys.read(NUMBERS[0], SEALED.digests[1]) == b""  # nobody needs that here


async def test_a_chunk_that_is_not_what_was_written_ends_the_node_that_is_asked_for_it() -> None:
    leader = Follower()
    leader.storage.write([_logged()])
    for number in NUMBERS:
        leader.storage.keep_keys(number, [chunk(number).keys])
    leader.storage.cut_prefix(SNAPSHOT)
    keys = bytearray(chunk(NUMBERS[2]).keys)
    keys[100] ^= 4
    leader.storage.keep_keys(NUMBERS[2], [bytes(keys)])
    with pytest.raises(ExceptionGroup) as ended:
        await _read_at_work(StorageWorker(leader.storage, inline=True), NUMBERS[2], SEALED.digests[2])
    assert ended.group_contains(DamagedRecord, match=f"chunk {NUMBERS[2]}")


async def _read_at_work(worker: StorageWorker, number: int, digest: bytes) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await KeyChunks(worker).read(number, digest)


def _logged() -> Write:
    return Write(1, None, HardState(LOG[-1].term, None), tuple(LOG), len(LOG))
