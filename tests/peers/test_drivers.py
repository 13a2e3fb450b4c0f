"""Every driver with its real servers: three nodes take events, lose their leader, and take more.

Where a server is not on this machine its test is skipped with the reason; `make bench-peers` fetches it.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bench.peers import servers
from bench.peers.peer import NODES, Habits, Peer
from bench.peers.rounds import Settings, running
from bench.peers.systems import SYSTEMS
from esctl.bench.generator import Generator
from esctl.errors import MachineRefused, NodeFailedToStart

ATTEMPTS = 3
HABITS = Habits(patience_s=1.0, timeout_s=120.0)


@asynccontextmanager
async def started(peer: Peer, directory: Path) -> AsyncIterator[None]:
    """As `rounds.running`; RabbitMQ 3.10 crashes in one start of fifty on a busy machine."""
    async with AsyncExitStack() as stack:
        for attempt in range(ATTEMPTS):
            try:
                await stack.enter_async_context(running(peer, Settings(directory)))
                break
            except NodeFailedToStart:
                if attempt + 1 == ATTEMPTS:
                    raise
        yield


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SYSTEMS)
async def test_a_system_goes_on_without_its_leader(name: str, tmp_path: Path) -> None:
    peer = SYSTEMS[name]()
    try:
        assert peer.version
    except MachineRefused as error:
        pytest.skip(f"{error}: {error.next_step}")
    source = Generator(secrets.token_hex(8), 100, 64)
    async with started(peer, tmp_path):
        await peer.wait_whole()
        pids = list(peer.pids())
        leader = await peer.leader()
        async with peer.client(leader, HABITS) as log:
            taken = await log.append_batch(source.next_batch())
            assert sum(one.count for one in taken.ranges) == 64
            assert len(servers.resident_bytes(pids)) == NODES
            servers.kill(pids[leader])
            taken = await log.append_batch(source.next_batch())
            assert sum(one.count for one in taken.ranges) == 64
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
