"""A run that is killed at any line of its journal goes on to its end, and nothing is done twice that may not.

kill -9 is played at each write: in the middle of the line, so that it is not there, and after it. Nothing of
the killed process acts any more. Meanwhile the leases of its faults end, as the nodes see to it.
"""

import contextlib
import fcntl
import functools
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from esctl.errors import MachineRefused
from esctl.playbook import journal
from esctl.playbook.journal import Journal
from esctl.playbook.progress import RunVerdict, Undo
from esctl.playbook.undo import ALL_TIMEOUT_S
from esctl.playbookerrors import CannotRepeat, NoLongerHolds, RunUnderWay
from tests.esctl.playbook.test_playbook_run import DRILL, RESTART, step
from tests.esctl.playbook_world import FullJournal, Killed, MortalJournal, Stage, World, playbook

HEALED = """
[[step]]
id = "heal"
kind = "heal"
impact = "rw"
with = { fault = "cut" }

[[step]]
id = "whole"
kind = "wait"
expect = ["health.ok"]

[[step]]
id = "exactly-once"
kind = "assert"
expect = ["verify.acked_lost == 0", "verify.hashes_equal"]
"""
STEADY = step("steady", "check", 'expect = ["health.ok", "faults.active == 0"]')
MOVE = """
[[step]]
id = "move"
kind = "esctl"
impact = "rw"
irreversible = true
with = { argv = ["event", "0"] }
"""
"""What may not be done twice."""
DRILLS = {"drill": STEADY + DRILL, "healed": STEADY + MOVE + DRILL + HEALED}


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


def on_clock(work: Callable[[], object]) -> None:
    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


def killed_at(stage: Stage, line: int, how: str) -> bool:
    """Run until the journal's line; False when the run is over before it comes to that."""
    try:
        on_clock(lambda: stage.begin(MortalJournal(stage.home, stage.world, line, how)))
    except* Killed:
        pass  # and nothing but the kill may end it
    return stage.world.dead


def lines_of(home: Path, text: str) -> int:
    stage = Stage(home, World(), playbook(text))
    on_clock(stage.begin)
    return len(journal.read(home))


@pytest.mark.parametrize("name", list(DRILLS))
def test_a_run_killed_at_any_line_goes_on_to_a_pass(tmp_path: Path, name: str) -> None:
    text = DRILLS[name]
    total = lines_of(tmp_path / "whole", text)
    assert total > 20
    for line in range(1, total):
        for how in ("torn", "after"):
            stage = Stage(tmp_path / f"{line}-{how}", World(), playbook(text))
            assert killed_at(stage, line, how)
            stage.world.dead = False
            stage.world.faults.clear()  # their lease is over
            progress = goes_on(stage)
            assert progress, (line, how)
            world = stage.world
            assert (world.faults, world.loads) == (set(), set()), (line, how)
            assert world.commands.count("event 0") <= 1, (line, how)


def goes_on(stage: Stage) -> bool:
    """Resume, or where the verdict was there already, clean up. Who is asked says what the world shows."""
    progress = stage.progress
    if progress.verdict is not None:
        on_clock(stage.abort)
        return stage.progress.verdict is RunVerdict.PASS and stage.progress.clean
    try:
        on_clock(stage.resume)
    except CannotRepeat:
        answer = "done" if "event 0" in stage.world.commands else "repeat"
        on_clock(lambda: stage.resume({"move": answer}))
    return stage.progress.verdict is RunVerdict.PASS and stage.progress.clean


def test_a_step_that_may_do_harm_twice_asks_before_anything_is_done(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "run", World(), playbook(MOVE + DRILL))
    killed_in(stage, "move", "step-acts")
    with pytest.raises(CannotRepeat, match="the step move was cut off"):
        on_clock(stage.resume)
    assert stage.world.commands == []
    on_clock(lambda: stage.resume({"move": "done"}))
    assert stage.progress.verdict is RunVerdict.PASS
    assert stage.progress.steps["move"].why == "a person says that it is done"
    assert "event 0" not in stage.world.commands


def killed_in(stage: Stage, step: str, event: str) -> None:
    """Kill the run right after this line of its journal."""
    probe = Stage(stage.home.with_name("probe"), World(), stage.book)
    on_clock(probe.begin)
    lines = journal.read(probe.home)
    at = next(n for n, line in enumerate(lines) if line["event"] == event and line.get("step") == step)
    assert killed_at(stage, at, "after")
    stage.world.dead = False


def test_what_an_earlier_step_established_is_looked_at_again(tmp_path: Path) -> None:
    text = step("steady", "check", 'expect = ["status.voters_up == 3"]\ntimeout = "5s"') + DRILL
    stage = Stage(tmp_path / "run", World(), playbook(text))
    killed_in(stage, "cut", "step-acts")
    stage.world.up.discard(3)
    with pytest.raises(
        NoLongerHolds, match=r"steady had passed, and now: expected status\.voters_up == 3, was 2"
    ):
        on_clock(stage.resume)
    progress = stage.progress
    assert progress.verdict is None, "nothing is decided: it can go on when that is mended"
    assert stage.world.loads == set()
    stage.world.up.add(3)
    on_clock(stage.resume)
    assert stage.progress.verdict is RunVerdict.PASS


def test_a_fault_that_should_still_be_there_is_set_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "run", World(), playbook(DRILLS["healed"]))
    killed_in(stage, "failover", "step-begins")
    stage.world.faults.clear()
    on_clock(stage.resume)
    cuts = [line for line in stage.world.commands if line.startswith("fault partition")]
    assert len(cuts) == 2
    assert stage.progress.captured["old_leader"] == 2, "who led when it was cut anew"


def test_a_fault_that_was_healed_before_the_kill_is_not_set_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "run", World(), playbook(DRILLS["healed"]))
    killed_in(stage, "exactly-once", "step-begins")
    on_clock(stage.resume)
    assert stage.progress.verdict is RunVerdict.PASS
    assert len([line for line in stage.world.commands if line.startswith("fault partition")]) == 1


def test_the_rounds_that_are_over_are_not_taken_again(tmp_path: Path) -> None:
    text = """
[[step]]
id = "each"
kind = "foreach"
impact = "rw"
with = { items = "status.followers", as = "node" }
[[step.step]]
id = "look"
kind = "esctl"
impact = "ro"
with = { argv = ["logs", "${item.node}"] }
"""
    stage = Stage(tmp_path / "run", World(), playbook(text))
    killed_in(stage, "look-3", "step-begins")
    stage.world.leader = 3  # the rounds stay those that were begun
    on_clock(stage.resume)
    assert stage.progress.verdict is RunVerdict.PASS
    assert stage.world.commands == ["logs 2", "logs 3"]


def test_an_abort_undoes_what_a_killed_run_has_left(tmp_path: Path) -> None:
    text = DRILL + RESTART.format(id="stop", node=1) + step("stay", "wait", 'with = { for = "5s" }')
    stage = Stage(tmp_path / "run", World(), playbook(text))
    killed_in(stage, "stay", "step-begins")
    assert stage.world.up == {2, 3}
    on_clock(stage.abort)
    progress = stage.progress
    assert (progress.verdict, progress.clean) == (RunVerdict.INCONCLUSIVE, True)
    assert stage.world.up == {1, 2, 3}
    assert (stage.world.faults, stage.world.loads) == (set(), set())


def test_one_process_drives_a_run_and_one_run_a_cluster(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "run")
    with pytest.raises(RunUnderWay):
        Journal(tmp_path / "run")
    assert journal.is_driven(tmp_path / "run")
    opened.close()
    assert not journal.is_driven(tmp_path / "run")
    with (
        journal.holding("c", "run-1"),
        pytest.raises(RunUnderWay, match="run-1"),
        journal.holding("c", "run-2"),
    ):
        pass
    with journal.holding("c", "run-3"), journal.holding("other", "run-4"):
        pass


def test_a_torn_line_is_cut_off_before_the_next_is_written(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "run")
    opened.write("note", step="s", text="one")
    opened.close()
    path = tmp_path / "run" / journal.JOURNAL
    with path.open("ab") as file:
        file.write(b'{"n": 1, "ev')
    assert [event["n"] for event in journal.read(tmp_path / "run")] == [0]
    again = Journal(tmp_path / "run")
    again.write("note", step="s", text="two")
    again.close()
    assert [event["text"] for event in journal.read(tmp_path / "run")] == ["one", "two"]


def test_a_damaged_line_in_the_middle_is_no_journal(tmp_path: Path) -> None:
    from esctl.playbookerrors import RunUnreadable

    opened = Journal(tmp_path / "run")
    for text in ("one", "two", "three"):
        opened.write("note", step="s", text=text)
    opened.close()
    path = tmp_path / "run" / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(RunUnreadable):
        journal.read(tmp_path / "run")


async def test_damage_that_is_done_and_over_is_undone_after_a_failure_only(tmp_path: Path) -> None:
    undo = 'undo = { kind = "esctl", with = { argv = ["node", "start", "2"] } }'
    what = 'with = { type = "disk", how = "flip", node = 2, lease = "10s" }'
    flip = step("flip", "fault", f'impact = "rw"\n{what}\n{undo}')
    passed = Stage(tmp_path / "passed", World(), playbook(flip))
    assert (await passed.begin()).verdict is RunVerdict.PASS
    assert "node start 2" not in passed.world.commands
    judged = flip + step("judge", "check", 'expect = ["status.leader == 9"]')
    failed = Stage(tmp_path / "failed", World(), playbook(judged))
    assert (await failed.begin()).verdict is RunVerdict.FAIL
    assert failed.world.commands[-1] == "node start 2"


def test_a_disk_that_is_full_keeps_nothing_from_being_undone(tmp_path: Path) -> None:
    book = playbook(STEADY + DRILL + RESTART.format(id="stop", node=3))
    for lines in itertools.count(1):
        one = Stage(tmp_path / str(lines), World(), book)
        opened = FullJournal(one.home, lines)
        with contextlib.suppress(MachineRefused, ExceptionGroup):
            on_clock(functools.partial(one.begin, opened))
        assert (one.world.faults, one.world.loads) == (set(), set()), f"full at line {lines}"
        if one.progress.verdict is not None:
            break
        assert one.world.up == {1, 2, 3} or set(one.states.values()) == {"passed"}, f"full at line {lines}"
    assert one.progress.verdict is RunVerdict.PASS
    assert lines > 20, "it was full at every line before that"


def test_an_abort_undoes_on_a_disk_that_is_full_too(tmp_path: Path) -> None:
    one = Stage(tmp_path / "run", World(), playbook(RESTART.format(id="r", node=3) + STEADY))
    killed_at(one, 6, "after")
    assert one.world.up == {1, 2}
    one.world.dead = False
    with pytest.raises(MachineRefused):
        on_clock(lambda: one.abort(FullJournal(one.home, 0)))
    assert one.world.up == {1, 2, 3}


def test_one_who_looks_on_is_no_driver_and_hinders_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(tmp_path / "run").close()
    onlooker = os.open(tmp_path / "run" / journal.JOURNAL, os.O_RDONLY)
    fcntl.flock(onlooker, fcntl.LOCK_SH)
    assert not journal.is_driven(tmp_path / "run")
    monkeypatch.setattr(time, "sleep", lambda _s: fcntl.flock(onlooker, fcntl.LOCK_UN))
    opened = Journal(tmp_path / "run")
    assert journal.is_driven(tmp_path / "run")
    opened.close()
    os.close(onlooker)


def test_a_fault_in_many_parts_is_healed_within_the_time_for_all_undos(tmp_path: Path) -> None:
    more = 'timeout = "1s"\nretry = { attempts = 6, every = "1s" }\nexpect = ["fault.effect == \'none\'"]\n'
    what = 'impact = "rw"\nwith = { type = "kill", node = 3, lease = "30s" }\n'
    book = playbook(step("cut", "fault", what + more))
    one = Stage(tmp_path / "run", World(took_s={"fault heal": 600}), book)
    seconds: list[float] = []

    async def timed() -> None:
        begun_s = trio.current_time()
        await one.begin()
        seconds.append(trio.current_time() - begun_s)

    on_clock(timed)
    assert one.progress.steps["cut"].undo is Undo.FAILED
    assert seconds[0] < 20 + ALL_TIMEOUT_S
