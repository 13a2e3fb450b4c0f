"""Bugs that other systems shipped, each with the check that would have caught it.

Numbered as in the project's list of them: a truncated suffix leaves keys (15), replicas disagree on
what is a duplicate (16), expiry by a wall clock (17), an ack before the original commits (22), duplicates
of an idempotent producer after a crash (24). The others are checked beside their code.
"""

import ast
from pathlib import Path

import esnode.apply
import esnode.dedup
from esnode.apply import Machine
from esnode.config import Dedup
from esnode.dedup.batch import OffsetRange, ProducerStamp
from esnode.refusal import Refusal

from .events import offsets_of
from .leader import FOREVER, Leader


def test_bug_15_a_truncated_suffix_leaves_no_key_behind() -> None:
    """nats-server#6415: the key of a batch that was cut away made its valid retry a "duplicate"."""
    leader = Leader()
    leader.send([1])
    leader.commit()
    leader.send([2, 3])
    assert leader.send([2]).fresh is None
    leader.lose()
    retried = leader.send([2, 3])
    assert retried.fresh is not None
    assert retried.ranges == (OffsetRange(1, 2),)
    assert leader.send([1]).fresh is None


def test_bug_15_what_survives_of_a_truncated_suffix_is_known() -> None:
    leader = Leader()
    leader.send([1])
    leader.send([2])
    leader.lose(keep=2)  # the no-op and the first batch
    assert leader.send([1]).fresh is None
    assert leader.send([2]).fresh is not None


def test_bug_15_a_truncated_suffix_takes_its_sequence_numbers_along() -> None:
    leader = Leader()
    producer_id = leader.open_producer()
    leader.commit()
    leader.send([1, 2], ProducerStamp(producer_id, 1, 0, 2))
    leader.lose()
    gap = leader.send([3], ProducerStamp(producer_id, 1, 2, 1))
    assert gap.refusal is Refusal.OUT_OF_SEQUENCE
    assert leader.send([1, 2], ProducerStamp(producer_id, 1, 0, 2)).fresh is not None


def test_bug_15_a_session_whose_opening_was_truncated_is_not_open() -> None:
    leader = Leader()
    producer_id = leader.open_producer()
    leader.lose()
    assert leader.send([1], ProducerStamp(producer_id, 1, 0, 1)).refusal is Refusal.UNKNOWN_PRODUCER


def test_bug_16_a_replica_that_was_away_longer_than_the_window_agrees_on_every_duplicate() -> None:
    """nats-server#6486. It catches up by entries or by a snapshot; the window is in log time."""
    dedup = Dedup.of_keys(100, ttl_ms=640, when_full="shrink")
    leader = Leader(dedup)
    away = Machine(dedup)
    for number in range(50):
        leader.log_time_ms = 100 * number
        leader.send([number, number + 1, number + 2])
        leader.commit()
        if number == 10:
            for one in leader.log[: leader.machine.applied_index]:
                away.apply(one)
    by_snapshot = Machine(dedup)
    by_snapshot.restore(leader.machine.snapshot())
    for one in leader.log[away.applied_index : leader.machine.applied_index]:
        away.apply(one)
    assert away.digest() == by_snapshot.digest() == leader.machine.digest()
    decisions = []
    for machine in (leader.machine, away, by_snapshot):
        other = Leader(dedup, leader.log[: machine.applied_index])
        other.restart(machine.snapshot())
        decisions.append([other.send([number]).duplicates for number in range(60)])
    assert decisions[0] == decisions[1] == decisions[2]
    assert 0 < sum(decisions[0]) < 60


def test_bug_17_nothing_here_can_read_a_clock() -> None:
    """Expiry by each node's wall clock makes nodes disagree; there is none to read."""
    packages = [Path(path) for path in esnode.dedup.__path__]
    sources = [Path(esnode.apply.__file__), *(one for package in packages for one in package.glob("*.py"))]
    assert len(sources) > 6
    forbidden = {
        "time",
        "datetime",
        "random",
        "secrets",
        "os",
        "uuid",
        "trio",
        "socket",
        "sqlite3",
        "threading",
    }
    for source in sources:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, source.name


def test_bug_17_only_log_time_makes_a_key_expire() -> None:
    dedup = Dedup.of_keys(10**6, ttl_ms=1_000)
    leader = Leader(dedup)
    leader.send([1])
    for number in range(10, 500):
        leader.send([number])
    leader.commit()
    assert leader.send([1]).duplicates == 1
    leader.log_time_ms = 1_015
    leader.send([1_000])
    leader.commit()
    assert leader.send([1]).duplicates == 0


def test_bug_22_a_duplicate_is_not_acked_before_its_original_commits() -> None:
    leader = Leader()
    leader.send([1, 2])
    original_index = len(leader.log)
    assert leader.send([2]).wait_index_of_duplicates == original_index
    leader.commit(original_index - 1)
    assert leader.send([2]).wait_index_of_duplicates == original_index
    leader.commit(original_index)
    assert leader.send([2]).wait_index_of_duplicates == 0


def test_bug_22_holds_for_a_new_leader_and_the_entries_of_the_old_one() -> None:
    leader = Leader()
    leader.send([1, 2])
    index = len(leader.log)
    leader.lose(keep=index)
    assert leader.send([2]).wait_index_of_duplicates == index


def test_bug_22_holds_for_numbers_of_a_session_whose_keys_have_expired() -> None:
    leader = Leader(Dedup.of_keys(10**6, ttl_ms=64))
    producer_id = leader.open_producer()
    leader.send([7])
    leader.commit()
    covered = leader.send([7], ProducerStamp(producer_id, 1, 0, 1))
    assert covered.fresh is not None
    index = len(leader.log)
    assert leader.send([7], ProducerStamp(producer_id, 1, 0, 1)).wait_index_of_duplicates == index


def test_bug_24_a_session_goes_on_over_a_crash_without_duplicates() -> None:
    """redpanda#3039: an idempotent producer's state must come from the log, not from the leader's memory."""
    leader = Leader(FOREVER)
    producer_id = leader.open_producer()
    sent: list[list[int]] = []
    for number in range(0, 40, 4):
        leader.send(range(number, number + 4), ProducerStamp(producer_id, 1, number, 4))
        sent.append(list(range(number, number + 4)))
        if number == 16:
            leader.commit(len(leader.log) - 2)  # the last two batches are in the log, not applied
    for snapshot in (None, leader.machine.snapshot()):
        leader.restart(snapshot)
        for numbers in sent:
            again = leader.send(numbers, ProducerStamp(producer_id, 1, numbers[0], 4))
            assert again.fresh is None
            assert offsets_of(again.ranges) == numbers
    following = leader.send([40], ProducerStamp(producer_id, 1, 40, 1))
    assert following.ranges == (OffsetRange(40, 1),)


def test_bug_24_a_session_goes_on_after_all_its_keys_have_expired() -> None:
    leader = Leader(Dedup.of_keys(10**6, ttl_ms=64))
    producer_id = leader.open_producer()
    leader.send(range(10), ProducerStamp(producer_id, 1, 0, 10))
    leader.log_time_ms = 10**6
    leader.send([100])
    leader.commit()
    assert leader.machine.keys.live == 1
    leader.restart(leader.machine.snapshot())
    again = leader.send(range(10), ProducerStamp(producer_id, 1, 0, 10))
    assert again.fresh is None
    assert again.ranges == (OffsetRange(0, 10),)
