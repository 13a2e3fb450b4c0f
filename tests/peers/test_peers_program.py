"""`python -m bench.peers`: what it says before it starts anything, and what outlives it: nothing."""

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import __main__ as program
from bench.peers import binaries, rabbitmq
from bench.peers.rounds import Settings
from bench.peers.servers import Servers
from bench.peers.systems import SYSTEMS
from bench.peers.table import Measured
from esctl.errors import MachineRefused, NodeFailedToStart
from esnode.errors import Bug, OperationTimeout
from tests.peers.fake_peer import FakePeer

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 60_000
needs_setpriv = pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="setpriv of util-linux is not here"
)


def test_a_missing_server_is_told_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(binaries, "PLACES", (tmp_path,))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.main(["--system", "esnode,nats"]) == 2
    assert "the program nats-server is not here\nnext: make bench-peers" in capsys.readouterr().err


def test_a_missing_broker_is_told_with_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "UNPACKED", tmp_path)
    monkeypatch.setattr(rabbitmq, "SCRIPT", "no/such/script")
    with pytest.raises(MachineRefused) as raised:
        _ = SYSTEMS["rabbitmq"]().version
    assert raised.value.next_step.startswith(binaries.INSTALL)


def test_an_unknown_system_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--system", "esnode,kafka"]) == 2
    assert f"kafka\nnext: choose from {','.join(SYSTEMS)}" in capsys.readouterr().err


async def test_a_round_that_fails_is_noted_and_the_others_go_on(tmp_path: Path) -> None:
    class Broken(FakePeer):
        async def start(self, directory: Path) -> None:
            raise ExceptionGroup("", [OperationTimeout("no leader")])

    settings = Settings(tmp_path, seconds=0.05, warmup_s=0.0, rates=())
    peers = [Broken(), FakePeer()]
    found = [Measured(f"peer {n}", peer.version, peer.facts) for n, peer in enumerate(peers)]
    bench = program.Bench(peers, found, settings)
    await bench.run(2, 0)
    assert bench.whole
    assert [len(one.runs) for one in found] == [0, 2]
    assert found[0].failures[0] == "run 1 of 2: peer 0: ES1203: no leader"


async def test_a_bug_is_not_taken_for_a_failed_round(tmp_path: Path) -> None:
    class Wrong(FakePeer):
        async def start(self, directory: Path) -> None:
            raise ExceptionGroup("", [Bug("broken"), ValueError("unexpected")])

    peer = Wrong()
    found = Measured("wrong", peer.version, peer.facts)
    with pytest.raises(ExceptionGroup):
        await program.Bench([peer], [found], Settings(tmp_path)).run(1, 0)


@needs_setpriv
async def test_a_server_that_ends_by_itself_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    servers = Servers()
    servers.start("broken", ["sh", "-c", "echo no disk; exit 3"], tmp_path)

    async def never() -> bool:
        return False

    with pytest.raises(NodeFailedToStart, match=r"(?s)broken ended with code 3.*no disk"):
        await servers.until(never, "an answer")
    servers.end_all()


@needs_setpriv
def test_servers_die_with_the_bench_even_when_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.peers.servers import Servers\n"
        f"servers = Servers(); servers.start('sleeper', ['sleep', '600'], Path({str(tmp_path)!r}))\n"
        "print(servers.pid('sleeper'), flush=True); sys.stdin.read()\n"
    )
    bench = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with bench:
        assert bench.stdout is not None
        sleeper = os.pidfd_open(int(bench.stdout.readline()))
        try:
            bench.send_signal(signal.SIGKILL)
            ended = select.poll()
            ended.register(sleeper, select.POLLIN)
            assert ended.poll(PATIENCE_MS), "it lives on"
        finally:
            os.close(sleeper)
