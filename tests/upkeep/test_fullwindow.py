"""What a node says of a deduplication window that is full: once for each time, in its log and its status."""

import logging

import pytest

from esnode.apply import Machine
from esnode.config import Dedup
from esnode.loop.view import View
from esnode.upkeep.fullwindow import FullWindow


class Node:
    """A machine and its window, with as many refusals as a test says."""

    def __init__(self, dedup: Dedup) -> None:
        self.machine = Machine(dedup)
        self.view = View(1, term=1, applied_index=0, first_offset=0, next_offset=0)
        self.refused = 0
        self.window = FullWindow(dedup, self.machine, self.view, lambda: self.refused)

    def add(self, events: int, log_time_ms: int) -> None:
        keys = self.machine.keys
        keys.expire(log_time_ms)
        keys.add(bytes(16) * events, keys.next_offset, log_time_ms)
        self.machine.log_time_ms = log_time_ms
        self.window.look()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_keys_that_are_forgotten_early_are_told_once_until_there_is_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node(Dedup.of_keys(100, ttl_ms=6_400))
    node.add(100, 0)
    assert told(caplog) == []
    for at_ms in range(1, 6):
        node.add(10, at_ms)
    assert told(caplog) == ["window_full"]
    assert caplog.records[0].levelno == logging.WARNING
    said = caplog.records[0].__dict__
    assert (said["when_full"], said["forgotten_early"], said["refused"]) == ("shrink", 10, 0)
    assert node.window.full
    node.add(80, 7_000)
    assert told(caplog) == ["window_full", "window_has_room"]
    assert (node.window.full, node.window.forgotten_early) == (False, 50)
    node.add(30, 7_001)
    assert told(caplog) == ["window_full", "window_has_room", "window_full"]


def test_a_window_that_is_nearly_full_is_not_told_to_have_room(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(Dedup.of_keys(100, ttl_ms=6_400))
    node.add(50, 0)
    node.add(60, 200)
    node.add(32, 6_500)  # the first 40 that were left have expired
    assert node.machine.keys.live == 92
    assert told(caplog) == ["window_full"]
    assert node.window.full


def test_refused_batches_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(Dedup.of_keys(100, ttl_ms=6_400, when_full="refuse"))
    node.add(100, 0)
    node.refused = 1
    node.window.look()
    node.refused = 9
    node.window.look()
    node.window.look()
    assert told(caplog) == ["window_full"]
    assert caplog.records[0].__dict__["refused"] == 1
    node.add(10, 6_500)
    assert told(caplog) == ["window_full", "window_has_room"]
    assert node.window.refused == 9


def test_what_was_forgotten_before_this_process_began_is_not_told_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node(Dedup.of_keys(100))
    node.add(150, 0)
    caplog.clear()
    again = FullWindow(Dedup.of_keys(100), node.machine, node.view, lambda: 0)
    again.look()
    assert told(caplog) == []
    assert again.forgotten_early == 50


def test_without_a_time_to_live_only_events_that_are_still_kept_are_forgotten_early(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node(Dedup.of_keys(100, ttl_ms=0))
    node.view.show_first_offset(20)
    node.add(120, 0)
    assert told(caplog) == []
    assert node.window.forgotten_early == 0
    node.add(5, 1)
    assert told(caplog) == ["window_full"]
    assert node.window.forgotten_early == 5
    node.view.show_first_offset(60)
    node.window.look()
    assert told(caplog) == ["window_full", "window_has_room"]
    assert node.window.forgotten_early == 0
