"""The client in a storm of dying nodes, elections, refusals and lost answers: each event once, acks true."""

import random
from collections.abc import Callable

import pytest
import trio

from esnode.client import Log, connect
from esnode.errors import Busy, LeadershipLost, NotLeader
from esnode.messages import Append, Refused
from esnode.wire import Message
from tests.appending import batch, event
from tests.fake_cluster import FakeCluster, FakeNode, Reply

pytestmark = pytest.mark.usefixtures("autojump_clock")

WRITERS = 8
EVENTS_EACH = 25


def moody(rng: random.Random) -> Callable[[FakeNode, Message], Reply]:
    """A node that refuses, forgets, keeps silent after the deed, or talks nonsense, now and then."""

    def script(node: FakeNode, message: Message) -> Reply:
        if not isinstance(message, Append):
            return node.answer(message)
        mood = rng.random()
        if mood < 0.5:
            return node.answer(message)
        if mood < 0.7:
            error = rng.choice([Busy, NotLeader, LeadershipLost])
            return Refused(message.request_id, error.code, "a mood")
        if mood < 0.8:
            return b"\x00\x00\x00\x01\xff"
        if mood < 0.9 and node.cluster.leader == node.id:
            node.answer(message)
        return None

    return script


async def rage(cluster: FakeCluster, rng: random.Random, rounds: int) -> None:
    """Kill, revive, elect and tease; at the end all is well again."""
    for _ in range(rounds):
        await trio.sleep(rng.uniform(0, 0.4))
        node = rng.choice(list(cluster.nodes.values()))
        match rng.randrange(5):
            case 0:
                await node.kill()
            case 1:
                node.up = True
            case 2:
                await cluster.elect(rng.choice([0, 1, 2, 3]))
            case 3:
                node.script = moody(rng)
            case _:
                node.script = None
    for node in cluster.nodes.values():
        await node.kill()  # what was swallowed is due again
        node.up, node.script = True, None
    await cluster.elect(rng.choice([1, 2, 3]))


async def write(log: Log, writer: int, acked: dict[str, int]) -> None:
    """Append one after the other, singly or as a batch."""
    for number in range(EVENTS_EACH):
        name = writer * 1000 + number
        if number % 3:
            acked[str(name)] = (await log.append(event(name))).offset
        else:
            acked[str(name)] = (await log.append_batch(batch(name))).ranges[0].base_offset


async def follow(log: Log, from_offset: int, until: int, seen: list[int]) -> None:
    async with log.subscribe(from_offset) as events:
        while from_offset + len(seen) < until:
            seen.append((await anext(events)).offset)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("producer_session", [False, True])
async def test_no_storm_loses_repeats_or_misplaces_an_event(seed: int, producer_session: bool) -> None:
    rng = random.Random(f"{seed}:storm")
    acked: dict[str, int] = {}
    total = WRITERS * EVENTS_EACH
    followers: dict[int, list[int]] = {0: [], 50: [], total - 1: []}
    async with trio.open_nursery() as outer:
        cluster = FakeCluster(outer)
        async with (
            connect(
                cluster.addresses,
                dial=cluster.dial,
                rng=random.Random(f"{seed}:client"),
                timeout_s=None,
                window=rng.choice([1, 2, 64]),
                batch_events=rng.choice([1, 3, 64]),
                producer_session=producer_session,
            ) as log,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(rage, cluster, rng, 40)
            for writer in range(WRITERS):
                nursery.start_soon(write, log, writer, acked)
            for from_offset, seen in followers.items():
                nursery.start_soon(follow, log, from_offset, total, seen)
        outer.cancel_scope.cancel()

    stored = cluster.log.ids()
    assert len(stored) == len(set(stored)) == total
    assert {stored[offset]: offset for offset in range(total)} == acked
    for writer in range(WRITERS):
        own = [acked[str(writer * 1000 + number)] for number in range(EVENTS_EACH)]
        assert own == sorted(own)
    for from_offset, seen in followers.items():
        assert seen == list(range(from_offset, total))
