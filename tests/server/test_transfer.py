"""What a client that asks for a hand-over of the leadership is told: only what has been decided."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from esnode.errors import TransferPending
from esnode.messages import LeaderIs, Refused, TransferLeadership, Transferred
from esnode.raft.messages import Decision, Role, SoftState, Transfer
from esnode.refusal import Refusal
from esnode.server.session import Session
from esnode.transport.connection import Connection
from esnode.wire import Message, encode
from tests.server.test_session import CountedStatus, services_of


class Asked:
    """A session of node 1, which leads in term 3, and one who asks it; the test answers for the core."""

    def __init__(self) -> None:
        self.services = services_of(CountedStatus())
        self.services.view.show_state(SoftState(Role.LEADER, 3, 1))
        ours, self._theirs = trio.testing.memory_stream_pair()
        self.session = Session(Connection(ours), self.services)
        self._client = Connection(self._theirs)

    async def ask(self, to: int) -> Transfer:
        await self._theirs.send_all(encode(TransferLeadership(7, to)))
        await trio.testing.wait_all_tasks_blocked()
        (item,) = self.services.inbox.drain(10)
        assert isinstance(item, Transfer)
        return item

    def decide(self, asked: Transfer, refusal: Refusal | None) -> None:
        self.services.waiting.decided([Decision(asked.token, 3, 0, (), 0, refusal)], 0, 3)

    async def answer(self) -> Message:
        while True:
            for message in await self._client.receive():
                if not isinstance(message, LeaderIs):
                    return message


@asynccontextmanager
async def asked() -> AsyncGenerator[Asked]:
    one = Asked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.session.run)
        yield one
        nursery.cancel_scope.cancel()


async def test_who_asks_during_another_hand_over_is_told_at_once_that_one_is_under_way() -> None:
    async with asked() as one:
        one.decide(await one.ask(0), Refusal.TRANSFER_PENDING)
        answer = await one.answer()
    assert isinstance(answer, Refused)
    assert answer.code == TransferPending.code


@pytest.mark.parametrize("refusal", [None, Refusal.TRANSFER_PENDING])
async def test_a_leader_that_is_to_stay_says_so_only_once_nothing_is_under_way(
    refusal: Refusal | None,
) -> None:
    async with asked() as one:
        item = await one.ask(1)
        assert item.to == 1
        one.decide(item, refusal)
        answer = await one.answer()
    if refusal is None:
        assert answer == Transferred(7, 1, 1)
    else:
        assert isinstance(answer, Refused)


async def test_the_answer_names_whoever_leads_afterwards() -> None:
    async with asked() as one:
        one.decide(await one.ask(0), None)
        await trio.testing.wait_all_tasks_blocked()
        one.services.view.show_state(SoftState(Role.FOLLOWER, 4, 2))
        assert await one.answer() == Transferred(7, 1, 2)


@pytest.mark.parametrize("to", [0, 1])
async def test_a_leadership_that_is_lost_in_the_same_turn_is_no_promise_to_stay(to: int) -> None:
    async with asked() as one:
        item = await one.ask(to)
        one.services.view.show_state(SoftState(Role.FOLLOWER, 4, 2))
        one.services.waiting.decided([Decision(item.token, 3, 0, (), 0, None)], 0, None)
        answer = await one.answer()
    assert isinstance(answer, Refused) if to else answer == Transferred(7, 1, 2)
