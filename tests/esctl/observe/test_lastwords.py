"""How a node ended, as the last lines of its log have it."""

import json
from collections.abc import Sequence

import pytest

from esctl.clusters import nodelog
from esctl.clusters.nodelog import LogLine
from esctl.clusters.rolechanges import RoleChange
from esctl.observe.diagnosis.lastwords import (
    EndKind,
    LastWords,
    Repair,
    campaigns,
    last_repair,
    last_words,
)


def said(event: str, second: int = 0, **fields: object) -> str:
    time = f"2013-01-01T00:00:{second:02}.000000Z"
    return json.dumps({"time": time, "level": "info", "node": 2, "event": event, **fields})


def parsed(lines: Sequence[str]) -> list[LogLine]:
    found: list[LogLine] = []
    for line in lines:
        found.append(nodelog.parse(line, 2, found[-1].time if found else ""))
    return found


FAILED = said(
    "node_failed", 5, code="ES3103", reason="cannot write: No space left on device", next="check it"
)


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        ([], EndKind.NEVER),
        ([said("node_started"), said("node_stopping"), said("node_stopped")], EndKind.STOPPED),
        ([said("node_started"), said("first_commit")], EndKind.CUT_SHORT),
        ([said("node_stopped"), said("storage_opened")], EndKind.CUT_SHORT),
        ([said("node_started"), FAILED], EndKind.FAILED),
        ([said("node_started"), "Traceback (most recent call last):", "MemoryError"], EndKind.CRASHED),
        ([said("node_stopped"), "esnode: ES3001: /x.toml: no key `nodes`", "next: mend it"], EndKind.FAILED),
        ([FAILED, said("storage_opened"), said("node_stopped")], EndKind.STOPPED),
    ],
)  # fmt: skip
def test_the_end_of_a_log_tells_how_its_process_ended(lines: list[str], end: EndKind) -> None:
    assert last_words(parsed(lines)).end is end


def test_what_a_node_said_of_its_own_end_is_kept() -> None:
    assert last_words(parsed([said("node_started"), FAILED])) == LastWords(
        EndKind.FAILED,
        "2013-01-01T00:00:05.000000Z",
        "ES3103",
        "cannot write: No space left on device",
        "check it",
    )
    broken = last_words(parsed(["esnode: ES3001: /x.toml: no key `nodes`", "next: mend the file", ""]))
    assert (broken.code, broken.reason, broken.helps) == (
        "ES3001",
        "/x.toml: no key `nodes`",
        "mend the file",
    )
    assert last_words(parsed([said("node_started"), "Segmentation fault", ""])).reason == "Segmentation fault"


def test_the_latest_repair_is_found_and_whether_it_is_done() -> None:
    begun = said("rejoin_begun", 1, code="ES3104", reason="entry 7 is damaged")
    assert last_repair(parsed([said("node_started")])) is None
    assert last_repair(parsed([begun, said("storage_opened", 2)])) == Repair(
        "2013-01-01T00:00:01.000000Z", "ES3104", "entry 7 is damaged"
    )
    again = said("rejoin_begun", 6, code="ES2008", reason="another directory")
    done = last_repair(parsed([begun, said("rejoin_done", 3)]))
    assert done is not None
    assert done.done == "2013-01-01T00:00:03.000000Z"
    open_again = last_repair(parsed([begun, said("rejoin_done", 3), again]))
    assert open_again is not None
    assert (open_again.code, open_again.done) == ("ES2008", "")


def test_campaigns_are_counted_from_a_moment_on() -> None:
    lines = [
        said("state_changed", second, role=role, new_term=second)
        for second, role in [(1, "candidate"), (5, "candidate"), (6, "follower"), (7, "leader")]
    ]
    assert campaigns(parsed(lines), "2013-01-01T00:00:05") == [
        RoleChange("2013-01-01T00:00:05.000000Z", 2, 5, "candidate"),
        RoleChange("2013-01-01T00:00:07.000000Z", 2, 7, "leader"),
    ]
