"""`esctl produce` in a process of its own, as it is typed, against a node that only takes events."""

import gzip
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from esctl.clusters import state
from esnode.errors import WindowFull
from esnode.messages import Append, Refused
from tests.esctl.conftest import plan
from tests.esctl.sink_node import SinkNode, sink

pytestmark = pytest.mark.slow
FLIGHTS = Path(__file__).resolve().parents[3] / "examples" / "flights-2013-01.ndjson.gz"


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    document: dict[str, Any]
    stderr: str

    @property
    def data(self) -> dict[str, Any]:
        found = self.document["data"]
        assert isinstance(found, dict)
        return found


async def produce(*words: str, stdin: bytes = b"", interrupt: trio.Event | None = None) -> Ended:
    command = [sys.executable, "-m", "esctl.main", "produce", *words, "-o", "json"]
    captured: list[subprocess.CompletedProcess[bytes]] = []

    async def run(task_status: trio.TaskStatus[trio.Process]) -> None:
        captured.append(
            await trio.run_process(
                command,
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                task_status=task_status,
            )
        )

    async with trio.open_nursery() as nursery:
        process = await nursery.start(run)
        if interrupt is not None:
            await interrupt.wait()
            process.send_signal(signal.SIGINT)
    ended = captured[0]
    return Ended(ended.returncode, json.loads(ended.stdout), ended.stderr.decode())


def lines(*numbers: int) -> bytes:
    events = [{"id": str(n), "source": "/test", "type": "t"} for n in numbers]
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


async def test_the_flights_go_in_once_and_the_second_time_all_are_duplicates(tmp_path: Path) -> None:
    node = SinkNode()
    async with sink(tmp_path, node):
        first = await produce(str(FLIGHTS))
        assert (first.code, first.stderr) == (0, "")
        assert first.data | {"seconds": 0, "events_per_s": 0} == {
            "sent": 27_004, "acked": 27_004, "duplicates": 0, "resent_duplicates": 0, "failed": 0,
            "unknown": 0, "seconds": 0, "events_per_s": 0, "bad_lines": [],
        }  # fmt: skip
        assert first.data["events_per_s"] == pytest.approx(27_004 / first.data["seconds"], rel=0.01)
        second = await produce("-", stdin=FLIGHTS.read_bytes())
        assert (second.code, second.data["acked"], second.data["duplicates"]) == (0, 27_004, 27_004)
    assert len(node.offsets) == 27_004
    assert max(node.sizes) == 64


async def test_bad_lines_are_named_and_the_rest_goes_in(tmp_path: Path) -> None:
    node = SinkNode()
    data = lines(1) + b"{oops\n" + lines(3) + b'{"id": "4", "source": "/test"}\n' + lines(5)
    path = tmp_path / "events.ndjson"
    path.write_bytes(gzip.compress(data))
    async with sink(tmp_path, node):
        ended = await produce(str(path))
    assert ended.code == 1
    assert (ended.data["acked"], ended.data["failed"], len(node.offsets)) == (3, 2, 3)
    assert "line 2: ES1001 not JSON" in ended.stderr
    assert "line 4: ES1001 the event has no 'type'" in ended.stderr
    assert [line["line"] for line in ended.data["bad_lines"]] == [2, 4]
    assert ended.document["errors"][0]["message"] == "2 lines are not events; 3 events went in"
    assert ended.document["errors"][0]["next"].startswith("fix what is named above")


async def test_when_every_line_is_bad_no_event_went_in(tmp_path: Path) -> None:
    async with sink(tmp_path, SinkNode()):
        ended = await produce("-", stdin=b"{oops\n[]\n")
    assert ended.code == 1
    assert ended.document["errors"][0]["message"] == "2 lines are not events; no event went in"


async def test_an_event_over_the_limit_is_refused_by_the_limits_name(tmp_path: Path) -> None:
    node = SinkNode()
    large = json.dumps({"id": "2", "source": "s", "type": "t", "data": "x" * 1_100_000}).encode() + b"\n"
    async with sink(tmp_path, node):
        ended = await produce("-", stdin=lines(1) + large)
    assert (ended.code, len(node.offsets)) == (1, 1)
    assert "over the limit of 1048576 (MAX_EVENT_BYTES)" in ended.stderr
    assert ended.document["errors"][0]["code"] == "ES1002"


@pytest.mark.parametrize("as_file", [True, False])
async def test_strict_sends_nothing_of_an_input_with_a_bad_line(tmp_path: Path, as_file: bool) -> None:
    node = SinkNode()
    path = tmp_path / "events.ndjson"
    path.write_bytes(lines(1) + b"{oops\n")
    async with sink(tmp_path, node):
        bad = await produce("--strict", str(path) if as_file else "-", stdin=path.read_bytes())
        assert (bad.code, bad.data["sent"], bad.data["failed"]) == (1, 0, 1)
        assert not node.offsets
        assert "nothing was sent" in bad.document["errors"][0]["message"]
        path.write_bytes(lines(1, 2))
        good = await produce("--strict", str(path) if as_file else "-", stdin=path.read_bytes())
    assert (good.code, good.data["acked"]) == (0, 2)


async def test_without_a_leader_it_says_so_and_gives_up_at_its_time_out(tmp_path: Path) -> None:
    async with sink(tmp_path, SinkNode(leads=False)):
        ended = await produce(str(FLIGHTS), "--timeout", "5", "--window", "2")
    assert ended.code == 124
    assert (ended.data["sent"], ended.data["acked"], ended.data["unknown"]) == (0, 0, 0)
    assert "no ack for" in ended.stderr
    error = ended.document["errors"][0]
    assert error["code"] == "ES1202"
    assert "0 events are acked, 0 are unknown; the rest was not sent" in error["message"]


async def test_with_every_node_down_it_says_so_at_once_and_nothing_is_unknown(tmp_path: Path) -> None:
    cluster = plan("gone", tmp_path / "gone")
    for node in cluster.nodes:
        node.data_dir.mkdir(parents=True)
    state.add(cluster)
    ended = await produce(str(FLIGHTS), "--timeout", "86400")
    assert ended.code == 124
    assert (ended.data["sent"], ended.data["failed"], ended.data["unknown"]) == (0, 0, 0)
    assert "no ack for" not in ended.stderr
    error = ended.document["errors"][0]
    assert error["code"] == "ES1201"
    assert "0 events are acked, 0 are unknown; the rest was not sent" in error["message"]
    assert error["next"].startswith("esctl cluster start gone; then send the same input again")


async def test_a_leader_that_falls_silent_leaves_an_honest_count(tmp_path: Path) -> None:
    node = SinkNode(deaf_after=640)
    async with sink(tmp_path, node):
        ended = await produce(str(FLIGHTS), "--timeout", "1", "--window", "4")
    assert ended.code == 124
    assert (ended.data["acked"], ended.data["unknown"]) == (640, 256)
    assert ended.document["errors"][0]["code"] == "ES1203"
    assert "nothing goes in twice" in ended.document["errors"][0]["next"]


async def test_ctrl_c_says_what_is_acked(tmp_path: Path) -> None:
    node = SinkNode(deaf_after=640)
    async with sink(tmp_path, node):
        interrupt = trio.Event()

        async def wait_full() -> None:
            while len(node.offsets) < 640:
                await node.changed.wait()
            interrupt.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_full)
            ended = await produce(str(FLIGHTS), "--window", "4", interrupt=interrupt)
    assert ended.code == 130
    assert ended.data["acked"] <= 640
    assert ended.data["sent"] == ended.data["acked"] + ended.data["unknown"]
    assert ended.document["errors"][-1]["code"] == "ES4203"
    assert "sending the same events again is safe" in ended.document["errors"][-1]["next"]


async def test_a_refusal_is_counted_and_the_rest_goes_in(tmp_path: Path) -> None:
    def refuse(append: Append) -> Refused | None:
        seen.append(append)
        late = len(seen) > 1
        return None if late else Refused(append.request_id, WindowFull.code, "the window is full")

    seen: list[Append] = []
    node = SinkNode(refuse=refuse)
    async with sink(tmp_path, node):
        ended = await produce("-", "--batch", "2", "--window", "1", stdin=lines(1, 2, 3, 4))
    assert ended.code == 1
    assert (ended.data["acked"], ended.data["failed"], len(node.offsets)) == (2, 2, 2)
    assert ended.document["errors"][0]["code"] == WindowFull.code


async def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    async with sink(tmp_path, SinkNode()):
        ended = await produce(str(tmp_path / "absent.ndjson"))
        assert ended.code == 2
        assert ended.document["errors"][0]["code"] == "ES4011"
        assert "No such file" in ended.document["errors"][0]["message"]


async def test_a_directory_as_input_is_an_error_and_no_table_of_zeros(tmp_path: Path) -> None:
    async with sink(tmp_path, SinkNode()):
        ended = await produce(str(tmp_path))
    assert (ended.code, ended.data) == (2, {})
    error = ended.document["errors"][0]
    assert (error["code"], error["message"]) == ("ES4011", f"{tmp_path} is a directory, not a file of events")


async def test_an_empty_input_is_no_error(tmp_path: Path) -> None:
    async with sink(tmp_path, SinkNode()):
        ended = await produce("-")
    assert (ended.code, ended.data["sent"]) == (0, 0)
