"""What `esctl top` computes and shows: rates, sparklines, the picture at two sizes, and what keys do."""

import json
from dataclasses import replace

import pytest

from esctl.clusters.backends.interface import RunState
from esctl.clusters.nodelog import LogLine
from esctl.observe.top import board, pages
from esctl.observe.top.controls import Control, Said, control, faults
from esctl.observe.top.keys import KEYS
from esctl.observe.top.rates import KEPT, LeaderChange, Rates, percentile_ms
from esctl.observe.top.state import BoardState, Page
from esctl.ui.answer import Line, Tone, View
from esctl.ui.sparkline import ASCII, BARS, spark
from esctl.ui.terminal import Output, Terminal
from esnode.client import StoredEvent
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
        rates.add(look(node(1, uptime_s=uptime_s, next_offset=offset, cpu_s=cpu_s)), 2.5, uptime_s)
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
    reports = (
        node(2, uptime_s=1.0), gone(2), node(2, uptime_s=3.0, next_offset=90), node(2, uptime_s=4.0)
    )  # fmt: skip
    for at_s, report in enumerate(reports):
        rates.add(look(report), None, float(at_s))
    assert list(rates.track(2).events_per_s) == [None, None, None, None]
    assert list(rates.track(2).lag_events) == [0, None, 0, 0]
    assert list(rates.read_ms) == [None] * 4


def test_without_a_leader_the_cluster_goes_as_fast_as_its_fastest_node() -> None:
    rates = Rates()
    for seconds, offset in ((1.0, 0), (2.0, 700)):
        followers = [node(n, role="follower", uptime_s=seconds, next_offset=offset * n) for n in (1, 2, 3)]
        rates.add(look(*followers), None, seconds)
    assert rates.events_per_s[-1] == 2_100.0


def test_only_so_many_figures_are_kept() -> None:
    rates = looked(*((float(n), n, 0.0) for n in range(1, KEPT + 50)))
    assert len(rates.events_per_s) == len(rates.track(1).cpu_percent) == KEPT


# --- the picture --------------------------------------------------------------------------------


def at(seconds: int) -> dict[str, object]:
    """What changes in a status: a million events and a thousand batches a second."""
    acked = [[2_000, 980 * seconds], [64_000, 20 * seconds]]
    return {"uptime_s": float(seconds), "next_offset": seconds * 1_000_000, "append_us": acked}


def moment(*reports: object, faults: tuple[str, ...] = ()) -> BoardState:
    rates = Rates()
    survey = look(*reports)  # type: ignore[arg-type]
    for seconds in range(30):
        later = [
            replace(r, status=r.status | at(seconds)) if r.status is not None else r for r in survey.reports
        ]
        survey = replace(survey, reports=later)
        rates.add(survey, 2.0 + seconds, float(seconds))
    return BoardState(survey, rates, selected=2, faults=faults)


def drawn(views: list[View], width: int) -> list[str]:
    return Terminal(Output.TABLE, color=False).rendered(views, width)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    faults = tuple(f"cut-{n}: block on node 1, 2, 3, 6 s left" for n in range(5))
    now = moment(gone(3, RunState.PAUSED), faults=faults)
    lines = drawn([*pages.body(now, width, height), *board.foot(now, width)], width)
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
    assert "appends" in text
    assert ("events behind the leader" in text) is (height == 50)
    assert text.count("-60 s") == (2 if height == 24 else 4)


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
    now.choice = "y does it, any other key does not"
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
    assert (record["append_p50_ms"], record["append_p99_ms"]) == (2.0, 64.0)
    assert [one["events_per_s"] for one in record["nodes"]] == [1_000_000.0, 1_000_000.0, None]
    assert [one["state"] for one in record["nodes"]] == ["running", "running", "down"]
    plain = board.plain(now, "now")
    assert [line[:3] for line in plain] == [
        ["now", "1", "leader"], ["now", "2", "follower"], ["now", "3", "-"]
    ]  # fmt: skip


# --- keys ---------------------------------------------------------------------------------------

WORDS = [
    ("p", look(), 2, "esctl node pause 2"),
    ("p", look(gone(2, RunState.PAUSED)), 2, "esctl node resume 2"),
    ("p", look(gone(2)), 2, "esctl node start 2"),
    ("t", look(), 2, "esctl leader transfer --to 2"),
    ("t", look(), 1, "esctl leader transfer"),
    ("h", look(), 2, "esctl fault heal --all"),
]


@pytest.mark.parametrize(("key", "survey", "selected", "text"), WORDS)
def test_a_key_is_a_command_that_can_be_typed(key: str, survey: object, selected: int, text: str) -> None:
    wanted = control(key, survey, selected)  # type: ignore[arg-type]
    assert wanted is not None
    assert wanted.text == text
    assert not wanted.refusal
    parse(f"{text} {' '.join(wanted.consent)}")
    parse(f"{text} --dry-run")


def test_a_key_that_makes_no_sense_says_why() -> None:
    wanted = control("t", look(node(1, role="follower")), 2)
    assert wanted is not None
    assert "nobody leads" in wanted.refusal
    assert not wanted.words


def test_what_can_be_broken_is_at_the_selected_node_and_each_is_a_command_that_can_be_typed() -> None:
    found = faults(look(node(3, faults_allowed=True)), 3)
    assert len(found) == 8
    for wanted in found.values():
        assert " 3 " in wanted.text
        parse(f"{wanted.text} {' '.join(wanted.consent)}")
        parse(f"{wanted.text} --dry-run")
    allowed_nothing = (look(node(3, faults_allowed=False)), look(gone(3)))
    assert [list(faults(survey, 3)) for survey in allowed_nothing] == [["pause", "kill"]] * 2


def test_other_keys_do_nothing() -> None:
    assert [control(key, look(), 2) for key in ("x", "P", "right", "escape")] == [None] * 4


def test_what_a_command_said_is_told_in_a_line() -> None:
    cut = Control(("fault",), tells=("effect", "leader now"))
    table = "1, 3\t1, 3\t2 of 3\nfault\tcut-1\neffect\tapplied\nleader now\tnode 1, term 3\n"
    assert cut.outcome(Said(0, table)) == "effect applied; leader now node 1, term 3"
    assert Control(("node",)).outcome(Said(0, "paused node 2: a quorum\n")) == "paused node 2: a quorum"
    assert Control(("node",)).outcome(Said(13, "", "error ES4201: no\n  why: x\n")) == "error ES4201: no"
    assert Control(("node",)).outcome(Said(1, "")) == "exit code 1"
    assert cut.plan(Said(0, "would cut\n1, 3\t2 of 3\ta quorum\n")) == "would cut\n1, 3  2 of 3  a quorum"
    assert cut.plan(Said(1, "", "error ES1202: nobody leads")) == "error ES1202: nobody leads"


# --- latency, elections, margin ------------------------------------------------------------------


def test_a_percentile_is_the_bound_that_so_many_are_within() -> None:
    counts = {1_000: 50, 2_000: 49, 500_000: 1}
    assert [percentile_ms(counts, share) for share in (0.5, 0.99, 1.0)] == [1.0, 2.0, 500.0]
    assert percentile_ms({}, 0.99) is None


def test_latencies_are_those_since_the_look_before_of_every_node_that_acked() -> None:
    rates = Rates()
    looks = (
        (node(1, uptime_s=1.0, append_us=[[1_000, 10]]), node(2, uptime_s=1.0, append_us=[])),
        (node(1, uptime_s=2.0, append_us=[[1_000, 11]]), node(2, uptime_s=2.0, append_us=[[8_000, 3]])),
        (node(1, uptime_s=0.1, append_us=[[1_000, 90]]), node(2, uptime_s=3.0, append_us=[[8_000, 3]])),
    )
    for at_s, reports in enumerate(looks):
        rates.add(look(*reports), None, float(at_s))
    assert list(rates.append_p50_ms) == [None, 8.0, None], "a node that began anew tells nothing of it"
    assert list(rates.append_p99_ms) == [None, 8.0, None]
    silent = looked((10.0, 1_000, 5.0), (12.0, 5_000, 6.0))
    assert list(silent.append_p99_ms) == [None, None], "an older node does not count"


def test_another_leader_is_noted_with_the_time_and_drawn_through_every_curve() -> None:
    now = moment()
    assert not now.rates.changes
    led = look(node(1, role="follower", term=2), node(2, role="leader", term=2), node(3, term=2))
    now.rates.add(led, 3.0, 31.0)
    assert list(now.rates.changes) == [LeaderChange(31.0, 2, 2)]
    now.survey = led
    text = "\n".join(drawn(pages.body(now, 160, 50), 160))
    assert text.count("┊") > 4 * 5
    assert text.count("▲") == 4


def test_the_first_line_is_red_once_one_more_node_takes_the_majority() -> None:
    nobody = look(node(1, role="follower"))
    tones = [board.tone_of(each) for each in (look(), look(gone(3)), look(gone(2), gone(3)), nobody)]
    assert tones == [Tone.GOOD, Tone.BAD, Tone.BAD, Tone.BAD]
    assert board.tone_of(look(node(2, rejoining=True))) is Tone.BAD
    alone = look()
    single = replace(alone, cluster=replace(alone.cluster, nodes=alone.cluster.nodes[:1]),
                     reports=alone.reports[:1])  # fmt: skip
    assert board.tone_of(single) is Tone.WARN, "one node never has a margin"


# --- the other pages ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", list(Page))
@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50)])
def test_every_page_fits_and_its_last_line_says_how_to_leave(page: Page, width: int, height: int) -> None:
    now = moment(gone(3), faults=("cut-1: block on node 2, 6 s left",))
    now.page = page
    now.log.extend(LogLine("2013-01-01T10:00:00.000000Z", 2, "info", "role", {"n": n}) for n in range(900))
    now.events = [StoredEvent(n, {"id": f"e{n}", "source": "/x", "type": "t"}, 0) for n in range(200)]
    now.why = [Line("word " * 60, Tone.BAD)]
    lines = drawn([*pages.body(now, width, height), *board.foot(now, width)], width)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[-1].endswith("q quit")
    assert ("esc back" in lines[-1]) is (page is not Page.BOARD)


def test_a_node_is_shown_with_its_positions_its_links_and_its_faults() -> None:
    now = moment(node(1, faults=[{"id": "cut-1", "kind": "block", "left_ms": 6_000, "hits": 1}]))
    now.page, now.selected = Page.NODE, 1
    text = "\n".join(drawn(pages.body(now, 80, 24), 80))
    assert "node 1 of drill" in text
    assert "block (cut-1), 6 s left" in text
    assert "node 3   yes" in text
    now.survey, now.selected = look(gone(3, why="not running")), 3
    assert "not running" in "\n".join(drawn(pages.body(now, 80, 24), 80))


def test_a_log_begins_at_its_end_and_scrolls_back_no_further_than_to_its_first_line() -> None:
    now = moment()
    now.page = Page.LOG
    now.log.extend(LogLine("2013-01-01T10:00:00.000000Z", 2, "warning", f"e{n}", {}) for n in range(50))
    assert "e49" in drawn(pages.body(now, 80, 24), 80)[-1]
    now.scroll = 10
    assert "e39" in drawn(pages.body(now, 80, 24), 80)[-1]
    now.scroll = 10_000
    lines = drawn(pages.body(now, 80, 24), 80)
    assert "e0 " in f"{lines[2]} "
    assert now.scroll == 50 - len(lines[2:])


def test_help_names_every_key_and_says_what_the_latency_is() -> None:
    now = moment()
    now.page = Page.HELP
    text = "\n".join(drawn(pages.body(now, 160, 50), 160))
    assert all(f"{name} " in text for name, _ in KEYS)
    assert "until a majority has it on disk" in text
