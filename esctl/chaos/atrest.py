"""Damage to a stopped node's files, and whether the node has found and repaired it.

The damage is done by `esnode/damage.py` in a process of its own; the result is read from the node's
log and status. Decides what counts as repaired: a flipped bit only when the node has moved its log aside and
fetched all of it from the others; half a record when the node continues without asking another node. Never
prints.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NotRequired, TypedDict

import trio

import esnode
from esctl.chaos.effect import Effect, EffectVerdict
from esctl.clusters import nodelog
from esctl.clusters.backends import backend_named
from esctl.clusters.nodelog import LogLine
from esctl.clusters.state import Cluster
from esctl.errors import MachineRefused
from esctl.query import survey as surveys
from esctl.query.survey import Report, Survey
from esctl.ui.values import Count
from esnode.errors import EventStreamError, declared

DAMAGE_TIMEOUT_S: Final = 60.0
LOOK_EVERY_S: Final = 0.1


class DamageData(TypedDict):
    """What was done to which file, as `esnode/damage.py` tells it."""

    file: str
    byte: Count
    bit: NotRequired[Count]
    bytes: NotRequired[Count]
    entry: NotRequired[int | None]
    first_offset: NotRequired[int | None]
    events: NotRequired[int | None]
    text: str
    found: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to which file, in words and as `esnode/damage.py` tells it."""

    text: str
    facts: DamageData


def damage(cluster: Cluster, number: int, what: str, partition: int | None = None) -> Damage:
    """Damage the stopped node's files, where it has several partitions those of one.

    Raises what the node's own program says, `MachineRefused`.
    """
    root = str(Path(esnode.__file__).resolve().parent.parent)
    search = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "esnode.damage", "--config", str(cluster.node(number).config), what]
    command += ["--partition", str(partition)] if partition is not None else []
    try:
        done = subprocess.run(  # noqa: S603  # our own program, the words are ours
            command, capture_output=True, text=True, timeout=DAMAGE_TIMEOUT_S, check=False,
            env={**os.environ, "PYTHONPATH": search},
        )  # fmt: skip
        facts = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise MachineRefused(f"the files of node {number} could not be damaged: {error}") from error
    if "code" in facts:
        cls = declared().get(facts["code"], EventStreamError)
        raise cls(f"node {number}: {facts['error']}")
    return Damage(str(facts["text"]), facts)


async def watch(
    cluster: Cluster,
    number: int,
    what: str,
    before: Report,
    log_end: int,
    timeout_s: float,
    partition: int | None = None,
) -> tuple[Effect, Survey]:
    """Look until the node is whole again, or has shown that it does not know, or the time is over.

    `before`: what it said before it was stopped; `log_end`: how long its log was then; `partition`: whose
    log of several was damaged.
    """
    follower = nodelog.Follower(backend_named(cluster.backend).log_path(cluster, number), number, log_end)
    lines: list[LogLine] = []

    def read_on() -> None:
        lines.extend(line for line in follower.new_lines() if line.partition == partition)

    with trio.move_on_after(timeout_s):
        while True:
            read_on()
            survey = await surveys.ask(cluster, partition=partition)
            judge = _of_flip if what == "flip" else _of_torn
            found = judge(survey, survey.report(number), before, lines)
            if not found.open:
                return found, survey
            await trio.sleep(LOOK_EVERY_S)  # a log is looked at, it does not tell
    with trio.CancelScope(shield=True):
        survey = await surveys.ask(cluster, partition=partition)
    read_on()
    return judge(survey, survey.report(number), before, lines), survey


def _of_flip(survey: Survey, report: Report, before: Report, lines: Sequence[LogLine]) -> Effect:
    number = report.node.id
    begun = next((line for line in lines if line.event == "rejoin_begun"), None)
    if begun is None:
        if any(line.event == "log_checked" for line in lines):
            what = "it has read its whole log and found nothing wrong"
            return Effect(number, EffectVerdict.NO_EFFECT, what)
        return Effect(number, EffectVerdict.UNKNOWN, "it has not come upon it yet", open=True)
    found = f"it found it ({begun.fields.get('reason')})"
    if not report.up or report.rejoining or not _is_level(survey, report, before):
        return Effect(
            number, EffectVerdict.UNKNOWN, f"{found} and fetches its log from the others", 1, open=True
        )
    aside = Path(str(begun.fields.get("put_aside"))).name
    events = report.number("next_offset") or 0
    fetched = f"put its log aside as {aside} and has fetched {events:,} events from the others"
    return Effect(number, EffectVerdict.APPLIED, f"repaired: {found}, {fetched}", 1)


def _of_torn(survey: Survey, report: Report, before: Report, lines: Sequence[LogLine]) -> Effect:
    number = report.node.id
    if any(line.event == "rejoin_begun" for line in lines):
        return Effect(
            number, EffectVerdict.NO_EFFECT, "it treated the torn end as damage and fetches its log again"
        )
    if not report.up or not _is_level(survey, report, before):
        return Effect(number, EffectVerdict.UNKNOWN, "it is not level with the others yet", open=True)
    kept = f"continues after entry {before.number('last_index'):,}, and asked no other node for its log"
    return Effect(number, EffectVerdict.APPLIED, f"repaired: it cut the half record, {kept}", 1)


def _is_level(survey: Survey, report: Report, before: Report) -> bool:
    """Has it all that it had, and all that the leader has applied?"""
    if survey.leader is None or survey.behind(report, "applied_index") != 0:
        return False
    return (report.number("last_index") or 0) >= (before.number("last_index") or 0)
