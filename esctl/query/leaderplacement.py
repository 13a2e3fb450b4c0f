"""Why a leader of one of several partitions is not the node that leads it otherwise, for people.

The nodes decide it and say so in their status. Says nothing of what is over in a moment, or said elsewhere.
Called by `status`, `ring show` and `leader transfer`.
"""

from typing import Final

from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from esctl.ui.formatting import duration, shared
from esnode import limits

SOON_MS: Final = 1000 * limits.LEADER_AWAY_S
"""What is over by then needs no word."""


def preferred(leader: Report | None) -> int | None:
    """The node that leads the partition while all nodes are well; None where it may be any."""
    placement = (leader.status or {}).get("placement") if leader is not None else None
    if placement is None or placement["why"] == "free":
        return None
    return int(placement["preferred"])


def note(survey: Survey) -> str:
    """Why another node leads now, with what helps; empty where there is nothing to say."""
    leader, wanted = survey.leader, preferred(survey.leader)
    if leader is None or leader.status is None or wanted in {None, leader.node.id}:
        return ""
    placement, name = leader.status["placement"], f"--cluster {survey.cluster.name}"
    what = f"node {leader.node.id} leads in place of node {wanted}"
    wait_ms = int(placement["wait_ms"])
    match placement["why"]:
        case "asked":
            return (
                f"{what} because an operator asked for it, for another {duration(wait_ms / 1000)}; next:"
                f" esctl leader transfer --partition {survey.partition} --to {wanted} {name}"
            )
        case "unfit" | "placed":
            other = next((report for report in survey.up if report.node.id == wanted), None)
            if other is None:
                return ""  # that it is down is said of it
            return f"{what}, which is behind or not connected; next: esctl logs --node {wanted} {name}"
        case "waits" if wait_ms > SOON_MS:
            return (
                f"{what}, which did not keep the leadership; it gets it again in {duration(wait_ms / 1000)};"
                f" next: esctl logs --node {wanted} {name}"
            )
    return ""


def notes(ring: RingSurvey) -> list[str]:
    """Those of all partitions, once each."""
    said = [note(survey) for survey in ring.partitions]
    return [f"{where}{text}" for where, text in shared([[text] * bool(text) for text in said])]
