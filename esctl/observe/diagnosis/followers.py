"""How the followers keep up: one that is behind, and one that does not hear its leader.

Pure rules. A follower lags when it has not even what its leader had at the first look, a second earlier;
a few events on their way are no lag. Called by `ranking.py`.
"""

from collections.abc import Iterator
from typing import Final

from esctl.observe.diagnosis.problem import Problem, ProblemKind, Severity
from esctl.observe.diagnosis.situation import Lag, Situation
from esctl.query.survey import Report
from esctl.ui.formatting import duration, quantity, typed

UNHEARD_MS: Final = 1_000
"""A follower suspects its leader after 600 ms at the latest: one that hears nothing for longer is cut off."""


def lagging(seen: Situation) -> Iterator[Problem]:
    """Followers that are behind by more than the time between two looks."""
    for report in seen.survey.up:
        lag = seen.lag(report)
        if lag is None or report.rejoining or not seen.still_behind(report):
            continue
        number = report.node.id
        catching_up = lag.left_s is not None
        yield Problem(
            ProblemKind.LAGGING,
            Severity.WARNING if catching_up else Severity.DEGRADED,
            f"node {number} is {quantity(lag.events, 'event')} behind the leader"
            + (", and is catching up" if catching_up else ", and does not catch up"),
            [_pace(lag, seen.apart_s), *_link(seen, report)],
            seen.command(f"status health --wait {_patience(lag)}"),
            also=[seen.command(f"logs --node {number} --level warning"), seen.command("status")],
            nodes=frozenset({number}),
        )


def cut_off(seen: Situation) -> Iterator[Problem]:
    """Nodes that answer us and do not hear the leader that the others follow."""
    survey = seen.survey
    if survey.leader is None:
        return
    for report in survey.up:
        status = report.status or {}
        if report.leads or report.rejoining:
            continue
        if not _unheard(status):
            if report.node.id in survey.unheard:
                yield _one_way(seen, report, survey.leader.node.id)
            continue
        silence_ms = int(status.get("silence_ms", -1))
        since = f"for {duration(silence_ms / 1000)}" if silence_ms >= 0 else "since it started"
        leader = survey.leader.node.id
        yield Problem(
            ProblemKind.CUT_OFF,
            Severity.DEGRADED,
            f"node {report.node.id} answers us and does not hear node {leader}, which leads",
            [
                f"it has heard nothing from a leader {since}; its role is {status.get('role')}",
                *_link(seen, report),
            ],
            seen.command("status health --wait 10s"),
            first=f"check the way between node {report.node.id} and node {leader}: peer ports, firewall",
            also=[seen.command(f"logs --node {report.node.id} --tail 20")],
            nodes=frozenset({report.node.id}),
        )


def _one_way(seen: Situation, report: Report, leader: int) -> Problem:
    """It hears the leader, and the leader does not hear it: what it has does not count."""
    number = report.node.id
    return Problem(
        ProblemKind.CUT_OFF,
        Severity.DEGRADED,
        f"node {leader}, which leads, does not hear node {number}: one way between them is cut",
        [
            f"nothing of node {number} has come within an election time; its answers do not count",
            *_link(seen, report),
        ],
        seen.command("status health --wait 10s"),
        first=f"check the way from node {number} to node {leader}: peer ports, firewall",
        also=[seen.command(f"logs --node {number} --tail 20")],
        nodes=frozenset({number}),
    )


def _unheard(status: dict[str, object]) -> bool:
    silence_ms, uptime_s = status.get("silence_ms"), status.get("uptime_s")
    if not isinstance(silence_ms, int):
        return False
    if silence_ms < 0:
        return isinstance(uptime_s, int | float) and uptime_s * 1000 > 2 * UNHEARD_MS
    return silence_ms > UNHEARD_MS


def _pace(lag: Lag, apart_s: float) -> str:
    pace = (
        f"in {duration(apart_s)} the gap went from {lag.before:,} to {quantity(lag.events, 'event')}:"
        f" it takes {lag.taken_per_s:,.0f} a second, the leader {lag.led_per_s:,.0f}"
    )
    return pace if lag.left_s is None else f"{pace}; about {duration(lag.left_s)} left"


def _patience(lag: Lag) -> str:
    """How long to wait for it, as it is typed: twice what it should take, a minute if that is not known."""
    return "1m" if lag.left_s is None else typed(1000 * max(10, min(600, round(2 * lag.left_s))))


def _link(seen: Situation, report: Report) -> list[str]:
    """What the leader says of its way to this node."""
    leader = seen.survey.leader
    peers = (leader.status or {}).get("peers") if leader is not None else None
    link = (peers or {}).get(str(report.node.id))
    if leader is None or not link:
        return []
    state = link.get("state")
    connected = "connected" if link.get("connected") else "not connected"
    sending = f", {state}, {link.get('inflight_bytes', 0):,} bytes on their way" if state else ""
    if total := link.get("snapshot_bytes"):
        sent = link.get("snapshot_sent_bytes", 0)
        sending = f", a snapshot on its way: {sent / 1e6:,.1f} of {total / 1e6:,.1f} MB have left"
    return [f"node {leader.node.id} says of it: {connected}{sending}"]
