"""Single nodes: one that has ended and why, one that is paused, silent, damaged or rejoining.

Pure rules. Why a process ended is read from its own last words; a log that ends in the middle means that it
was killed. Called by `ranking.py`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.clusters.backends.interface import RunState
from esctl.observe.diagnosis.lastwords import EndKind, LastWords
from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Situation
from esctl.query.survey import Report
from esctl.ui.formatting import duration, quantity
from esnode import limits
from esnode.errors import (
    AddressTaken,
    DamagedRecord,
    FilesGone,
    InvalidConfig,
    MembersChanged,
    NewerFormat,
    StorageFailed,
    UnsafeRepair,
)

_REJOIN: Final = 'esctl docs deployment, "Damage on several nodes"'
_NO_ROOM: Final = ("No space left", "disk is full", "no space left", "quota")


def down(seen: Situation) -> Iterator[Problem]:
    """Nodes without a process, each with the reason why it ended."""
    for report in seen.missing:
        if report.process.state is RunState.DOWN:
            yield _ended(seen, report.node.id)


def paused(seen: Situation) -> Iterator[Problem]:
    """Nodes that were stopped with SIGSTOP."""
    for report in seen.missing:
        if report.process.state is RunState.PAUSED:
            number = report.node.id
            yield Problem(
                ProblemKind.NODE_PAUSED,
                Severity.DEGRADED,
                f"node {number} is paused",
                [f"its process (pid {report.process.pid}) is stopped (SIGSTOP): it answers nothing"],
                seen.command(f"node resume {number}"),
                nodes=frozenset({number}),
            )


def silent(seen: Situation) -> Iterator[Problem]:
    """Nodes that run and give no answer, or in whose place something else answers."""
    for report in seen.missing:
        if report.process.state is not RunState.RUNNING:
            continue
        number = report.node.id
        if seen.survey.partition is not None:
            yield _replica(seen, report, seen.survey.partition)
            continue
        yield Problem(
            ProblemKind.NODE_SILENT,
            Severity.DEGRADED,
            f"node {number} runs and does not answer",
            [
                f"process {report.process.pid} is there; asked at {report.node.client}"
                f" {'twice' if len(seen.looks) > 1 else 'once'}: {report.why}",
                "a start that reads a long log, a machine without a free processor, or a hung disk",
            ],
            seen.command("status health --wait 30s"),
            also=[
                seen.command(f"logs --node {number} --tail 20"),
                seen.command(f"node restart {number}"),
            ],
            nodes=frozenset({number}),
        )


def _replica(seen: Situation, report: Report, partition: int) -> Problem:
    """The process of one partition of a node that runs: it stands still, has ended, or is silent."""
    number = report.node.id
    logs = seen.command(f"logs --node {number} --tail 20")
    if partition in report.process.paused_partitions:
        return Problem(
            ProblemKind.NODE_PAUSED,
            Severity.DEGRADED,
            f"the process of partition {partition} of node {number} is paused",
            ["it is stopped (SIGSTOP): it answers nothing, and the other partitions of the node do"],
            seen.command(f"node resume {number}"),
            also=[logs],
            nodes=frozenset({number}),
        )
    return Problem(
        ProblemKind.NODE_SILENT,
        Severity.DEGRADED,
        f"the process of partition {partition} of node {number} does not answer",
        [report.why, "its node starts it again when it ends"],
        seen.command("status health --wait 30s"),
        also=[logs, seen.command(f"node restart {number}")],
        nodes=frozenset({number}),
    )


def rejoining(seen: Situation) -> Iterator[Problem]:
    """Nodes that do not trust their own disk, and those that lately did not."""
    active = {report.node.id: report for report in seen.survey.rejoining}
    for number, report in active.items():
        yield _rejoining(seen, report, number)
    for number, repair in seen.repairs.items():
        if number in active or repair.code != DamagedRecord.code or not repair.done:
            continue
        yield Problem(
            ProblemKind.DAMAGE,
            Severity.NOTE,
            f"node {number} found its log damaged and has repaired itself from the others",
            [f"{_clock(repair.begun)}: {repair.reason}", f"{_clock(repair.done)}: it was sound again"],
            seen.command("verify"),
            also=[seen.command(f"logs --node {number} --level warning"), "esctl doctor"],
            nodes=frozenset({number}),
        )


def slow_disk(seen: Situation) -> Iterator[Problem]:
    """Nodes whose disk is, or lately was, slower than those of the majority."""
    for report in seen.survey.up:
        status = report.status or {}
        lag_ms, was_slow = status.get("disk_lag_ms"), status.get("disk_was_slow")
        if not isinstance(lag_ms, int) or not was_slow:
            continue
        number = report.node.id
        now = f"it is {duration(lag_ms / 1000)} behind what a majority has" if lag_ms else "it has all again"
        evidence = [f"{now}; it was over {limits.SLOW_DISK_MS} ms behind within the last 10 s"]
        if report.leads:
            what = f"the disk of node {number} is slow, and every ack waits for it: node {number} leads"
            evidence.append(
                "it hands over to a follower that has kept up for 10 s,"
                f" {limits.YOUNG_LEADERSHIP_MS / 1000:g} s after it became leader at the earliest"
            )
        else:
            what = f"the disk of node {number} is slow; another node leads, and nobody waits for it"
            evidence.append("while another node can lead, it is handed nothing and stands for election last")
        yield Problem(
            ProblemKind.SLOW_DISK,
            Severity.DEGRADED if report.leads else Severity.WARNING,
            what,
            evidence,
            seen.command("status health --wait 10s"),
            first=f"look at the disk of node {number}: iostat -x 1, dmesg, smartctl; or move its data",
            also=["esctl doctor", seen.command(f"logs --node {number} --level warning")],
            nodes=frozenset({number}),
        )


def _ended(seen: Situation, number: int) -> Problem:
    words = seen.words.get(number, LastWords(EndKind.NEVER))
    kind, what, evidence, first = _why_it_ended(seen, number, words)
    if number in seen.bad_configs and kind is not ProblemKind.BAD_CONFIG:
        kind, what = ProblemKind.BAD_CONFIG, "its configuration cannot be used"
    if kind is ProblemKind.BAD_CONFIG:
        evidence = [seen.bad_configs.get(number, words.reason)]
        first = "fix that file; `esctl docs deployment` lists every key"
        if number not in seen.bad_configs:
            evidence.append("its configuration can be read now")
            first = ""
    if number in seen.without_data:
        lost = "its data directory is gone, or the log in it"
        others = len(seen.survey.cluster.nodes) - len(seen.without_data) >= seen.survey.cluster.quorum
        evidence.append(f"{lost}: started, it fetches its log from all the others" if others else lost)
    helps, also = seen.command(f"node start {number}"), [seen.command(f"logs --node {number} --tail 20")]
    if kind is ProblemKind.DISK_FULL and seen.has_no_room(number) and (elsewhere := seen.elsewhere(number)):
        helps, also = elsewhere, [helps, *also]  # without room it would end again
    return Problem(
        kind,
        Severity.DEGRADED,
        f"node {number} is down: {what}",
        evidence,
        helps,
        first=first,
        also=also,
        nodes=frozenset({number}),
    )


def _why_it_ended(seen: Situation, number: int, words: LastWords) -> tuple[ProblemKind, str, list[str], str]:
    """Kind, reason in a few words, evidence, and what a person does first."""
    said = f"its last words, {_clock(words.time)}: {' '.join(filter(None, (words.code, words.reason)))}"
    match words.end:
        case EndKind.STOPPED:
            when = f"its log ends with node_stopped, {_clock(words.time)}"
            return ProblemKind.NODE_DOWN, "it was stopped as asked", [when], ""
        case EndKind.NEVER:
            return ProblemKind.NODE_DOWN, "it has never run", ["it has no log"], ""
        case EndKind.CRASHED:
            return ProblemKind.NODE_DOWN, "its process broke down", [said], ""
        case EndKind.CUT_SHORT:
            return (
                ProblemKind.NODE_DOWN,
                _killed(seen, number),
                [f"its log stops at {_clock(words.time)}, and it logged no reason"],
                "",
            )
        case EndKind.FAILED:
            return _failed(seen, number, words, said)


def _killed(seen: Situation, number: int) -> str:
    if number in seen.rebooted:
        return "the machine was restarted since"
    if number in seen.killed_by_us:
        return "it was killed by esctl"
    return "it was killed: kill -9, or the kernel ran out of memory"


def _failed(
    seen: Situation, number: int, words: LastWords, said: str
) -> tuple[ProblemKind, str, list[str], str]:
    on_purpose = "(the fault " in words.reason
    if words.code == StorageFailed.code and any(sign in words.reason for sign in _NO_ROOM):
        evidence = [said]
        first = ""
        if on_purpose:
            evidence.append("an injected fault caused that; it ended with the node")
        elif number in seen.disks:
            evidence.append(f"its disk has {_room(seen, number)} now")
            first = f"make room in {seen.survey.cluster.node(number).data_dir}"
            if seen.has_no_room(number) and seen.elsewhere(number):
                first += " and start it; or give it an empty directory on another disk"
        return ProblemKind.DISK_FULL, "its disk was full", evidence, first
    if words.code == StorageFailed.code:
        evidence = [said, *(["an injected fault caused that; it ended with the node"] if on_purpose else [])]
        first = "" if on_purpose else "check the disk: dmesg, smartctl"
        return ProblemKind.DISK_FAILED, "its disk refused a write", evidence, first
    if words.code == InvalidConfig.code:
        return ProblemKind.BAD_CONFIG, "its configuration cannot be used", [said], ""
    if words.code == MembersChanged.code:
        first = f"put `members` in {seen.survey.cluster.node(number).config} back to those that it names"
        return ProblemKind.SETTINGS_DIFFER, "its file lists other members than it began with", [said], first
    if words.code == AddressTaken.code:
        node = seen.survey.cluster.node(number)
        first = f"stop what listens on {node.client} or {node.peer}: ss -ltnp shows it"
        return ProblemKind.PORT_TAKEN, "a port of it is in use", [said], first
    if words.code == FilesGone.code:
        first = "find out what removes or replaces files there, before the node starts again"
        return ProblemKind.FILES_GONE, "its files were removed or replaced while it ran", [said], first
    if words.code == NewerFormat.code:
        return ProblemKind.NEWER_FORMAT, "a newer version has written its data", [said], words.helps
    if words.code == UnsafeRepair.code:
        what = "its log is damaged, and it waits: another node is not whole either"
        return ProblemKind.DAMAGE, what, [said], f"wait until the other one is whole; or decide: {_REJOIN}"
    if words.code == DamagedRecord.code:
        return ProblemKind.DAMAGE, "its log is damaged, and it could not repair it", [said], words.helps
    return ProblemKind.NODE_DOWN, "it ended with an error", [said], _by_hand(words.helps)


def _by_hand(helps: str) -> str:
    """What the node said that helps, unless that is to start it again."""
    return "" if helps.startswith("start the node") else helps


def _rejoining(seen: Situation, report: Report, number: int) -> Problem:
    cause = report.rejoin_cause
    evidence = [f"it does not trust its own disk ({cause or 'no cause given'}): no vote, no reads meanwhile"]
    repair = seen.repairs.get(number)
    if repair is not None and not repair.done:
        evidence.insert(0, f"{_clock(repair.begun)}: {repair.reason}")
    lag = seen.lag(report)
    if lag is not None and lag.events:
        left = f"about {duration(lag.left_s)} left" if lag.left_s is not None else "it does not come closer"
        evidence.append(f"{quantity(lag.events, 'event')} to fetch, {lag.taken_per_s:,.0f} a second: {left}")
    evidence += [
        f"it needs every other node to answer once, and node {other.node.id} does not"
        for other in seen.missing
    ]
    damaged = cause == "damage"
    what = "its log is damaged, and it fetches it from the others" if damaged else "it is rejoining"
    return Problem(
        ProblemKind.DAMAGE if damaged else ProblemKind.REJOINING,
        Severity.DEGRADED,
        f"node {number}: {what}"
        if damaged
        else f"node {number} is rejoining: it fetches its log from the others",
        evidence,
        seen.command("status health --wait 1m"),
        also=[seen.command(f"logs --node {number} --level warning")],
        nodes=frozenset({number}),
    )


def _room(seen: Situation, number: int) -> str:
    disk = seen.disks[number]
    return f"{disk.free_bytes / 1e9:,.1f} GB free ({disk.free_percent:.0f} %)"


def _clock(time: str) -> str:
    """The time of day of a log line, to the second."""
    return f"{time[11:19]} UTC" if len(time) >= 19 else "at an unknown time"
