"""What `esctl why` makes of a situation: each kind of trouble by itself, and several at once."""

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from esctl.clusters.backends.interface import RunState
from esctl.clusters.rolechanges import RoleChange
from esctl.commands import why
from esctl.commands.status import table
from esctl.exits import Exit
from esctl.observe.diagnosis.lastwords import EndKind, LastWords, Repair
from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.ranking import diagnose
from esctl.observe.diagnosis.situation import Disk, Situation, StruckProcess
from esctl.query import checkup
from esctl.query.lostlog import Shortened
from esctl.ui.answer import Line
from esnode.config import Address, Config, Dedup, Member
from esnode.errors import OperationTimeout
from tests.command_line import parse
from tests.esctl.situations import HEARD_MS, HOME, ended, fault, gone, look, node, seen

AT = "2013-01-01T11:22:33.000000Z"
NO_ROOM = LastWords(EndKind.FAILED, AT, "ES3103", "cannot write: No space left on device", "check the disk")
BROKEN = replace(NO_ROOM, reason="cannot write: Input/output error")
NO_KEY = LastWords(EndKind.FAILED, AT, "ES3001", "2.toml: no key")
ON_PURPOSE = replace(NO_ROOM, reason="cannot write: No space left on device (the fault disk-1)")
KILLED = LastWords(EndKind.CUT_SHORT, AT)
DAMAGED = Repair(AT, "ES3104", "entry 7 of the log is damaged")
SPLIT = "node 2 has committed entry 9 of term 2; node 1, which leads, has entry 7 of term 3"
OTHER_HISTORY = LastWords(EndKind.FAILED, AT, "ES3120", SPLIT, "keep both data directories")
CONTRADICTED = node(1, peers={"2": {"connected": True, "outbox_bytes": 0, "conflict": SPLIT}})
DEDUP = {"max_keys": 1000, "forgotten_early": 12, "window_ms": 33_000, "full": True, "when_full": "shrink"}
REFUSING = {
    "max_keys": 1000, "live_keys": 998, "ttl_ms": 600_000, "when_full": "refuse", "full": True, "refused": 7,
}  # fmt: skip
ONE_LEFT = seen(gone(2), gone(3), words={2: KILLED, 3: KILLED}, read_ms=None)
STALLED = seen(node(1, next_offset=9_000), before=look(node(1, next_offset=5_000)))
REPAIRING = seen(node(2, rejoining=True, rejoin_cause="damage"), repairs={2: DAMAGED})
CUT = fault("cut-1", peers=(2,))
CUT_OFF = {"role": "pre-candidate", "leader": None, "silence_ms": 4_200}
ELECTING = {"role": "candidate", "leader": None}
NOBODY = [node(n, term=7 + n, **ELECTING) for n in (1, 2, 3)]

OTHERS = {"ttl_ms": 600_000, "max_keys": 2_000_000, "when_full": "shrink"}
WINDOWS = [node(n, dedup=OTHERS | ({"ttl_ms": 60_000} if n == 3 else {})) for n in (1, 2, 3)]
NEW_MEMBERS = LastWords(EndKind.FAILED, AT, "ES2032", "the file lists the members 1, 2, 3, 4, 5")

START, WAIT, LOOK = "esctl node start 2", "esctl status health --wait 10s", "esctl doctor"
ELSEWHERE = "esctl node replace 2 --data-dir DIR"
SITUATIONS: dict[str, tuple[Situation, ProblemKind, str]] = {
    "killed": (ended(2, KILLED), ProblemKind.NODE_DOWN, START),
    "stopped": (ended(2, LastWords(EndKind.STOPPED, AT)), ProblemKind.NODE_DOWN, START),
    "crashed": (ended(2, LastWords(EndKind.CRASHED, AT, reason="MemoryError")), ProblemKind.NODE_DOWN, START),
    "never ran": (ended(2, LastWords(EndKind.NEVER)), ProblemKind.NODE_DOWN, START),
    "no room": (ended(2, NO_ROOM), ProblemKind.DISK_FULL, START),
    "no room, still": (ended(2, NO_ROOM, disks={2: Disk(0, 10**9)}), ProblemKind.DISK_FULL, ELSEWHERE),
    "broken disk": (ended(2, BROKEN), ProblemKind.DISK_FAILED, START),
    "configuration": (ended(2, NO_KEY, bad_configs={2: "2.toml: no key"}), ProblemKind.BAD_CONFIG, START),
    "other history": (ended(2, OTHER_HISTORY), ProblemKind.SPLIT_HISTORY, "esctl node replace 2"),
    "contradicted": (seen(CONTRADICTED), ProblemKind.SPLIT_HISTORY, "esctl node replace 2"),
    "ahead of its leader": (
        seen(node(2, applied_index=1640, next_offset=1640)),
        ProblemKind.SPLIT_HISTORY,
        "esctl node replace 2",
    ),
    "port": (
        ended(2, LastWords(EndKind.FAILED, AT, "ES3002", "7102 is in use")),
        ProblemKind.PORT_TAKEN,
        START,
    ),
    "files gone": (
        ended(2, LastWords(EndKind.FAILED, AT, "ES3132", "x is gone")),
        ProblemKind.FILES_GONE,
        START,
    ),
    "newer": (ended(2, LastWords(EndKind.FAILED, AT, "ES3130", "kind 200")), ProblemKind.NEWER_FORMAT, START),
    "shortened": (seen(shortened=Shortened(900, 2, 3, AT)), ProblemKind.LOG_SHORTENED, "esctl status"),
    "held": (
        ended(2, LastWords(EndKind.FAILED, AT, "ES3133", "node 1 is not whole")),
        ProblemKind.DAMAGE,
        START,
    ),
    "cannot repair": (ended(2, LastWords(EndKind.FAILED, AT, "ES3104", "again")), ProblemKind.DAMAGE, START),
    "another window": (seen(*WINDOWS), ProblemKind.SETTINGS_DIFFER, "esctl node restart 3"),
    "other members": (
        seen(node(2, voters=[1, 2, 3, 4, 5])),
        ProblemKind.SETTINGS_DIFFER,
        "esctl node restart 2",
    ),
    "new members": (ended(2, NEW_MEMBERS), ProblemKind.SETTINGS_DIFFER, START),
    "paused": (seen(gone(3, RunState.PAUSED)), ProblemKind.NODE_PAUSED, "esctl node resume 3"),
    "silent": (seen(gone(3, RunState.RUNNING)), ProblemKind.NODE_SILENT, "esctl status health --wait 30s"),
    "repairing": (REPAIRING, ProblemKind.DAMAGE, "esctl status health --wait 1m"),
    "rejoining": (
        seen(node(2, rejoining=True, rejoin_cause="copy")),
        ProblemKind.REJOINING,
        "esctl status health --wait 1m",
    ),
    "no quorum": (ONE_LEFT, ProblemKind.NO_QUORUM, "esctl cluster start drill"),
    "no leader": (seen(*NOBODY, before=look(*NOBODY)), ProblemKind.NO_LEADER, WAIT),
    "not serving": (
        seen(read_ms=None, read_error=OperationTimeout("no answer")),
        ProblemKind.NOT_SERVING,
        WAIT,
    ),
    "two leaders": (seen(node(2, role="leader")), ProblemKind.TWO_LEADERS, "esctl verify"),
    "outvoted": (
        seen(node(1, term=5), node(2, term=4, role="leader"), node(3, term=5)),
        ProblemKind.OUTVOTED,
        WAIT,
    ),
    "lagging": (STALLED, ProblemKind.LAGGING, "esctl status health --wait 1m"),
    "cut off": (seen(node(2, **CUT_OFF)), ProblemKind.CUT_OFF, WAIT),
    "fault": (seen(node(1, faults=[CUT])), ProblemKind.FAULT, "esctl fault heal cut-1"),
    "slow disk": (seen(node(2, disk_lag_ms=700, disk_was_slow=True)), ProblemKind.SLOW_DISK, WAIT),
    "disk low": (seen(disks={2: Disk(10**9, 10**11)}), ProblemKind.DISK_LOW, ELSEWHERE),
    "clock": (seen(node(2, wall_time_ms=HEARD_MS + 90_000)), ProblemKind.CLOCK_OFF, LOOK),
    "window": (seen(node(2, dedup=DEDUP)), ProblemKind.WINDOW_SHRUNK, "esctl dedup"),
    "full window": (seen(node(2, dedup=REFUSING)), ProblemKind.WINDOW_FULL, "esctl dedup"),
}


def every(findings: Iterable[Problem]) -> Iterable[Problem]:
    for finding in findings:
        yield finding
        yield from every(finding.because)
        yield from every(finding.so)


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_trouble_is_named_first_with_evidence_and_a_next_command(name: str) -> None:
    situation, kind, step = SITUATIONS[name]
    found = diagnose(situation)
    first = found.findings[0]
    assert first.kind is kind
    assert first.next.startswith(step)
    assert first.next.split()[-1] == "drill"
    assert first.wrong
    assert first.evidence
    assert not found.well


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_command_that_a_finding_names_can_be_typed(name: str) -> None:
    for finding in every(diagnose(SITUATIONS[name][0]).findings):
        for line in (finding.next, *finding.also):
            if line.startswith("esctl"):
                parse(line)
        for words in re.findall(r"esctl [a-z ]+", finding.first):
            parse(words)
        assert finding.next.startswith("esctl ")


def test_another_history_is_one_critical_finding_with_both_sides_and_the_end_under_it() -> None:
    down = [gone(2)]
    (finding,) = diagnose(seen(CONTRADICTED, *down, words={2: OTHER_HISTORY})).findings
    assert (finding.kind, finding.severity) == (ProblemKind.SPLIT_HISTORY, Severity.CRITICAL)
    assert finding.evidence[0] == SPLIT
    assert [one.kind for one in finding.so] == [ProblemKind.NODE_DOWN]
    assert "keep a copy" in finding.first


def test_another_history_is_told_by_status_and_health_too() -> None:
    survey = look(CONTRADICTED)
    assert [SPLIT in warning and "esctl why" in warning for warning in table.warnings(survey)] == [True]
    assert checkup.ready(survey, None).flaws == [(SPLIT, "esctl why --cluster drill")]


def test_a_leader_that_all_others_contradict_is_the_odd_one_and_nobody_is_replaced_in_a_hurry() -> None:
    links = {str(n): {"connected": True, "conflict": f"node {n} has committed entry 9"} for n in (2, 3)}
    (finding,) = diagnose(seen(node(1, peers=links))).findings
    assert finding.nodes == {2, 3}
    assert finding.next == "esctl verify --cluster drill"


def test_an_older_term_is_no_other_history() -> None:
    assert (
        diagnose(seen(node(2, applied_index=1640, term=2), node(1, term=3))).situation.survey.conflicts == {}
    )


def test_a_window_that_has_forgotten_keys_says_how_far_it_reaches_while_it_is_full() -> None:
    (found,) = diagnose(seen(node(2, dedup=DEDUP))).findings
    assert found.what.endswith("12 keys were forgotten early")
    assert found.evidence[0].startswith("at most 1,000 keys are kept (dedup.max_bytes)")
    assert found.evidence[0].endswith("it reaches back 33 s now")
    assert "24 bytes of disk a key" in found.first
    (found,) = diagnose(seen(node(2, dedup=DEDUP | {"full": False}))).findings
    assert found.evidence[0].endswith("it is not full now")


def test_a_window_that_refuses_says_how_much_and_when_there_is_room_again() -> None:
    (found,) = diagnose(seen(node(2, dedup=REFUSING))).findings
    assert (found.severity, found.nodes) == (Severity.DEGRADED, {2})
    assert found.evidence == [
        "7 batches were refused (ES1104): 998 of at most 1,000 keys are known (dedup.max_bytes), and"
        " dedup.when_full is refuse",
        "a key makes room 10 min of log time after its event",
    ]
    assert diagnose(seen(node(2, dedup=REFUSING | {"full": False}))).well


def refusal(reason: str) -> dict[str, object]:
    return {"connected": False, "outbox_bytes": 0, "refused": {"code": "ES2031", "reason": reason}}


def test_a_node_that_is_refused_explains_why_it_hears_no_leader() -> None:
    third = replace(
        WINDOWS[2], status={**(WINDOWS[2].status or {}), **CUT_OFF, "peers": {"1": refusal("no")}}
    )
    (found,) = diagnose(seen(*WINDOWS[:2], third)).findings
    assert found.nodes == {3}
    assert found.evidence[:3] == [
        'nodes 1, 2: ttl_ms = 600000, max_bytes = 48000000, when_full = "shrink"',
        'node 3: ttl_ms = 60000, max_bytes = 48000000, when_full = "shrink"',
        "no",
    ]
    assert "node-3.toml back" in found.first
    assert [one.kind for one in found.so] == [ProblemKind.CUT_OFF]


def test_of_two_values_that_are_equally_many_that_of_the_leader_is_right() -> None:
    found = diagnose(seen(*WINDOWS[::2], gone(2), words={2: KILLED})).findings
    assert [one.nodes for one in every(found) if one.kind is ProblemKind.SETTINGS_DIFFER] == [{3}]


def test_a_file_that_differs_is_told_before_its_node_is_started_with_it() -> None:
    members = tuple(Member(n, Address("a", n), Address("a", 10 + n)) for n in (1, 2, 3))
    files = {n: Config("drill", n, HOME, members) for n in (1, 2, 3)}
    assert diagnose(seen(files=files)).well
    files[2] = replace(files[2], dedup=Dedup.of_keys(4096))
    (found,) = diagnose(seen(files=files)).findings
    assert (found.kind, found.severity, found.nodes) == (ProblemKind.SETTINGS_DIFFER, Severity.WARNING, {2})
    assert "max_bytes = 98304" in found.evidence[1]
    changed = {n: replace(one, dedup=Dedup.of_keys(4096)) for n, one in files.items()}
    assert diagnose(seen(files=changed)).well


def test_a_cluster_that_is_well_is_said_to_be_and_why() -> None:
    found = diagnose(seen())
    assert found.well
    assert found.findings == []
    assert [fact.partition(",")[0] for fact in found.facts] == [
        "node 1 leads", "a majority has confirmed a read in 2 ms: the log ends at event 8",
        "the followers are 0 events behind at most", "the fullest disk has 80 % left",
    ]  # fmt: skip
    answer = why.answer_of(found, 0.25)
    assert answer.exit_code is Exit.OK
    assert answer.data["well"] is True
    assert answer.data["seconds"] == 0.25


def test_a_slow_disk_is_worse_where_every_ack_waits_for_it() -> None:
    slow = {"disk_lag_ms": 1_900, "disk_was_slow": True}
    (follower,) = diagnose(seen(node(2, **slow))).findings
    assert (follower.severity, follower.nodes) == (Severity.WARNING, {2})
    (leader,) = diagnose(seen(node(1, **slow))).findings
    assert leader.severity is Severity.DEGRADED
    assert "every ack waits for it" in leader.what
    (again,) = diagnose(seen(node(2, disk_lag_ms=0, disk_was_slow=True))).findings
    assert again.evidence[0].startswith("it has all again")
    assert diagnose(seen(node(2, disk_lag_ms=200, disk_was_slow=False))).well


def test_a_slow_disk_that_somebody_made_slow_follows_from_the_fault() -> None:
    dragging = node(2, disk_lag_ms=700, disk_was_slow=True, faults=[fault("disk-1", kind="disk-slow")])
    (only,) = diagnose(seen(dragging)).findings
    assert only.kind is ProblemKind.FAULT
    assert [finding.kind for finding in only.so] == [ProblemKind.SLOW_DISK]


def test_the_exit_code_tells_wrong_from_silent() -> None:
    assert why.answer_of(diagnose(ONE_LEFT)).exit_code is Exit.UNHEALTHY
    nobody = seen(gone(1), gone(2), gone(3), read_ms=None)
    answer = why.answer_of(diagnose(nobody))
    assert answer.exit_code is Exit.UNREACHABLE
    assert answer.data["findings"][0]["kind"] == "no-quorum"
    assert answer.data["findings"][0]["next"] == "esctl cluster start drill"


def test_a_cluster_that_was_stopped_is_said_to_be_stopped() -> None:
    stopped = dict.fromkeys((1, 2, 3), LastWords(EndKind.STOPPED, AT))
    first = diagnose(seen(gone(1), gone(2), gone(3), words=stopped, read_ms=None)).findings[0]
    assert (first.kind, first.what.partition(":")[0]) == (ProblemKind.NO_QUORUM, "the cluster is stopped")
    killed = diagnose(seen(gone(1), gone(2), gone(3), words={**stopped, 2: KILLED}, read_ms=None)).findings[0]
    assert killed.what.startswith("no quorum: 0 of 3")


def test_a_fault_that_explains_a_lag_comes_first_and_the_lag_follows_from_it() -> None:
    before = look(node(1, next_offset=5_000))
    leader = node(1, next_offset=9_000, faults=[CUT])
    found = diagnose(seen(leader, node(2, **CUT_OFF), node(3, next_offset=9_000), before=before))
    (only,) = found.findings
    assert only.kind is ProblemKind.FAULT
    assert only.severity is Severity.DEGRADED
    assert {finding.kind for finding in only.so} == {ProblemKind.LAGGING, ProblemKind.CUT_OFF}
    texts = [view.text for view in why.answer_of(found).views if isinstance(view, Line)]
    assert any(text.strip().startswith("so node 2 is") for text in texts)
    assert texts.index("   next: esctl fault heal cut-1 --cluster drill") > 0


def test_a_fault_elsewhere_does_not_explain_a_lag() -> None:
    slow = fault("disk-1", "disk-slow")
    before = look(node(1, next_offset=5_000), node(3, next_offset=9_000))
    found = diagnose(
        seen(node(1, next_offset=9_000), node(3, next_offset=9_000, faults=[slow]), before=before)
    )
    assert [finding.kind for finding in found.findings] == [ProblemKind.LAGGING, ProblemKind.FAULT]


def test_a_missing_quorum_holds_its_missing_nodes_with_their_reasons() -> None:
    (only,) = diagnose(ONE_LEFT).findings
    assert [part.what for part in only.because] == [
        f"node {n} is down: it was killed: kill -9, or the kernel ran out of memory" for n in (2, 3)
    ]
    assert only.evidence[1] == "it goes on as soon as 1 of the nodes 2, 3 is back"


@pytest.mark.parametrize(
    ("reports", "struck", "step"),
    [
        ((gone(2), gone(3, RunState.PAUSED)), (), "esctl cluster start drill"),
        ((gone(2, RunState.PAUSED), gone(3, RunState.PAUSED)), (), "esctl node resume 2 --cluster drill"),
        ((gone(2), gone(3)), (2, 3), "esctl fault heal --all --cluster drill"),
        ((gone(2), gone(3)), (2,), "esctl cluster start drill"),
        (
            (gone(2, RunState.RUNNING), gone(3, RunState.RUNNING)),
            (),
            "esctl status health --wait 30s --cluster drill",
        ),
        (
            (node(2, rejoining=True), node(3, rejoining=True)),
            (),
            "esctl status health --wait 1m --cluster drill",
        ),
    ],
)
def test_the_way_back_to_a_quorum_depends_on_what_is_missing(
    reports: tuple[object, ...], struck: tuple[int, ...], step: str
) -> None:
    kills = [StruckProcess(f"kill-{n}", "kill", n, 9_000) for n in struck]
    found = diagnose(seen(*reports, struck=kills, read_ms=None))  # type: ignore[arg-type]
    assert found.findings[0].kind is ProblemKind.NO_QUORUM
    assert found.findings[0].next == step


def test_without_a_majority_of_the_data_nobody_is_told_to_start_the_nodes() -> None:
    reports = [gone(number) for number in (1, 2, 3)]
    words = dict.fromkeys((1, 2, 3), KILLED)
    for missing, lost in ((frozenset({3}), False), (frozenset({1, 3}), True), (frozenset({1, 2, 3}), True)):
        found = diagnose(seen(*reports, words=words, without_data=missing, read_ms=None)).findings[0]
        assert found.kind is ProblemKind.NO_QUORUM
        assert (found.next == "esctl backup ls") is lost
        assert ("find the directories" in found.first) is lost
        assert any("nothing that was acked is lost" in line for line in found.evidence) is not lost
        assert not lost or "esctl cluster start drill" not in found.also


def test_a_node_that_a_fault_has_killed_is_the_consequence_of_that_fault() -> None:
    struck = [StruckProcess("kill-7", "kill", 2, 9_000)]
    (only,) = diagnose(ended(2, KILLED, struck=struck)).findings
    assert (only.kind, only.next) == (ProblemKind.FAULT, "esctl fault heal kill-7 --cluster drill")
    assert [finding.kind for finding in only.so] == [ProblemKind.NODE_DOWN]


def test_the_reason_of_an_end_names_who_did_it() -> None:
    assert (
        diagnose(ended(2, KILLED, killed_by_us=frozenset({2}))).findings[0].what.endswith("killed by esctl")
    )
    assert "restarted" in diagnose(ended(2, KILLED, rebooted=frozenset({2}))).findings[0].what
    real = diagnose(ended(2, NO_ROOM)).findings[0]
    assert real.first == "make room in /tmp/none/node-2"
    assert any("80.0 GB free" in line for line in real.evidence)
    still = diagnose(ended(2, NO_ROOM, disks={2: Disk(10**6, 10**9)})).findings[0]
    assert still.first == (
        "make room in /tmp/none/node-2 and start it; or give it an empty directory on another disk"
    )
    made = diagnose(ended(2, ON_PURPOSE)).findings[0]
    assert made.kind is ProblemKind.DISK_FULL
    assert made.first == ""
    assert any("an injected fault" in line for line in made.evidence)
    lost = diagnose(ended(2, KILLED, without_data=frozenset({2}))).findings[0]
    assert any("data directory is gone" in line for line in lost.evidence)


def test_a_configuration_that_was_mended_is_no_longer_held_against_the_node() -> None:
    mended = diagnose(ended(2, NO_KEY)).findings[0]
    assert mended.kind is ProblemKind.BAD_CONFIG
    assert mended.first == ""
    broken_since = diagnose(
        ended(2, LastWords(EndKind.STOPPED, AT), bad_configs={2: "2.toml: no key"})
    ).findings[0]
    assert broken_since.kind is ProblemKind.BAD_CONFIG
    assert broken_since.first


def test_a_lag_says_how_fast_it_closes_and_for_how_long_to_wait() -> None:
    before = look(node(1, next_offset=10_000), node(2, next_offset=1_000), node(3, next_offset=10_000))
    after = [node(1, next_offset=11_000), node(2, next_offset=5_000), node(3, next_offset=11_000)]
    (only,) = diagnose(seen(*after, before=before)).findings
    assert only.what == "node 2 is 6,000 events behind the leader, and is catching up"
    assert only.severity is Severity.WARNING
    assert (
        "9,000 to 6,000 events: it takes 4,000 a second, the leader 1,000; about 2 s left" in only.evidence[0]
    )
    assert only.next == "esctl status health --wait 10s --cluster drill"
    stuck = diagnose(STALLED).findings[0]
    assert stuck.severity is Severity.DEGRADED
    assert stuck.what.endswith("does not catch up")


def test_events_on_their_way_are_no_lag() -> None:
    before = look(node(1, next_offset=10_000), node(2, next_offset=9_990), node(3, next_offset=10_000))
    after = [node(1, next_offset=20_000), node(2, next_offset=19_000), node(3, next_offset=20_000)]
    assert diagnose(seen(*after, before=before)).well


def test_terms_that_rise_between_two_looks_are_elections_that_repeat() -> None:
    before = look(*(node(n, term=4, **ELECTING) for n in (1, 2, 3)))
    campaigns = [RoleChange(AT, 1, 5, "candidate"), RoleChange(AT, 3, 6, "candidate")]
    (only,) = diagnose(seen(*NOBODY, before=before, elections=campaigns)).findings
    assert any("term 4 became 10 in 1 s" in line for line in only.evidence)
    assert any("2 campaigns" in line and "by node 1, 3" in line for line in only.evidence)


def test_an_election_that_ends_between_two_looks_is_no_trouble() -> None:
    assert diagnose(seen(before=look(*NOBODY))).well


def test_nodes_that_cannot_reach_each_other_are_named_when_nobody_leads() -> None:
    parted = [node(n, peers={"1": {"connected": False}}, **ELECTING) for n in (2, 3)]
    (only,) = diagnose(seen(node(1, peers={}, **ELECTING), *parted)).findings
    assert "no connection: node 2 to 1, node 3 to 1" in only.evidence


def test_a_repair_that_is_done_is_a_note_and_nothing_is_wrong() -> None:
    found = diagnose(seen(repairs={2: replace(DAMAGED, done="2013-01-01T11:22:40.000000Z")}))
    assert found.well
    (note,) = found.findings
    assert note.kind is ProblemKind.DAMAGE
    assert note.evidence == [
        "11:22:33 UTC: entry 7 of the log is damaged",
        "11:22:40 UTC: it was sound again",
    ]
    assert diagnose(seen(repairs={2: replace(DAMAGED, code="ES2008", done=AT)})).findings == []


def test_a_node_that_rejoins_waits_for_one_that_is_down() -> None:
    found = diagnose(
        seen(gone(3), node(2, rejoining=True, rejoin_cause="copy"), words={3: KILLED}, read_ms=None)
    )
    assert found.findings[0].kind is ProblemKind.NO_QUORUM
    assert any("node 3 does not" in line for one in every(found.findings) for line in one.evidence)


def test_a_log_at_its_bound_is_a_note() -> None:
    found = diagnose(seen(node(1, storage_bytes=95_000_000), retention_bytes={1: 100_000_000}))
    assert found.well
    assert found.findings[0].kind is ProblemKind.RETENTION
    assert "95 %" in found.findings[0].what
    assert diagnose(seen(node(1, storage_bytes=10), retention_bytes={1: 100_000_000})).findings == []


def test_a_clock_within_its_bound_or_one_that_is_not_told_is_no_finding() -> None:
    assert diagnose(seen(node(2, wall_time_ms=HEARD_MS - 400))).well
    behind = diagnose(seen(node(2, wall_time_ms=HEARD_MS - 90_000))).findings[0]
    assert behind.what == "the clock of node 2 is 1 min 30 s behind this machine's"
    struck = diagnose(seen(node(2, wall_time_ms=0, faults=[fault("clock-1", "clock-jump")]))).findings
    assert [finding.kind for finding in struck] == [ProblemKind.FAULT]
    assert [finding.kind for finding in struck[0].so] == [ProblemKind.CLOCK_OFF]


def test_the_worst_comes_first_and_all_of_it_fits_one_screen() -> None:
    found = diagnose(
        seen(
            node(1, next_offset=9_000, dedup=DEDUP, wall_time_ms=0),
            node(2, next_offset=10),
            gone(3),
            before=look(node(1, next_offset=5_000), node(2, next_offset=10), gone(3)),
            words={3: NO_ROOM},
            disks={1: Disk(10**9, 10**11), 3: Disk(0, 10**11)},
        )
    )
    kinds = [finding.kind for finding in found.findings]
    assert kinds[:2] == [ProblemKind.DISK_FULL, ProblemKind.LAGGING]
    severities = [finding.severity for finding in found.findings]
    assert severities == sorted(severities, reverse=True)
    views = why.answer_of(found).views
    assert len(views) <= 24
    assert all(isinstance(view, Line) for view in views)
