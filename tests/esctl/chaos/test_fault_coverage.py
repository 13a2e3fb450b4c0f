"""Which faults a cluster has met: what its nodes' logs tell, the ledger, and what is active now."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from esctl.chaos import ledger
from esctl.chaos.coverage import OTHER_CUTS, WAYS, CoverageRow, lines_about, tally
from esctl.chaos.ledger import LedgerEntry
from esctl.clusters.backends import layout


def told(event: str, node: int, fault: str, kind: str, **more: Any) -> dict[str, Any]:
    time = "2026-01-02T03:04:05.000000Z"
    return {"time": time, "node": node, "event": event, "fault": fault, "kind": kind, **more}


def rows(*words: Any) -> dict[str, CoverageRow]:
    return {row.way: row for row in tally(*words)}


def test_a_cluster_that_was_never_broken_has_a_row_for_each_way() -> None:
    found = rows([], [], [])
    assert tuple(found) == WAYS
    assert all((row.times, row.hits, row.last) == (0, 0, "") for row in found.values())


def test_a_partition_is_told_by_its_shape_and_counts_once() -> None:
    lines = [told("fault_set", n, "cut-1", "block") for n in (1, 2, 3)]
    lines += [told("fault_expired", n, "cut-1", "block", hits=n) for n in (1, 2, 3)]
    row = rows([LedgerEntry(0.0, "cut-1", ["partition bridge"], [1, 2, 3])], lines, [])["partition bridge"]
    assert (row.times, row.hits, row.nodes) == (1, 6, {1, 2, 3})
    assert row.last.startswith("2026-01-02")


def test_a_cut_that_nobody_gave_a_shape_has_a_row_of_its_own() -> None:
    found = rows([], [told("fault_set", 1, "bench-failover", "block")], [])
    assert found[OTHER_CUTS].times == 1


def test_two_kinds_of_one_fault_are_two_ways() -> None:
    lines = [
        told("fault_set", 1, "net-1.delay", "delay"),
        told("fault_set", 1, "net-1.drop", "drop"),
        told("fault_healed", 1, "net-1.delay", "delay", hits=4),
        told("fault_healed", 1, "net-1.drop", "drop", hits=0),
    ]
    found = rows([], lines, [])
    assert (found["net delay"].times, found["net delay"].hits) == (1, 4)
    assert (found["net drop"].times, found["net drop"].hits) == (1, 0)


def test_what_is_active_is_counted_as_far_as_it_has_come() -> None:
    live = [(1, {"id": "clock-1", "kind": "clock-jump", "hits": 9})]
    found = rows([], [told("fault_set", 1, "clock-1", "clock-jump")], live)
    assert found["clock jump"].hits == 9


def test_a_disk_that_ended_its_node_has_hit_although_nobody_could_count() -> None:
    lines = [
        told("fault_set", 2, "disk-1", "disk-full"),
        {"node": 2, "event": "node_failed", "reason": "cannot write: No space left (the fault disk-1)"},
    ]
    assert rows([], lines, [])["disk full"].hits == 1


def test_what_was_done_to_processes_and_files_is_in_the_ledger() -> None:
    noted = [
        LedgerEntry(1.0, "freeze-1", ["freeze"], [1, 2, 3]),
        LedgerEntry(2.0, "flip-1", ["disk flip"], [2]),
    ]
    found = rows(noted, [], [])
    assert (found["freeze"].times, found["freeze"].hits) == (1, 3)
    assert (found["disk flip"].times, found["disk flip"].nodes) == (1, {2})


def test_a_link_that_was_really_cut_is_in_no_log_and_counts_all_the_same() -> None:
    noted = [LedgerEntry(1.0, "cut-1", ["partition bridge"], [2, 3])]
    live = [(2, {"id": "cut-1", "kind": "cut", "hits": 5}), (3, {"id": "cut-1", "kind": "cut", "hits": 5})]
    row = rows(noted, [], live)["partition bridge"]
    assert (row.times, row.hits, row.nodes) == (1, 10, {2, 3})


def test_only_lines_about_faults_are_read_and_what_is_no_json_is_passed_over() -> None:
    lines = [
        json.dumps({"event": "node_started"}),
        json.dumps(told("fault_set", 1, "f", "drop")),
        '{"event": "fault_set", cut off',
    ]
    assert [line["fault"] for line in lines_about(lines)] == ["f"]


def test_the_ledger_keeps_each_fault_and_passes_over_a_line_that_was_cut_off(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    cluster = replace(layout.plan("c", 3), name="c")
    cluster.directory.mkdir(parents=True)
    assert ledger.read(cluster) == []
    ledger.note(cluster, "kill-1", ["kill"], [2])
    with (cluster.directory / ledger.FILE).open("a") as file:
        file.write('{"time": 1')
    (struck,) = ledger.read(cluster)
    assert (struck.id, list(struck.ways), list(struck.nodes)) == ("kill-1", ["kill"], [2])
    ledger.note(cluster, "kill-2", ["kill"], [3])
    assert [entry.id for entry in ledger.read(cluster)] == ["kill-1", "kill-2"], (
        "it took the next one with it"
    )
