"""What only the logs of all partitions together show: an event in the wrong one, and one that two have."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import trio

from esctl.clusters.state import Cluster
from esctl.commands.verify import proof as proofs
from esctl.commands.verify.proof import Expected, PartitionProof, Proof
from esctl.exits import Exit
from esctl.ui.answer import Line, Table
from esctl.ui.progress import Silent as SilentProgress
from esctl.verify import reading
from esctl.verify.reading import ReadOutcome, ReadProgress
from esctl.verify.ringhistory import RingHistory
from esctl.verify.verdict import Flaw, LogVerdict
from esnode.events import encode_event, key_of
from esnode.ring import Ring
from tests.esctl.commands.test_status_and_verify import cluster
from tests.esctl.verify.test_history import Event, record

RING = Ring(1, range(3))


def owner(source: str) -> int:
    return RING.owner_of(source)


def source_of(partition: int) -> str:
    """A source that the partition owns."""
    return next(f"/s{n}" for n in range(1000) if owner(f"/s{n}") == partition)


def event(number: int, partition: int, **more: object) -> Event:
    return {"id": f"e{number}", "source": source_of(partition), "type": "t", **more}


def history(
    logs: Mapping[int, Sequence[Event]], expected: Sequence[Event] = (), ring: Ring = RING
) -> RingHistory:
    """The same log on each of three nodes, for each partition."""
    made = RingHistory(ring, (1, 2, 3))
    for line, one in enumerate(expected, start=1):
        made.expect(key_of(one), encode_event(one), 0, line)
    for partition, theirs in made.partitions.items():
        for node in (1, 2, 3):
            theirs.begin(node, 0)
        for node in (1, 2, 3):
            if events := logs.get(partition, ()):
                theirs.add(node, record(0, events))
            theirs.finish(node)
    return made


def counts(verdicts: Sequence[LogVerdict]) -> list[dict[Flaw, int]]:
    return [dict(verdict.counts) for verdict in verdicts]


def proof_of(made: RingHistory, *, files: Sequence[str] = (), exact: bool = False) -> Proof:
    parts = [
        PartitionProof(ReadOutcome(number, target=verdict.next_offset, up={1, 2, 3}), verdict)
        for number, verdict in enumerate(made.verdicts(exact=exact))
    ]
    return Proof(replace(cluster(), partitions=3), Expected(list(files)), parts, 0.5)


WELL = {partition: [event(n, partition) for n in range(partition + 1)] for partition in range(3)}


def test_partitions_that_have_only_what_is_theirs_are_well() -> None:
    sent = [one for log in WELL.values() for one in log]
    proof = proof_of(history(WELL, sent), files=["sent"], exact=True)
    data = proofs.answer_of(proof).data
    assert (proof.exit, data["ok"], data["events"], data["findings"]) == (Exit.OK, True, 6, [])
    assert [(one["id"], one["events"], one["misplaced"]) for one in data["partitions"]] == [
        (0, 1, 0), (1, 2, 0), (2, 3, 0),
    ]  # fmt: skip
    assert (data["common_offset"], data["target_offset"]) == (None, None)
    assert (data["input"]["distinct"], data["input"]["not_in_input"]) == (6, 0)
    assert all(len({node["hash"] for node in one["nodes"]}) == 1 for one in data["partitions"])


def test_an_event_in_a_partition_that_does_not_own_its_source_is_misplaced_and_not_lost() -> None:
    sent = [event(1, 0), event(2, 1)]
    made = history({0: [event(1, 0), event(2, 1)]}, sent)
    verdicts = made.verdicts(exact=True)
    assert counts(verdicts) == [{Flaw.MISPLACED: 1}, {}, {}]
    assert [verdict.lost for verdict in verdicts] == [0, 0, 0]
    assert sum(verdict.expected for verdict in verdicts) == 2
    assert sum(verdict.unexpected for verdict in verdicts) == 0
    (finding,) = verdicts[0].examples
    assert finding.text == (f"the event at offset 1, of source '{source_of(1)}', is another partition's")


def test_an_event_that_two_partitions_have_is_a_duplicate_in_the_one_that_should_not_have_it() -> None:
    made = history({0: [event(1, 0)], 2: [event(7, 2), event(1, 0)]}, [event(1, 0), event(7, 2)])
    verdicts = made.verdicts()
    assert counts(verdicts) == [{}, {}, {Flaw.MISPLACED: 1, Flaw.DUPLICATE: 1}]
    assert [verdict.duplicates for verdict in verdicts] == [0, 0, 1]
    texts = [finding.text for finding in verdicts[2].examples if finding.flaw is Flaw.DUPLICATE]
    assert texts == ["the event at offset 1 is also at offset 0 of partition 0"]


def test_an_event_that_only_strangers_have_is_once_too_many_for_each_but_the_first() -> None:
    made = history({0: [event(1, 1)], 2: [event(1, 1)]})
    verdicts = made.verdicts()
    assert [verdict.duplicates for verdict in verdicts] == [0, 0, 1]
    assert sum(verdict.counts.get(Flaw.MISPLACED, 0) for verdict in verdicts) == 2


def test_an_expected_event_is_looked_for_where_its_source_belongs() -> None:
    made = history(WELL, [*WELL[1], event(99, 1)])
    verdicts = made.verdicts()
    assert [verdict.lost for verdict in verdicts] == [0, 1, 0]
    assert [verdict.unexpected for verdict in verdicts] == [1, 0, 3]


def test_with_several_partitions_the_order_of_attributes_does_not_count_either() -> None:
    stored = {"type": "t", "source": source_of(2), "id": "e1"}
    verdicts = history({2: [stored]}, [event(1, 2)]).verdicts()
    assert all(verdict.clean for verdict in verdicts)


def test_the_same_of_a_cluster_of_one_partition_is_its_one_history() -> None:
    made = history({0: [event(1, 0), event(2, 1), event(3, 2)]}, ring=Ring(1, range(1)))
    (verdict,) = made.verdicts()
    assert verdict.clean
    assert not made.partitions[0].strays


def test_people_see_a_row_for_each_partition_and_where_a_flaw_is() -> None:
    made = history({0: [event(1, 0)], 2: [event(7, 2), event(1, 0)]})
    answer = proofs.answer_of(proof_of(made))
    assert answer.exit_code is Exit.VERDICT_FAILED
    (table,) = [view for view in answer.views if isinstance(view, Table)]
    assert [row[0] for row in table.rows] == ["0", "1", "2"]
    lines = [view.text for view in answer.views if isinstance(view, Line)]
    assert lines[0] == "partition 2: duplicate: the event at offset 1 is also at offset 0 of partition 0"
    assert [one.get("partition") for one in answer.data["findings"]] == [2, 2]
    assert answer.data["duplicates"] == 1


def test_a_node_that_one_partition_misses_leaves_the_verdict_open() -> None:
    proof = proof_of(history(WELL))
    reading_ = ReadOutcome(1, target=2, up={1, 2}, troubles={3: "its process does not run"})
    parts = [proof.parts[0], PartitionProof(reading_, proof.parts[1].verdict), proof.parts[2]]
    answer = proofs.answer_of(replace(proof, parts=parts))
    assert answer.exit_code is Exit.INCONCLUSIVE
    assert answer.data["doubts"] == ["partition 1: node 3: its process does not run"]
    assert [(one["up"], one["why"]) for one in answer.data["nodes"]] == [
        (True, None), (True, None), (False, "partition 1: its process does not run"),
    ]  # fmt: skip
    assert [one["ok"] for one in answer.data["partitions"]] == [True, False, True]


def test_the_progress_is_that_of_all_partitions_and_begins_when_all_is_known() -> None:
    told: list[int] = []

    class Progress:
        def advance(self, amount: int = 1) -> None:
            told.append(amount)

        def describe(self, text: str) -> None:
            raise AssertionError(text)

    def begin(events: int) -> Progress:
        told.append(events)
        return Progress()

    whole = reading.WholeProgress(2, begin)
    early: ReadProgress = whole.begin(3)
    early.advance(2)
    assert told == []
    whole.begin(4).advance(4)
    early.advance()
    assert told == [7, 2, 4, 1]


def test_all_partitions_are_read_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the others before it ends: that takes all of them at once."""
    meeting: set[int | None] = set()
    met = trio.Event()

    async def read_logs(
        _cluster: Cluster, _history: object, _wait: float, _begin: object, partition: int | None = None
    ) -> ReadOutcome:
        meeting.add(partition)
        if len(meeting) == 3:
            met.set()
        with trio.fail_after(5):
            await met.wait()
        return ReadOutcome(partition)

    three = replace(cluster(), partitions=3)
    monkeypatch.setattr(reading, "read_logs", read_logs)
    outcomes = trio.run(reading.read_ring, three, history({}), 0.0, lambda _: SilentProgress())
    assert [outcome.partition for outcome in outcomes] == [0, 1, 2]
