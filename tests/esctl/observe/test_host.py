"""What the doctor looks at: each check with what is well, what is not, and what may be mended."""

import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from esctl.cli.auditlog import MACHINE, AuditLog
from esctl.clusters import state
from esctl.clusters.backends import network, nodeprocess
from esctl.errors import NetworkRefused
from esctl.observe.host import clock, disk, leftovers, software
from esctl.observe.host.checkresult import CheckResult
from esctl.observe.host.clock import OLDEST_S, Discipline
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes

NOW_S = OLDEST_S + 86_400
GIB = 1 << 30


def test_an_old_python_or_sqlite_is_bad_and_says_what_to_install() -> None:
    assert software.python((3, 11), "3.11.0").result == "ok"
    assert software.python((3, 10), "3.10.9").next == "install 3.11 or newer"
    assert software.sqlite((3, 35, 0), "3.35.0").result == "ok"
    assert "3.35.0" in software.sqlite((3, 34, 1), "3.34.1").next


def test_a_limit_of_descriptors_that_is_low_names_one_that_can_be_set() -> None:
    few = software.FEWEST_DESCRIPTORS
    assert software.descriptors(few, few).result == "ok"
    assert software.descriptors(-1, -1).result == "ok"
    assert software.descriptors(256, 1024).next == "ulimit -n 1024"
    assert software.descriptors(256, -1).next == f"ulimit -n {4 * few}"


@pytest.mark.parametrize(
    ("now_s", "kernel", "written_s", "result", "says"),
    [
        (NOW_S, Discipline(True, 3.5), [NOW_S - 9], "ok", "off by 3.5 ms at most"),
        (NOW_S, None, [], "ok", "does not tell"),
        (NOW_S, Discipline(False, 1.0), [], "warning", "not synchronised"),
        (NOW_S, Discipline(True, 800.0), [], "warning", "off by 800.0 ms"),
        (NOW_S, Discipline(True, 1.0), [NOW_S + 7200, 5], "warning", "2 h after that; it has gone back"),
        (5.0, Discipline(True, 1.0), [], "bad", "before this program"),
    ],
)
def test_a_wall_clock_makes_sense_or_says_why_not(
    now_s: float, kernel: Discipline | None, written_s: list[float], result: str, says: str
) -> None:
    finding = clock.wall(now_s, kernel, written_s)
    assert finding.result == result
    assert says in finding.found
    assert bool(finding.next) is (result != "ok")


def test_the_kernel_of_this_machine_answers_about_its_clock() -> None:
    asked = clock.discipline()
    assert asked is None or 0 <= asked.error_ms <= 16_000  # the kernel's own bound


@pytest.mark.parametrize(
    ("free", "size", "files", "result"),
    [
        (50 * GIB, 100 * GIB, 10_000, "ok"),
        (50 * GIB, 100 * GIB, None, "ok"),
        (4 * GIB, 100 * GIB, None, "warning"),
        (GIB // 2, 2 * GIB, None, "warning"),
        (50 * GIB, 100 * GIB, 10, "warning"),
        (GIB // 20, 100 * GIB, None, "bad"),
    ],
)
def test_a_disk_that_fills_up_is_told_before_it_is_full(
    free: int, size: int, files: int | None, result: str
) -> None:
    finding = disk.room(Path("/data"), free, size, files)
    assert finding.result == result
    assert bool(finding.next) is (result != "ok")


def test_a_directory_that_cannot_be_written_is_bad(tmp_path: Path) -> None:
    assert disk.fsync(tmp_path / "missing").result == "bad"
    assert disk.existing(tmp_path / "a" / "b") == tmp_path


def test_a_port_of_a_node_that_is_down_and_was_taken_is_found(fakes: FakeNodes) -> None:
    port = int(fakes.cluster.nodes[1].client.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        (finding,) = leftovers.of_cluster("fake")
    assert finding.result == "bad"
    assert f"listens on its port {port}" in finding.found
    assert [one.result for one in leftovers.of_cluster("fake")] == ["ok"]


def test_what_belongs_to_nobody_is_found_and_removed_only_when_told(fakes: FakeNodes) -> None:
    root = state.clusters_root()
    (root / "never").mkdir()
    (root / "never" / ".lock").touch()
    torn = fakes.cluster.directory / ".cluster.json.4194305"
    torn.touch()
    kept = fakes.cluster.directory / f".cluster.json.{os.getpid()}"
    kept.touch()  # this process is writing it
    found = [one["found"] for one in Run("doctor", "-o", "json").data["checks"] if one["check"] == "remains"]
    assert len(found) == 2
    assert torn.exists()
    assert AuditLog(MACHINE).entries() == []
    fixed = Run("doctor", "--fix", "-o", "json").data["checks"]
    assert not [one for one in fixed if one["check"] == "remains" and one["result"] != "ok"]
    assert not (root / "never").exists()
    assert not torn.exists()
    assert kept.exists()
    assert [entry.line for entry in AuditLog(MACHINE).entries()] == ["esctl doctor --fix"]


@pytest.mark.parametrize("error", [NetworkRefused("it has gone"), ProcessLookupError(3, "No such process")])
def test_a_check_that_cannot_be_made_is_a_warning_and_the_others_count(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails() -> NoReturn:
        raise error

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "abandoned", fails)
    monkeypatch.setattr(nodeprocess, "every_node", fails)
    checks = {one["check"]: one for one in Run("doctor", "-o", "json").data["checks"]}
    assert {"python", "fsync", "ports"} <= set(checks)
    for name in ("networks", "processes"):
        assert checks[name]["result"] == "warning"
        assert checks[name]["found"] == f"could not be checked: {error}"


@pytest.mark.parametrize("error", [NetworkRefused("busy"), OSError(errno.EBUSY, "Device or resource busy")])
def test_a_fix_that_fails_says_why_and_does_not_suggest_itself(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(_name: str) -> NoReturn:
        raise error

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "abandoned", lambda: ["es0badcafe"])
    monkeypatch.setattr(network, "take_down", fails)
    fixed = {one["check"]: one for one in Run("doctor", "--fix", "-o", "json").data["checks"]}
    assert fixed["network es0badcafe"]["result"] == "bad"
    assert str(error) in fixed["network es0badcafe"]["found"]
    assert "doctor" not in fixed["network es0badcafe"]["next"]


def test_a_cluster_that_is_being_made_is_no_remains(fakes: FakeNodes) -> None:
    making = state.clusters_root() / "making"
    making.mkdir()
    with (making / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert list(leftovers.remains()) == []
    assert [one.result for one in leftovers.remains()] == ["warning"]


def test_data_that_was_put_aside_is_told_and_never_removed(fakes: FakeNodes) -> None:
    aside = fakes.cluster.nodes[0].data_dir.with_name("node-1.aside-20130102T030405Z")
    aside.mkdir()
    (finding,) = leftovers.of_cluster("fake")
    assert "data directories of replaced nodes" in finding.found
    assert finding.fix is None


def test_a_finding_without_a_fix_stays_as_it_is() -> None:
    finding = CheckResult("fsync", "warning", "slow", "use a faster disk")
    assert finding.mended() is finding
    assert CheckResult("x", "warning", "y", fix=lambda: "done").mended() == CheckResult("x", "ok", "done")


def test_the_trouble_of_other_clusters_is_one_line(make_fakes: Callable[..., FakeNodes]) -> None:
    ours, *others = (make_fakes(name).cluster for name in ("ours", "one", "two", "well"))
    for cluster in others[:2]:
        for node in cluster.nodes:
            (cluster.directory / f"node-{node.id}.pid").write_text("{}")  # ended, and nobody has stopped it
            node.config.unlink()
        shutil.rmtree(cluster.data_dir)
    (others[1].directory / "cluster.json").write_text("broken")
    checks = Run("doctor", "-c", "ours", "-o", "json").data["checks"]
    told = [one for one in checks if one["check"].partition(" ")[0] in ("cluster", "other")]
    assert [(one["check"], one["result"]) for one in told] == [
        ("cluster ours", "ok"),
        ("other clusters", "warning"),
    ]
    assert told[1]["found"] == "2 of 3 have trouble: one, two"
    assert told[1]["next"] == "esctl doctor --cluster one"
    assert {one["check"] for one in Run("doctor", "-o", "json").data["checks"]} >= {
        "cluster one",
        "cluster two",
        "cluster ours",
    }
    assert ours.directory.exists()


def test_nodes_of_clusters_that_are_noted_elsewhere_are_one_line(fakes: FakeNodes) -> None:
    trio.run(fakes.backend.start, fakes.cluster, fakes.numbers, 60.0)
    pids = fakes.pids()
    path = fakes.cluster.directory / "cluster.json"
    description = path.read_bytes()
    path.unlink()
    (elsewhere,) = [f for f in leftovers.strays() if str(fakes.cluster.data_dir) in f.found or f.next == ""]
    assert (elsewhere.result, elsewhere.next) == ("ok", "")
    for node in fakes.cluster.nodes:
        node.config.unlink()
    assert {f"kill {pid}" for pid in pids} <= {f.next for f in leftovers.strays() if f.result == "warning"}
    path.write_bytes(description)


def test_missing_files_are_named_by_their_nodes_and_not_as_a_list(
    make_fakes: Callable[..., FakeNodes],
) -> None:
    cluster = make_fakes("gone").cluster
    for node in cluster.nodes:
        node.config.unlink()
    (check,) = leftovers.of_cluster("gone")
    assert check.found == f"the files of nodes 1, 2, 3 are gone from {cluster.data_dir}"
