"""Short forms of the torture runs, and the ledger that judges them: it must be able to fail."""

import contextlib
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from esctl.bench.generator import Generator
from esctl.exits import Exit
from esnode import limits
from esnode.dedup.batch import OffsetRange
from tests.torture import campaign, flips, kills, mix, pauses
from tests.torture.arena import Arena, Role, Target, Trouble
from tests.torture.campaign import Fault, Needs, Settings, Strike
from tests.torture.ledger import Ledger
from tests.torture.load import Load
from tests.torture.promises import Promises


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


# --- one of each, on one cluster ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    """What a run with one fault of each kind says; those that this machine cannot do are left out."""
    written = io.StringIO()
    times = sum(not fault.missing() for fault in mix.everything())
    with contextlib.redirect_stdout(written):
        code = mix.run(Settings(times, rate=1_500, seed=1))
    found: dict[str, Any] = json.loads(written.getvalue())
    assert code in (Exit.OK, Exit.INCONCLUSIVE), found  # a loaded machine may not carry the load
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fault", mix.everything(), ids=lambda fault: fault.name)
def test_a_fault_hits_under_load_and_its_node_comes_back(fault: Fault, outcome: dict[str, Any]) -> None:
    if lack := fault.missing():
        pytest.skip(lack)
    assert outcome["confirmed"][fault.name] == 1, outcome["not_confirmed"]


@pytest.mark.slow
def test_no_fault_loses_or_doubles_an_event(outcome: dict[str, Any]) -> None:
    assert (outcome["lost"], outcome["twice"], outcome["conflicts"], outcome["flaws"]) == (0, 0, 0, [])
    assert outcome["hashes_equal"]
    assert outcome["files_read"] == [1, 2, 3]
    assert outcome["log_events"] >= outcome["acked"] > 0


# --- the campaign itself: it must be able to say no -----------------------------------------------------


class Dud:
    """A fault that never hits; and one that leaves trouble behind."""

    name = "dud"
    needs = Needs()

    def __init__(self, trouble: bool) -> None:
        self._trouble = trouble

    def missing(self) -> str:
        return ""

    async def strike(self, ring: Arena, load: Load, target: Target, source: random.Random) -> Strike:
        if self._trouble:
            raise Trouble("a node went on with damaged files")
        return Strike("nothing was done", "nothing was to be seen")


@pytest.mark.slow
def test_a_fault_that_did_not_hit_leaves_the_run_inconclusive(capsys: pytest.CaptureFixture[str]) -> None:
    assert campaign.run("dud", [Dud(trouble=False)], Settings(1, 1_000)) == Exit.INCONCLUSIVE
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["tried"], outcome["confirmed"], outcome["lost"]) == ({"dud": 1}, {}, 0)


@pytest.mark.slow
def test_trouble_with_a_node_fails_the_run_and_keeps_its_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = Settings(1, 1_000, home=tmp_path)
    assert campaign.run("dud", [Dud(trouble=True)], settings) == Exit.VERDICT_FAILED
    assert "damaged files" in json.loads(capsys.readouterr().out)["trouble"]
    assert len(list(tmp_path.glob("torture-*"))) == 1


@pytest.mark.slow
def test_a_node_that_stood_still_for_longer_than_a_disk_may_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its writes were under way when it was stopped: that nothing became durable was not its disk's fault."""
    stopped_s = limits.DISK_SILENCE_S + 1
    code = campaign.run("pauses", [pauses.Pause(stopped_s, stopped_s)], Settings(1, rate=30_000))
    outcome = json.loads(capsys.readouterr().out)
    assert code in (Exit.OK, Exit.INCONCLUSIVE), outcome  # a loaded machine may not carry the load
    assert outcome["confirmed"] == {"pauses": 1}, outcome["not_confirmed"]
    assert outcome["hashes_equal"]


def test_one_seed_gives_one_plan() -> None:
    faults: list[Fault] = [kills.Kill(), pauses.Pause(), flips.FlippedBit()]
    plans = [campaign.plan(faults, Settings(30, seed=seed)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    hit = Counter(fault.name for fault, role in plans[0] if role is Role.LEADER)
    assert all(hit[fault.name] in (3, 4) for fault in faults)  # of ten each


def test_what_was_promised_is_looked_for_where_it_was_promised() -> None:
    ledger, log = ledger_of((0,), (), (2,))
    promises = Promises.of(ledger)
    log = log[:32] + log[64:]
    assert promises.end == 3
    assert promises.missing_in(log) == 0
    assert promises.missing_in(log[:-16]) == 1
    assert promises.missing_in(log[16:32] + log[:16] + log[32:]) == 2
    assert promises.missing_in(b"") == 4
