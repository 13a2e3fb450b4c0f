"""What `esctl top` computes and shows: rates, sparklines, the picture at two sizes, and what keys do."""

import json
from dataclasses import replace

import pytest

from esctl.clusters.backends.interface import RunState
from esctl.observe.top import board
from esctl.observe.top.board import BoardState
from esctl.observe.top.controls import Control, Said, control
from esctl.observe.top.rates import KEPT, Rates
from esctl.ui.answer import View
from esctl.ui.sparkline import ASCII, BARS, spark
from esctl.ui.terminal import Output, Terminal
from tests.command_line import parse
from tests.esctl.situations import gone, look, node

# --- sparklines and rates -----------------------------------------------------------------------


def test_a_sparkline_scales_to_its_highest_figure_and_shows_gaps() -> None:
    assert spark([0, 50, None, 100], 5) == " ▁▅ █"
    assert spark([0, 50, None, 100], 5, unicode=False) == f" {ASCII[0]}{ASCII[4]} {ASCII[-1]}"
    assert spark([1, 2, 3], 2) == f"{BARS[5]}{BARS[-1]}"
    assert spark([0, 0], 3) == " ▁▁"
    assert spark([], 3) == "   "
    assert spark([1], 0) == ""


def looked(*looks: tuple[float, int, float], restarted: bool = False) -> Rates:
    """The rates after looks at node 1, each (uptime in s, next offset, processor time in s)."""
    rates = Rates()
    for uptime_s, offset, cpu_s in looks:
        rates.add(look(node(1, uptime_s=uptime_s, next_offset=offset, cpu_s=cpu_s)), 2.5)
    return rates


def test_rates_go_by_the_clock_of_the_node() -> None:
    rates = looked((10.0, 1_000, 5.0), (12.0, 5_000, 6.0))
    assert list(rates.track(1).events_per_s) == [None, 2_000.0]
    assert list(rates.track(1).cpu_percent) == [None, 50.0]
    assert list(rates.events_per_s) == [None, 2_000.0]
    assert list(rates.read_ms) == [2.5, 2.5]


@pytest.mark.parametrize("after", [(1.0, 2_000, 0.1), (10.0, 2_000, 5.0)])
def test_a_node_that_began_anew_has_no_rate_for_that_time(after: tuple[float, int, float]) -> None:
    rates = looked((10.0, 1_000, 5.0), after)
    assert list(rates.track(1).events_per_s) == [None, None]


def test_a_log_that_became_shorter_is_no_rate_but_its_processor_time_counts() -> None:
    rates = looked((10.0, 1_000, 5.0), (11.0, 10, 5.5))
    assert rates.track(1).events_per_s[-1] is None
    assert rates.track(1).cpu_percent[-1] == 50.0


def test_a_node_that_does_not_answer_leaves_a_gap_and_then_begins_anew() -> None:
    rates = Rates()
    for report in (
        node(2, uptime_s=1.0),
        gone(2),
        node(2, uptime_s=3.0, next_offset=90),
        node(2, uptime_s=4.0),
    ):
        rates.add(look(report), None)
    assert list(rates.track(2).events_per_s) == [None, None, None, None]
    assert list(rates.track(2).lag_events) == [0, None, 0, 0]
    assert list(rates.read_ms) == [None] * 4


def test_without_a_leader_the_cluster_goes_as_fast_as_its_fastest_node() -> None:
    rates = Rates()
    for seconds, offset in ((1.0, 0), (2.0, 700)):
        followers = [node(n, role="follower", uptime_s=seconds, next_offset=offset * n) for n in (1, 2, 3)]
        rates.add(look(*followers), None)
    assert rates.events_per_s[-1] == 2_100.0


def test_only_so_many_figures_are_kept() -> None:
    rates = looked(*((float(n), n, 0.0) for n in range(1, KEPT + 50)))
    assert len(rates.events_per_s) == len(rates.track(1).cpu_percent) == KEPT


# --- the picture --------------------------------------------------------------------------------


def moment(*reports: object, faults: tuple[str, ...] = ()) -> BoardState:
    rates = Rates()
    survey = look(*reports)  # type: ignore[arg-type]
    for seconds in range(30):
        later = [
            replace(r, status=r.status | {"uptime_s": float(seconds), "next_offset": seconds * 1_000_000})
            if r.status is not None
            else r
            for r in survey.reports
        ]
        survey = replace(survey, reports=later)
        rates.add(survey, 2.0 + seconds)
    return BoardState(survey, rates, selected=2, faults=faults)


def drawn(views: list[View], width: int) -> list[str]:
    return Terminal(Output.TABLE, color=False).rendered(views, width)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    faults = tuple(f"cut-{n}: block on node 1, 2, 3, 6 s left" for n in range(5))
    now = moment(gone(3, RunState.PAUSED), faults=faults)
    lines = drawn([*board.body(now, width, height), *board.foot(now, width)], width)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    assert "node 1 leads, 2 of 3 up" in text
    assert "> 2" in text
    assert "paused" in text
    assert "1,000,000" in text
    assert text.count("█") >= 3
    assert "and 2 more: esctl fault ls" in text
    assert ("process" in text) is (width == 160)
    assert ("over the latest looks" in text) is (height == 50)


def test_a_node_has_one_line_however_narrow_the_terminal_is() -> None:
    now = moment()
    lines = drawn(board.body(now, 80, 24), 80)
    assert [line.split()[:2] for line in lines if "follower" in line] == [[">", "2"], ["3", "follower"]]


def test_a_narrow_terminal_gets_the_log_only() -> None:
    lines = drawn(board.body(moment(), 60, 24), 60)
    (head,) = [line for line in lines if "events/s" in line and "node" in line]
    assert head.split() == ["node", "role", "events/s", "lag", "next", "lately"]
    assert max(map(len, lines)) <= 60
    assert len([line for line in lines if "follower" in line]) == 2


def test_a_question_is_never_cut() -> None:
    now = moment()
    now.question = "esctl node pause 2\n" + "would pause node 2; " * 10 + "END"
    lines = drawn(board.foot(now, 80), 80)
    assert lines[0] == "esctl node pause 2"
    assert lines[-2].endswith("END")
    assert lines[-1].startswith("y does it")


def test_programs_get_the_same_figures() -> None:
    now = moment(gone(3), faults=("kill-1: kill on node 3, 5 s left",))
    record = json.loads(json.dumps(board.record(now)))
    assert record["leader"] == 1
    assert record["events_per_s"] == 1_000_000.0
    assert record["read_ms"] == 31.0
    assert [one["events_per_s"] for one in record["nodes"]] == [1_000_000.0, 1_000_000.0, None]
    assert [one["state"] for one in record["nodes"]] == ["running", "running", "down"]
    plain = board.plain(now, "now")
    assert [line[:3] for line in plain] == [
        ["now", "1", "leader"], ["now", "2", "follower"], ["now", "3", "-"]
    ]  # fmt: skip


# --- keys ---------------------------------------------------------------------------------------

WORDS = [
    ("p", look(), 2, 0, "esctl node pause 2"),
    ("p", look(gone(2, RunState.PAUSED)), 2, 0, "esctl node resume 2"),
    ("p", look(gone(2)), 2, 0, "esctl node start 2"),
    ("t", look(), 2, 0, "esctl leader transfer --to 2"),
    ("t", look(), 1, 0, "esctl leader transfer"),
    ("f", look(), 2, 0, "esctl fault partition isolate-leader --lease 10s"),
    ("f", look(node(3, faults=[{"id": "cut-1"}])), 2, 0, "esctl fault heal --all"),
    ("f", look(gone(3)), 2, 1, "esctl fault heal --all"),
]


@pytest.mark.parametrize(("key", "survey", "selected", "struck", "text"), WORDS)
def test_a_key_is_a_command_that_can_be_typed(
    key: str, survey: object, selected: int, struck: int, text: str
) -> None:
    wanted = control(key, survey, selected, struck)  # type: ignore[arg-type]
    assert wanted is not None
    assert wanted.text == text
    assert not wanted.refusal
    parse(f"{text} {' '.join(wanted.consent)}")
    parse(f"{text} --dry-run")


@pytest.mark.parametrize(
    ("key", "survey", "why"),
    [
        ("f", look(node(2, faults_allowed=False)), "not allowed"),
        ("f", look(node(1, role="follower")), "nobody leads"),
        ("t", look(node(1, role="follower")), "nobody leads"),
    ],
)
def test_a_key_that_makes_no_sense_says_why(key: str, survey: object, why: str) -> None:
    wanted = control(key, survey, 2, 0)  # type: ignore[arg-type]
    assert wanted is not None
    assert why in wanted.refusal
    assert not wanted.words


def test_other_keys_do_nothing() -> None:
    assert [control(key, look(), 2, 0) for key in ("x", "P", "right", "escape")] == [None] * 4


def test_what_a_command_said_is_told_in_a_line() -> None:
    cut = Control(("fault",), tells=("effect", "leader now"))
    table = "1, 3\t1, 3\t2 of 3\nfault\tcut-1\neffect\tapplied\nleader now\tnode 1, term 3\n"
    assert cut.outcome(Said(0, table)) == "effect applied; leader now node 1, term 3"
    assert Control(("node",)).outcome(Said(0, "paused node 2: a quorum\n")) == "paused node 2: a quorum"
    assert Control(("node",)).outcome(Said(13, "", "error ES4201: no\n  why: x\n")) == "error ES4201: no"
    assert Control(("node",)).outcome(Said(1, "")) == "exit code 1"
    assert cut.plan(Said(0, "would cut\n1, 3\t2 of 3\ta quorum\n")) == "would cut\n1, 3  2 of 3  a quorum"
    assert cut.plan(Said(1, "", "error ES1202: nobody leads")) == "error ES1202: nobody leads"
