"""What the data commands ask of nodes, and what they make of the answers."""

from pathlib import Path

import pytest
import trio
import trio.testing

from esctl.cli.invocation import Invocation
from esctl.clusters.state import Cluster
from esctl.commands import consume
from esctl.commands.status import table
from esctl.query import barrier, checkup, logreading, lookup, survey
from esctl.query.barrier import confirmed_end
from esctl.query.logreading import ReadRequest, Staleness
from esnode import limits
from esnode.client import StoredEvent
from esnode.dedup.batch import event_key
from esnode.errors import NoQuorum, OffsetOutOfRange, OperationTimeout, Unreachable
from tests.esctl.commands.test_commands import Run
from tests.esctl.wire_node import WireNode, event, log, record, serving, three

ALL = ReadRequest(from_offset=0, max_events=None, follow=False, node=None)


async def consumed(
    cluster: Cluster, wanted: ReadRequest, staleness: list[Staleness] | None = None
) -> list[StoredEvent]:
    told: list[Staleness] = []
    events: list[StoredEvent] = []
    async with logreading.reading(cluster, wanted, told.append) as source:
        while (batch := await source.next_batch()) is not None:
            events += batch.events()
    if staleness is not None:
        staleness += told
    return events


# --- the confirmed end -------------------------------------------------------------------------


async def test_only_the_leader_can_confirm_the_end(tmp_path: Path) -> None:
    nodes = three()
    nodes[1].records += [record(8, [event(8)])]  # applied by a follower first, which proves nothing
    async with serving(nodes, tmp_path) as cluster:
        end = await confirmed_end(cluster)
    assert (end.leader, end.first_offset, end.next_offset) == (1, 0, 8)


async def test_a_leader_that_is_elected_meanwhile_confirms_the_end(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].role = "follower"

    async def elect() -> None:
        while not nodes[1].asked:
            await trio.testing.wait_all_tasks_blocked(0.001)
        nodes[1].role = "leader"

    async with serving(nodes, tmp_path) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(elect)
        assert (await confirmed_end(cluster, 60)).leader == 2


async def test_nodes_without_a_leader_are_no_quorum(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].role = "follower"
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(NoQuorum, match="no leader") as caught:
            await confirmed_end(cluster, 0.2)
    assert caught.value.next_step == "esctl status health --cluster wire"


async def test_a_cluster_where_nothing_listens_is_unreachable_before_the_time_out(tmp_path: Path) -> None:
    async with serving(three(), tmp_path, absent=(1, 2, 3)) as cluster:
        with pytest.raises(Unreachable, match="Connection refused") as caught:
            await confirmed_end(cluster, 1000, down_timeout_s=0)
    assert caught.value.next_step == "esctl cluster start wire"


async def test_nodes_that_never_answer_are_a_time_out(tmp_path: Path) -> None:
    nodes = three()
    for node in nodes:
        node.mute = True
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(OperationTimeout):
            await confirmed_end(cluster, 0.2)


# --- consume -----------------------------------------------------------------------------------


async def test_consuming_gives_every_event_once_in_order(tmp_path: Path) -> None:
    nodes = three(count=9)
    async with serving(nodes, tmp_path) as cluster:
        events = await consumed(cluster, ALL)
    assert [stored.offset for stored in events] == list(range(9))
    assert [stored.event for stored in events] == [event(n) for n in range(9)]


async def test_a_range_begins_and_ends_within_records(tmp_path: Path) -> None:
    async with serving(three(), tmp_path) as cluster:
        events = await consumed(cluster, ReadRequest(from_offset=3, max_events=2, follow=False, node=None))
        assert [stored.offset for stored in events] == [3, 4]
        assert (
            await consumed(cluster, ReadRequest(from_offset=8, max_events=None, follow=False, node=None))
            == []
        )


async def test_one_node_gives_what_it_has_and_says_how_old_it_may_be(tmp_path: Path) -> None:
    nodes = three()
    nodes[2].records = log(4)
    staleness: list[Staleness] = []
    async with serving(nodes, tmp_path) as cluster:
        wanted = ReadRequest(from_offset=0, max_events=None, follow=False, node=cluster.node(3))
        events = await consumed(cluster, wanted, staleness)
    assert len(events) == 4
    assert staleness == [Staleness(next_offset=4, silence_ms=12)]
    assert "4 events" in str(staleness[0])
    assert "12 ms ago" in str(staleness[0])


async def test_following_gets_events_as_they_come_up_to_the_maximum(tmp_path: Path) -> None:
    nodes = three()

    async def grow() -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        for node in nodes:
            node.grow(record(8, [event(8), event(9)]))

    async with serving(nodes, tmp_path) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(grow)
        events = await consumed(cluster, ReadRequest(from_offset=6, max_events=4, follow=True, node=None))
    assert [stored.offset for stored in events] == [6, 7, 8, 9]


@pytest.mark.parametrize(
    ("last", "expected"), [(0, []), (1, [7]), (3, [5, 6, 7]), (8, list(range(8))), (99, list(range(8)))]
)
async def test_the_last_events_are_counted_from_the_end_that_a_majority_confirms(
    tmp_path: Path, last: int, expected: list[int]
) -> None:
    nodes = three()
    nodes[2].records = log(4)  # a follower that is behind
    wanted = ReadRequest(from_offset=None, max_events=None, follow=False, node=None, last=last)
    async with serving(nodes, tmp_path) as cluster:
        assert [stored.offset for stored in await consumed(cluster, wanted)] == expected


async def test_the_last_events_of_one_node_are_the_last_that_it_has(tmp_path: Path) -> None:
    nodes = three()
    nodes[2].records = log(4)
    async with serving(nodes, tmp_path) as cluster:
        wanted = ReadRequest(None, None, follow=False, node=cluster.node(3), last=2)
        assert [stored.offset for stored in await consumed(cluster, wanted)] == [2, 3]


async def test_following_from_the_end_gives_only_what_comes_then(tmp_path: Path) -> None:
    nodes = three()

    async def grow() -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        for node in nodes:
            node.grow(record(8, [event(8), event(9)]))

    async with serving(nodes, tmp_path) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(grow)
        events = await consumed(cluster, ReadRequest(None, 2, follow=True, node=None, last=0))
    assert [stored.offset for stored in events] == [8, 9]


@pytest.mark.parametrize(
    ("line", "from_offset", "last", "follow"),
    [
        ("", None, None, False),
        ("--from start", None, None, False),
        ("--from end", None, 0, False),
        ("--from 5", 5, None, False),
        ("--last 3", None, 3, False),
        ("-f", None, 0, True),
        ("-f --from start", None, None, True),
        ("-f --from 5", 5, None, True),
        ("-f --last 3", None, 3, True),
    ],
)
def test_where_to_begin_is_what_was_typed(
    line: str,
    from_offset: int | None,
    last: int | None,
    follow: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[ReadRequest] = []

    async def note(
        _terminal: object, _cluster: object, wanted: ReadRequest, _chosen: object, _tally: object
    ) -> None:
        asked.append(wanted)

    cluster = Cluster("c", "c-1", "process", "sqlite", "now", tmp_path, ())
    monkeypatch.setattr(consume, "_print_all", note)
    monkeypatch.setattr(Invocation, "cluster", lambda _self: cluster)
    assert Run("consume", *line.split()).code == 0
    assert asked == [ReadRequest(from_offset, None, follow, None, last)]


@pytest.mark.parametrize("line", ["--from 5 --last 3", "--from soon", "--from -1", "--last 0"])
def test_what_is_no_place_in_the_log_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster("c", "c-1", "process", "sqlite", "now", tmp_path, ())
    monkeypatch.setattr(Invocation, "cluster", lambda _self: cluster)
    assert Run("consume", *line.split()).code == 2


async def test_an_offset_that_is_cut_away_names_the_first_one_and_how_to_read_it(tmp_path: Path) -> None:
    nodes = three()
    for node in nodes:
        node.records, node.first_offset = node.records[2:], 4
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(OffsetOutOfRange, match="the first one is 4") as caught:
            await consumed(cluster, ALL)
    assert caught.value.next_step == "esctl consume --from 4 --cluster wire"


async def test_events_that_do_not_come_are_a_time_out_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OPERATION_TIMEOUT_S", 0.3)
    nodes = three()
    nodes[0].claimed_next_offset = 12  # nobody has the last four
    async with serving(nodes, tmp_path) as cluster:
        with pytest.raises(OperationTimeout, match="from 8 to 11") as caught:
            await consumed(cluster, ALL)
    assert caught.value.next_step == "esctl consume --from 8 --cluster wire"


# --- one event ---------------------------------------------------------------------------------


async def test_an_event_is_found_by_its_offset(tmp_path: Path) -> None:
    async with serving(three(), tmp_path) as cluster:
        found = await lookup.at_offset(cluster, 5)
        beyond = await lookup.at_offset(cluster, 8)
    assert isinstance(found, StoredEvent)
    assert found.event == event(5)
    assert isinstance(beyond, barrier.LogEnd)
    assert beyond.next_offset == 8


async def test_an_event_that_the_table_forgot_is_found_in_the_log(tmp_path: Path) -> None:
    looked_at: list[int] = []
    async with serving(three(), tmp_path) as cluster:
        found = await lookup.in_the_logs(cluster, "/test", "e5", looked_at.append)
        assert await lookup.in_the_logs(cluster, "/test", "e99", looked_at.append) is None
    assert found is not None
    assert (found.offset, found.event) == (5, event(5))
    assert sum(looked_at) == 4 + 8


async def test_the_leaders_table_says_what_it_knows_of_an_event(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].known = {event_key("/test", "e5"): 5}
    async with serving(nodes, tmp_path) as cluster:
        known, _ = await lookup.known(cluster, "/test", "e5")
        unknown, _ = await lookup.known(cluster, "/test", "e6")
    assert (known.offset, known.expires_in_ms) == (5, 61_000)
    assert unknown.offset is None


# --- the survey and the checkup ----------------------------------------------------------------


async def test_every_configured_node_is_a_row_whatever_its_state(tmp_path: Path) -> None:
    nodes = three()
    nodes[1].mute = True
    async with serving(nodes, tmp_path, absent=(3,)) as cluster:
        found = await survey.ask(cluster, 0.2)
    assert [report.node.id for report in found.reports] == [1, 2, 3]
    assert [report.up for report in found.reports] == [True, False, False]
    assert found.leader is not None
    assert found.leader.node.id == 1
    assert found.may_fail == -1


async def test_another_node_on_the_address_is_not_taken_for_the_right_one(tmp_path: Path) -> None:
    nodes = three()
    async with serving(nodes, tmp_path) as cluster:
        nodes[1].id = 7
        found = await survey.ask(cluster, 5)
    assert "node 7" in found.report(2).why
    assert not found.report(2).up


async def test_a_checkup_of_a_cluster_that_answers_is_serving(tmp_path: Path) -> None:
    async with serving(three(), tmp_path) as cluster:
        found = await checkup.examine(cluster)
    stages = {stage.name: stage.ok for stage in found.stages}
    # Nothing tells the process backend of these nodes, so "alive" cannot be well here.
    assert stages == {"alive": False, "ready": True, "quorum": True, "deep": True}
    assert found.serving
    assert not found.healthy


async def test_a_fault_on_purpose_is_not_well_and_is_named_with_the_command_that_ends_it(
    tmp_path: Path,
) -> None:
    nodes = three()
    nodes[1].faults = {"cut-1": {"id": "cut-1", "kind": "block", "left_ms": 8_000, "hits": 3}}
    async with serving(nodes, tmp_path) as cluster:
        found = await checkup.examine(cluster)
    (flaw,) = next(stage for stage in found.stages if stage.name == "ready").flaws
    assert flaw == (
        "node 2 is broken on purpose: cut-1 (block, 8 s left)",
        "esctl fault heal --all --cluster wire",
    )
    assert found.serving
    (warning,) = [words for words in table.warnings(found.survey) if "purpose" in words]
    assert warning.startswith("node 2 is broken on purpose: cut-1 (block, 8 s left)")
    assert warning.endswith("next: esctl fault heal cut-1 --cluster wire")


async def test_a_fault_is_one_line_however_many_nodes_have_a_part_in_it(tmp_path: Path) -> None:
    nodes = three()
    for node in nodes:
        node.faults = {
            f"net-1.{kind}": {"id": f"net-1.{kind}", "kind": kind, "left_ms": 4_000 + node.id, "hits": 0}
            for kind in ("delay", "drop")
        }
    nodes[2].faults["disk-2"] = {"id": "disk-2", "kind": "disk-slow", "left_ms": 9_000, "hits": 0}
    async with serving(nodes, tmp_path) as cluster:
        found = await survey.ask(cluster)
    assert [words for words in table.warnings(found) if "purpose" in words] == [
        "nodes 1, 2, 3 are broken on purpose: net-1 (delay, drop, 4 s left);"
        " next: esctl fault heal net-1 --cluster wire",
        "node 3 is broken on purpose: disk-2 (disk-slow, 9 s left);"
        " next: esctl fault heal disk-2 --cluster wire",
    ]


async def test_a_clock_that_is_off_is_said_and_one_that_is_right_is_not(tmp_path: Path) -> None:
    nodes = three()
    nodes[1].clock_off_ms = -7_230_000  # the minutes do not turn on the time that a question takes
    async with serving(nodes, tmp_path) as cluster:
        found = await survey.ask(cluster)
    assert [report.clock_is_off_ms for report in found.reports][::2] == [0, 0]
    (warning,) = [words for words in table.warnings(found) if "clock" in words]
    assert warning.startswith("the clock of node 2 is 2 h behind this machine's")


async def test_nodes_that_refuse_each_other_are_said_once_for_both(tmp_path: Path) -> None:
    nodes = three()
    why = {"code": "ES2031", "reason": "[dedup] of node 1 is that, of node 3 this"}
    nodes[0].peers = {"2": {"refused": None}, "3": {"refused": why}}
    nodes[2].peers = {"1": {"refused": why}, "2": {"refused": None}}
    async with serving(nodes, tmp_path) as cluster:
        found = await checkup.examine(cluster)
    (flaw,) = next(stage for stage in found.stages if stage.name == "ready").flaws
    said = f"nodes 1 and 3 do not talk to each other (ES2031): {why['reason']}"
    assert flaw == (said, "esctl why --cluster wire")
    assert f"{said}; next: esctl why --cluster wire" in table.warnings(found.survey)
    assert table.answer_of(found.survey).data["nodes"][2]["refusals"] == [{"peer": 1, **why}]


COPIES_HELP = "esctl cluster stop wire; then esctl cluster start wire --trust-copy"
BY_HAND = 'esctl cluster stop wire; then esctl docs deployment, "When a majority rejoins"'


@pytest.mark.parametrize(
    ("absent", "rejoining", "helps"),
    [
        ((), {3: "damage"}, "esctl status health --wait 1m --cluster wire"),
        ((2,), {3: "copy"}, "esctl node start 2 --cluster wire"),
        ((), {1: "copy", 2: "copy", 3: "copy"}, COPIES_HELP),
        ((), {2: "copy", 3: "damage"}, COPIES_HELP),
        ((), {2: "damage", 3: "peers"}, BY_HAND),
        ((), {1: "operator", 2: "operator", 3: "copy"}, BY_HAND),
        ((), {2: None, 3: None}, BY_HAND),
    ],
)
async def test_a_node_that_rejoins_is_not_ready_and_the_next_command_says_what_it_needs(
    tmp_path: Path, absent: tuple[int, ...], rejoining: dict[int, str | None], helps: str
) -> None:
    nodes = three()
    for number, cause in rejoining.items():
        nodes[number - 1].rejoining, nodes[number - 1].rejoin_cause = True, cause
    async with serving(nodes, tmp_path, absent=absent) as cluster:
        found = await checkup.examine(cluster)
    stages = {stage.name: stage for stage in found.stages}
    assert not found.healthy
    reason, step = stages["ready"].flaws[-len(rejoining)]
    first, cause = next(iter(rejoining.items()))
    assert f"node {first} does not trust its own disk" in reason
    assert cause is None or f"({cause})" in reason
    assert step == helps
    assert stages["quorum"].ok == (not absent and len(rejoining) == 1)
    assert stages["quorum"].ok or stages["quorum"].flaws[0][1] == helps


async def test_a_checkup_without_a_leader_does_not_try_the_deep_stage(tmp_path: Path) -> None:
    nodes = three()
    nodes[0].role = "follower"
    async with serving(nodes, tmp_path) as cluster:
        found = await checkup.examine(cluster)
    stages = {stage.name: stage for stage in found.stages}
    assert not stages["quorum"].ok
    assert "nobody leads" in stages["quorum"].flaws[0][0]
    assert "not tried" in stages["deep"].flaws[0][0]
    assert not found.serving


async def test_a_leader_that_cannot_reach_its_majority_fails_the_deep_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "READ_TIMEOUT_S", 0.2)
    nodes: list[WireNode] = three()
    async with serving(nodes, tmp_path) as cluster:
        nodes[0].deaf_to_reads = True
        found = await checkup.examine(cluster)
    assert not next(stage for stage in found.stages if stage.name == "deep").ok
