"""Logs of nodes: merged by time, tracebacks kept with their line, halves left for later."""

import json
from pathlib import Path

from esctl.cli.commandtable import every_command
from esctl.clusters import nodelog
from esnode.config import LOG_LEVELS


def line(time: str, event: str, **fields: object) -> str:
    return json.dumps({"time": time, "level": "info", "event": event, **fields}) + "\n"


def test_logs_are_merged_by_time_and_keep_a_nodes_own_order(tmp_path: Path) -> None:
    (tmp_path / "1").write_text(line("t1", "a") + line("t3", "c") + line("t2", "late"))
    (tmp_path / "2").write_text(line("t2", "b") + line("t4", "d"))
    merged = nodelog.merge(nodelog.read(tmp_path / str(n), n) for n in (1, 2))
    events = [(each.node, each.event) for each in merged]
    assert sorted(events) == [(1, "a"), (1, "c"), (1, "late"), (2, "b"), (2, "d")]
    assert [event for node, event in events if node == 1] == ["a", "c", "late"]
    assert events.index((2, "b")) < events.index((1, "c"))


def test_a_traceback_stays_with_the_line_before_it(tmp_path: Path) -> None:
    (tmp_path / "1").write_text(line("t1", "a") + "Traceback (most recent call last):\n" + line("t2", "b"))
    raw = list(nodelog.read(tmp_path / "1", 1))[1]
    assert (raw.time, raw.level, raw.event) == ("t1", "error", nodelog.RAW)
    assert raw.fields["text"] == "Traceback (most recent call last):"


def test_a_log_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    assert list(nodelog.read(tmp_path / "none", 1)) == []
    assert nodelog.size(tmp_path / "none") == 0
    assert "empty" in nodelog.tail(tmp_path / "none", 5)


def test_a_follower_leaves_half_a_line_for_later(tmp_path: Path) -> None:
    path = tmp_path / "1"
    follower = nodelog.Follower(path, 1, 0)
    assert follower.new_lines() == []
    whole = line("t1", "a")
    path.write_text(whole + whole[:10])
    assert [each.event for each in follower.new_lines()] == ["a"]
    assert follower.new_lines() == []
    path.write_text(whole + whole)
    assert [each.event for each in follower.new_lines()] == ["a"]


def test_levels_are_compared_by_gravity() -> None:
    warning = nodelog.parse('{"level": "warning"}', 1)
    assert nodelog.at_least("info", warning)
    assert nodelog.at_least("warning", warning)
    assert not nodelog.at_least("error", warning)
    assert nodelog.at_least("error", nodelog.parse('{"level": "unheard of"}', 1))
    assert nodelog.at_least("error", nodelog.parse('{"level": "critical"}', 1))


def test_the_tail_starts_where_it_is_told(tmp_path: Path) -> None:
    old = line("t1", "old", next="old advice")
    (tmp_path / "1").write_text(old + line("t2", "new", reason="no disk"))
    shown = nodelog.tail(tmp_path / "1", 5, len(old))
    assert shown == '    info new reason="no disk"'
    assert nodelog.next_step(tmp_path / "1", len(old)) == ""
    assert nodelog.next_step(tmp_path / "1", 0) == "old advice"


def test_lines_of_one_kind_are_passed_over_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "1").write_text(line("t1", "a") + line("t2", "b", text='"event": "a"') + line("t3", "ab"))
    assert [each.event for each in nodelog.read(tmp_path / "1", 1, without="a")] == ["b", "ab"]


def test_reading_ends_at_the_given_byte(tmp_path: Path) -> None:
    first = line("t1", "a")
    (tmp_path / "1").write_text(first + line("t2", "b"))
    assert [each.event for each in nodelog.read(tmp_path / "1", 1, end=len(first))] == ["a"]
    assert list(nodelog.read(tmp_path / "1", 1, end=0)) == []


def test_every_command_that_takes_a_level_takes_those_that_nodes_write() -> None:
    levels = {
        (name, parameter.name): tuple(parameter.type.choices)
        for name, command in every_command().items()
        for parameter in command.params
        if parameter.name in ("level", "log_level")
    }
    assert levels == {("logs", "level"): LOG_LEVELS, ("cluster up", "log_level"): LOG_LEVELS}
    assert "critical" in LOG_LEVELS  # `esnode/__main__.py` writes it when a node ends
