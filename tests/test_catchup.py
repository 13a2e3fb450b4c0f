"""`bench.catchup`, `bench.slowlink` and `bench.filled`: what they count, and that nothing of them is left."""

import argparse
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from bench import catchup, filled, slowlink, testcluster, throttle
from bench.floor.cluster import search_path
from bench.restart import Started
from esctl.bench.generator import Generator
from esctl.bench.latency import Percentiles
from esctl.bench.runner import Load
from esnode.config import Address, Config, Member
from tests.esctl.fake_log import Log

CALM = Percentiles(5.0, 20.0, 30.0, 40.0)
ROUGH = Percentiles(9.0, 50.0, 70.0, 90.0)
PATIENCE_S = 100.0


def run(program: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(program, home, *words),
        env={**os.environ, "PYTHONPATH": search_path()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def command(program: str, home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", f"bench.{program}", "--directory", str(home), *words]


def configs() -> list[Config]:
    members = tuple(
        Member(n, Address("127.0.0.1", 7000 + n), Address("127.0.0.1", 8000 + n)) for n in (1, 2, 3)
    )
    return [Config("bench", member.id, Path("data"), members) for member in members]


# --- the ground ---


async def test_a_stretch_of_a_load_knows_its_own_events_and_whether_all_were_acked(
    autojump_clock: trio.abc.Clock,
) -> None:
    log = Log(delay_s=0.01)
    async with testcluster.loaded(log, 2000, 64, 100) as load:
        await testcluster.stretch(1.0)
        part = await testcluster.stretch(2.0)
        await testcluster.stretch(1.0)
    assert part.kept_up(load, 2000) == pytest.approx(1.0, abs=0.05)
    p50 = part.latencies(load).p50
    assert p50 is not None
    assert 10 <= p50 <= 10 + 64 / 2  # a batch leaves when its last event is due


async def test_a_fill_makes_as_many_events_as_were_asked_for_or_the_rest_of_a_batch_more(
    autojump_clock: trio.abc.Clock,
) -> None:
    log = Log(delay_s=0.01)
    await testcluster.fill(log, 1000, 64, 100)
    assert log.next_offset == 1024


def test_a_document_is_written_only_when_all_went_well(tmp_path: Path) -> None:
    options = argparse.Namespace(json=tmp_path / "out.json", directory=tmp_path, rate=3)
    with pytest.raises(RuntimeError), testcluster.document(options):
        raise RuntimeError
    assert not options.json.exists()
    with testcluster.document(options) as figures:
        figures["level"] = 7
    found = json.loads(options.json.read_text())
    assert (found["level"], found["settings"]["rate"]) == (7, 3)


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (catchup.main, ["--events", "0"]),
        (slowlink.main, ["--bits", "nan"]),
        (filled.main, ["--live-keys", "3"]),
    ],
)
def test_what_no_program_of_them_can_measure_is_refused(
    main: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


# --- catchup ---


def answers(at_s: float, inflight_bytes: int = 0, **changed: Any) -> testcluster.Answers:
    mine = {"id": 2, "first_offset": 0, "next_offset": 0, "last_index": 0, "prefix_index": 0, "cpu_s": 0.5}
    leader = {"cpu_s": 4.0, "peers": {"2": {"inflight_bytes": inflight_bytes}}}
    return testcluster.Answers(mine | changed, leader, at_s)


async def test_events_that_only_a_snapshot_covers_were_not_taken_in() -> None:
    plan = testcluster.WholeBatches(seconds=1, warmup_s=0, rate=10, batch=1, window=1)
    intake = catchup.Intake(begun_s=100.0)
    intake.saw(answers(100.5))
    intake.saw(answers(101.0, 60, first_offset=600, next_offset=600, prefix_index=10, last_index=10))
    intake.saw(answers(102.0, first_offset=600, next_offset=1000, prefix_index=10, last_index=17, cpu_s=0.8))
    assert (intake.events, intake.entries, intake.first_came_s) == (400, 7, 101.0)
    stretches = (
        testcluster.Stretch(90.0, 100.0),
        testcluster.Stretch(100.0, 102.0),
        testcluster.Stretch(102.0, 110.0),
    )
    load = Load(Log(), Generator("run", 100, 1), plan)
    found = catchup.found_of(load, intake, stretches, (1.0, 3.0), 10.0)
    assert (found.events_per_s, found.from_first_events_per_s, found.kept_up) == (200, 400, 0)
    assert (found.inflight_bytes, found.follower_cpu_us_per_event) == (20, 2000)
    assert found.leader_cpu_s_per_s == (0.2, 0.5)


def test_a_log_is_cut_only_where_a_follower_behind_the_prefix_is_wanted() -> None:
    options = catchup.parser().parse_args(["--events", "1000"])
    (config, *_) = configs()
    assert catchup.bounded(options, config) == config
    options = catchup.parser().parse_args(["--events", "1000", "--behind-prefix"])
    assert 0 < catchup.bounded(options, config).retention.bytes < 1000 * 118


def test_a_catch_up_says_which_of_its_bars_it_meets() -> None:
    found = catchup.Found(10, 1, 1.0, 310_000.0, None, 0, 9e6, 1.5, (0.3, 0.6), CALM, ROUGH, CALM, 1.0)
    assert found.p99_ratio == 2.5
    assert catchup.as_text(found)[-1].endswith("bars: 300,000 events/s met, p99 x 2 missed")


# --- slowlink ---


async def test_a_bucket_lets_through_what_its_rate_allows_and_saves_nothing_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    bucket = throttle.Bucket()
    await bucket.take(10_000_000)
    bucket.set_rate(8_000)  # a kilobyte a second
    begun = trio.current_time()
    await bucket.take(1000)
    await bucket.take(500)
    assert trio.current_time() - begun == pytest.approx(1.5, abs=0.01)
    await trio.sleep(100)
    begun = trio.current_time()
    for _ in range(4):
        await bucket.take(1400)
    assert trio.current_time() - begun == pytest.approx(3 * 1.4, abs=0.01)


async def test_a_bucket_whose_bound_is_lifted_lets_go_at_once(autojump_clock: trio.abc.Clock) -> None:
    bucket = throttle.Bucket()
    bucket.set_rate(8)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.take, 1000)
        await trio.sleep(10)
        begun = trio.current_time()
        bucket.set_rate(0)
    assert trio.current_time() - begun <= throttle.LOOK_EVERY_S


async def test_a_throttle_carries_both_ways_and_ends_with_either_end() -> None:
    async def echo(stream: trio.SocketStream) -> None:
        await stream.send_all(await stream.receive_some())
        await stream.aclose()

    carrier = throttle.Throttle(throttle.Bucket())
    async with trio.open_nursery() as nursery:
        (far,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        (near,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [far])
        nursery.start_soon(trio.serve_listeners, carrier.serve, [near])
        carrier.obey(f"to 127.0.0.1:{far.socket.getsockname()[1]}\n")
        async with await trio.open_tcp_stream("127.0.0.1", near.socket.getsockname()[1]) as stream:
            await stream.send_all(b"hello")
            assert b"".join([data async for data in stream]) == b"hello"
        nursery.cancel_scope.cancel()


def test_an_order_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither"):
        throttle.Throttle(throttle.Bucket(now=lambda: 0.0)).obey("faster\n")


def test_only_the_others_reach_the_slow_follower_over_the_link() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        link = slowlink.Link(9000, process)
        seen = {
            config.node_id: link.leads_to(config).members[slowlink.SLOW - 1].peer.port for config in configs()
        }
        said, _ = process.communicate()
    assert seen == {1: 9000, 2: 9000, 3: 7003}
    assert said == b"to 127.0.0.1:7003\n"


def test_the_memory_of_a_stretch_has_its_largest_and_its_slope() -> None:
    looks = [slowlink.Look(10.0 + n, 1000 + 5 * n, 7 - n, n, 0) for n in range(5)]
    memory = slowlink.memory_of(looks)
    assert dataclasses.astuple(memory) == pytest.approx((1020, 5.0, 7, 4))
    found = slowlink.Found(CALM, ROUGH, (CALM, CALM), memory, memory, 1.0, 9, 0.5)
    assert found.p99_ratio == 2.5
    assert slowlink.as_text(found)[-1].endswith("bars: p99 x 1.5 missed, memory x 2 met")


# --- filled ---


def test_the_ratio_of_a_full_log_is_told_by_the_clock_and_by_processor_time() -> None:
    figures = {"events_per_s": 100.0, "p50_ms": 1.0, "p99_ms": 2.0, "leader_us_per_event": 3.0}
    empty = figures | {"all_us_per_event": 6.0}
    full = empty | {"events_per_s": 80.0, "all_us_per_event": 9.0}
    starts = [Started({"votes": 1.5}, 1.0, 1), Started({"votes": 3.5}, 1.0, 1)]
    found = filled.Found([empty, empty], [full, full], [300_000_000, 200_000_000], starts)
    ratios = found.ratios()
    assert (ratios["events_per_s"], ratios["all_us_per_event"]) == (0.8, 1.5)
    assert filled.as_text(found)[-1] == "bars: 0.9 of the throughput missed, 400 MB met, 3 s missed"


def test_the_processes_of_a_cluster_are_told_apart_by_what_they_do() -> None:
    assert filled.roles_of({1: 10, 2: 20, 3: 30}, 2) == {"leader": 20, "follower_1": 10, "follower_2": 30}
    assert filled.peak_bytes(os.getpid()) > 1_000_000


# --- all of it, with real processes ---


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--keep-directory"], ["--behind-prefix"]])
def test_a_follower_that_has_nothing_gets_level_in_a_short_run(tmp_path: Path, more: list[str]) -> None:
    file = tmp_path / "out.json"
    words = ["--events", "20000", "--rate", "1000", "--seconds", "0.5", "--json", str(file), *more]
    done = run("catchup", tmp_path / "home", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert done.stdout.startswith("level after ")
    if "--behind-prefix" in more:
        assert 0 < found["events"] < 20_000
        assert found["first_offset"] > 0
    else:
        assert found["events"] >= 20_000
    assert os.listdir(tmp_path / "home") == []


@pytest.mark.slow
def test_a_slow_link_lets_a_follower_fall_behind_in_a_short_run(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    words = ["--rate", "5000", "--seconds", "2", "--slow-seconds", "2", "--fill", "1000"]
    done = run("slowlink", tmp_path / "home", *words, "--json", str(file))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["behind_entries"] > 10
    assert found["slow_memory"]["inflight_bytes"] > found["normal_memory"]["inflight_bytes"]
    assert os.listdir(tmp_path / "home") == []


@pytest.mark.slow
def test_a_full_log_is_measured_beside_an_empty_one_in_a_short_run(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    words = [
        "--events",
        "50000",
        "--live-keys",
        "20000",
        "--rounds",
        "1",
        "--seconds",
        "0.3",
        "--warmup",
        "0.1",
    ]
    done = run("filled", tmp_path / "home", *words, "--times", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["ratio"]["events_per_s"] > 0
    assert len(found["starts"]) == 1
    assert os.listdir(tmp_path / "home") == []


@pytest.mark.slow
@pytest.mark.parametrize("program", ["catchup"])
def test_a_measurement_that_is_told_to_end_takes_its_cluster_with_it(tmp_path: Path, program: str) -> None:
    process = subprocess.Popen(
        command(program, tmp_path),
        env={**os.environ, "PYTHONPATH": search_path()},
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline()
        process.terminate()
        assert process.wait(PATIENCE_S) in {128 + signal.SIGTERM, 130}
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_the_port_of_a_link_goes_with_it() -> None:
    with slowlink.link() as link:
        port = link._address.port
        with closing(socket.create_connection(("127.0.0.1", port))):
            assert port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
