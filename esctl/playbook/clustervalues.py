"""The state of a cluster, as expressions read it: `status` and `cluster` of a survey, `health` of a check-up.

Pure: makes nested tables of what was asked already, by the names of `names.py`. Called by the plan, and by
the run again and again.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esctl.query.checkup import Checkup
    from esctl.query.survey import Report, Survey


def status(survey: "Survey") -> dict[str, Any]:
    """The table `status`."""
    leader = survey.leader.node.id if survey.leader is not None else None
    up = [report.node.id for report in survey.up]
    voters = voters_of(survey)
    followers = [number for number in up if number != leader]
    ends = [report.number("next_offset") or 0 for report in survey.up]
    lags = [survey.behind(report, "next_offset") or 0 for report in survey.up]
    return {
        "leader": leader,
        "term": survey.term,
        "voters": voters,
        "voters_up": len(set(voters) & survey.counted),
        "up": up,
        "down": [report.node.id for report in survey.down],
        "followers": followers,
        "leader_last": [*followers, *([leader] if leader in up else [])],
        "rejoining": [report.node.id for report in survey.rejoining],
        "events": (survey.leader.number("next_offset") if survey.leader else None) or max(ends, default=0),
        "lag_events": max(lags, default=0),
        "versions": sorted({version for report in survey.up if (version := _version(report)) is not None}),
        "quorum": {
            "held": survey.serves,
            "needed": survey.cluster.quorum,
            "may_fail": survey.may_fail,
        },
        "nodes": {str(report.node.id): _node(survey, report) for report in survey.reports},
    }


def cluster(survey: "Survey") -> dict[str, Any]:
    """The table `cluster`."""
    known = survey.cluster
    return {
        "name": known.name,
        "backend": known.backend,
        "nodes": [node.id for node in known.nodes],
        "quorum": known.quorum,
    }


def health(checkup: "Checkup") -> dict[str, Any]:
    """The table `health`."""
    return {
        "ok": checkup.healthy,
        "serving": checkup.serving,
        **{stage.name: stage.ok for stage in checkup.stages},
        "reasons": [reason for stage in checkup.stages for reason, _ in stage.flaws],
    }


def voters_of(survey: "Survey") -> list[int]:
    """The committed membership, as a node that answers has it; without one, all that are configured."""
    for report in survey.up:
        voters = (report.status or {}).get("voters")
        if voters:
            return sorted(int(number) for number in voters)
    return [node.id for node in survey.cluster.nodes]


def _node(survey: "Survey", report: "Report") -> dict[str, Any]:
    return {
        "up": report.up,
        "state": str(report.process.state),
        "role": str(report.status["role"]) if report.status is not None else None,
        "rejoining": report.rejoining,
        "term": report.number("term"),
        "lag_events": survey.behind(report, "next_offset"),
        "faults": len(report.faults),
        "version": _version(report),
    }


def _version(report: "Report") -> str | None:
    return (report.status or {}).get("version")
