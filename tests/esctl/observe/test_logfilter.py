"""Finding lines in long logs: by time without reading everything, by kind, by words; cut and moved files."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer.testing
from hypothesis import given
from hypothesis import strategies as st

from esctl.cli import timearguments
from esctl.clusters import nodelog, state
from esctl.errors import InvalidTime
from esctl.main import app
from esctl.observe.logfilter import Filter
from tests.esctl.conftest import plan

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def line(time: str, event: str, level: str = "info", **fields: object) -> str:
    return json.dumps({"time": time, "level": level, "event": event, **fields}) + "\n"


# --- times as people type them ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds_before_now"),
    [
        ("10m", 600),
        ("10m ago", 600),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("2d", 172_800),
        ("09:15", 900),
        ("9:15", 900),
        ("09:29:59.5", 0.5),
        ("09:31", 86_400 - 60),
        ("2026-03-01T09:00:00Z", 1800),
        ("2026-03-01T10:00:00+01:00", 1800),
        ("2026-03-01 09:00", 1800),
        ("2026-03-01", 34_200),
    ],
)
def test_a_time_is_read_as_people_type_it(text: str, seconds_before_now: float) -> None:
    assert NOW - timearguments.moment(text, NOW) == timedelta(seconds=seconds_before_now)


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "10", "-5m", "2026-13-01", "9999999999d"])
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidTime, match="is no time"):
        timearguments.moment(text, NOW)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_is_written_as_nodes_do_and_read_back(at: datetime) -> None:
    text = timearguments.written(at)
    assert timearguments.seconds(text) == pytest.approx(at.timestamp(), abs=2e-6)
    assert timearguments.written(timearguments.moment(text, NOW)) == text


def test_what_is_no_time_in_a_log_has_no_seconds() -> None:
    assert timearguments.seconds("t1") is None
    assert timearguments.seconds("") is None


# --- by time, without reading everything --------------------------------------------------------


def long_log(path: Path, count: int, seed: int = 1) -> list[str]:
    """A log far longer than what is read line by line, with tracebacks in it; its times."""
    source, times = random.Random(seed), []
    with path.open("w") as file:
        for number in range(count):
            times.append(timearguments.written(1_000_000.0 + number * 0.5))
            file.write(line(times[-1], "e", text="x" * source.randrange(200)))
            if not number % 97:
                file.write("Traceback: no time here\n" * source.randrange(20))
    return times


def test_a_time_is_found_in_a_long_log_by_reading_few_of_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = long_log(tmp_path / "1", 20_000)
    parsed = []
    parse = nodelog.parse
    monkeypatch.setattr(nodelog, "parse", lambda *words: parsed.append(words) or parse(*words))
    whole = (tmp_path / "1").read_bytes()
    for number in (0, 1, 777, 9_999, 19_999):
        at = nodelog.find(tmp_path / "1", times[number])
        assert json.loads(whole[at:].split(b"\n", 1)[0])["time"] == times[number]
    assert len(parsed) < 5 * 2_000
    between = timearguments.written(1_000_000.0 + 777 * 0.5 + 0.1)
    assert nodelog.find(tmp_path / "1", between) == nodelog.find(tmp_path / "1", times[778])
    assert nodelog.find(tmp_path / "1", "") == 0
    assert nodelog.find(tmp_path / "1", "9") == len(whole)
    middle = nodelog.find(tmp_path / "1", times[100])
    assert nodelog.find(tmp_path / "1", "9", end=middle) == middle


def test_what_lies_between_two_times_is_what_a_look_at_each_line_finds(tmp_path: Path) -> None:
    times = long_log(tmp_path / "1", 3_000, seed=2)
    everything = list(nodelog.read(tmp_path / "1", 1))
    for begin, end in ((0, 3), (100, 2_900), (1_500, 1_500), (2_990, 2_999)):
        found = list(nodelog.between(tmp_path / "1", 1, times[begin], times[end]))
        assert found == [one for one in everything if times[begin] <= one.time < times[end]]


def test_a_log_of_tracebacks_only_has_no_time_to_find(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("Traceback\n" * 20_000)
    assert nodelog.find(tmp_path / "1", "t1") == nodelog.size(tmp_path / "1")
    assert nodelog.find(tmp_path / "none", "t1") == 0


# --- files that are cut and moved ---------------------------------------------------------------


def test_a_follower_begins_again_when_the_log_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_text(line("t1", "a") + line("t2", "b"))
    follower = nodelog.Follower(path, 1, nodelog.size(path))
    path.write_text(line("t3", "c"))
    assert [each.event for each in follower.new_lines()] == ["c"]
    assert follower.new_lines() == []


def test_a_follower_begins_again_when_the_log_was_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "1"
    path.write_text(line("t1", "a"))
    follower = nodelog.Follower(path, 1, nodelog.size(path))
    path.rename(tmp_path / "1.old")
    assert follower.new_lines() == []
    path.write_text(line("t2", "b") + line("t3", "c"))
    assert [each.event for each in follower.new_lines()] == ["b", "c"]


# --- by kind, level and words -------------------------------------------------------------------


def test_all_conditions_hold_together_and_kinds_are_alternatives() -> None:
    lines = [
        nodelog.parse(line("t1", "fault_set", "warning", fault="cut-1"), 1),
        nodelog.parse(line("t2", "fault_healed", "warning", fault="CUT-1"), 1),
        nodelog.parse(line("t3", "fault_set", "warning", fault="disk-1"), 1),
        nodelog.parse(line("t4", "first_commit", "info", why="cut-1"), 1),
        nodelog.parse("Traceback: cut-1", 1, "t5"),
    ]
    wanted = Filter("warning", ["fault_*", "first_commit", "raw"], "cut-1", since="t1", until="t5")
    assert [one.time for one in wanted.of(lines)] == ["t1", "t2"]
    assert wanted.unseen == ["first_commit", "raw"]
    assert wanted.seen == {"fault_set": 2, "fault_healed": 1}


def cluster_with(tmp_path: Path, text: str) -> None:
    cluster = plan("logged", tmp_path / "logged", 1)
    cluster.data_dir.mkdir()
    cluster.nodes[0].log.write_text(text)
    state.add(cluster)


def test_the_command_filters_and_names_the_kinds_that_there_are(tmp_path: Path) -> None:
    struck = line("2026-03-01T09:00:00.000000Z", "fault_set")
    cluster_with(tmp_path, struck + line("2026-03-01T09:15:00Z", "b"))
    runner = typer.testing.CliRunner()
    found = runner.invoke(app, ["logs", "--event", "fault_*", "--since", "2026-03-01", "-o", "json"])
    assert [json.loads(each)["event"] for each in found.stdout.splitlines()] == ["fault_set"]
    none = runner.invoke(app, ["logs", "--event", "fault_healed"])
    assert "fault_healed; there are: b, fault_set" in none.stderr
    assert none.stdout == ""
    late = runner.invoke(app, ["logs", "--since", "2026-03-02", "--level", "info"])
    assert late.stderr == "no lines of level info or graver since 2026-03-02T00:00:00.000000Z\n"
    gravest = runner.invoke(app, ["logs", "--level", "critical"])
    assert gravest.stderr == "no lines of level critical or graver\n"
    assert runner.invoke(app, ["logs", "--grep", "nothing"]).stderr == "no lines that match\n"
    assert runner.invoke(app, ["logs", "-f", "--until", "1m"]).exit_code == 2
    wrong = runner.invoke(app, ["logs", "--since", "soon", "-o", "json"])
    assert wrong.exit_code == 2
    assert json.loads(wrong.stdout)["errors"][0]["code"] == "ES4020"
