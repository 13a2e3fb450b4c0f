"""Short forms of the torture runs, and the ledger that judges them: it must be able to fail."""

import json

import pytest

from esctl.exits import Exit
from esctl.load.generator import Generator
from esnode.dedup.batch import OffsetRange
from tests.torture import kill_all, kills
from tests.torture.ledger import Ledger


def ledger_of(*acks: tuple[int, ...]) -> tuple[Ledger, bytes]:
    """A ledger of batches of two, acked at these base offsets, and the log that it should find."""
    generator = Generator("0123456789abcdef", 128, 2)
    ledger, log = Ledger(), bytearray()
    for offsets in acks:
        batch = generator.next_batch()
        ledger.sent(batch)
        log += batch.keys
        for base_offset in offsets:
            ledger.ack(batch, [OffsetRange(base_offset, 2)])
    return ledger, bytes(log)


def test_a_ledger_and_the_log_it_was_promised_agree() -> None:
    ledger, log = ledger_of((0,), (), (4, 4))
    assert ledger.compare(log).clean
    assert not ledger.conflicts
    assert (ledger.acked, ledger.acked_again) == (4, 2)


def test_a_ledger_finds_what_was_acked_and_is_not_there() -> None:
    ledger, log = ledger_of((0,), (2,))
    assert len(ledger.compare(log[:-16]).lost) == 1
    assert len(ledger.compare(b"").lost) == 4
    moved = log[16:32] + log[:16] + log[32:]
    assert len(ledger.compare(moved).lost) == 2


def test_a_ledger_does_not_ask_for_what_was_not_acked() -> None:
    ledger, log = ledger_of((0,), ())
    assert ledger.compare(log[:32]).clean


def test_a_ledger_finds_an_event_that_is_there_twice_or_that_nobody_sent() -> None:
    ledger, log = ledger_of((0,), (2,))
    assert ledger.compare(log + log[:16]).twice == 1
    assert ledger.compare(log + b"x" * 16).unknown_origin == 1


def test_a_ledger_finds_two_acks_that_differ() -> None:
    ledger, _ = ledger_of((0, 6))
    assert len(ledger.conflicts) == 2


@pytest.mark.slow
def test_three_kills_under_load_lose_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = kills.run(asked=3, rate=5_000, seed=1)
    outcome = json.loads(capsys.readouterr().out)
    assert code in (Exit.OK, Exit.INCONCLUSIVE), outcome  # a loaded machine may not carry the load
    assert outcome["kills"] == 3
    assert outcome["acked"] > 0


@pytest.mark.slow
def test_a_kill_of_all_nodes_loses_and_doubles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = kill_all.run(times=1, rate=5_000, seed=1)
    outcome = json.loads(capsys.readouterr().out)
    assert code == Exit.OK, outcome
