"""The stories of several partitions as one: who led each, and what happened in more than one, once."""

import json
from collections.abc import Sequence
from pathlib import Path

from esctl.clusters import nodelog
from esctl.observe.timeline import ringstory
from esctl.observe.timeline.moments import moments
from esctl.observe.timeline.ringstory import RingStory
from esctl.observe.timeline.story import tell
from esctl.ui.answer import Lanes, Line, Table

DAY = "2013-01-01T00:00:"


def line(second: float, node: int, partition: int, event: str, **more: object) -> str:
    told = {"time": f"{DAY}{second:06.3f}Z", "level": "info", "node": node, "event": event, **more}
    return json.dumps(told | {"partition": partition}) + "\n"


def led(second: float, partition: int, leader: int, term: int) -> Sequence[tuple[int, str]]:
    """All three nodes say so."""
    return [
        (
            node,
            line(
                second, node, partition, "state_changed", new_term=term, leader=leader,
                role="leader" if node == leader else "follower",
            ),
        )
        for node in (1, 2, 3)
    ]  # fmt: skip


def fault(second: float, partition: int, event: str) -> Sequence[tuple[int, str]]:
    more = {"fault": "net-1", "kind": "delay", "peers": [2], "parameters": {}, "hits": 3}
    return [(1, line(second, 1, partition, event, **more))]


def ring_of(said: Sequence[tuple[int, str]], home: Path, partitions: int = 2) -> RingStory:
    for node in (1, 2, 3):
        text = "".join(sorted(one for number, one in said if number == node))
        (home / f"node-{node}.log").write_text(text, encoding="utf-8")
    stories = {}
    for partition in range(partitions):
        found = [
            moment
            for node in (1, 2, 3)
            for moment in moments(
                one for one in nodelog.read(home / f"node-{node}.log", node) if one.partition == partition
            )
        ]
        stories[partition] = tell(found, [1, 2, 3], begin_s=1_356_998_400.0, until_s=1_356_998_420.0)
    return RingStory(stories)


def test_each_partition_has_its_leaders_and_what_both_tell_is_told_once(tmp_path: Path) -> None:
    said = [
        *led(1, 0, 1, 1), *led(1.1, 1, 2, 1), *led(9, 1, 3, 2),
        *fault(4, 0, "fault_set"), *fault(4.2, 1, "fault_set"),
        *fault(7, 0, "fault_expired"), *fault(7.1, 1, "fault_expired"),
    ]  # fmt: skip
    ring = ring_of(said, tmp_path)
    data = ring.as_data("drill", [])
    assert [(one["kind"], one["partitions"]) for one in data["happenings"]] == [
        ("election", [0]), ("election", [1]), ("fault", [0, 1]), ("election", [1]),
    ]  # fmt: skip
    assert [len(one["lanes"]["3"]) for one in data["partitions"]] == [1, 2]
    views = ringstory.views(ring)
    (table,) = [view for view in views if isinstance(view, Table)]
    texts = [str(row[-1]) for row in table.rows]
    assert texts[0].startswith("partition 0: node 1 leads term 1")
    assert texts[2].startswith("fault net-1: delay")
    (drawn,) = [view for view in views if isinstance(view, Lanes)]
    rows = {name: {span.mark for span in spans} for name, spans in drawn.rows}
    assert rows["part. 0"] == {"1"}
    assert rows["part. 1"] == {"2", "3"}


def test_a_time_without_a_leader_is_told_of_its_partition(tmp_path: Path) -> None:
    lost = [
        (
            node,
            line(5, node, 1, "state_changed", new_term=1, leader=None, role="follower", why="silence", by=2),
        )
        for node in (1, 2, 3)
    ]
    said = [*led(1, 0, 1, 1), *led(1, 1, 2, 1), *lost, *led(7, 1, 3, 2)]
    ring = ring_of(said, tmp_path)
    data = ring.as_data("drill", [])
    assert [[gap["ms"] for gap in one["leaderless"]] for one in data["partitions"]] == [[], [2000.0]]
    lines = [view for view in ringstory.views(ring) if isinstance(view, Line)]
    assert lines[1].text.startswith("  partition 1: once 2 s")


def test_nothing_that_happened_is_said_as_ever(tmp_path: Path) -> None:
    (view,) = ringstory.views(ring_of([], tmp_path))
    assert isinstance(view, Line)
    assert view.text == "nothing happened that the logs tell of"
