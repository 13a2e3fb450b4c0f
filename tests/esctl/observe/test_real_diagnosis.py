"""`esctl why` and `esctl top` on real nodes: each trouble is named first, and what is typed next mends it."""

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.chaos import nodes
from esctl.clusters import state
from esctl.clusters.backends import backend_named
from esctl.faults.nodeorders import Order, block
from esctl.faults.partitionshapes import between
from esctl.observe.diagnosis.collect import gather
from esctl.observe.diagnosis.problem import ProblemKind
from esctl.observe.diagnosis.ranking import Diagnosis, diagnose
from esctl.query.survey import ask
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FLIGHTS, RealCluster
from tests.torture.disks import FILLER, missing, small_disk

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three real nodes that allow faults; each test is mended by what `why` says."""
    cluster = RealCluster(tmp_path_factory.mktemp("patient"))
    try:
        cluster.data("cluster", "up", "patient", "--faults")
        yield cluster
    finally:
        cluster.run("cluster", "destroy", "patient", "--confirm", "patient")


@pytest.fixture(autouse=True)
def its_state(state_home: Path, patient: RealCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process: a python of its own for each would take longer than all they do."""
    monkeypatch.setenv("XDG_STATE_HOME", str(patient.home))


def esctl(*words: str) -> dict[str, Any]:
    """A command that must succeed; its data."""
    run = Run(*words, "-o", "json")
    assert run.code == 0, run.out + run.err
    return run.data


def findings() -> list[dict[str, Any]]:
    """What `why` finds; the disk of the machine that runs the tests may be as full as it likes."""
    run = Run("why", "--disk-free", "0", "-o", "json")
    found = run.data["findings"]
    assert run.code == (10 if any(one["severity"] != "note" for one in found) else 0)
    return list(found)


def first(kind: str) -> dict[str, Any]:
    """The first finding, once it is of that kind: an election or a timer may be under way."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := findings()) or found[0]["kind"] != kind:
        assert time.monotonic() < deadline, found
    return found[0]


def calm() -> list[dict[str, Any]]:
    """What `why` finds once nothing is wrong any more: notes."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = findings()
        if all(one["severity"] == "note" for one in found):
            return found
        assert time.monotonic() < deadline, found


def mend(finding: dict[str, Any]) -> None:
    """Type what the finding says, and nothing else; then all is well."""
    esctl(*shlex.split(finding["next"])[1:])
    assert esctl("status", "health", "--wait", "20")["healthy"]
    calm()


def a_follower() -> int:
    return int(esctl("cluster", "wait")["leader"]) % 3 + 1


def produce(home: Path, name: str, count: int = 1) -> None:
    lines = (json.dumps({"id": f"{name}-{n}", "source": "/test", "type": "t"}) for n in range(count))
    (home / name).write_text("".join(f"{line}\n" for line in lines))
    assert esctl("produce", str(home / name))["acked"] == count


def test_nodes_that_are_killed_or_paused_are_named_with_what_brings_them_back() -> None:
    assert calm() == []
    number = a_follower()
    esctl("node", "kill", str(number))
    killed = first("node-down")
    assert killed["what"] == f"node {number} is down: it was killed by esctl"
    mend(killed)
    esctl("node", "pause", str(number))
    paused = first("node-paused")
    assert paused["nodes"] == [number]
    mend(paused)


def test_a_lost_quorum_is_named_with_both_nodes_and_found_again() -> None:
    for number in ("1", "3"):
        esctl("node", "kill", number, "--yes")
    finding = first("no-quorum")
    assert [part["nodes"] for part in finding["because"]] == [[1], [3]]
    mend(finding)


def test_a_follower_that_lags_follows_from_the_fault_that_is_healed(tmp_path: Path) -> None:
    number = a_follower()
    struck = esctl("fault", "partition", "isolate", str(number), "--lease", "120s", "--yes")
    produce(tmp_path, "lag", 2_000)
    finding = first("fault")
    assert finding["next"].startswith(f"esctl fault heal {struck['fault']} ")
    assert {"lagging", "cut-off"} & {one["kind"] for one in finding["so"]}, finding
    mend(finding)


def test_a_file_that_differs_is_named_before_and_after_its_node_is_restarted() -> None:
    number = a_follower()
    path = Path(state.load("patient").node(number).config)
    text = path.read_text()
    path.write_text(text.replace("ttl_ms = 600000", "ttl_ms = 60000"))
    written = first("settings-differ")
    assert written["severity"] == "warning"
    assert written["nodes"] == [number]
    Run("node", "restart", str(number), "--timeout", "1")  # it is up, and follows nobody
    deadline = time.monotonic() + PATIENCE_S
    while (finding := first("settings-differ"))["severity"] == "warning" or len(finding["evidence"]) < 4:
        assert time.monotonic() < deadline, finding
    assert "ttl_ms = 60000," in finding["evidence"][1] + finding["evidence"][0]
    refusals = {one["id"]: one["refusals"] for one in esctl("status")["nodes"]}[number]
    assert {one["code"] for one in refusals} == {"ES2031"}
    stages = Run("status", "health", "-o", "json").data["stages"]
    assert any("do not talk to each other (ES2031)" in reason for one in stages for reason in one["reasons"])
    path.write_text(text)
    mend(finding)


def test_a_file_with_other_members_is_named_and_the_node_starts_with_the_old_ones() -> None:
    number = a_follower()
    path = Path(state.load("patient").node(number).config)
    text = path.read_text()
    esctl("node", "stop", str(number))
    more = "".join(
        f'\n[[members]]\nid = {n}\npeer = "127.0.0.1:{n}"\nclient = "127.0.0.1:{n + 10}"\n' for n in (4, 5)
    )
    path.write_text(text + more)
    refused = Run("node", "start", str(number), "-o", "json")
    assert refused.code != 0
    finding = first("settings-differ")
    assert "ES2032" in finding["evidence"][0]
    assert str(path) in finding["first"]
    path.write_text(text)
    mend(finding)


def test_a_full_disk_is_named_as_the_reason_of_an_end(tmp_path: Path) -> None:
    number = a_follower()
    full = Order(number, "disk-1", "disk-full")
    trio.run(nodes.set_all, state.resolve("patient"), [full], 60_000)
    produce(tmp_path, "full")
    finding = first("disk-full")
    assert finding["nodes"] == [number]
    assert "ES3103" in finding["evidence"][0]
    over = Run("fault", "heal", "disk-1", "-o", "json")  # the node has ended with it
    assert over.document["errors"][0]["next"] == f"esctl node start {number} --cluster patient"
    mend(finding)


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_disk_that_gets_full_is_warned_of_and_the_node_is_mended_on_another_one(tmp_path: Path) -> None:
    number, small, room = a_follower(), tmp_path / "small", tmp_path / "room"
    small.mkdir()
    with small_disk(small, 64 * 2**20):
        try:
            esctl("node", "replace", str(number), "--data-dir", str(small / "data"), "--no-verify")
            filler = small / FILLER
            fill(filler, leave=2**20)
            low = [one for one in Run("why", "-o", "json").data["findings"] if one["nodes"] == [number]]
            assert [one["kind"] for one in low] == ["disk-low"]
            assert low[0]["next"].startswith(f"esctl node replace {number} --data-dir DIR ")
            fill(filler, leave=0)
            produce(tmp_path, "filled", 2_000)
            full = first("disk-full")
            assert full["nodes"] == [number]
            assert full["also"][0] == f"esctl node start {number} --cluster patient"
            mend({**full, "next": full["next"].replace("DIR", shlex.quote(str(room / "data")))})
            assert esctl("verify", "--wait", "20")["ok"]
        finally:
            for one in esctl("node", "ls")["nodes"]:
                if Path(one["data_dir"]).is_relative_to(small):  # its files keep the file system mounted
                    Run("node", "replace", str(one["id"]), "--data-dir", str(room / "again"))


def fill(filler: Path, *, leave: int) -> None:
    """Let a file take what the file system has, but for so many bytes."""
    free = os.statvfs(filler.parent)
    with filler.open("ab") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))


def test_a_damaged_entry_is_named_until_the_node_has_repaired_itself() -> None:
    esctl("produce", str(FLIGHTS))
    number = a_follower()
    data_dir = next(one["data_dir"] for one in esctl("node", "ls")["nodes"] if one["id"] == number)
    esctl("node", "stop", str(number))
    log = Path(data_dir) / "log.sqlite"
    content = bytearray(log.read_bytes())
    content[content.rindex(b"flight.departure")] ^= 0x01  # in the middle of a late entry
    log.write_bytes(content)
    esctl("node", "start", str(number))
    damaged = first("damage")
    assert damaged["nodes"] == [number]
    assert " UTC: " in damaged["evidence"][0], damaged["evidence"]  # when, and in the node's own words what
    esctl("status", "health", "--wait", "30")
    notes = calm()
    assert [note["kind"] for note in notes] == ["damage"], notes
    (note,) = notes
    assert note["what"] == f"node {number} found its log damaged and has repaired itself from the others"
    mend(note)


def test_figures_come_as_answers_as_streams_and_for_monitors() -> None:
    words = [["top", "--every", "0.2"], ["status", "health", "--watch"]]
    streams = [begin(*each, "-o", "json") for each in words]
    try:
        (figures, change) = (
            json.loads(str(stream.stdout and stream.stdout.readline())) for stream in streams
        )
    finally:
        for stream in streams:
            stream.send_signal(signal.SIGINT)
    assert figures["leader"] == change["leader"] == int(esctl("leader", "show")["leader"])
    assert [one["cpu_percent"] > 0 for one in figures["nodes"]] == [True, True, True]
    assert change["healthy"]
    for stream in streams:
        stream.communicate(timeout=PATIENCE_S)
        assert stream.returncode == 130
    once = esctl("top", "--once", "--every", "0.2")
    assert once["events_per_s"] == 0.0
    assert once["read_ms"] > 0
    plugin = Run("status", "metrics", "quorum", "--format", "nagios")
    assert (plugin.code, plugin.out.partition(" - ")[0]) == (0, "OK")
    strict = Run("status", "metrics", "memory", "--warn", "1", "--crit", "2", "--format", "nagios")
    assert (strict.code, strict.out.partition(" - ")[0]) == (2, "CRITICAL")
    scrape = Run("status", "metrics", "all", "--format", "prometheus")
    assert scrape.code == 0
    assert 'eventstreamcore_up{cluster="patient",node="3"} 1' in scrape.out.splitlines()


def begin(*words: str) -> subprocess.Popen[str]:
    """A command that goes on until it is told to end."""
    command = [sys.executable, "-m", "esctl.main", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def two_claims() -> Diagnosis:
    """Look at a leader that was cut off and stood still, at the moment at which it goes on: for less than an
    election's time it takes itself for the leader, beside the one that the others have elected."""
    cluster = state.load("patient")
    backend = backend_named(cluster.backend)
    leader = trio.run(ask, cluster).leader
    assert leader is not None
    old = leader.node.id
    cuts = between([old], [node.id for node in cluster.nodes if node.id != old])
    trio.run(nodes.set_all, cluster, block(cuts, "cut-off"), 60_000)
    backend.pause(cluster, old)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while (now := trio.run(ask, cluster).leader) is None or now.node.id == old:
            assert time.monotonic() < deadline
    finally:
        backend.resume(cluster, old)
    return diagnose(trio.run(gather, cluster, 0.0))


def test_two_that_claim_to_lead_are_the_consequence_of_the_cut_between_them() -> None:
    for _ in range(5):  # a busy machine may look when that moment is over
        worst = two_claims().findings[0]
        assert (worst.kind, worst.next) == (ProblemKind.FAULT, "esctl fault heal cut-off --cluster patient")
        assert Run(*shlex.split(worst.next)[1:]).code == 0
        calm()
        if ProblemKind.OUTVOTED in {one.kind for one in worst.so}:
            return
    pytest.fail("nobody was seen to lead beside another")


class Watcher:
    """Somebody who runs `esctl top` in a terminal of 80 columns and 24 lines."""

    def __init__(self) -> None:
        self._person, program = pty.openpty()
        termios.tcsetwinsize(program, (24, 80))
        self.before = termios.tcgetattr(program)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "esctl.main", "top", "--every", "0.5"],
            env={**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"},
            stdin=program,
            stdout=program,
            stderr=program,
            start_new_session=True,
        )
        self.program = program
        self.shown = ""

    def press(self, key: str) -> None:
        os.write(self._person, key.encode())

    def see(self, text: str) -> None:
        """Wait until the picture has it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown.rpartition("\x1b[H")[2]:
            assert time.monotonic() < deadline, self.shown[-3000:]
            if select.select([self._person], [], [], 0.2)[0]:
                self.shown += os.read(self._person, 65_536).decode(errors="replace")

    def leave(self) -> int:
        """Press q; the exit code. What is still shown has to be read, or the program could not end."""
        self.press("q")
        self.see("\x1b[?1049l")
        code = self.process.wait(PATIENCE_S)
        assert termios.tcgetattr(self.program) == self.before
        os.close(self.program)
        os.close(self._person)
        return code


def test_a_key_of_top_shows_its_command_and_runs_it_once_it_is_confirmed() -> None:
    number = str(a_follower())
    watcher = Watcher()
    try:
        watcher.see("leads, 3 of 3 up")
        watcher.press(number)
        watcher.see(f"> {number}")
        watcher.press("p")
        watcher.see(f"would pause node {number}; then 2 of 3 nodes running, 2 needed: a quorum")
        watcher.press("y")
        watcher.see(f"paused node {number} (pid")
        watcher.see("2 of 3 up")
        assert watcher.leave() == 0
    finally:
        watcher.process.kill()
    paused = first("node-paused")
    assert paused["nodes"] == [int(number)]
    mend(paused)
