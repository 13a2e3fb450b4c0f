"""Decisions on batches of every size against the plain rules: keys expire, are forgotten, share hashes; tails
are lost. What `test_exactly_once` does for small batches and whole leaders, here for the ways of large ones.
"""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from esnode.config import Dedup
from esnode.dedup import keytable, recent
from esnode.dedup.keyhash import Hashes, KeyHash

from .events import batch
from .leader import Leader
from .plain import PlainTable

EVENTS = 9_000


@pytest.mark.no_cover  # slow when traced, and the other tests cover the same lines
@pytest.mark.parametrize("seed", range(14))
def test_every_event_is_decided_as_the_plain_rules_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Random(seed)
    monkeypatch.setattr(recent, "FIRST_CAPACITY", source.choice([64, 2_048, 16_384]))
    monkeypatch.setattr(recent, "WORN_AFTER", source.choice([2**31, 5_000]))
    monkeypatch.setattr(keytable, "WORN_AFTER", source.choice([2**31, 6_000]))
    if source.random() < 0.5:
        bits = source.choice([0xFFF << 20, 0xFFF << 40])  # the lowest 20 are not looked at
        monkeypatch.setattr(KeyHash, "__call__", poor(KeyHash.__call__, bits))
    dedup = Dedup.of_keys(source.choice([1_024, 5_000, 20_000]), ttl_ms=source.choice([640, 6_400, 10**9]))
    leader = Leader(dedup)
    sizes = source.choice([[1, 3], [64], [255, 256], [1, 700], [1, 64, 1_000], [1_024]])
    sent: list[int] = []
    while len(sent) < min(EVENTS, 500 * max(sizes)):
        numbers = [again(source, sent) or len(sent) + place + 1 for place in range(source.choice(sizes))]
        sent += numbers
        leader.log_time_ms += source.choice([0, 1, 5, 40])
        decide_as_the_plain_rules(leader, dedup, numbers)
        if source.random() < 0.5:
            leader.commit(source.randint(leader.machine.applied_index, len(leader.log)))
        if source.random() < 0.01:
            leader.lose(keep=source.choice([0, len(leader.log)]))
        if source.random() < 0.005:
            leader.restart(leader.machine.snapshot())


def decide_as_the_plain_rules(leader: Leader, dedup: Dedup, numbers: list[int]) -> None:
    plain = PlainTable(dedup.ttl_ms, dedup.max_keys, dedup.when_full)
    applied = leader.log[: leader.machine.applied_index]
    for one in applied:
        plain.expire(one.log_time_ms)
        plain.add(keys_of(one.keys), one.log_time_ms)
    for one in leader.log[leader.machine.applied_index :]:
        for place, key in enumerate(keys_of(one.keys)):
            plain.offsets[key] = one.base_offset + place
    next_offset = leader.next_offset
    wanted = batch(numbers)
    fresh, offsets = 0, []
    for key in keys_of(wanted.keys):
        if plain.offsets.get(key, -1) < plain.floor:
            plain.offsets[key] = next_offset + fresh
            fresh += 1
        offsets.append(plain.offsets[key])
    admitted = leader.send_batch(wanted)
    assert [one.base_offset + n for one in admitted.ranges for n in range(one.count)] == offsets
    assert admitted.duplicates == len(numbers) - fresh


def keys_of(packed: bytes) -> list[bytes]:
    return [packed[at : at + 16] for at in range(0, len(packed), 16)]


def again(source: Random, sent: list[int]) -> int | None:
    """Now and then an event that was sent before, rather a young one."""
    if not sent or source.random() < 0.93:
        return None
    return sent[-1 - int(len(sent) * source.random() ** 3)]


def poor(
    good: Callable[[KeyHash, bytes | memoryview], Hashes], kept: int
) -> Callable[[KeyHash, bytes | memoryview], Hashes]:
    """A hash of a few bits, so that many keys share one."""
    return lambda self, packed: good(self, packed) & np.uint64(kept)
