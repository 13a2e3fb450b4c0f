"""A log that ends before what its nodes have said that they applied."""

from typing import Any

import pytest

from esctl.clusters.nodelog import LogLine
from esctl.query.lostlog import Shortened, find
from tests.esctl.situations import gone, look, node

AT = "2013-01-01T11:22:33.000000Z"


def line(number: int, event: str, index: int, **fields: Any) -> LogLine:
    return LogLine(AT, number, "info", event, {"index": index, **fields})


def life(number: int, *indexes: int) -> list[LogLine]:
    """The lines of one process that has applied so much when each of them was written."""
    return [line(number, "storage_opened", 0), *(line(number, "state_changed", each) for each in indexes)]


def test_what_an_earlier_process_has_applied_and_nobody_has_is_found() -> None:
    logs = {1: life(1, 5, 900) + life(1, 1), 2: life(2, 7, 850) + life(2, 1), 3: life(3, 1)}
    survey = look(*(node(number, last_index=2) for number in (1, 2, 3)))
    found = find(survey, logs)
    assert found == Shortened(900, 2, 1, AT)
    assert "entry 900 was applied (node 1, 2013-01-01T11:22:33Z), and now it ends with entry 2" in found.text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_log_that_one_node_has_whole_is_not_shorter(number: int) -> None:
    """An emptied node fetches it from there: that is no loss."""
    logs = {each: life(each, 900) + life(each, 1) for each in (1, 2, 3)}
    ends = {number: 901}
    assert find(look(*(node(each, last_index=ends.get(each, 0)) for each in (1, 2, 3))), logs) is None


def test_what_the_running_process_says_is_not_held_against_the_answer_before_it() -> None:
    logs = {1: life(1, 10) + life(1, 5_000)}
    assert find(look(node(1, last_index=4_000)), logs) is None


def test_nothing_is_said_before_a_majority_answers_and_trusts_its_disks() -> None:
    logs = {1: life(1, 900) + life(1, 0)}
    assert find(look(node(1, last_index=0), gone(2), gone(3)), logs) is None
    assert find(look(*(node(n, last_index=0, rejoining=n == 2) for n in (1, 2, 3))), logs) is None


def test_lines_without_an_index_and_first_lives_say_nothing() -> None:
    odd = [line(1, "x", 0), LogLine(AT, 1, "error", "raw", {"text": "boom", "index": "7"}), *life(1, 3)]
    assert find(look(*(node(n, last_index=0) for n in (1, 2, 3))), {1: odd, 2: life(2, 900)}) is None
