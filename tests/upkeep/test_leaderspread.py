"""The task that keeps leaders spread: what it tells the core and the log, and how rarely it wakes up."""

import logging
from pathlib import Path

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.config import Address, Config, Member
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.raft.messages import (
    AppendReply,
    Input,
    NodeId,
    PeerUnreachable,
    Role,
    SoftState,
    TimeoutNow,
    Transfer,
)
from esnode.upkeep.leaderspread import LeaderSpread
from tests.raft.solo import Solo

MEMBERS = tuple(Member(n, Address(f"10.0.0.{n}", 7200), Address(f"10.0.0.{n}", 7100)) for n in range(1, 4))


class Node:
    """A leader, as far as the task sees it: node 1 leads partition 1, which is for node 2."""

    def __init__(self, partition: int = 1, leaders: str = "spread") -> None:
        self.solo = Solo()
        self.solo.lead_with_commit()
        self.solo.receive(2, AppendReply(1, 1))
        self.solo.receive(3, AppendReply(1, 1))
        self.view = View(1, term=1, applied_index=1, first_offset=0, next_offset=0)
        self.inbox = Inbox()
        self.lives: dict[NodeId, int | None] = {2: 22, 3: 33}
        self.config = Config(
            "c", 1, Path("nowhere"), MEMBERS, partitions=4, partition=partition, leaders=leaders
        )
        self.spread = LeaderSpread(self.config, self.solo.core, self.view, self.inbox, self)
        self.show(1)

    def life_of(self, peer: NodeId) -> int | None:
        return self.lives[peer]

    def show(self, leader: NodeId | None, term: int = 1) -> None:
        self.view.show_state(SoftState(Role.LEADER if leader == 1 else Role.FOLLOWER, term, leader))

    @property
    def told(self) -> list[Input]:
        return self.inbox.drain(100)


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    return [(record.message, record.__dict__["to"]) for record in caplog.records]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_the_leadership_goes_to_the_node_that_is_to_lead(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.spread.run)
        await trio.sleep(limits.LEADER_FIT_S - 0.1)
        assert node.told == []
        await trio.sleep(0.1 + limits.LEADER_LOOK_S)
        assert node.told == [Transfer(2)]
        node.show(None)
        node.show(2, term=2)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert events(caplog) == [("transfer_asked", 2), ("transfer_done", 2)]
    assert caplog.records[0].__dict__["why"] == "preferred_leader"


async def test_a_hand_over_that_nobody_takes_is_told_and_tried_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node()
    with trio.move_on_after(12):
        await node.spread.run()
    assert node.told == [Transfer(2), Transfer(2)]
    assert events(caplog) == [
        ("transfer_asked", 2), ("transfer_failed", 2), ("transfer_asked", 2), ("transfer_failed", 2),
    ]  # fmt: skip


async def test_with_free_leaders_nothing_is_done(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(leaders="free")
    await node.spread.run()
    assert node.told == []
    assert node.spread.picture() == {"preferred": 2, "to": 2, "why": "free", "wait_ms": 0}


async def test_a_leader_in_its_place_and_a_follower_do_not_wake_up(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node, leader in ((Node(partition=0), 1), (Node(), 2)):
        node.show(leader)
        looks: list[str] = []
        look = node.spread.look
        monkeypatch.setattr(node.spread, "look", lambda look=look, looks=looks: (looks.append(""), look())[1])
        with trio.move_on_after(3600):
            await node.spread.run()
        assert len(looks) == 1


@pytest.mark.parametrize("trouble", ["not connected", "behind", "silent"])
async def test_nothing_goes_to_a_node_that_is_not_fit(
    trouble: str, autojump_clock: trio.testing.MockClock
) -> None:
    node = Node()
    progress = node.solo.core.leadership
    assert progress is not None
    if trouble == "not connected":
        node.lives[2] = None
    elif trouble == "behind":
        node.solo.step(PeerUnreachable(2))
    else:
        progress.progress[2].silence_ms = node.config.raft.election_ms
    with trio.move_on_after(60):
        await node.spread.run()
    # Without node 2, partition 1 is for node 3: nodes 1 and 3 then lead two each.
    assert [item for item in node.told if item == Transfer(2)] == []
    assert node.spread.picture()["to"] == 3


async def test_a_substitute_gives_it_back(autojump_clock: trio.testing.MockClock) -> None:
    node = Node()
    node.lives = {2: None, 3: None}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.spread.run)
        await trio.sleep(60)
        assert node.told == []
        assert node.spread.picture()["why"] == "placed"
        node.lives = {2: 23, 3: 34}
        await trio.sleep(limits.LEADER_FIT_S + 2 * limits.LEADER_LOOK_S)
        assert node.told == [Transfer(2)]
        nursery.cancel_scope.cancel()


async def test_an_operators_choice_is_in_the_status(autojump_clock: trio.testing.MockClock) -> None:
    node = Node()
    node.solo = Solo()
    node.spread = LeaderSpread(node.config, node.solo.core, node.view, node.inbox, node)
    node.solo.receive(2, TimeoutNow(0, asked=True))
    assert node.solo.core.appointment is not None
    node.show(1, term=node.solo.core.term)
    with trio.move_on_after(5):
        await node.spread.run()
    picture = node.spread.picture()
    assert (picture["why"], picture["preferred"]) == ("asked", 2)
    assert abs(picture["wait_ms"] - 595_000) < 1000
    assert node.told == []
