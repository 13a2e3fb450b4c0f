"""`esctl timeline` on logs that are there: its window, its forms, runs of playbooks, what operators typed."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from esctl.cli import timearguments
from esctl.clusters import state
from esctl.commands.timeline import notes_of
from esctl.main import app
from esctl.observe.timeline import commands, runs
from esctl.observe.timeline.moments import MomentKind
from esctl.playbookerrors import RunNotFound, RunUnreadable
from tests.esctl.conftest import plan
from tests.esctl.observe.test_timeline import diagram_is_sound, recorded

Run = Callable[..., Any]


@pytest.fixture
def began_s(tmp_path: Path) -> float:
    """A cluster `past` with the recorded logs, as if all had happened a minute ago; when it began."""
    cluster = plan("past", tmp_path / "past")
    cluster.data_dir.mkdir()
    lines = recorded()
    first = timearguments.seconds(lines[0].time)
    assert first is not None
    began = time.time() - 60
    for node in cluster.nodes:
        with node.log.open("w") as file:
            for line in lines:
                if line.node == node.id:
                    at_s = (timearguments.seconds(line.time) or first) - first + began
                    file.write(json.dumps({**line.fields, "time": timearguments.written(at_s)}) + "\n")
    state.add(cluster)
    return began


def timeline(*words: str, code: int = 0) -> typer.testing.Result:
    done = typer.testing.CliRunner().invoke(app, ["timeline", *words])
    assert done.exit_code == code, done.output
    return done


def data(*words: str) -> dict[str, Any]:
    found = json.loads(timeline(*words).stdout)["data"]
    assert isinstance(found, dict)
    return found


def test_the_json_form_and_the_json_output_are_one_document(began_s: float) -> None:
    by_form, by_output = data("--format", "json"), data("-o", "json")
    assert [one["kind"] for one in by_form["happenings"]] == [one["kind"] for one in by_output["happenings"]]
    assert by_form["happenings"][0]["begin"] == timearguments.written(began_s)
    assert by_form["lanes"]["3"][0]["state"] == "starting"
    assert by_form["happenings"][-2]["ms"] is None


def test_a_window_shows_what_is_in_it_and_what_the_nodes_were_when_it_began(began_s: float) -> None:
    late = data(
        "--since",
        timearguments.written(began_s + 6),
        "--until",
        timearguments.written(began_s + 13),
        "-o",
        "json",
    )
    assert [one["kind"] for one in late["happenings"]] == ["pause", "election"]
    assert late["end"] == timearguments.written(began_s + 13)
    assert late["lanes"]["1"][0]["state"] == "follower"
    (down,) = data("--since", "1s", "-o", "json")["happenings"]
    assert (down["kind"], down["nodes"], down["ms"]) == ("down", [1, 2, 3], None)
    assert down["after_s"] < 0
    nothing = timeline("--since", "3d", "--until", "2d")
    assert "the logs tell of nothing since" in nothing.stderr
    assert "nothing happened" in nothing.stdout
    plain = [
        [cell.strip() for cell in each.split("\t")]
        for each in timeline("--since", timearguments.written(began_s)).stdout.splitlines()
    ]
    begun, started = (f"{timearguments.written(began_s + after)[11:23]}" for after in (0.0, 0.014))
    (lane,) = [row for row in plain if row[:2] == ["node 3", "starting"] and row[2] == begun]
    assert abs(int(lane[3][-3:]) - int(started[-3:])) % 999 <= 1, "to the millisecond"
    down = next(row for row in plain if "step-down" in row)
    assert down[1:] == ["-", "step-down", "node 3 leads no longer: no majority answered it"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", down[0])
    assert json.loads(timeline("--since", "1m", "--until", "2m", "-o", "json", code=2).stdout)["errors"]


def test_a_file_says_by_its_name_what_is_written_into_it(began_s: float, tmp_path: Path) -> None:
    for name, begins in {
        "a.html": "<!DOCTYPE html>", "b.mmd": "sequenceDiagram", "c.json": "{", "d.txt": "without a leader",
        "e.svg": "<svg",
    }.items():  # fmt: skip
        told = data("--save", str(tmp_path / "out" / name), "-o", "json")
        text = (tmp_path / "out" / name).read_text()
        assert text.startswith(begins)
        assert told["bytes"] == len(text.encode())
    assert diagram_is_sound((tmp_path / "out" / "b.mmd").read_text())
    assert "█" in (tmp_path / "out" / "d.txt").read_text()
    assert json.loads((tmp_path / "out" / "c.json").read_text())["command"] == "timeline"
    for kind in ("html", "svg"):
        assert f"timeline.{kind}" in timeline("--format", kind, code=2).stderr
    assert "ES4106" in timeline("--save", str(tmp_path / "out"), code=1).stderr
    for name, form in (("x.png", ()), ("x.pdf", ()), ("x.html", ("--format", "json"))):
        refused = timeline("--save", str(tmp_path / "none" / name), *form, code=2).stderr
        assert "ES4009" in refused
        assert name in refused
    assert not (tmp_path / "none").exists()


def test_what_must_be_known_to_read_it_right_is_noted(tmp_path: Path) -> None:
    cluster = plan("noted", tmp_path)
    assert notes_of(cluster, []) == []
    assert notes_of(cluster, [2]) == ["node 2 is paused now; it tells for how long when it continues"]
    (cut,) = notes_of(replace(cluster, backend="netns"), [])
    assert "in no node's log" in cut
    (clocks,) = notes_of(replace(cluster, backend="ssh"), [])  # type: ignore[arg-type]  # a later one
    assert "several machines" in clocks


def test_the_diagram_is_printed_and_is_in_the_data(began_s: float) -> None:
    printed = timeline("--format", "mermaid").stdout
    assert diagram_is_sound(printed.rstrip("\n"))
    assert data("--format", "mermaid", "-o", "json")["mermaid"].splitlines()[0] == "sequenceDiagram"


# --- runs of playbooks, and what was typed --------------------------------------------------------


def write_run(began_s: float, name: str = "drill-1") -> None:
    directory = state.clusters_root().parent / "runs" / name
    (directory / "loads" / "steady").mkdir(parents=True)
    events = [
        {"at": began_s + 1, "event": "run-begins", "cluster": "past"},
        {
            "at": began_s + 2,
            "event": "step-begins",
            "step": "cut",
            "title": "cut the leader off",
            "attempt": 1,
        },
        {"at": began_s + 5.5, "event": "step-ends", "step": "cut", "state": "passed", "why": ""},
        {"at": began_s + 5.6, "event": "guard", "expr": "load.acked_lost == 0", "state": "breached"},
        {"at": began_s + 5.7, "event": "step-begins", "step": "audit"},
        {"at": began_s + 6, "event": "undo-begins", "step": "cut"},
        {"at": began_s + 6.5, "event": "undo-ends", "step": "cut", "ok": True},
        {"at": began_s + 7, "event": "verdict", "verdict": "fail", "why": "a guard was breached"},
        {"at": began_s + 7, "event": "of a newer esctl"},
    ]
    text = "".join(json.dumps({"n": n, **event}) + "\n" for n, event in enumerate(events))
    (directory / "journal.jsonl").write_text(text + '{"at": 1')
    samples = [
        {"at": began_s + 2.1, "max_ms": 3.5, "silence_ms": 1, "rate_per_s": 200.0},
        {"at": began_s + 2.7, "max_ms": None, "silence_ms": 480.5, "rate_per_s": 0.0},
        {"max_ms": 1},
    ]
    (directory / "loads" / "steady" / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)))


def test_a_run_of_a_playbook_brings_its_steps_its_window_and_what_clients_felt(began_s: float) -> None:
    write_run(began_s)
    shown = data("--run", "drill-1", "-o", "json")
    steps = [(one["text"], one["ms"]) for one in shown["happenings"] if one["kind"] == "step"]
    assert steps == [
        ("step cut: cut the leader off: passed", 3500),
        ("step audit", None),
        ("undo of step cut: done", 500),
        ("verdict: fail (a guard was breached)", 0),
    ]
    assert [one["text"] for one in shown["happenings"] if one["kind"] == "trouble"] == [
        "guard breached: load.acked_lost == 0"
    ]
    assert [value for _, value in shown["latency_ms"]] == [3.5, 480.5]
    assert [value for _, value in shown["acked_per_s"]] == [200.0, 0.0]
    assert shown["end"] == timearguments.written(round(began_s + 7, 6) + 2)
    drawn = timeline("--run", "drill-1", "-o", "table").stdout
    assert "steps " in drawn
    assert "clients wait, at most 480 ms" in drawn
    assert "events acked a second, at most 200" in drawn
    assert "Note over operator: " in timeline("--run", "drill-1", "--format", "mermaid").stdout


@pytest.mark.parametrize("name", ["none", "../runs", "", "a/b"])
def test_a_run_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(RunNotFound, match="there is no run"):
        runs.read(name)


def test_a_run_without_a_moment_says_nothing(began_s: float) -> None:
    directory = state.clusters_root().parent / "runs" / "cut-off"
    directory.mkdir(parents=True)
    (directory / "journal.jsonl").write_text('{"at": 1')
    with pytest.raises(RunUnreadable, match="says nothing"):
        runs.read("cut-off")


def test_what_operators_typed_is_on_the_timeline_with_how_it_ended(began_s: float) -> None:
    path = state.clusters_root().parent / "audit" / "past.jsonl"
    path.parent.mkdir(parents=True)
    at = {second: timearguments.written(began_s + second) for second in (-9e8, 0, 3, 4, 5)}
    records = [
        {"what": "intent", "run": "a", "time": at[3], "user": "kim", "line": "node kill 3"},
        {"what": "outcome", "run": "a", "time": at[4], "exit_code": 0, "seconds": 1.0},
        {"what": "intent", "run": "b", "time": at[5], "user": "kim", "command": "node start"},
        {"what": "intent", "run": "c", "time": at[-9e8], "user": "kim", "line": "old"},
        {"what": "other", "run": "d", "time": at[0]},
        {"what": "intent", "run": 5, "time": "?"},
    ]
    path.write_text("\n".join(map(json.dumps, records)) + "\n[1]\n{")
    assert [one.kind for one in commands.read("past")] == [
        MomentKind.COMMAND,
        MomentKind.COMMAND_OVER,
        MomentKind.COMMAND,
        MomentKind.COMMAND,
    ]
    typed = [(one["text"], one["ms"]) for one in data("-o", "json")["happenings"] if one["kind"] == "command"]
    assert typed == [("kim: node kill 3: ok", 1000), ("kim: node start", None)]
    assert commands.read("never") == []
