"""Reads by ReadIndex: rounds and what frees them."""

from esnode.raft.reads import Confirmed, PendingReads


def test_a_round_takes_all_that_waits_and_nothing_later() -> None:
    reads = PendingReads()
    waiting = [reads.are_waiting]
    reads.add(1)
    reads.add(2)
    waiting.append(reads.are_waiting)
    reads.begin_round(5)
    waiting.append(reads.are_waiting)
    assert waiting == [False, True, False]
    reads.add(3)
    assert (reads.probe, len(reads)) == (1, 3)
    assert reads.confirm(1) == [Confirmed(1, 5), Confirmed(2, 5)]
    assert len(reads) == 1


def test_a_confirmed_round_frees_every_earlier_one() -> None:
    reads = PendingReads()
    for token in (1, 2, 3):
        reads.add(token)
        reads.begin_round(10 * token)
    assert reads.confirm(0) == []
    assert reads.confirm(2) == [Confirmed(1, 10), Confirmed(2, 20)]
    assert reads.confirm(2) == []


def test_draining_gives_back_every_read_once() -> None:
    reads = PendingReads()
    reads.add(1)
    reads.begin_round(0)
    reads.add(2)
    assert reads.drain() == [1, 2]
    assert (reads.drain(), len(reads)) == ([], 0)
