"""The logs of a real failover as one story, and what becomes of logs that nobody would write."""

import ast
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esctl.cli import timearguments
from esctl.clusters import nodelog
from esctl.clusters.nodelog import LogLine
from esctl.clusters.rolechanges import ROLES
from esctl.observe.timeline import drawing, mermaid, moments, page, sequence
from esctl.observe.timeline.happenings import Happening
from esctl.observe.timeline.moments import KNOWN, LEFT_OUT, Moment, MomentKind, moment_of
from esctl.observe.timeline.outages import outages, summary, time_of_day
from esctl.observe.timeline.story import Story, tell
from esctl.ui import swimlanes
from esctl.ui.answer import Lanes, Line
from esctl.ui.axis import axis
from esnode.config import LOG_LEVELS

ROOT = Path(__file__).resolve().parents[3]
RECORDED = Path(__file__).with_name("recorded") / "failover.ndjson"
"""Three real nodes: a partition that isolates the leader, a pause, a SIGKILL and a restart, a hand-over, a
slow disk, and the end; as `esctl logs -o json` printed it."""


def line(at_s: float, node: int, event: str, level: str = "info", **fields: Any) -> LogLine:
    time = timearguments.written(at_s)
    return LogLine(time, node, level, event, {"time": time, "node": node, "event": event, **fields})


def recorded() -> list[LogLine]:
    found = []
    for text in RECORDED.read_text().splitlines():
        node = json.loads(text)["node"]
        found.append(nodelog.parse(text, node))
    return found


def story_of(lines: list[LogLine], **more: Any) -> Story:
    return tell(moments.moments(lines), [1, 2, 3], **more)


def of(story: Story, kind: str) -> list[Happening]:
    return [one for one in story.happenings if one.kind == kind]


WHOLE = story_of(recorded(), down=[1, 2, 3])


# --- a real one -----------------------------------------------------------------------------------


def test_the_recorded_failover_is_told_in_the_order_in_which_it_was() -> None:
    assert [one.kind for one in WHOLE.happenings] == [
        "start", "election", "fault", "election", "step-down", "attempt", "pause", "election", "restart",
        "election", "transfer", "election", "fault", "transfer", "attempt", "down", "step-down",
    ]  # fmt: skip


def test_an_election_is_one_happening_with_its_reason_votes_and_durations() -> None:
    first, cut, paused, killed, handed = of(WHOLE, "election")
    assert [one.details["term"] for one in (first, cut, paused, killed, handed)] == [1, 2, 3, 4, 5]
    assert (cut.details["before"], cut.details["leader"], cut.details["why"]) == (3, 2, "silence")
    assert cut.details["silence_ms"] == 471
    assert set(cut.details["votes"]) == {"1", "2"}
    assert 0 < cut.details["elected_ms"] < cut.details["committed_ms"]
    assert paused.details["why"] == "silence"
    assert (killed.details["before"], killed.details["why"]) == (3, "leader_closed")
    assert (handed.details["before"], handed.details["why"]) == (1, "transfer")
    assert "node 3 was silent for 471 ms" in cut.text


def test_one_fault_on_three_nodes_is_one_interval_and_says_how_it_ended() -> None:
    cut, slow = of(WHOLE, "fault")
    assert cut.nodes == (1, 2, 3)
    assert cut.seconds == pytest.approx(3.0, abs=0.1)
    assert cut.details["how"] == "expired"
    assert cut.details["hits"] == 162
    assert slow.nodes == (1,)
    assert "disk-slow delay_ms=20" in slow.text


def test_a_killed_node_is_down_from_when_the_others_heard_no_more_of_it() -> None:
    (restart,) = of(WHOLE, "restart")
    assert restart.nodes == (3,)
    assert "without a word" in restart.text
    gone = [one for one in recorded() if one.event == "peer_closed" and one.fields["peer"] == 3]
    assert restart.begin_s == timearguments.seconds(gone[0].time)
    (stopped,) = of(WHOLE, "down")
    assert (stopped.nodes, stopped.end_s) == ((1, 2, 3), None)


def test_a_leader_is_missed_from_the_last_that_was_heard_of_it() -> None:
    cut = of(WHOLE, "election")[1]
    begin_s, end_s = WHOLE.leaderless[0]
    assert begin_s == pytest.approx(cut.begin_s - 0.471, abs=1e-6)
    assert end_s >= cut.begin_s + cut.details["elected_ms"] / 1000
    pause = of(WHOLE, "pause")[0]
    assert any(a <= pause.begin_s + 0.001 <= b for a, b in WHOLE.leaderless)
    assert begin_s > of(WHOLE, "start")[0].begin_s


def test_the_order_of_the_lines_does_not_matter() -> None:
    mixed = recorded()
    random.Random(7).shuffle(mixed)
    ordered = sorted(mixed, key=lambda one: (one.time, one.node))
    assert story_of(ordered, down=[1, 2, 3]).as_data() == story_of(mixed, down=[1, 2, 3]).as_data()


def test_what_was_before_the_window_only_tells_what_the_nodes_were() -> None:
    pause = of(WHOLE, "pause")[0]
    late = story_of(recorded(), since_s=pause.begin_s - 1, down=[1, 2, 3])
    assert late.happenings[0].kind == "pause"
    assert late.lanes[2].at(late.begin_s).state == "paused"
    assert late.lanes[1].at(late.begin_s).state == "follower"
    until = story_of(recorded(), until_s=pause.begin_s)
    assert until.end_s == pause.begin_s
    assert [one.kind for one in until.happenings][-1] in ("pause", "attempt")


# --- single stories -------------------------------------------------------------------------------


def test_a_fault_ends_with_the_process_that_has_it_and_an_open_one_stays_open() -> None:
    struck = [
        line(1, 1, "node_started", next_offset=0),
        line(2, 1, "fault_set", "warning", fault="disk-1", kind="disk-full", peers=[], parameters={}),
        line(2, 2, "fault_set", "warning", fault="net-1.drop", kind="drop", parameters={"permille": 5}),
        line(2.1, 2, "fault_set", "warning", fault="net-1.delay", kind="delay", parameters={}),
        line(3, 1, "node_failed", "critical", code="ES3103", reason="no space"),
    ]  # fmt: skip
    full, lossy = of(story_of(struck), "fault")
    assert (full.end_s, full.details["how"]) == (3, "its node ended")
    assert (lossy.end_s, lossy.details["fault"]) == (None, "net-1")
    assert "drop permille=5, delay" in lossy.text
    (failure,) = of(story_of(struck), "failure")
    assert "ES3103: no space" in failure.text


def test_a_snapshot_a_repair_and_a_cut_prefix_are_told_with_their_nodes() -> None:
    lines = [
        line(1, 1, "snapshot_sending", peer=3),
        line(2, 3, "snapshot_installed", next_offset=50),
        line(3, 2, "snapshot_installed", next_offset=9),
        line(4, 1, "snapshot_sending", peer=2),
        line(5, 2, "rejoin_begun", "warning", reason="damaged", put_aside=None),
        line(6, 2, "rejoin_done", next_offset=9),
        line(6.5, 3, "rejoin_begun", "warning", reason="wiped", put_aside="x"),
        line(6.6, 3, "copy_trusted", "warning", reason="the operator says so"),
        line(7, 1, "prefix_cut", first_offset=4),
        line(7.1, 2, "prefix_cut", first_offset=4),
        line(8, 2, "peer_dropped", "warning", reason="strange"),
        line(8, 2, "client_dropped", "warning", reason="strange"),
    ]
    story = story_of(lines)
    assert [(one.nodes, one.seconds) for one in of(story, "snapshot")] == [
        ((1, 3), 1),
        ((2,), 0),
        ((1, 2), None),
    ]
    assert [(one.nodes, one.seconds) for one in of(story, "repair")] == [((2,), 1), ((3,), None), ((3,), 0)]
    assert [one.text for one in of(story, "cut")] == ["nodes 1, 2 cut its log: the first event kept is 4"]
    assert [one.text for one in of(story, "trouble")] == ["node 2: peer dropped: strange"]


def test_nodes_that_stop_and_start_together_are_told_in_the_plural() -> None:
    lines = [line(0, node, "state_changed", role="follower", new_term=1, leader=1) for node in (1, 2)]
    lines += [line(1, node, "node_stopped") for node in (1, 2)]
    lines += [line(3, node, "node_started", next_offset=0) for node in (1, 2)]
    told = [one.text for one in of(story_of(lines), "restart")]
    assert told == ["nodes 1, 2 stop, and are started again"]


def test_a_leader_with_a_slow_disk_says_why_it_hands_over() -> None:
    moment = moment_of(line(5.0, 1, "disk_behind", "warning", lag_ms=320, to=2))
    assert moment is not None
    assert moment.text == ("has a slow disk, 320 ms behind the others, and hands the leadership to node 2")


def test_a_transfer_that_nobody_took_says_so() -> None:
    lines = [line(1, 1, "transfer_asked", to=2), line(3, 1, "transfer_failed", "warning", to=2)]
    (transfer,) = of(story_of(lines), "transfer")
    assert transfer.text == "node 1 hands the leadership to node 2: nobody has taken over in time"
    assert transfer.seconds == 2


def test_nothing_is_told_of_nothing() -> None:
    empty = story_of([])
    assert (empty.happenings, empty.leaderless, empty.begin_s) == ([], [], 0.0)
    assert [type(view).__name__ for view in drawing.views(empty)] == ["Line"]
    assert mermaid.diagram(empty).startswith("sequenceDiagram\n    participant n1 as node 1\n")
    assert "<h1>Empty</h1>" in page.page(empty, "Empty", [])


def test_a_move_of_sources_is_told_with_its_keys_and_how_long_these_waited_whoever_drove_it() -> None:
    plan: dict[str, Any] = {"version": 3, "partitions": 4}
    lines = [
        line(1, 1, "ring_plan_begun", **plan),
        line(2, 2, "ring_changed", **plan),
        line(2.2, 1, "ring_changed", **plan),
        line(3, 2, "ring_plan_begun", **plan),
        line(4, 2, "ring_plan_ended", **plan, moved_keys=1200, took_ms=950, waited_ms=40),
        line(5, 2, "ring_plan_begun", version=4, partitions=5),
    ]
    story = story_of(lines)
    done, begun = of(story, "move")
    assert (done.begin_s, done.end_s, done.nodes) == (1, 4, (1, 2))
    assert done.text == (
        "sources move to 4 partitions, by the ring of version 3: 1,200 keys copied in 950 ms,"
        " and moving sources waited 40 ms"
    )
    assert (begun.begin_s, begun.end_s) == (5, None)
    (switch,) = of(story, "switch")
    assert (switch.begin_s, switch.nodes) == (2, (1, 2))
    assert switch.text == "switch to the ring of 4 partitions, version 3"


def test_every_event_that_a_node_writes_is_known_here() -> None:
    """A new event is put on the timeline, or left out on purpose."""
    written = set()
    for path in (ROOT / "esnode").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.match(r"(log|told)\.\w+$", ast.unparse(node.func)):
                words = [each for each in node.args if isinstance(each, ast.Constant)]
                written |= {
                    str(each.value) for each in words if re.fullmatch(r"[a-z]+_[a-z_]+", str(each.value))
                }
    written |= {"fault_healed", "fault_expired"}  # given to a function that writes either
    assert written == KNOWN
    assert LEFT_OUT < KNOWN


# --- whatever the lines are -----------------------------------------------------------------------

ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
)
FIELDS = ("role", "new_term", "leader", "why", "by", "silence_ms", "vote", "peer", "fault", "kind", "peers",
          "parameters", "hits", "stalled_ms", "to", "reason", "term", "put_aside", "next_offset",
          "version", "partitions", "moved_keys", "took_ms", "waited_ms")  # fmt: skip
LIKELY = {
    "role": st.sampled_from([*ROLES, "king"]),
    "new_term": st.integers(0, 3), "vote": st.integers(1, 3), "leader": st.none() | st.integers(1, 3),
    "by": st.integers(1, 3), "peer": st.integers(1, 4), "fault": st.sampled_from(["a", "a.in", "b"]),
    "why": st.sampled_from(["silence", "transfer", "no_majority"]), "stalled_ms": st.integers(0, 5000),
    "silence_ms": st.integers(0, 3000),
}  # fmt: skip


@st.composite
def any_line(draw: st.DrawFn) -> LogLine:
    fields = {name: draw(LIKELY.get(name, ANY) | ANY) for name in draw(st.sets(st.sampled_from(FIELDS)))}
    time = draw(st.floats(0, 100).map(timearguments.written) | st.text(max_size=5))
    event = draw(st.sampled_from(sorted(KNOWN)) | st.text(max_size=5))
    level = draw(st.sampled_from(LOG_LEVELS))
    return LogLine(time, draw(st.integers(1, 3)), level, event, fields)


@settings(max_examples=60)
@given(st.lists(any_line(), max_size=30), st.none() | st.floats(0, 100), st.sets(st.integers(1, 3)))
def test_any_lines_give_a_story_and_every_drawing_of_it(
    lines: list[LogLine], since_s: float | None, down: set[int]
) -> None:
    story = story_of(lines, since_s=since_s, down=down)
    begins = [one.begin_s for one in story.happenings]
    assert begins == sorted(begins)
    assert all(one.end_s is None or one.end_s >= one.begin_s for one in story.happenings)
    for lane in story.lanes.values():
        for before, after in zip(lane.stretches, lane.stretches[1:], strict=False):
            assert before.begin_s <= before.end_s == after.begin_s
    faults = {one.word("fault").partition(".")[0] for one in map(moment_of, lines)
              if one is not None and one.kind is MomentKind.FAULT}  # fmt: skip
    assert {one.details["fault"] for one in of(story, "fault")} <= faults
    assert all(story.begin_s <= a < b for a, b in story.leaderless)
    json.dumps(story.as_data(), default=str)
    assert diagram_is_sound(mermaid.diagram(story))
    ElementTree.fromstring(as_xml(page.page(story, "Any", [])))
    for width in (40, 80):
        for view in drawing.views(story):
            if isinstance(view, Lanes):
                assert all(length(drawn) <= width for drawn in swimlanes.draw(view, width))


def diagram_is_sound(text: str) -> bool:
    """One statement a line, each of a kind that Mermaid has, over participants that were named."""
    first, *lines = text.splitlines()
    named = {words.split()[1] for words in lines if words.strip().startswith("participant")}
    for each in lines:
        statement = each.strip()
        if statement.startswith("participant"):
            continue
        head, colon, words = statement.partition(": ")
        ends = re.fullmatch(r"(?:Note over (\w+)(?:,(\w+))?|(\w+)->>(\w+))", head)
        if not colon or ends is None or not {one for one in ends.groups() if one} <= named or ";" in words:
            return False
    return first == "sequenceDiagram"


def as_xml(text: str) -> str:
    return re.sub(r"(<meta[^>]*)>", r"\1/>", text.partition("\n")[2])


def length(drawn: list[tuple[str, Any]]) -> int:
    return sum(len(text) for text, _ in drawn)


# --- drawings -------------------------------------------------------------------------------------


def text_of(story: Story, width: int, **more: Any) -> list[str]:
    view = next(one for one in drawing.views(story, **more) if isinstance(one, Lanes))
    return ["".join(text for text, _ in drawn) for drawn in swimlanes.draw(view, width)]


def test_the_lanes_show_each_role_at_80_columns() -> None:
    title, one, two, three, nobody, faults, rule, ticks, *legend = text_of(WHOLE, 80)
    assert title.endswith("quiet times are drawn narrow")
    assert "zzz" in two
    assert "█" in one
    assert re.search(r"█+[─ ]*░", three)
    assert three.count("x") > 1
    assert "!" in nobody
    assert "▓▓▓" in faults
    assert rule.count("┴") == len(ticks.split())
    assert "█ leads" in " ".join(legend)
    assert all(len(each) <= 80 for each in (one, two, three, nobody, faults, rule, *legend))


def test_an_election_is_seen_where_quiet_times_are_narrow_and_hardly_where_they_are_not() -> None:
    a_day_later = line(WHOLE.end_s + 86_400, 1, "client_refused", "warning", clients=1)
    quiet = story_of([*recorded(), a_day_later])
    narrow, wide = text_of(quiet, 80), text_of(quiet, 80, linear=True)
    assert sum(len(set(each)) for each in narrow[1:4]) > sum(len(set(each)) for each in wide[1:4])
    assert "drawn narrow" in narrow[0]
    assert "drawn narrow" not in wide[0]


@given(st.lists(st.floats(0, 1e6), max_size=20), st.floats(0, 1e6), st.booleans())
def test_places_on_an_axis_keep_the_order_of_times(times: list[float], end_s: float, linear: bool) -> None:
    along = axis(times, 0.0, end_s, linear=linear)
    places = [along.place(at_s) for at_s in sorted([*times, -1.0, 2e6])]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (pytest.approx(0), pytest.approx(1))


def test_the_diagram_has_votes_as_arrows_and_faults_from_the_operator() -> None:
    text = mermaid.diagram(WHOLE)
    assert diagram_is_sound(text)
    fault = "fault cut-8037: block at nodes 1, 2, 3, expired, 162 hits"
    assert re.search(rf"    operator->>n3: \d\d:\d\d:\d\d\.\d+ {fault}", text)
    assert re.search(r"n1->>n2: \d\d:\d\d:\d\d\.\d+ vote in term 2", text)
    assert text.index("vote in term 2") < text.index("leads term 2") < text.index("leads no longer")
    assert "participant client" not in text


def test_the_page_is_whole_and_what_a_log_says_is_only_text_in_it() -> None:
    evil = line(1, 1, "node_failed", "critical", code="<script>", reason='"><img src=x>')
    text = page.page(story_of([*recorded(), evil]), "Timeline of <b>", ["a note"])
    tree = ElementTree.fromstring(as_xml(text))
    assert "<script" not in text
    assert "<img" not in text
    names = [label.text for label in tree.iter("span") if label.get("class") == "label"]
    assert names == ["node 1", "node 2", "node 3", "nobody", "faults"]
    bars = [(share(one.attrib["x"]), share(one.attrib["width"])) for one in tree.iter("rect")]
    assert len(bars) > 40
    assert all(x >= 0 and x + width <= 100.001 for x, width in bars)
    assert any("<img src=x>" in (cell.text or "") for cell in tree.iter("td"))


def share(text: str) -> float:
    assert text.endswith("%")
    return float(text.removesuffix("%"))


def test_the_outages_stand_on_top_with_their_time_and_what_led_to_them() -> None:
    found = outages(WHOLE)
    assert len(found) == len(WHOLE.leaderless) > 2
    assert "fault cut-8037: block" in found[0].why
    assert found[0].why.endswith("then node 2 led term 2")
    first = drawing.views(WHOLE)[0]
    assert isinstance(first, Line)
    assert first.text.startswith(f"without a leader {len(found)} times, ")
    at = time_of_day(found[0].begin_s, WHOLE)
    assert at in page.page(WHOLE, "t", [])
    calm = story_of([line(1, 1, "state_changed", role="leader", new_term=1, leader=1)])
    assert summary(calm).startswith("no time without a leader")


def test_a_story_of_more_than_a_day_has_dates_on_every_row() -> None:
    days = story_of([*recorded(), line(WHOLE.end_s + 86_400, 1, "client_refused", "warning", clients=1)])
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", time_of_day(days.begin_s, days))


def test_the_lanes_are_a_file_of_svg_that_needs_no_page() -> None:
    evil = line(1, 1, "node_failed", "critical", code="<script>", reason='"><img src=x>')
    text = page.picture(story_of([*recorded(), evil]), "Timeline of <b>")
    tree = ElementTree.fromstring(text)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text
    assert "<script" not in text
    labels = [each.text for each in tree.findall("{http://www.w3.org/2000/svg}text")]
    assert labels[2:] == ["node 1", "node 2", "node 3", "nobody", "faults"]


def test_states_that_are_trouble_have_colours_of_their_own() -> None:
    kinds = ("down", "paused", "candidate", "fault")
    assert len({page._COLOURS[kind] for kind in kinds}) == len(kinds)
    states = {drawing.MARKS[state][1] for state in ("down", "paused", "candidate")}
    assert len(states | {drawing.ACTIONS["fault"][3]}) == len(kinds)


def test_the_diagram_is_drawn_with_all_that_is_in_it() -> None:
    drawn = sequence.drawing(WHOLE)
    steps = [one for one in drawn.iter("div") if "step" in (one.get("class") or "").split()]
    source = mermaid.diagram(WHOLE).splitlines()
    assert len(steps) == len([text for text in source if ": " in text])
    told = [text.partition(": ")[2] for text in source if ": " in text]
    assert [one.text for one in steps] == told
    rows = [re.findall(r"\br(\d+)\b", one.get("class") or "")[0] for one in steps]
    assert len(set(rows)) == len(rows)


def samples() -> Iterator[tuple[float, float]]:
    for number in range(40):
        yield WHOLE.begin_s + number * 0.5, 480.0 if number == 5 else 2.0


def test_what_clients_felt_is_a_lane_of_its_own() -> None:
    felt = story_of(recorded(), latency_ms=list(samples()))
    (row,) = [each for each in text_of(felt, 80) if each.startswith("latency")]
    assert row.count("█") >= 1
    assert re.search(r"Note over client: [\d:.]+ waits 480 ms, its longest", mermaid.diagram(felt))
    assert len(felt.as_data()["latency_ms"]) == 40
    assert 'class="bar latency"' in page.page(felt, "Felt", [])


def test_a_moment_gives_its_details_only_as_what_they_are() -> None:
    moment = Moment(1.0, 1, MomentKind.ROLE, "x", {"a": 1, "b": True, "c": "w", "d": 2**80})
    assert [moment.number(name) for name in "abcde"] == [1, None, None, None, None]
    assert [moment.word(name) for name in "ac"] == ["", "w"]
