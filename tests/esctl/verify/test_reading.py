"""All logs are read over real connections: nodes that lie, stall, leave or lag must not make it pass."""

from pathlib import Path

import trio
import trio.testing

from esctl.query import survey
from esctl.verify.history import History
from esctl.verify.reading import ReadOutcome, read_logs
from esctl.verify.verdict import Flaw, LogVerdict
from tests.esctl.wire_node import WireNode, event, log, record, serving, three


class Progress:
    def __init__(self) -> None:
        self.total = self.done = 0

    def begin(self, total: int) -> "Progress":
        self.total = total
        return self

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def describe(self, text: str) -> None:
        raise AssertionError(text)


async def examine(
    nodes: list[WireNode], home: Path, *, absent: tuple[int, ...] = (), wait_s: float = 0.0
) -> tuple[ReadOutcome, LogVerdict]:
    async with serving(nodes, home, absent=absent) as cluster:
        history, progress = History(node.id for node in cluster.nodes), Progress()
        outcome = await read_logs(cluster, history, wait_s, progress.begin)
        if not outcome.troubles:
            assert progress.done == progress.total
        return outcome, history.verdict()


async def test_three_nodes_that_agree_are_read_to_the_confirmed_end(tmp_path: Path) -> None:
    nodes = three(count=9)
    for node in nodes:
        node.page_records = 2
    outcome, verdict = await examine(nodes, tmp_path)
    assert (outcome.target, outcome.confirmed, outcome.up, outcome.troubles) == (9, True, {1, 2, 3}, {})
    assert verdict.clean
    assert verdict.hashes_equal
    assert verdict.events == 9


async def test_an_event_of_35_minutes_later_is_judged_by_the_window_that_the_nodes_report(
    tmp_path: Path,
) -> None:
    late = record(8, [event(1)], at_ms=35 * 60_000)
    for minutes, again in ((10, 1), (60, 0)):
        nodes = three()
        for node in nodes:
            node.records.append(late)
            node.dedup = {"ttl_ms": minutes * 60_000, "max_keys": 2_000_000, "when_full": "shrink"}
        _, verdict = await examine(nodes, tmp_path)
        assert (verdict.stored_again, verdict.duplicates, verdict.clean) == (again, 1 - again, bool(again))


async def test_an_empty_log_is_proved_empty(tmp_path: Path) -> None:
    outcome, verdict = await examine(three(count=0), tmp_path)
    assert outcome.troubles == {}
    assert verdict.events == 0
    assert verdict.hashes_equal


async def test_a_node_that_is_down_leaves_a_trouble_and_the_others_are_compared(tmp_path: Path) -> None:
    outcome, verdict = await examine(three(), tmp_path, absent=(3,))
    assert set(outcome.troubles) == {3}
    assert outcome.up == {1, 2}
    assert verdict.clean
    assert verdict.events == 8


async def test_no_node_at_all_is_a_trouble_of_every_node(tmp_path: Path) -> None:
    outcome, verdict = await examine(three(), tmp_path, absent=(1, 2, 3))
    assert outcome.troubles == dict.fromkeys((1, 2, 3), "Connection refused")
    assert not outcome.confirmed
    assert not verdict.hashes_equal


async def test_without_a_leader_the_longest_log_is_the_target_and_it_is_not_confirmed(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].role = "follower"
    nodes[1].records += [record(8, [event(8)])]
    outcome, verdict = await examine(nodes, tmp_path)
    assert not outcome.confirmed
    assert outcome.target == 9
    assert set(outcome.troubles) == {1, 3}
    assert verdict.clean


async def test_a_node_that_is_behind_is_waited_for(tmp_path: Path) -> None:
    nodes = three()
    nodes[2].records = log(8)[:2]

    async def catch_up() -> None:
        while len(nodes[2].asked) < 2:
            await trio.testing.wait_all_tasks_blocked(0.001)
        nodes[2].grow(*log(8)[2:])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(catch_up)
        outcome, verdict = await examine(nodes, tmp_path, wait_s=60)
    assert outcome.troubles == {}
    assert verdict.events == 8


async def test_a_node_that_has_more_than_its_leader_fails_the_proof_though_all_before_is_equal(
    tmp_path: Path,
) -> None:
    nodes = three()
    nodes[2].records += [record(8, [event(8), event(9)])]
    outcome, verdict = await examine(nodes, tmp_path)
    assert (outcome.target, outcome.troubles) == (8, {})
    assert verdict.hashes_equal
    assert verdict.counts == {Flaw.SPLIT_HISTORY: 1}
    (finding,) = verdict.examples
    assert (finding.node, finding.offset) == (3, 8)
    assert finding.text == "node 3 has 10 events; the cluster's log ends at 8"


async def test_events_that_come_during_the_reading_are_read_and_are_no_other_history(tmp_path: Path) -> None:
    nodes = three()

    async def go_on() -> None:
        while not any(node.asked for node in nodes[1:]):
            await trio.testing.wait_all_tasks_blocked(0.001)
        for node in nodes:
            node.grow(record(8, [event(8)]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        outcome, verdict = await examine(nodes, tmp_path)
    assert outcome.troubles == {}
    assert verdict.clean


async def test_a_follower_that_seems_ahead_is_believed_only_after_its_leader_was_asked_again(
    tmp_path: Path,
) -> None:
    nodes = three()
    nodes[1].applied_indexes, nodes[0].applied_indexes = [12], [9, 12]
    async with serving(nodes, tmp_path) as cluster:
        assert (await survey.ask(cluster)).conflicts == {}
        nodes[1].applied_indexes = [13]
        found = (await survey.ask(cluster)).conflicts
    assert found == {
        2: "node 2 has applied entry 13 and offset 8; node 1, which leads, ends at entry 12 and offset 8"
    }


async def test_a_node_that_its_leader_says_has_another_history_fails_the_proof(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].peers = {"2": {"connected": False, "conflict": "node 2 has committed entry 9; node 1 has 7"}}
    outcome, verdict = await examine(nodes, tmp_path, absent=(2,))
    assert set(outcome.troubles) == {2}
    assert [(one.flaw, one.node) for one in verdict.examples] == [(Flaw.SPLIT_HISTORY, 2)]


async def test_a_node_that_stays_behind_is_in_doubt_and_has_lost_nothing(tmp_path: Path) -> None:
    nodes = three()
    nodes[2].records = log(8)[:2]
    outcome, verdict = await examine(nodes, tmp_path)
    assert outcome.troubles == {3: "4 events behind"}
    assert verdict.clean
    assert verdict.next_offset == 4
    assert verdict.hashes_equal


async def test_a_node_that_claims_events_and_does_not_show_them_has_lost_them(tmp_path: Path) -> None:
    nodes = three()
    nodes[2].records, nodes[2].claimed_next_offset = log(8)[:2], 8
    _, verdict = await examine(nodes, tmp_path)
    assert verdict.lost == 4
    assert verdict.counts[Flaw.HOLE] == 1
    assert not verdict.hashes_equal


async def test_a_node_that_changes_an_event_is_caught_though_its_checksum_is_right(tmp_path: Path) -> None:
    nodes = three()
    nodes[1].records[1] = record(2, [event(2), event(3, data="forged")])
    _, verdict = await examine(nodes, tmp_path)
    assert verdict.changed == 1
    assert not verdict.hashes_equal


async def test_a_damaged_record_is_read_past_and_counted_once(tmp_path: Path) -> None:
    nodes = three()
    bad = bytearray(nodes[2].records[1])
    bad[-1] ^= 1
    nodes[2].records[1] = bytes(bad)
    nodes[2].page_records = 2
    _, verdict = await examine(nodes, tmp_path)
    assert verdict.counts[Flaw.DAMAGED] == 1
    assert verdict.lost == 2
    assert verdict.nodes[3].next_offset == 8


async def test_a_node_that_leaves_in_the_middle_is_a_trouble(tmp_path: Path) -> None:
    nodes = three()
    for node in nodes:
        node.page_records = 1
    nodes[2].leave_after_reads = 2
    outcome, verdict = await examine(nodes, tmp_path)
    assert set(outcome.troubles) == {3}
    assert outcome.up == {1, 2}
    assert verdict.nodes[3].hash is None
    assert verdict.clean
    assert verdict.events == 8
