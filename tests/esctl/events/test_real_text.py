"""Strangers' events, streams that break and inputs that are none, on real nodes and through real pipes."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.esctl.conftest import FLIGHTS, RealCluster

pytestmark = pytest.mark.slow
ESCTL = [sys.executable, "-m", "esctl.main"]


def line(name: str, **more: object) -> str:
    return json.dumps({"id": name, "source": "/text", "type": "t", **more}) + "\n"


def shell(cluster: RealCluster, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`script` with `esctl` as a function, and the words as $1, $2."""
    head = f'esctl() {{ {sys.executable} -m esctl.main "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", head + script, "bash", *words], env=cluster.environment, capture_output=True,
        text=True, timeout=cluster.patience_s,
    )  # fmt: skip


@pytest.fixture
def begin(real_cluster: RealCluster) -> int:
    """The offset of the next event."""
    status = real_cluster.data("verify", "--wait", "30")
    return int(status["common_offset"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b'{"id": 1}\n{"id": 2}\n',
        b"[]\n",
        b'{\n  "id": "p-1",\n  "source": "/t"\n}\n',
        gzip.compress(b"", mtime=0),
    ],
)
def test_an_input_without_an_event_proves_nothing(
    real_cluster: RealCluster, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "two words.ndjson"
    path.write_bytes(content)
    proof = real_cluster.data("verify", "--input", str(path), "--wait", "30", code=12)
    assert proof["verdict"] == "inconclusive"
    assert f"{path} holds no event" in proof["doubts"]


def test_an_input_beside_one_that_is_not_all_there_proves_nothing(
    real_cluster: RealCluster, tmp_path: Path
) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(FLIGHTS.read_bytes()[:100_000])
    proof = real_cluster.data(
        "verify", "--input", str(FLIGHTS), "--input", str(path), "--wait", "30", code=12
    )
    assert "is not all there" in proof["doubts"][0]
    assert proof["acked_lost"] == 0


def test_a_verdict_is_the_same_without_a_reader(real_cluster: RealCluster, tmp_path: Path) -> None:
    path = tmp_path / "missing.ndjson"
    path.write_text(line("never-sent"))
    for redirection in (">/dev/null 2>&1", "2>/dev/null | true", "2>&1 | true", ">&- 2>&-", ">/dev/full"):
        done = shell(
            real_cluster,
            f'esctl verify --input "$1" --wait 30 {redirection}; exit ${{PIPESTATUS[0]}}',
            str(path),
        )
        assert done.returncode == 11, redirection


def test_a_reader_of_warnings_that_leaves_keeps_no_event_from_the_log(
    real_cluster: RealCluster, tmp_path: Path, begin: int
) -> None:
    path = tmp_path / "in.ndjson"
    path.write_text("".join(f'{{"id":{n}}}\n{line(f"bm-{n}")}' for n in range(3_000)))
    done = shell(real_cluster, 'esctl produce "$1" 2> >(head -1 >/dev/null)', str(path))
    assert done.returncode == 1
    assert "acked\t3000" in done.stdout
    assert real_cluster.data("verify", "--wait", "30")["common_offset"] == begin + 3_000


def test_an_event_of_a_stranger_forges_no_row(real_cluster: RealCluster, begin: int) -> None:
    forged = line("one") + line("two\n7\t/t/forged\x1b[2J\u202e") + line("three")
    assert real_cluster.run("produce", "-", stdin=forged).returncode == 0
    for form in ("plain", "table"):
        done = real_cluster.run("consume", "--from", str(begin), "-o", form)
        rows = done.stdout.splitlines()
        assert len(rows) == 3, form
        assert r"two\n7\t/t/forged\u001b[2J\u202e" in rows[1]
    whole = real_cluster.run("event", str(begin + 1), "-o", "table").stdout
    assert not {"\x1b", "\u202e"} & set(whole)
    assert r"two\n7\t" in whole


def test_what_is_consumed_as_json_can_be_produced_again(real_cluster: RealCluster, begin: int) -> None:
    assert real_cluster.run("produce", "-", stdin=line("again-1") + line("again-2")).returncode == 0
    done = shell(real_cluster, f"esctl consume --from {begin} -o json | esctl produce - -o json; exit $?")
    assert done.returncode == 0, done.stdout
    data = json.loads(done.stdout)["data"]
    assert (data["acked"], data["duplicates"]) == (2, 2)


def test_an_input_that_does_not_block_and_comes_late_is_taken(real_cluster: RealCluster) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    with subprocess.Popen(
        [*ESCTL, "produce", "-", "-o", "json"],
        stdin=read,
        stdout=subprocess.PIPE,
        env=real_cluster.environment,
    ) as process:
        os.close(read)
        assert process.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)  # it waits: nothing has come yet
        os.write(write, line("late").encode())
        os.close(write)
        assert json.load(process.stdout)["data"]["acked"] == 1
    assert process.returncode == 0


def test_a_pipe_that_does_not_block_gets_every_row(real_cluster: RealCluster) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    words = ["consume", "--max", "20000", "-o", "json"]
    with subprocess.Popen([*ESCTL, *words], stdout=write, env=real_cluster.environment) as process:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            rows = [json.loads(row)["offset"] for row in pipe]
    assert process.returncode == 0
    assert rows == list(range(20_000))


def test_a_reader_that_has_seen_enough_ends_what_reads_the_log(real_cluster: RealCluster) -> None:
    done = shell(real_cluster, "esctl consume -o plain | head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0\t")
    assert shell(real_cluster, "esctl consume >/dev/full").returncode == 1


def test_gzip_with_a_newline_behind_it_is_all_there(real_cluster: RealCluster, tmp_path: Path) -> None:
    path = tmp_path / "trailing.gz"
    path.write_bytes(gzip.compress((line("gz-1") + line("gz-2")).encode()) + b"\n")
    done = real_cluster.run("produce", str(path), "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["data"]["acked"] == 2


def test_pretty_printed_json_is_one_warning_with_what_helps(
    real_cluster: RealCluster, tmp_path: Path
) -> None:
    path = tmp_path / "pretty.json"
    path.write_text(json.dumps({"id": "p-1", "source": "/t", "type": "t", "data": {"x": 1}}, indent=2))
    for words in (["produce", str(path)], ["verify", "--input", str(path), "--wait", "30"]):
        done = real_cluster.run(*words, "-o", "json")
        assert done.stderr.count("warning") == 1
        assert "jq -c ." in done.stderr
