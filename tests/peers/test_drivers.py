"""Every driver with its real servers: three nodes take events, lose their leader, and take more.

Where a server is not on this machine its test is skipped with the reason; `make bench-peers` fetches it.
"""

import os
import secrets
from pathlib import Path

import pytest

from bench.peers import servers
from bench.peers.peer import NODES, Habits
from bench.peers.rounds import Settings, running
from bench.peers.systems import SYSTEMS
from esctl.errors import MachineRefused
from esctl.load.generator import Generator

HABITS = Habits(patience_s=1.0, timeout_s=120.0)


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
    async with running(peer, Settings(tmp_path)):
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
