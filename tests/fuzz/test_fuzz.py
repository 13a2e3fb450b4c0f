"""The doors of a node against bytes that no honest sender sends: a bounded run, and every kept input."""

import subprocess
import sys
from pathlib import Path

import pytest

from esnode.errors import DamagedRecord, HistoryConflict
from esnode.raft.entry import EntryKind, seal
from esnode.raft.messages import AppendEntries, Heartbeat, InstallSnapshot, Received, Role, Snapshot, Tick

from . import engine, stored
from .__main__ import main, shares
from .engine import attempt, fuzz, keep_news
from .mutation import MAX_INPUT_BYTES
from .node import LOG, LiveNode
from .target import CORPUS, Target
from .targets import TARGETS

CASES = 20_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_brings_out_only_declared_errors(name: str) -> None:
    target = TARGETS[name]
    assert target.kept(), "a door without a corpus"
    for path in target.kept():
        _, found = attempt(target, path.read_bytes())
        assert found is None, f"{path.name}: {found.report}"


def test_the_corpus_is_small_and_belongs_to_doors_that_exist() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    sizes = [path.stat().st_size for path in CORPUS.rglob("*.bin")]
    assert max(sizes) <= MAX_INPUT_BYTES
    assert sum(sizes) < 200_000


@pytest.mark.parametrize(("name", "cases"), [(t.name, n) for t, n in shares(list(TARGETS.values()), CASES)])
def test_twenty_thousand_cases_bring_out_only_declared_errors(name: str, cases: int) -> None:
    tally = fuzz(TARGETS[name], cases, seed=3)
    assert not tally.found, "\n".join(found.report for found in tally.found.values())
    assert tally.cases == cases
    assert len(tally.outcomes) >= 2, "nothing but one answer: the cases do not get past the door"


def test_the_same_seed_gives_the_same_cases() -> None:
    first, again, other = (fuzz(TARGETS["frames"], 800, seed) for seed in (1, 1, 2))
    assert first.outcomes == again.outcomes
    assert first.news == again.news
    assert first.news != other.news


# --- the fuzzer finds what is there ---------------------------------------------------------------


def leaky(data: bytes) -> str:
    """A door with a hole: two sevens in a row."""
    if b"\x07\x07" in data:
        raise KeyError(data)
    return f"length {len(data) % 7}"


LEAKY = Target("leaky", leaky, lambda: [bytes(range(60))], 1)


def test_a_hole_is_found_and_made_small_and_kept_for_ever(tmp_path: Path) -> None:
    tally = fuzz(LEAKY, 4_000, seed=1)
    (found,) = tally.found.values()
    assert found.data == b"\x07\x07"
    assert found.where.startswith("KeyError at test_fuzz.py")
    assert tally.outcomes["finding"] > 1
    kept = found.keep(tmp_path)
    assert kept.parent == tmp_path / "leaky"
    assert attempt(LEAKY, kept.read_bytes())[1] == found


def test_a_case_without_an_end_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_data: bytes) -> str:
        while True:
            pass

    monkeypatch.setattr(engine, "MAX_CASE_S", 0.05)
    _, found = attempt(Target("endless", endless, list, 1), b"")
    assert found is not None
    assert "has no end" in found.error


def test_inputs_that_lead_somewhere_new_are_kept_the_smallest_first(tmp_path: Path) -> None:
    tally = fuzz(LEAKY, 4_000, seed=1)
    assert keep_news(tally, tmp_path) == len(set(tally.news))
    assert keep_news(tally, tmp_path) <= len(tally.news)
    words = {attempt(LEAKY, path.read_bytes())[0] for path in (tmp_path / "leaky").iterdir()}
    assert len(words) > 3


def test_the_command_tells_what_it_ran_and_replays_one_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cases", "300", "--target", "cbor", "--seed", "5"]) == 0
    assert '"cases": 300' in capsys.readouterr().out.splitlines()[-1]
    path = TARGETS["cbor"].kept()[0]
    assert main(["--target", "cbor", "--replay", str(path)]) == 0
    assert capsys.readouterr().out.strip() == attempt(TARGETS["cbor"], path.read_bytes())[0]


# --- promises -------------------------------------------------------------------------------------


def test_bytes_that_promise_a_gigabyte_make_no_process_grow() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.promises"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 10 * 1024, f"grew by {run.stdout.strip()} KiB"


# --- a peer that lies (DECISIONS.md 23) -----------------------------------------------------------


def follower() -> LiveNode:
    """A follower that has heard its leader, node 2."""
    node = LiveNode()
    node.step(Received(2, Heartbeat(node.core.term, 0, 0)))
    node.persist()
    return node


def left_as_it_was(node: LiveNode, before: int) -> None:
    """The disk opens again, and holds what it held."""
    assert node.storage.recover().last_index == before
    node.starts_again()


@pytest.mark.parametrize(
    ("base_offset", "log_time_ms"), [(99, 100), (LOG[-1].next_offset, 1)], ids=["offset", "log time"]
)
def test_an_entry_that_cannot_follow_what_is_stored_ends_the_node_before_it_is_written(
    base_offset: int, log_time_ms: int
) -> None:
    node = follower()
    last = LOG[-1]
    lie = seal(
        index=last.index + 1,
        term=last.term,
        kind=EntryKind.NOOP,
        base_offset=base_offset,
        log_time_ms=log_time_ms,
    )
    node.step(Received(2, AppendEntries(node.core.term, last.index, last.term, 0, (lie,))))
    with pytest.raises(HistoryConflict, match="cannot follow what ends at"):
        node.step(Tick(10))
    left_as_it_was(node, last.index)


def test_a_snapshot_that_is_not_what_it_says_ends_the_node_before_it_is_written() -> None:
    node = follower()
    good = stored.machine_of((1, 1, 1, 2, 2, 4, 5, 5)).snapshot()
    bent = Snapshot(good.index, good.term, good.next_offset + 1, good.log_time_ms, good.data)
    with pytest.raises(DamagedRecord, match="digest"):
        node.step(Received(2, InstallSnapshot(node.core.term, bent)))
    left_as_it_was(node, LOG[-1].index)


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.LEADER])
def test_a_second_leader_of_a_term_ends_the_node_in_either_role(role: Role) -> None:
    node = follower() if role is Role.FOLLOWER else LiveNode()
    node.become(role)
    before = node.core.log.last_index
    with pytest.raises(HistoryConflict, match="two leaders in term"):
        node.step(Received(3, Heartbeat(node.core.term, 0, 0)))
    left_as_it_was(node, before)
