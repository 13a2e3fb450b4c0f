"""What a run does, step by step, in a world of a few variables: order, failures, guards, undo, verdict."""

from pathlib import Path

import pytest
import trio
import trio.testing

from esctl.playbook.execution import Reply
from esctl.playbook.progress import RunProgress, RunVerdict, Undo
from tests.esctl.playbook_world import HEAD, Stage, World, failing, playbook

pytestmark = pytest.mark.usefixtures("autojump_clock")

RESTART = """
[[step]]
id = "{id}"
kind = "esctl"
impact = "rw"
with = {{ argv = ["node", "stop", "{node}"] }}
undo = {{ kind = "esctl", with = {{ argv = ["node", "start", "{node}"] }} }}
"""
DRILL = """
[[step]]
id = "load"
kind = "bench"
impact = "rw"
with = { mode = "produce", rate = 100, background = true }
undo = { kind = "esctl", with = { argv = ["bench", "stop", "load"] } }

[[step]]
id = "cut"
kind = "fault"
impact = "rw"
with = { type = "partition", shape = "isolate-leader", lease = "30s" }
pre = ["status.voters_up == 3"]
expect = ["fault.effect == 'applied'"]
capture = { old_leader = "status.leader" }
undo = { kind = "heal", with = { fault = "cut" } }

[[step]]
id = "failover"
kind = "wait"
timeout = "5s"
expect = ["status.leader != null", "status.leader != captured.old_leader"]
"""


def stage(home: Path, text: str, world: World | None = None, head: str = HEAD, **more: object) -> Stage:
    return Stage(home / "run", world or World(), playbook(text, head), **more)  # type: ignore[arg-type]


def step(name: str, kind: str, more: str = "") -> str:
    return f'[[step]]\nid = "{name}"\nkind = "{kind}"\n{more}\n'


async def test_a_drill_passes_and_leaves_nothing_that_was_for_the_time_only(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, DRILL)
    progress = await one.begin()
    assert progress.verdict is RunVerdict.PASS
    assert set(one.states.values()) == {"passed"}
    assert (one.world.faults, one.world.loads) == (set(), set())
    assert progress.captured["old_leader"] == 1
    assert progress.clean
    undone = [line for line in one.world.commands if line.startswith(("bench stop", "fault heal"))]
    assert [line.rpartition("-")[0] or line for line in undone] == ["fault heal cut", "bench stop load"]


async def test_the_intent_is_on_the_disk_before_the_step_acts(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, DRILL)
    seen: list[RunProgress] = []
    one.world.before["fault partition"] = lambda: seen.append(one.progress)
    await one.begin()
    assert seen[0].steps["cut"].acts
    assert seen[0].steps["cut"].undo is Undo.PENDING
    assert seen[0].steps["cut"].faults, "the fault can be healed by name, whatever becomes of us"


async def test_the_verdict_is_on_the_disk_before_anything_is_undone(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, DRILL)
    seen: list[RunVerdict | None] = []
    one.world.before["fault heal"] = lambda: seen.append(one.progress.verdict)
    await one.begin()
    assert seen == [RunVerdict.PASS]


async def test_a_failure_undoes_what_began_and_nothing_else(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = RESTART.format(id="first", node=1) + RESTART.format(id="second", node=2)
    text += step("judge", "assert", 'expect = ["status.voters_up == 3"]') + RESTART.format(id="last", node=3)
    one = stage(tmp_path, text)
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert progress.why == "step judge: expected status.voters_up == 3, was 1"
    assert one.world.commands == ["node stop 1", "node stop 2", "node start 2", "node start 1"]
    assert "last" not in one.states


async def test_after_a_pass_lasting_changes_stay(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, RESTART.format(id="first", node=1))
    progress = await one.begin()
    assert (progress.verdict, progress.clean) == (RunVerdict.PASS, True)
    assert one.world.commands == ["node stop 1"]


async def test_an_undo_that_fails_is_tried_again_and_then_told_as_a_command(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    from esctl.playbook.undo import left_over

    text = RESTART.format(id="first", node=1) + RESTART.format(id="second", node=2)
    one = stage(tmp_path, text + step("judge", "assert", 'expect = ["status.voters_up == 3"]'))
    one.world.replies["node start 2"] = [failing("it does not start")]
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL, "the verdict is not lost"
    assert left_over(progress) == ["esctl node start 2"]
    assert one.world.commands.count("node start 2") == 3
    assert 1 in one.world.up, "the others are undone all the same"
    assert progress.steps["second"].undo_why == "it does not start"


async def test_to_undo_twice_does_no_harm(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    one = stage(tmp_path, DRILL + step("judge", "assert", 'expect = ["status.voters_up == 2"]'))
    one.world.before["fault heal"] = one.world.faults.clear  # its lease is over in this moment
    assert (await one.begin()).clean
    commands = list(one.world.commands)
    again = await one.abort()
    assert again.clean
    assert one.world.commands == commands


@pytest.mark.parametrize(("on_fail", "undone"), [("stop", False), ("rollback", True), ("ask", True)])
async def test_what_follows_a_failure_is_what_the_step_says(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, on_fail: str, undone: bool
) -> None:
    judge = f'expect = ["status.voters_up == 3"]\non_fail = "{on_fail}"'
    one = stage(tmp_path, RESTART.format(id="first", node=1) + step("judge", "check", judge))
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert ("node start 1" in one.world.commands) is undone
    assert progress.clean is undone
    if not undone:
        assert (await one.abort()).clean
        assert one.world.commands[-1] == "node start 1"


async def test_a_person_may_say_to_try_again(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    world = World(up={1, 2}, answers={"judge": "retry"})
    one = stage(
        tmp_path, step("judge", "check", 'expect = ["status.voters_up == 3"]\non_fail = "ask"'), world
    )

    class Mends(list[str]):
        def append(self, question: str) -> None:
            super().append(question)
            world.up.add(3)

    world.asked = Mends()
    assert (await one.begin()).verdict is RunVerdict.PASS
    assert len(world.asked) == 1


async def test_a_run_that_goes_on_after_a_failure_fails_in_the_end(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    judge = 'expect = ["status.voters_up == 2"]\non_fail = "continue"'
    text = step("judge", "check", judge) + step("after", "check", 'expect = ["status.voters_up == 3"]')
    one = stage(tmp_path, text)
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert one.states == {"judge": "failed", "after": "passed"}


async def test_conditions_decide_whether_a_step_is_taken(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = RESTART.format(id="if", node=1) + 'when = "status.voters_up == 1"\n'
    text += RESTART.format(id="after", node=3) + 'when = "status.voters_up == 3"\n'
    one = stage(tmp_path, text)
    await one.begin()
    assert one.states == {"if": "skipped", "after": "passed"}
    assert one.world.commands == ["node stop 3"]


async def test_a_step_whose_condition_before_does_not_hold_does_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, RESTART.format(id="first", node=1) + 'pre = ["status.voters_up == 5"]\n')
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert one.world.commands == []
    assert progress.steps["first"].why == "nothing was done: expected status.voters_up == 5, was 3"


async def test_expectations_of_what_acts_are_given_until_the_time_out(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = RESTART.format(id="first", node=1) + 'expect = ["status.leader == 3"]\ntimeout = "4s"\n'
    one = stage(tmp_path, text)

    async with trio.open_nursery() as nursery:

        async def elect() -> None:
            await trio.sleep(3)
            one.world.leader = 3

        nursery.start_soon(elect)
        assert (await one.begin()).verdict is RunVerdict.PASS
    assert trio.current_time() >= 3


async def test_a_check_looks_once_and_again_only_when_it_says_so(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, step("now", "check", 'expect = ["status.leader == 3"]'))
    assert (await one.begin()).verdict is RunVerdict.FAIL
    patient = 'expect = ["status.leader == 3"]\nretry = { attempts = 4, every = "1s" }'
    other = stage(tmp_path / "other", step("now", "check", patient))

    async def elect() -> None:
        await trio.sleep(2.5)
        other.world.leader = 3

    async with trio.open_nursery() as nursery:
        nursery.start_soon(elect)
        progress = await other.begin()
    assert progress.verdict is RunVerdict.PASS
    assert progress.steps["now"].attempt == 4


async def test_a_command_that_fails_is_tried_as_often_as_the_step_says(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, RESTART.format(id="first", node=1) + 'retry = { attempts = 3, every = "1s" }\n')
    one.world.replies["node stop 1"] = [failing("busy"), failing("busy"), Reply(0)]
    assert (await one.begin()).verdict is RunVerdict.PASS
    assert one.world.commands == ["node stop 1"] * 3


async def test_a_command_that_hangs_fails_its_step(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, RESTART.format(id="first", node=1) + 'timeout = "5s"\n')
    one.world.took_s["node stop"] = 60
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert one.world.commands == ["node stop 1", "node start 1"], "it may have been done: it is undone"


async def test_who_judges_the_exit_code_is_not_failed_by_it(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    look = 'with = { argv = ["status", "health"] }\nimpact = "ro"\nexpect = ["answer.exit == 10"]\n'
    one = stage(tmp_path, step("look", "esctl", look))
    one.world.replies["status health"] = [Reply(10, {"healthy": False})]
    assert (await one.begin()).verdict is RunVerdict.PASS


async def test_what_cannot_be_known_is_no_pass_and_no_fail(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(audit={"conclusive": False})
    one = stage(tmp_path, step("audit", "assert", 'expect = ["verify.acked_lost == 0"]'), world)
    progress = await one.begin()
    assert progress.verdict is RunVerdict.INCONCLUSIVE
    assert "verify.acked_lost" in progress.why


async def test_answers_are_captured_and_filled_into_later_commands(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = step(
        "save",
        "esctl",
        'impact = "ro"\nwith = { argv = ["leader", "show"] }\ncapture = { path = "answer.file" }',
    )
    text += step("use", "esctl", 'impact = "ro"\nwith = { argv = ["event", "${captured.path}"] }')
    one = stage(tmp_path, text)
    one.world.replies["leader show"] = [Reply(0, {"file": "a b.tar"})]
    await one.begin()
    assert one.world.commands[-1] == "event a b.tar"


async def test_the_undo_of_each_round_is_about_its_own_item(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = """
[[step]]
id = "each"
kind = "foreach"
impact = "rw"
with = { items = "status.followers", as = "node" }
[[step.step]]
id = "stop"
kind = "esctl"
impact = "rw"
with = { argv = ["node", "stop", "${item.node}"] }
undo = { kind = "esctl", with = { argv = ["node", "start", "${item.node}"] } }
[[step]]
id = "judge"
kind = "check"
expect = ["status.voters_up == 3"]
"""
    one = stage(tmp_path, text)
    assert (await one.begin()).verdict is RunVerdict.FAIL
    assert one.world.commands == ["node stop 2", "node stop 3", "node start 3", "node start 2"]


GUARD = '[[guard]]\nexpr = "load.acked_lost == 0"\nevery = "500ms"\non_breach = "{then}"\n'


@pytest.mark.parametrize("then", ["rollback", "stop"])
async def test_a_breached_guard_ends_the_steps(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, then: str
) -> None:
    one = stage(
        tmp_path,
        GUARD.format(then=then) + DRILL + step("stay", "wait", 'with = { for = "1m" }\ntimeout = "2m"'),
    )

    async def lose() -> None:
        await trio.sleep(10)
        one.world.lost = 3

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert progress.why == "the guard load.acked_lost == 0 was breached: expected load.acked_lost == 0, was 3"
    assert trio.current_time() < 20
    assert one.states["stay"] == "cut off"
    assert progress.clean is (then == "rollback")
    history = [state for _, state, _ in progress.guards["load.acked_lost == 0"].history]
    assert history == ["unknown", "holds", "breached"]


async def test_a_guard_that_fails_for_a_moment_is_no_breach(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    guard = '[[guard]]\nexpr = "status.leader != null"\nevery = "500ms"\nfor = "5s"\n'
    one = stage(tmp_path, guard + step("stay", "wait", 'with = { for = "20s" }'))

    async def stumble() -> None:
        await trio.sleep(3)
        one.world.leader = None
        await trio.sleep(4)
        one.world.leader = 2

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stumble)
        progress = await one.begin()
    assert progress.verdict is RunVerdict.PASS
    history = [state for _, state, _ in progress.guards["status.leader != null"].history]
    assert history == ["holds", "failing", "holds"]


async def test_a_run_that_takes_too_long_is_rolled_back(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    head = HEAD.replace("10m", "20s")
    stay = step("stay", "wait", 'with = { for = "5m" }\ntimeout = "6m"')
    one = stage(tmp_path, RESTART.format(id="first", node=1) + stay, head=head)
    progress = await one.begin()
    assert progress.verdict is RunVerdict.FAIL
    assert progress.why == "max_duration was over before the last step was"
    assert one.world.commands == ["node stop 1", "node start 1"]


async def test_a_lease_is_no_longer_than_what_is_left_of_the_run(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    head = HEAD.replace("10m", "25s")
    one = stage(tmp_path, step("stay", "wait", 'with = { for = "10s" }') + DRILL, head=head)
    await one.begin()
    line = next(line for line in one.world.commands if line.startswith("fault partition"))
    assert line.split("--lease ")[1].split()[0] in ("14s", "15s")
    load = next(line for line in one.world.commands if line.startswith("bench start"))
    assert load.split("--duration ")[1].split()[0] in ("14s", "15s")


async def test_ctrl_c_undoes_what_began_and_says_so(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    one = stage(tmp_path, DRILL + step("stay", "wait", 'with = { for = "1m" }\ntimeout = "2m"'))
    with trio.move_on_after(10):
        await one.begin()
    progress = one.progress
    assert (progress.verdict, progress.why) == (RunVerdict.INCONCLUSIVE, "it was interrupted")
    assert progress.clean
    assert (one.world.faults, one.world.loads) == (set(), set())
    assert one.states["stay"] == "cut off"


async def test_who_asks_and_gets_no_answer_changes_nothing(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = RESTART.format(id="first", node=1) + 'confirm = "Stop node 1?"\n'
    alone = stage(tmp_path / "alone", text)
    assert (await alone.begin()).verdict is RunVerdict.INCONCLUSIVE
    assert alone.world.commands == []
    asked = stage(tmp_path / "asked", text, World(answers={"first": "yes"}))
    assert (await asked.begin()).verdict is RunVerdict.PASS
    assert asked.progress.answers == {"first": "yes"}


async def test_an_answer_of_a_person_is_captured(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    text = step("which", "ask", 'with = { question = "Which node?", choices = ["1", "2"] }')
    text += step("look", "esctl", 'impact = "ro"\nwith = { argv = ["logs", "${captured.which}"] }')
    one = stage(tmp_path, text, World(answers={"which": "2"}))
    assert (await one.begin()).verdict is RunVerdict.PASS
    assert one.world.commands == ["logs 2"]


async def test_a_secret_is_used_and_never_written_down(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "token").write_text("hunter2secret\n")
    head = HEAD + '[inputs.token]\ntype = "secret"\nhelp = "a token"\n'
    text = step("use", "esctl", 'impact = "ro"\nwith = { argv = ["event", "${inputs.token}"] }')
    one = stage(tmp_path, text, head=head, given={"token": f"@{tmp_path / 'token'}"})
    one.world.replies["event hunter2secret"] = [failing("no event hunter2secret")]
    await one.begin()
    assert one.world.commands == ["event hunter2secret"]
    written = b"".join(path.read_bytes() for path in one.home.rglob("*") if path.is_file())
    assert b"hunter2secret" not in written


async def test_a_person_reads_titles_and_questions_with_the_names_filled_in(tmp_path: Path) -> None:
    text = step("look", "check", 'expect = ["health.ok"]\ncapture = { victim = "status.followers[0]" }')
    asks = 'title = "Ask for node ${captured.victim}"\nconfirm = "Go on without node ${status.leader}?"'
    text += step("ask", "note", f'{asks}\nwith = {{ text = "x" }}')
    one = stage(tmp_path, text, World(answers={"ask": "yes"}))
    await one.begin()
    assert one.progress.steps["ask"].title == "Ask for node 2"
    assert one.world.asked == ["Go on without node 1?"]
