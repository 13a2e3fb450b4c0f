"""What the terminal makes of an answer: a table for people, tabs for pipes, one document for programs."""

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from esctl.exits import Exit
from esctl.ui import columns, escape, plain
from esctl.ui.answer import Answer, Beside, Cell, Fields, Line, Table, Tone, Trouble, Value, View, elapsed
from esctl.ui.terminal import Output, Terminal
from esnode.errors import OperationTimeout

TABLE = Table(
    ["node", "role", "offset"], [[1, Cell("leader", Tone.GOOD), 27_004], [2, None, 7]], title="nodes"
)
FIELDS = Fields([("leader", 1), ("seconds", 0.125), ("whole", True)])
ANSWER = Answer(
    {"leader": 1},
    [TABLE, FIELDS, Line("done")],
    [Trouble("ES1203", "late", "slow disk", "esctl status health")],
    Exit.TIMEOUT,
)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(answer: Answer[Any], output: Output | None, stdout: io.StringIO | None = None) -> tuple[str, str]:
    out, err = stdout or io.StringIO(), io.StringIO()
    Terminal(output, stdout=out, stderr=err).show("probe", answer)
    return out.getvalue(), err.getvalue()


def printed(terminal: Terminal) -> str:
    assert isinstance(terminal._stdout, io.StringIO)
    return terminal._stdout.getvalue()


def wide(columns: int, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of so many columns, whose standard output can be read."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal(Output.TABLE, stdout=Screen(), stderr=io.StringIO())


def test_a_narrow_table_breaks_text_between_words_and_names_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = wide(60, monkeypatch)
    name = "first-response-20261128-124715-2844"
    terminal.view(Table(["run", "what", "size"], [[name, "some words that need more room", "7 MB"]]))
    lines = printed(terminal).splitlines()
    assert name in lines[2]
    assert lines[2].rstrip().endswith("7 MB")
    assert all(len(line.rstrip()) <= 60 for line in lines)
    words = [word for line in lines[2:] for word in line.split() if word not in (name, "7", "MB")]
    assert " ".join(words) == "some words that need more room"


def test_gaps_are_narrower_before_anything_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = wide(26, monkeypatch)
    terminal.view(Table(["one", "two", "three"], [["a" * 6, "b c d e", "f" * 6]]))
    assert printed(terminal).splitlines()[2].split() == [
        "aaaaaa", "b", "c", "d", "e", "ffffff",
    ]  # fmt: skip


def test_columns_that_cannot_all_stay_whole_leave_room_for_the_others() -> None:
    path = "/var/lib/" + "x" * 60
    assert columns.whole([["a", "path", "b"], ["1", path, "2"]], 60) == {0, 2}
    assert columns.whole([["a", "path", "b"], ["1", path, "2"]], 100) == {0, 1, 2}


def test_a_span_of_time_has_one_unit_in_a_pipe_and_its_largest_ones_for_people() -> None:
    rows = [[elapsed(65)], [elapsed(7_260)], [elapsed(None)]]
    answer: Answer[dict[str, object]] = Answer(views=[Table(["up for"], rows)])
    assert shown(answer, Output.PLAIN)[0].splitlines() == ["up for", "65.0 s", "7260.0 s", "-"]
    assert "2 h 1 min" in shown(answer, Output.TABLE)[0]


def test_a_line_with_an_indent_goes_on_below_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = wide(24, monkeypatch)
    terminal.toned([("step    ", Tone.STRONG), ("what is done and then some", Tone.NORMAL)], indent=8)
    assert printed(terminal).splitlines() == [
        "step    what is done and",
        "        then some",
    ]


def test_plain_output_has_headings_and_aligned_columns_and_no_grouping() -> None:
    out, _ = shown(ANSWER, Output.PLAIN)
    table = "node\trole  \toffset\n1   \tleader\t27004\n2   \t-     \t7\n"
    assert out == f"{table}leader\t1\nseconds\t0.125\nwhole\tyes\ndone\n"


def test_a_pipe_gets_plain_output_by_default() -> None:
    assert shown(ANSWER, None) == shown(ANSWER, Output.PLAIN)


def test_a_table_groups_thousands_and_shows_headings() -> None:
    out, _ = shown(ANSWER, Output.TABLE)
    assert "27,004" in out
    assert "role" in out
    assert "\x1b" not in out


def test_a_table_on_a_pipe_is_never_cut() -> None:
    wide = "x" * 400
    out, _ = shown(Answer(views=[Table(["a", "b"], [[wide, wide]])]), Output.TABLE)
    assert f"{wide}  " in out


def test_a_terminal_gets_colours_unless_they_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in shown(ANSWER, None, Screen())[0]
    monkeypatch.setenv("NO_COLOR", "1")
    out, _ = shown(ANSWER, None, Screen())
    assert "27,004" in out
    assert "\x1b[3" not in out


def test_a_dumb_terminal_gets_plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown(ANSWER, None, Screen())[0] == shown(ANSWER, Output.PLAIN)[0]


def test_json_output_is_one_document_with_the_errors_in_it() -> None:
    out, err = shown(ANSWER, Output.JSON)
    assert json.loads(out) == {
        "schema": "esctl/v1",
        "command": "probe",
        "ok": False,
        "data": {"leader": 1},
        "errors": [
            {"code": "ES1203", "message": "late", "cause": "slow disk", "next": "esctl status health"}
        ],
    }
    assert err == ""


def test_an_error_says_what_why_and_what_to_type_next() -> None:
    failed = Answer.of_error(OperationTimeout("no ack within 5 s"), {"acked": 3})
    _, err = shown(failed, Output.PLAIN)
    assert err.splitlines() == [
        "error ES1203: no ack within 5 s",
        "  why: no answer within the timeout",
        "  next: esctl status health; sending again with the same ids is safe",
    ]
    document = json.loads(shown(failed, Output.JSON)[0])
    assert document["ok"] is False
    assert document["data"] == {"acked": 3}
    assert failed.exit_code is Exit.TIMEOUT


@pytest.mark.parametrize(
    "view", [Line("a\x1b[2Jb"), Fields([("a\x1b[2Jb", "c\rd")]), Table(["h"], [["a\x1b[2Jb"]])]
)
@pytest.mark.parametrize("output", [Output.TABLE, Output.PLAIN])
def test_text_from_outside_cannot_steer_the_terminal(view: View, output: Output) -> None:
    out, _ = shown(Answer(views=[view]), output)
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_message_keeps_its_lines_and_a_row_is_one_line() -> None:
    assert escape.lines("a\tb\nc\x07ä") == "a\tb\nc\\u0007ä"
    assert escape.line("a\tb\nc\x07ä") == "a\\tb\\nc\\u0007ä"


@pytest.mark.parametrize("record", [{"offset": 0, "event": {"id": "ä\ud800"}}, {}])
def test_a_stream_is_a_line_of_json_each(record: Mapping[str, object]) -> None:
    out = io.StringIO()
    Terminal(Output.JSON, stdout=out).record(record, "text")
    assert json.loads(out.getvalue()) == record
    assert out.getvalue().count("\n") == 1


def test_progress_is_silent_where_nobody_watches() -> None:
    err = io.StringIO()
    with Terminal(Output.TABLE, stdout=io.StringIO(), stderr=err).progress("sending", 10, "events") as bar:
        bar.advance(10)
        bar.describe("still sending")
    assert err.getvalue() == ""


def test_progress_shows_rate_and_amount_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    err = Screen()
    with Terminal(Output.TABLE, stdout=io.StringIO(), stderr=err).progress("sending", 2000, "events") as bar:
        bar.advance(1000)
        bar.describe("killing the leader")
    assert "1,000/2,000 events" in err.getvalue()
    assert "killing the leader" in err.getvalue()
    assert err.getvalue().rstrip("\r").endswith("\x1b[2K")  # nothing of it stays on the screen


def test_a_table_moves_closer_before_it_breaks_a_cell_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    cells = ["pre-candidate", "17,594", "17,594", "621,444", "99 MB", "1m23s", "follower"]
    screen = Screen()
    shown(Answer({}, [Table(cells, [list(cells)])]), Output.TABLE, screen)
    assert "pre-candidate" in screen.getvalue().splitlines()[-1]
    assert max(map(len, screen.getvalue().splitlines())) <= 80


def test_a_row_that_is_printed_under_a_progress_bar_takes_it_off_the_screen_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen()  # both streams are one screen
    terminal = Terminal(Output.TABLE, color=False, stdout=screen, stderr=screen)
    with terminal.progress("soaking", 10, "s"):
        terminal.toned([("first row", Tone.NORMAL)])
        terminal.record({}, "second row")
    text = screen.getvalue()
    for row in ("first row\n", "second row\n"):
        before, found, after = text.partition(row)
        assert found
        assert before.endswith("\x1b[2K")
        assert "soaking" in after


def test_work_that_is_measured_in_seconds_shows_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    err = Screen()
    with Terminal(Output.TABLE, stdout=io.StringIO(), stderr=err).progress("measuring", 10, "s") as bar:
        bar.advance(5)
        bar.describe("measuring, 60,000 events/s")
    assert "5/10 s" in err.getvalue()
    assert "s/s" not in err.getvalue().replace("events/s", "")


def on_screen(text: str) -> list[str]:
    """What a terminal would show of it, as far as a pane moves the cursor: up a line, to the begin, clear."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9?;]*[A-Za-z]|\r|\n)", text):
        match part:
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "\x1b[1A":
                row -= 1
            case "\x1b[2K":
                lines[row] = ""
            case _ if part and part != "\r" and not part.startswith("\x1b"):
                lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_what_is_printed_goes_above_the_pane_and_takes_no_line_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()  # both streams are one screen
    terminal = Terminal(Output.TABLE, color=False, stdout=screen, stderr=screen)
    with terminal.pane() as pane:
        for number in range(4):
            pane.draw([[("running ", Tone.ACCENT), (f"step {number}", Tone.STRONG)], [("x" * 60, Tone.DIM)]])
            terminal.toned([(f"step {number} is over", Tone.GOOD)])
        pane.draw([[("the last", Tone.NORMAL)]])
        terminal.note("a note")
        inside = on_screen(screen.getvalue())
    assert inside[:5] == [f"step {n} is over" for n in range(4)] + ["a note"]
    assert inside[5:] == ["the last"], "the pane is as long as what was drawn last"
    assert on_screen(screen.getvalue()) == inside[:5], "nothing of it stays"


def test_a_pane_is_silent_where_nobody_watches() -> None:
    out, err = io.StringIO(), io.StringIO()
    with Terminal(Output.PLAIN, stdout=out, stderr=err).pane() as pane:
        pane.draw([[("running", Tone.NORMAL)]])
    assert (out.getvalue(), err.getvalue()) == ("", "")


def test_a_terminal_of_40_columns_keeps_the_first_columns_and_names_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    head = ["node", "role", "term", "applied", "lag", "next", "memory", "up for"]
    rows: list[list[Value]] = [[1, "leader", 7, 1_234_567, 0, 9_876_543, "132 MB", "3d 4h"],
            [2, "pre-candidate", 7, 1_234_567, 12_345, 9_876_543, "99 MB", "1m23s"]]  # fmt: skip
    terminal = wide(40, monkeypatch)
    terminal.view(Table(head, rows))
    text = printed(terminal)
    assert "leader" in text
    assert "pre-candidate" in text or "pre-" in text
    assert "1,234,567" in text
    assert "no room for: " in text
    assert "up for" in text
    assert all(len(line.rstrip()) <= 40 for line in text.splitlines())
    assert "1m23s" in shown(Answer(views=[Table(head, rows)]), Output.PLAIN)[0]


def test_views_beside_each_other_are_columns_on_a_terminal_and_one_after_the_other_in_plain_text() -> None:
    left, right = [Line("one", Tone.GOOD), Line("x" * 60)], [Line("two", more=[(" and more", Tone.BAD)])]
    views: list[View] = [Beside([left, right])]
    first, second = Terminal(Output.TABLE, color=False).rendered(views, 40)
    assert first.index("two and more") == 21
    assert second.startswith("x" * 18)
    assert len(second.rstrip()) == 19
    assert [line for view in views for line in plain.lines(view)] == ["one", "x" * 60, "two and more"]
