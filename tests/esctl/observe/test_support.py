"""The support archive: what is in it, what is never in it, and that secrets are taken out on the way."""

import hashlib
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esctl.cli.auditlog import AuditLog, NotedCommand
from esctl.observe.support import archive
from esctl.observe.support.redaction import MARK, MAX_TEXT, Redaction
from tests.esctl.commands.test_commands import Run
from tests.esctl.conftest import FakeNodes

SECRET = "hunter2-do-not-tell"


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f'"api_key": "{SECRET}"',
        f"token = '{SECRET}', and more",
        f"Authorization: Bearer {SECRET}",
        f"connecting to amqp://user:{SECRET}@host/vhost",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}",
    ],
)
def test_what_looks_like_a_secret_is_taken_out_of_any_text(text: str) -> None:
    redaction = Redaction()
    assert SECRET not in redaction.text(text)
    assert redaction.taken["secrets"] == 1
    line = redaction.line(json.dumps({"event": "oops", "reason": text}))
    assert SECRET not in line
    assert json.loads(line)["event"] == "oops"


def test_fields_are_taken_out_by_their_names_wherever_they_are() -> None:
    redaction = Redaction()
    seen = redaction.value(
        {"tls": {"private_key": SECRET, "port": 1}, "list": [{"apiToken": SECRET}], "payload": {"a": SECRET}}
    )
    assert seen == {
        "tls": {"private_key": MARK, "port": 1},
        "list": [{"apiToken": MARK}],
        "payload": MARK,
    }
    assert redaction.taken == {"secrets": 2, "event contents": 1}


def test_what_is_no_secret_stays_as_it_was() -> None:
    redaction = Redaction()
    line = '{"time":"t","level":"info","event":"keys_indexed","live_keys":5,"reason":"the peer closed"}'
    assert redaction.line(line) == line
    assert redaction.line("Traceback (most recent call last):") == "Traceback (most recent call last):"
    assert sum(redaction.taken.values()) == 0


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    cut = Redaction().text("x" * 10_000)
    assert len(cut) < MAX_TEXT + 50
    assert cut.endswith("(10,000 characters)")


def test_the_end_of_a_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {n}\n" for n in range(100)))
    text, cut = archive.tail_of(path, 20)
    assert text == "line 98\nline 99\n"
    assert cut + len(text) == path.stat().st_size
    assert archive.tail_of(path, 10_000) == (path.read_text(), 0)
    assert archive.tail_of(tmp_path / "none", 20) == ("", 0)


def bundled(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as made:
        files = {entry.name.partition("/")[2]: made.extractfile(entry) for entry in made.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_the_archive_explains_the_cluster_and_holds_no_secret_and_no_event(
    fakes: FakeNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    node = fakes.cluster.nodes[0]
    (node.data_dir / "log.sqlite").write_text(f"an event with {SECRET}")
    node.log.write_text(
        json.dumps({"event": "e", "password": SECRET, "data": SECRET}) + f"\ntoken: {SECRET}\n"
    )
    NotedCommand(AuditLog("fake"), "node stop", "esctl node stop 1").ended(0, None)
    into = tmp_path / "help.tar.gz"
    data: dict[str, Any] = Run("bundle", "--save", str(into), "-o", "json").data
    files = bundled(into)
    assert list(files) == [part["name"] for part in data["files"]]
    assert stat.S_IMODE(into.stat().st_mode) == 0o600
    assert not [name for name, content in files.items() if SECRET.encode() in content]
    manifest = json.loads(files["manifest.json"])
    assert manifest["taken_out"] == data["taken_out"] == {"secrets": 2, "event contents": 1}
    for part in manifest["files"]:
        assert part["sha256"] == hashlib.sha256(files[part["name"]]).hexdigest()
    assert json.loads(files["status.json"])["cluster"] == "fake"
    assert json.loads(files["node-2/config.json"])["node_id"] == 2
    assert {"stage": "alive", "ok": False}.items() <= json.loads(files["health.json"])["stages"][0].items()
    assert b"esctl node stop 1" in files["audit.jsonl"]


def test_with_several_partitions_each_is_in_the_archive(
    make_fakes: Callable[..., FakeNodes], tmp_path: Path
) -> None:
    make_fakes("four", partitions=4)
    into = tmp_path / "help.tar.gz"
    assert Run("bundle", "--save", str(into)).code == 0
    files = bundled(into)
    statuses = json.loads(files["nodes.json"])["partitions"]
    assert [list(one) for one in statuses] == [["1", "2", "3"]] * 4
    assert [one["id"] for one in json.loads(files["status.json"])["partitions"]] == [0, 1, 2, 3]


def test_a_preview_lists_the_files_and_writes_none(fakes: FakeNodes, tmp_path: Path) -> None:
    into = tmp_path / "help.tar.gz"
    run = Run("bundle", "--save", str(into), "-n")
    assert run.code == 0
    assert not into.exists()
    assert "node-3/log.jsonl\t0" in run.unpadded
    assert "left out\tthe data directories: no event, no key, no snapshot" in run.out


def test_a_log_that_is_long_goes_in_with_its_end_only(fakes: FakeNodes) -> None:
    line = json.dumps({"event": "e", "filler": "x" * 90})
    fakes.cluster.nodes[0].log.write_text((line + "\n") * 100)
    parts = {part.name: part for part in archive.collect(fakes.cluster, {}, Redaction(), log_bytes=1_000)}
    log = parts["node-1/log.jsonl"]
    assert len(log.content) < 1_000
    assert log.cut_bytes > 10_000


def test_a_file_that_is_there_is_not_written_over(fakes: FakeNodes, tmp_path: Path) -> None:
    into = tmp_path / "mine"
    into.write_text("mine")
    assert Run("bundle", "--save", str(into)).code == 2
    assert Run("bundle", "--save", str(tmp_path / "no" / "dir")).code == 1
    assert into.read_text() == "mine"
