"""Rolling restart, drain and replacement on a cluster in memory: the order, the guard, what is waited for."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from esctl.commands import node
from esctl.errors import NodeNotBack, TooFewNodes
from esctl.exits import Exit, exit_of
from esctl.faults import leases
from esctl.faults.leases import StoppedNode
from esctl.ui.answer import Line, Table
from esctl.ui.terminal import Output, Terminal
from esctl.upkeep import drain, readiness, replacement, report, rolling
from esctl.upkeep.replacement import Replaced, Sameness
from esctl.upkeep.rolling import RestartStep
from esnode.errors import NoQuorum
from tests.esctl.crew import Crew

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def rolled(crew: Crew, timeout_s: float = 60.0) -> list[RestartStep]:
    done: list[RestartStep] = []
    await rolling.restart(crew, rolling.order_of(await crew.look()), timeout_s, done.append)
    return done


# --- a rolling restart ---------------------------------------------------------------------------


async def test_followers_are_restarted_first_and_the_leader_after_a_hand_over() -> None:
    crew = Crew(leader=2)
    done = await rolled(crew)
    assert [(step.id, step.led, step.leaders) for step in done] == [(1, [], [2]), (3, [], [2]), (2, [0], [1])]
    assert crew.did == ["stop 1", "start 1", "stop 3", "start 3", "2 hands over to 1", "stop 2", "start 2"]
    assert "election" not in crew.did


async def test_a_node_that_is_down_comes_first_since_the_others_cannot_be_spared() -> None:
    crew = Crew(leader=1, down={3})
    assert [step.id for step in await rolled(crew)] == [3, 2, 1]


async def test_a_node_that_leads_when_its_turn_comes_has_the_last_turn() -> None:
    crew = Crew(leader=1)
    order = rolling.order_of(await crew.look())
    crew.leader = 2  # an election after the order was made
    done: list[RestartStep] = []
    await rolling.restart(crew, order, 60.0, done.append)
    assert [step.id for step in done] == [3, 1, 2]
    assert "election" not in crew.did


async def test_a_steady_load_does_not_keep_a_restart_waiting_for_ever() -> None:
    crew = Crew(leader=1)
    ring, found = await readiness.wait_until_counting(crew.look, [1, 2, 3], 60.0)
    assert not found
    (survey,) = ring.partitions
    follower, leader = survey.report(2), survey.report(1)
    assert (follower.number("applied_index") or 0) < (leader.number("commit_index") or 0)


async def test_the_next_node_waits_until_the_one_before_has_caught_up() -> None:
    crew = Crew(leader=1, looks_behind=8)
    first = (await rolled(crew))[0]
    assert first.seconds == pytest.approx(crew.stop_s + 8 * readiness.ROUND_S, abs=2 * readiness.ROUND_S)


@pytest.mark.parametrize(
    ("crew", "reason", "helps"),
    [
        (Crew(leader=1, down={2}), "node 2 is down: not running", "esctl node start 2 --cluster crew"),
        (
            Crew(leader=1, faults={2: [{"id": "cut-1", "kind": "block", "left_ms": 9_000}]}),
            "node 2 is broken on purpose: cut-1 (block, 9 s left)",
            "esctl fault heal --all --cluster crew",
        ),
        (Crew(leader=None), "nobody leads", "esctl status health --wait 10s --cluster crew"),
    ],
)
async def test_a_node_that_cannot_be_spared_is_left_alone(crew: Crew, reason: str, helps: str) -> None:
    with pytest.raises(TooFewNodes, match="it was left alone") as caught:
        await readiness.wait_until_spared(crew.look, 3, 2.0)
    assert reason in str(caught.value)
    assert caught.value.next_step == helps
    assert exit_of(caught.value) is Exit.REFUSED


async def test_the_only_node_of_a_cluster_is_never_spared() -> None:
    with pytest.raises(TooFewNodes, match="has no other node"):
        await drain.spared(Crew(count=1), 1, 60.0)


async def test_a_node_that_does_not_come_back_ends_the_restart_before_the_next_one() -> None:
    crew = Crew(leader=1, lost={2})
    done: list[RestartStep] = []
    with pytest.raises(NodeNotBack, match="node 2 was started") as caught:
        await rolling.restart(crew, [2, 3, 1], 3.0, done.append)
    assert done == []
    assert crew.did == ["stop 2", "start 2"]
    assert exit_of(caught.value) is Exit.TIMEOUT


async def test_ctrl_c_ends_a_restart_between_two_nodes_and_leaves_none_down() -> None:
    crew = Crew(leader=1)
    done: list[RestartStep] = []
    with trio.move_on_after(crew.stop_s / 2):  # in the middle of the first stop
        await rolling.restart(crew, [2, 3, 1], 60.0, done.append)
    assert [step.id for step in done] == [2]
    assert crew.down == set()
    told = report.rolling_answer(await crew.look(), [2, 3, 1], done)
    assert (told.data["left"], told.data["done"][0]["id"]) == ([3, 1], 2)
    assert told.views == [Line("restarted nodes [2] of crew; not yet [3, 1]", told.views[0].tone)]  # type: ignore[union-attr]


async def test_a_dry_run_shows_the_order_the_quorum_and_what_would_be_waited_for() -> None:
    crew = Crew(leader=2, down={3})
    survey = await crew.look()
    plan = report.rolling_plan(survey, rolling.order_of(survey))
    assert plan.data["order"] == [3, 1, 2]
    assert plan.data["waits_for"] == ["node 3 is down: not running"]
    table, line = plan.views
    assert isinstance(table, Table)
    assert isinstance(line, Line)
    assert [row[2] for row in table.rows] == ["start", "restart", "hand over, then restart"]
    assert "esctl node start 3" in line.text


# --- drain ---------------------------------------------------------------------------------------


async def test_a_leader_that_is_drained_hands_over_before_it_stops() -> None:
    crew = Crew(leader=2)
    done = await drain.drain(crew, 2, 3, 60.0)
    assert crew.did == ["2 hands over to 3", "stop 2"]
    assert (done.leaders, done.handed_over) == ([3], [0])
    told = report.drained(await crew.look(), 2, done)
    assert told.data["quorum"]["running_after"] == 2


async def test_a_follower_is_drained_without_a_hand_over() -> None:
    crew = Crew(leader=2)
    assert (await drain.drain(crew, 1, None, 60.0)).handed_over == []
    assert crew.did == ["stop 1"]


async def test_a_second_node_is_not_drained() -> None:
    crew = Crew(leader=2, down={1})
    with pytest.raises(TooFewNodes):
        await drain.drain(crew, 3, None, 1.0)
    assert crew.did == []


# --- replacement ---------------------------------------------------------------------------------


async def test_a_replaced_node_gets_its_directory_while_it_is_down_and_then_rejoins() -> None:
    crew = Crew(leader=2)
    old = Path("/disk/old")

    def swap() -> Path:
        crew.did.append("swap")
        return old

    seen: list[tuple[int, int]] = []
    done = await replacement.replace(crew, 2, swap, 60.0, lambda have, of: seen.append((have, of)))
    assert crew.did == ["2 hands over to 1", "stop 2", "swap", "start 2 --rejoin"]
    assert (done.old, done.handed_over) == (old, True)
    assert seen[0][0] < seen[-1][0]


def test_an_interrupted_replacement_says_what_helps_as_things_are_then() -> None:
    crew, said, when = Crew(leader=2), list[str](), list[int]()

    class Run:
        terminal = Terminal(Output.JSON)

        def on_interrupt(self, _summary: object, next_step: str) -> None:
            said.append(next_step)
            when.append(len(crew.did))

        def trio(self, work: Callable[[], Awaitable[Any]]) -> Any:
            return trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))

    node._replace(Run(), crew, 2, lambda: None, 60.0)  # type: ignore[arg-type]  # what it uses of a run
    assert said == [
        "its data is as it was; again: esctl node replace 2 --cluster crew",
        "esctl status health --wait 1m --cluster crew",
    ]
    assert [crew.did[at:][:1] for at in when] == [["2 hands over to 1"], ["start 2 --rejoin"]]


async def test_a_node_is_not_replaced_while_another_is_down() -> None:
    crew = Crew(leader=2, down={1})
    with pytest.raises(TooFewNodes):
        await replacement.replace(crew, 3, lambda: None, 1.0, lambda have, of: None)
    assert crew.did == []


@pytest.mark.parametrize(
    ("same", "exit_code", "word"),
    [
        (Sameness(True, [{2: "aa"}], []), Exit.OK, "yes"),
        (Sameness(False, [{2: "aa"}], []), Exit.VERDICT_FAILED, "no"),
        (Sameness(True, [{2: "aa"}], ["node 3: down"]), Exit.INCONCLUSIVE, "yes"),
    ],
)
async def test_a_replacement_ends_with_what_the_hashes_say(
    same: Sameness, exit_code: Exit, word: str
) -> None:
    done = Replaced(902, Path("/disk/old"), False, 8, 2.0)
    told = report.replaced(await Crew().look(), 2, done, same, discarded=False)
    assert told.exit_code is exit_code
    assert told.data["hashes_equal"] is (word == "yes")
    assert told.data["old"] == "/disk/old"


# --- what is known is not waited for -------------------------------------------------------------


async def test_a_node_that_nobody_brings_back_is_told_at_once() -> None:
    crew = Crew(leader=1, down={2})
    begun = trio.current_time()
    with pytest.raises(TooFewNodes, match=r"node 3 of crew cannot be spared: node 2 is down") as caught:
        await drain.spared(crew, 3, 60.0)
    assert trio.current_time() == begun
    assert caught.value.next_step == "esctl node start 2 --cluster crew"


async def test_a_node_that_a_lease_brings_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    crew = Crew(leader=1, down={2})
    struck = StoppedNode("kill-1", "kill", 2, 10_000, 0.0, struck=True)
    monkeypatch.setattr(leases, "active", lambda _: [struck] if 2 in crew.down else [])
    async with trio.open_nursery() as nursery:

        async def watchdog() -> None:
            await trio.sleep(10)
            crew.down.clear()

        nursery.start_soon(watchdog)
        await readiness.wait_until_spared(crew.look, 3, 60.0)
    assert crew.down == set()


async def test_a_node_that_ends_after_its_start_is_told_at_once() -> None:
    crew = Crew(leader=1, down={2})
    begun = trio.current_time()
    with pytest.raises(NodeNotBack, match="cannot count again: node 2 is down") as caught:
        await drain.back(crew.look, 2, 60.0)
    assert trio.current_time() == begun
    assert caught.value.next_step == "esctl node start 2 --cluster crew"


async def test_a_node_that_rejoins_does_not_wait_for_one_that_stays_away() -> None:
    crew = Crew(leader=1, down={3}, rejoining={2})
    begun = trio.current_time()
    with pytest.raises(NodeNotBack, match="node 2 is rejoining, and node 3 is down") as caught:
        await drain.back(crew.look, 2, 60.0)
    assert trio.current_time() == begun
    assert caught.value.next_step == "esctl node start 3 --cluster crew"


# --- several partitions --------------------------------------------------------------------------


async def test_a_node_of_several_partitions_is_drained_when_it_leads_none() -> None:
    crew = Crew(leader=1, more=[2, 3, 1], preferred={0: 1, 1: 2, 2: 3, 3: 1})
    done = await drain.drain(crew, 1, None, 60.0)
    assert crew.did == ["1 hands partition 0 over to 2", "1 hands partition 3 over to 2", "stop 1"]
    assert (done.leaders, done.handed_over) == ([2, 2, 3, 2], [0, 3])
    told = report.drained(await crew.look(), 1, done)
    assert (told.data["leader"], told.data["led_partitions"]) == (None, [0, 3])
    assert [each["leader"] for each in told.data["partitions"]] == [2, 2, 3, 2]
    assert "it led partitions 0, 3 before" in told.views[0].text  # type: ignore[union-attr]


async def test_a_leadership_that_comes_back_while_a_node_is_drained_is_moved_again() -> None:
    crew = Crew(leader=1, more=[2], preferred={0: 1, 1: 2})
    ring = await crew.look()
    crew.hands_back = {0: 2}
    done = await drain.hand_over(crew, ring, 1)
    assert crew.did == ["1 hands partition 0 over to 2"] * 3
    assert (done.led, done.leaders) == ([0], [2, 2])


async def test_a_node_that_gets_a_leadership_back_for_ever_is_not_stopped() -> None:
    crew = Crew(leader=1, more=[2], preferred={0: 1, 1: 2})
    ring = await crew.look()
    crew.hands_back = {0: 100}
    with pytest.raises(NoQuorum, match="node 1 still leads partition 0") as caught:
        await drain.hand_over(crew, ring, 1)
    assert caught.value.next_step == "esctl leader show --cluster crew"
    assert not any(did.startswith("stop") for did in crew.did)


async def test_a_partition_goes_to_the_node_that_leads_it_otherwise() -> None:
    crew = Crew(leader=1, more=[1], preferred={0: 1, 1: 3})
    await drain.drain(crew, 1, None, 60.0)
    assert crew.did == ["1 hands partition 0 over to 2", "1 hands partition 1 over to 3", "stop 1"]


async def test_a_rolling_restart_hands_over_every_partition_of_a_node_before_its_turn() -> None:
    crew = Crew(leader=1, more=[2, 3, 1])
    done = await rolled(crew)
    assert "election" not in crew.did
    assert done[0].id == 2, "it leads as few as node 3, and its number is lower"
    assert done[0].led == [1]
    assert sorted(step.id for step in done) == [1, 2, 3]
    assert done[-1].as_data()["leader"] is None


async def test_the_next_node_waits_until_the_one_before_has_caught_up_in_every_partition() -> None:
    crew = Crew(leader=1, more=[2], behind_in={(3, 1)})
    with pytest.raises(TooFewNodes, match=r"partition 1: node 3 is [\d,]+ entries behind"):
        await drain.spared(crew, 1, 1.0)
    with pytest.raises(NodeNotBack, match="partition 1: node 3 is"):
        await drain.back(crew.look, 3, 1.0)


async def test_a_plan_says_which_partitions_would_be_handed_over() -> None:
    ring = await Crew(leader=1, more=[2, 3, 1]).look()
    (table, *_) = report.rolling_plan(ring, rolling.order_of(ring)).views
    assert isinstance(table, Table)
    assert [row[2] for row in table.rows] == [
        "hand partition 1 over, then restart",
        "hand partition 2 over, then restart",
        "hand partitions 0, 3 over, then restart",
    ]
    planned = report.drain_plan(ring, 1, None)
    assert planned.data["led_partitions"] == [0, 3]
    text = "would hand the leadership of partitions 0, 3 to the other nodes, and stop node 1; then"
    assert planned.views[0].text.startswith(text)  # type: ignore[union-attr]
