"""The simulation in CI, and the simulation itself: that it hits, that it repeats, that it can fail."""

import json
import os
import re
import subprocess
import sys

import pytest

from esnode.raft import quorum

from . import world
from .runner import Summary, as_text, play_all, together
from .shrink import shrink
from .story import Story
from .tape import Fault, Operation, Tape, record
from .weather import FAULTS_A_MINUTE, draw
from .whole.swarm import FAULTS

SEEDS_A = 300
SEEDS_B = 60
MINUTES = 10 * 60


def play_in_ci(tier: str, seeds: int) -> Summary:
    summary = play_all(tier, range(seeds), jobs=os.cpu_count() or 1)
    assert not summary.failed, [f"seed {each.seed}: {each.violation}" for each in summary.failed]
    return summary


@pytest.mark.slow
@pytest.mark.timeout(MINUTES)
def test_many_worlds_break_no_promise_and_every_fault_hits() -> None:
    counts = play_in_ci("A", SEEDS_A).counts
    assert not [kind for kind in FAULTS_A_MINUTE if counts[f"fault.{kind}"] < 10], counts
    for name in (
        "fault.hung_disk", "fault.old_copy put back", "disk.kept more than was synced",
        "node.found DamagedRecord", "node.found CopiedDirectory", "node.rejoined", "net.snapshot",
        "dedup.again after its window", "refused.LEADERSHIP_LOST", "op.append unknown", "op.session",
        "op.session goes on",
    ):  # fmt: skip
        assert counts[name] >= 10, (name, counts)
    assert counts["op.append"] > 20 * SEEDS_A
    assert counts["op.read"] > SEEDS_A


@pytest.mark.slow
@pytest.mark.timeout(MINUTES)
def test_many_worlds_of_whole_nodes_break_no_promise() -> None:
    counts = play_in_ci("B", SEEDS_B).counts
    assert sum(counts[f"fault.{kind}"] > 0 for kind in FAULTS) >= len(FAULTS) - 1, "a rare one may miss"
    assert counts["op.acked"] > 100 * SEEDS_B, counts
    assert min(counts["op.many"], counts["op.in order"] // 10) > 20 * SEEDS_B, counts
    # One node in two seeds ends itself: of 60, some 30 by chance, and hardly ever fewer than 15.
    rare = min(counts["node.ended itself"], counts["log.rejoin_done"])
    assert min(rare, counts["log.prefix_cut"]) > SEEDS_B // 4, counts
    assert min(counts["op.numbered"], counts["op.resumed"], counts["op.fenced"]) > SEEDS_B, counts


@pytest.mark.slow
def test_a_seed_gives_one_trace_whatever_the_hash_seed() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "7", "--hash", "--minutes", "0.5"]
    hashes = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "random")
    }
    assert len(hashes) == 1
    assert len(hashes.pop().strip()) == 32


def test_another_seed_gives_another_trace() -> None:
    assert world.run(1, minutes=0.2).trace_hash != world.run(2, minutes=0.2).trace_hash


def test_a_leader_of_an_earlier_term_that_votes_reach_late_breaks_no_promise() -> None:
    # At 104.6 s node 2 gets the last of its votes of term 3, after node 1 has committed in term 4.
    assert world.run(4007005, minutes=0.95, stretch=6).violation is None


def test_a_tape_is_the_same_after_a_file() -> None:
    tape = record(4, draw(4, 1.0))
    assert tape.faults
    assert tape.operations
    assert Tape.from_json(json.loads(json.dumps(tape.to_json()))) == tape


def test_a_shortened_tape_keeps_what_fails_and_nothing_else() -> None:
    tape = record(4, draw(4, 1.0))
    fault, operation = tape.faults[len(tape.faults) // 2], tape.operations[-1]

    def fails(shorter: Tape) -> bool:
        return fault in shorter.faults and operation in shorter.operations

    lengths: list[int] = []
    found = shrink(tape, operation.at_ns, fails, lengths.append)
    assert found == Tape((fault,), (operation,))
    assert lengths[-1] == 2


def test_a_broken_quorum_is_found_replayed_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "agreed", max)  # one copy is enough
    seed = next(seed for seed in range(10) if world.run(seed, minutes=0.5).violation is not None)
    violation = world.run(seed, minutes=0.5).violation
    assert violation is not None
    assert violation.rule == "durable on a majority"

    def fails(tape: Tape) -> bool:
        again = world.run(seed, minutes=0.5, tape=tape).violation
        return again is not None and again.rule == violation.rule

    whole = record(seed, draw(seed, 0.5))
    tape = shrink(whole, 30 * 10**9, fails, lambda left: None)
    assert fails(tape)
    assert len(tape.faults) + len(tape.operations) <= 3


def test_a_story_tells_of_messages_and_faults() -> None:
    story = Story()
    tape = Tape(
        (Fault(3 * 10**9, "reset", 1, 2, 10**9, 0),), (Operation(10**9, 0, (1,), session=False, to=1),)
    )
    seed = next(seed for seed in range(99) if (draw(seed, 0.2).voters, draw(seed, 0.2).aim) == (3, 0))
    outcome = world.run(seed, minutes=0.2, tape=tape, listener=story.hear)
    assert outcome.violation is None
    text, diagram = story.text(), story.diagram()
    assert "append in term" in text
    assert "reset 1 2" in text
    assert diagram.startswith("sequenceDiagram\n    participant 1\n    participant 2\n    participant 3\n")
    assert "->>" in diagram


def test_a_summary_says_how_often_each_fault_hit() -> None:
    first, then = play_all("A", range(2), minutes=0.3), play_all("A", range(2, 3), minutes=0.3)
    whole = together(first.to_json(), then.to_json())
    assert whole["counts"] == play_all("A", range(3), minutes=0.3).to_json()["counts"]
    text = as_text(whole)
    assert re.search(r"^seeds +3$", text, re.MULTILINE)
    assert re.search(r"^simulated hours +0\.\d", text, re.MULTILINE)
    assert re.search(r"^op\.append +[1-9]", text, re.MULTILINE)
