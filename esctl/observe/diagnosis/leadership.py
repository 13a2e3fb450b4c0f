"""Who leads: no majority, no leader, two of them, or one that no majority confirms.

Pure rules. Two nodes that lead in different terms are one leader and one that does not know yet that it is
outvoted; two in the same term would be a bug. Called by `ranking.py`.
"""

from collections.abc import Iterator, Sequence

from esctl.clusters.backends.interface import RunState
from esctl.observe.diagnosis.lastwords import EndKind
from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Situation
from esctl.query.survey import Report, Survey
from esctl.ui.formatting import duration
from esnode.errors import HistoryConflict

DOCUMENT = 'esctl docs deployment, "When a majority rejoins"'


def two_leaders(seen: Situation) -> Iterator[Problem]:
    """Nodes that claim to lead in one term: that must never be."""
    claims = _claims(seen.survey)
    for term in sorted({_term(report) for report in claims}):
        same = [report for report in claims if _term(report) == term]
        if len(same) < 2:
            continue
        names = " and ".join(f"node {report.node.id}" for report in same)
        yield Problem(
            ProblemKind.TWO_LEADERS,
            Severity.CRITICAL,
            f"{names} both say that they lead in term {term}: this is a bug, and events may be lost",
            [
                "one term has one leader: each node votes once in it (Raft 5.2)",
                *(_position(report) for report in same),
            ],
            seen.command("verify"),
            first="stop every producer, keep a copy of all logs and data directories, and report it",
            also=[seen.command("logs --level warning"), seen.command("status")],
            nodes=frozenset(report.node.id for report in same),
        )


def split_history(seen: Situation) -> Iterator[Problem]:
    """A node that has committed what its leader has not: one of the two has another history."""
    found = {number: [text] for number, text in seen.survey.conflicts.items()}
    for number, words in seen.words.items():
        if words.code == HistoryConflict.code and number not in found:
            found[number] = [f"its last words, {words.time}: {words.reason}"]
    if not found:
        return
    few = len(found) < seen.survey.cluster.quorum  # a leader that all others contradict is the odd one
    names = " and ".join(f"node {number}" for number in sorted(found))
    yield Problem(
        ProblemKind.SPLIT_HISTORY,
        Severity.CRITICAL,
        f"{names} committed another history than the leader's: somebody has lost events or was fed others",
        [
            *(text for number in sorted(found) for text in found[number]),
            "nothing is acked or read by what such a node has; a directory that was put back over its own"
            " files, or a configuration that names other members, does this",
        ],
        seen.command(f"node replace {min(found)}" if few else "verify"),
        first="stop the producers and keep a copy of every data directory until the right history is known",
        also=[seen.command("logs --level error"), *([seen.command("verify")] if few else [])],
        nodes=frozenset(found),
    )


def outvoted(seen: Situation) -> Iterator[Problem]:
    """A node that still says it leads, in a term that is over."""
    leader = seen.survey.leader
    newest = seen.survey.term
    for report in _claims(seen.survey):
        if report == leader or _term(report) == newest:
            continue
        now = (
            f"node {leader.node.id} leads in term {leader.number('term')}"
            if leader
            else f"term {newest} is on"
        )
        yield Problem(
            ProblemKind.OUTVOTED,
            Severity.WARNING,
            f"node {report.node.id} still takes itself for the leader",
            [
                f"it claims term {_term(report)}, and {now}",
                "it can ack nothing: no majority answers it; it follows as soon as it hears the others",
            ],
            seen.command("status health --wait 10s"),
            nodes=frozenset({report.node.id}),
        )


def no_quorum(seen: Situation) -> Iterator[Problem]:
    """Too few nodes answer and vote: nothing is acked."""
    survey = seen.survey
    if survey.may_fail >= 0:
        return
    voting = len(survey.counted)
    total, needed = len(survey.cluster.nodes), survey.cluster.quorum
    short = needed - voting
    gone = sorted({node.id for node in survey.cluster.nodes} - survey.counted)
    what = f"no quorum: {voting} of {total} nodes make it and {needed} are needed; nothing is acked"
    if len(seen.words) == total and all(words.end is EndKind.STOPPED for words in seen.words.values()):
        what = "the cluster is stopped: every node was asked to end, and did"
    evidence = [
        "nothing that was acked is lost while the disks of a majority can be read",
        f"it goes on as soon as {_any_of(short, gone)}",
    ]
    helps, first = _next_for_quorum(seen), ""
    if total - len(seen.without_data) < needed:
        names = ", ".join(map(str, sorted(seen.without_data)))
        evidence = [
            f"the data directories of nodes {names}, or the logs in them, are gone:"
            " what was acked may have been only there"
        ]
        helps = "esctl backup ls"
        first = "find the directories (a missing mount, a rename) before any node starts without its own"
    yield Problem(
        ProblemKind.NO_QUORUM,
        Severity.CRITICAL,
        what,
        evidence,
        helps,
        first=first,
        also=_other_ways(seen),
        nodes=frozenset(gone),
    )


def no_leader(seen: Situation) -> Iterator[Problem]:
    """A majority answers, and in no look did anybody lead."""
    survey = seen.survey
    if survey.may_fail < 0 or any(look.leader is not None for look in seen.looks):
        return
    terms = [look.term for look in seen.looks]
    evidence = [f"{survey.quorum_text}; roles: {_roles(survey)}"]
    if len(seen.looks) > 1:
        rise = terms[-1] - terms[0]
        evidence.append(
            f"elections repeat: term {terms[0]} became {terms[-1]} in {duration(seen.apart_s)}"
            if rise
            else f"term {terms[-1]} for {duration(seen.apart_s)}: nobody gets as far as a vote"
        )
    if seen.elections:
        tried = sorted({one.node for one in seen.elections})
        evidence.append(
            f"{len(seen.elections)} campaigns in the log of the last seconds, by node"
            f" {', '.join(map(str, tried))}"
        )
    evidence += _unheard(survey)
    yield Problem(
        ProblemKind.NO_LEADER,
        Severity.CRITICAL,
        f"nobody leads, though {len(survey.up)} of {len(survey.reports)} nodes answer: nothing is acked",
        evidence,
        seen.command("status health --wait 10s"),
        also=[seen.command("logs --tail 30")],
        nodes=frozenset(report.node.id for report in survey.up),
    )


def not_serving(seen: Situation) -> Iterator[Problem]:
    """A node says that it leads, and no majority confirms it."""
    survey = seen.survey
    if seen.read_error is None or survey.leader is None or survey.may_fail < 0:
        return
    yield Problem(
        ProblemKind.NOT_SERVING,
        Severity.CRITICAL,
        f"node {survey.leader.node.id} says that it leads, and no majority confirms a read",
        [f"a linearizable read failed: {seen.read_error}", *_unheard(survey)],
        seen.command("status health --wait 10s"),
        also=[seen.command("logs --tail 30")],
        nodes=frozenset({survey.leader.node.id}),
    )


def _next_for_quorum(seen: Situation) -> str:
    """The command that brings most of them back."""
    survey = seen.survey
    if not survey.down:
        return seen.command("status health --wait 1m")
    if all(seen.struck_process(report.node.id) for report in survey.down):
        return seen.command("fault heal --all")
    ended = [r for r in survey.down if r.process.state is RunState.DOWN]
    if ended and len(survey.up) - len(survey.rejoining) + len(ended) >= survey.cluster.quorum:
        return f"esctl cluster start {survey.cluster.name}"
    stopped = [r for r in survey.down if r.process.state is RunState.PAUSED]
    if stopped:
        return seen.command(f"node resume {stopped[0].node.id}")
    return f"esctl cluster start {survey.cluster.name}" if ended else seen.command("status health --wait 30s")


def _other_ways(seen: Situation) -> Sequence[str]:
    """What else there is to know. Where nodes are gone for good there is a document, not a command."""
    ways = [seen.command("status")]
    if seen.survey.rejoining or seen.without_data:
        ways.append(DOCUMENT)
    return ways


def _any_of(count: int, gone: Sequence[int]) -> str:
    names = ", ".join(map(str, gone))
    if len(gone) == count:
        return f"node {names} is back" if count == 1 else f"nodes {names} are back"
    return f"{count} of the nodes {names} {'is' if count == 1 else 'are'} back"


def _claims(survey: Survey) -> list[Report]:
    return [report for report in survey.reports if report.leads]


def _term(report: Report) -> int:
    return report.number("term") or 0


def _position(report: Report) -> str:
    return (
        f"node {report.node.id}: term {_term(report)}, last index {report.number('last_index'):,},"
        f" committed {report.number('commit_index'):,}"
    )


def _roles(survey: Survey) -> str:
    return ", ".join(f"node {r.node.id} {(r.status or {})['role']}" for r in survey.up)


def _unheard(survey: Survey) -> list[str]:
    """Links between running nodes that are not there."""
    running = {report.node.id for report in survey.up}
    lost = [
        (report.node.id, int(peer))
        for report in survey.up
        for peer, link in ((report.status or {}).get("peers") or {}).items()
        if int(peer) in running and not link.get("connected")
    ]
    return [f"no connection: {', '.join(f'node {a} to {b}' for a, b in lost)}"] if lost else []
