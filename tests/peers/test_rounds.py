"""What is measured on a system, on a clock that waits for nobody, and what is left behind: nothing."""

import os
import signal
from pathlib import Path

import pytest
import trio
import trio.testing

from bench.peers import rounds
from bench.peers.peer import THROUGHPUT
from bench.peers.rounds import Settings, failover, prefix, reached, throughput
from esnode.errors import OperationTimeout
from tests.peers.fake_peer import FakePeer


async def test_a_round_has_the_figures_of_every_loop(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    peer, told = FakePeer(), list[str]()
    settings = Settings(tmp_path, seconds=0.1, warmup_s=0.0, rates=(2_000.0,))
    figures = await throughput(peer, settings, told.append)
    assert told == ["closed loop", "2,000 events/s"]
    assert reached(figures, 2_000.0)
    for name in ("closed", prefix(2_000.0)):
        for part in ("p50_ms", "p99_ms", "p999_ms", "per_s", "nodes_us_per_event", "client_us_per_event"):
            assert figures[f"{name}_{part}"] is not None
    assert (figures["memory_bytes"] or 0) > 0
    assert (peer.starts, peer.stops) == (1, 1)
    assert os.listdir(tmp_path) == []


async def test_a_rate_that_is_not_reached_ends_the_round(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[str] = []
    settings = Settings(tmp_path, seconds=0.1, warmup_s=0.0, window=1, rates=(500_000.0, 1_000_000.0))
    figures = await throughput(FakePeer(), settings, told.append)
    assert told == ["closed loop", "500,000 events/s"]
    assert not reached(figures, 500_000.0)


async def test_a_failover_is_as_long_as_the_acks_stand_still(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    peer = FakePeer(outage_s=0.7)
    gap_ms = await failover(peer, Settings(tmp_path))
    assert 699 < gap_ms < 703
    assert peer.ends == [None, -signal.SIGKILL, None]


async def test_acks_that_never_come_back_are_an_error_and_the_system_is_stopped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    peer = FakePeer(outage_s=10 * rounds.GIVE_UP_S)
    with pytest.raises(OperationTimeout):
        await failover(peer, Settings(tmp_path))
    assert peer.stops == 1
    assert os.listdir(tmp_path) == []


async def test_a_system_that_does_not_start_is_stopped_all_the_same(tmp_path: Path) -> None:
    class Broken(FakePeer):
        async def start(self, directory: Path) -> None:
            await super().start(directory)
            raise OperationTimeout("no leader")

    peer = Broken()
    with pytest.raises(OperationTimeout):
        await throughput(peer, Settings(tmp_path), lambda _: None)
    assert peer.stops == 1


def test_the_clients_do_not_send_again_while_throughput_is_measured() -> None:
    assert THROUGHPUT.patience_s > Settings(Path()).seconds


def test_an_fsync_takes_time(tmp_path: Path) -> None:
    median, p99 = rounds.fsync_ms(tmp_path, 100)
    assert 0 < median <= p99
