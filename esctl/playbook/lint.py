"""Checks a valid playbook for mistakes: findings, each with its place and what to do about it.

An error is what would do harm or fail when it is run; a warning is what a reader would miss. The rules of the
whole file and of each step are here; what a step may read is judged in `lintnames.py`. Pure but for the
loading of commands. Called by `esctl playbook` before anything is run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from esctl.errors import InvalidArgument
from esctl.faults import nodeorders
from esctl.playbook import commandline, impact, lintnames, stepkinds, template
from esctl.playbook.commands import command_of
from esctl.playbook.lines import Place, line_of
from esctl.playbook.lintrules import LintFinding
from esctl.playbook.nesting import in_a_row
from esctl.playbook.schema import Action, ActionKind, Impact, InputType, Playbook, Risk, Step
from esctl.playbook.stepkinds import NESTING, ONE_OFF, READ_ONLY
from esctl.playbookerrors import NotEvaluable
from esctl.ui.duration import Duration

_SAMPLES: Final = {
    InputType.NODE: 1,
    InputType.INT: 1,
    InputType.DURATION: Duration(10_000),
    InputType.STRING: "text",
    InputType.SECRET: "text",
}
_UNKNOWN: Final = (1, "text", "10s", "5%")


def lint(playbook: Playbook, lines: Mapping[Place, int] | None = None) -> list[LintFinding]:
    """All findings, in the order of the file; none means that it may be run.

    `lines` are those of the playbook's file, from `lines.py`; without them no finding has a line.
    """
    steps, places = list(in_a_row(playbook.steps)), list(_places(playbook.steps, ()))
    found = [*_head(playbook, steps, [place for place, _ in places]), *lintnames.of_guards(playbook)]
    for step, own, (place, is_here) in zip(steps, lintnames.of_steps(playbook), places, strict=True):
        of_step = [*_undo(step), *_impact(step), *_fault(playbook, step), *_time(playbook, step)]
        of_step += [*_commands(playbook, step), *_substance(step), *own]
        found += [replace(one, place=(*place, *(one.place if is_here else ()))) for one in of_step]
    told = [
        replace(one, path=playbook.path, line=line_of(lines, one.place) if lines is not None else None)
        for one in found
    ]
    return sorted(dict.fromkeys(told), key=lambda one: one.line or 0)


def _places(steps: Sequence[Step], outer: Place, *, here: bool = True) -> Iterator[tuple[Place, bool]]:
    """Where each step stands, in the order of `in_a_row`, and whether its own keys are in the file.

    What an `include` holds stands in another one: its place is that of the `include`.
    """
    for number, step in enumerate(steps):
        place = (*outer, "step", number) if here else outer
        yield place, here
        yield from _places(step.steps, place, here=here and step.action.kind is not ActionKind.INCLUDE)


# --- the whole ----------------------------------------------------------------------------------------


def _head(playbook: Playbook, steps: list[Step], places: Sequence[Place]) -> Iterator[LintFinding]:
    if not playbook.doc:
        yield LintFinding.of(
            "doc-missing", "", "the playbook does not say what it is for", "add `doc` to the head"
        )
    yield from _ids(steps, places)
    faults = [number for number, step in enumerate(steps) if step.action.kind is ActionKind.FAULT]
    if faults and not any(_audits(step) for step in steps[faults[-1] + 1 :]):
        yield LintFinding.of(
            "verify-missing",
            steps[faults[-1]].id,
            "after the last fault nothing proves that no event was lost or doubled",
            "end with an `assert` step that expects `verify.acked_lost == 0`, `verify.duplicates == 0` and"
            " `verify.hashes_equal`",
            *places[faults[-1]],
        )
    if faults and not playbook.requires.faults:
        yield LintFinding.of(
            "faults-not-required",
            "",
            "it injects faults and does not say that the cluster must allow them",
            "add `[requires]` with `faults = true`",
            "requires",
        )
    asks = any(step.action.kind is ActionKind.APPROVE or step.confirm for step in steps)
    if playbook.risk is Risk.SEVERE and not asks:
        yield LintFinding.of(
            "approval-missing",
            "",
            "its risk is severe, and no person is asked before it acts",
            "add an `approve` step before the first that changes something, or `confirm` to that step",
            "risk",
        )


def _ids(steps: list[Step], places: Sequence[Place]) -> Iterator[LintFinding]:
    seen: set[str] = set()
    for step, place in zip(steps, places, strict=True):
        if step.id in seen:
            yield LintFinding.of(
                "duplicate-id", step.id, "two steps have this id", "give each step an id of its own", *place
            )
        seen.add(step.id)


def _audits(step: Step) -> bool:
    """Does it prove something about the log?"""
    return step.action.kind is ActionKind.ASSERT and any(
        name.startswith("verify.") for text in step.expect for name in lintnames.names_of(text)
    )


# --- each step ----------------------------------------------------------------------------------------


def _undo(step: Step) -> Iterator[LintFinding]:
    kind = step.action.kind
    acts = step.impact is not Impact.READS and kind not in NESTING and kind is not ActionKind.HEAL
    if acts and step.undo is None and not step.irreversible:
        yield LintFinding.of(
            "undo-missing",
            step.id,
            "it changes something, and nothing takes that back",
            "add `undo`, or say `irreversible = true`",
        )
    if step.undo is not None and step.irreversible:
        yield LintFinding.of(
            "undo-contradicted",
            step.id,
            "it has an undo and says that it is irreversible",
            "leave out one of the two",
            "irreversible",
        )
    if step.impact is Impact.DESTROYS and not step.confirm:
        yield LintFinding.of(
            "confirm-missing",
            step.id,
            "it takes data away without asking",
            "add `confirm` with the question that a person must answer with yes",
        )


def _impact(step: Step) -> Iterator[LintFinding]:
    kind, least = step.action.kind, impact.least_within(step)
    if not impact.at_least(step.impact, least):
        yield LintFinding.of(
            "impact-too-low",
            step.id,
            f'it says "{step.impact}", and what it does is "{least}" at least',
            f'say `impact = "{least}"`',
            "impact",
        )
    if kind in READ_ONLY and step.impact is not Impact.READS:
        yield LintFinding.of(
            "impact-too-high",
            step.id,
            f'a {kind} step changes nothing, and it says "{step.impact}"',
            'say `impact = "ro"`, or leave it out',
            "impact",
        )


def _fault(playbook: Playbook, step: Step) -> Iterator[LintFinding]:
    if step.action.kind is not ActionKind.FAULT:
        return
    given = step.action.arguments
    lease = given.get("lease")
    if lease is None and given.get("how") in ONE_OFF:
        return
    if lease is None:
        yield LintFinding.of(
            "lease-missing",
            step.id,
            "the fault has no lease: it would last as long as the default says",
            "add `lease` to `with`, at most max_duration",
            "with",
        )
        return
    try:
        text = str(template.fill(lease, lintnames.samples(playbook, lease, _SAMPLES)))
        lease_ms = nodeorders.lease_of(text)
    except (InvalidArgument, NotEvaluable) as error:
        why = str(error).removesuffix("; nothing was done")
        yield LintFinding.of(
            "lease-too-long", step.id, why, "take a lease that nodes accept", "with", "lease"
        )
        return
    if lease_ms > playbook.max_duration_ms:
        yield LintFinding.of(
            "lease-too-long",
            step.id,
            f"the lease of {text} is longer than max_duration, {Duration(playbook.max_duration_ms)}",
            "shorten the lease, or let the playbook last longer",
            "with",
            "lease",
        )


def _time(playbook: Playbook, step: Step) -> Iterator[LintFinding]:
    waits = step.action.arguments.get("for") if step.action.kind is ActionKind.WAIT else None
    passes = int(Duration.parse(waits)) if isinstance(waits, str) and "${" not in waits else 0
    bound = playbook.max_duration_ms
    if step.timeout_ms > bound or passes > bound:
        longest = Duration(max(step.timeout_ms, passes))
        yield LintFinding.of(
            "timeout-too-long",
            step.id,
            f"it may take {longest}, and the whole playbook {Duration(bound)}",
            "shorten `timeout`, or lengthen `max_duration`",
            *(("timeout",) if step.timeout_ms > bound else ("with", "for")),
        )


def _commands(playbook: Playbook, step: Step) -> Iterator[LintFinding]:
    undo = [("undo: ", step.undo, ("undo", "with"))] if step.undo is not None else []
    for what, action, place in [("", step.action, ("with",)), *undo]:
        if action.kind is ActionKind.BENCH and action.arguments.get("background") is True:
            yield from _background(step, action)
        if action.kind is ActionKind.ESCTL and _strikes(
            [str(word) for word in action.arguments.get("argv", ())]
        ):
            yield LintFinding.of(
                "fault-not-leased",
                step.id,
                f"{what}it injects a fault as a command, and the run would not know of it",
                "make it a step of kind `fault`, which is leased no longer than the run lasts",
                *place,
            )
        _, note = stepkinds.current(action)
        if note:
            yield LintFinding.of("old-words", step.id, f"{what}{note}", "write the new words", *place)
        flaw = _flaw_of_command(playbook, action)
        if flaw:
            helps = "see `esctl docs commands`, or `esctl --help`"
            yield LintFinding.of("no-such-command", step.id, f"{what}{flaw}", helps, *place)


def _strikes(words: list[str]) -> bool:
    """Is it a command that injects a fault: all of the group `fault` do that change something, but `heal`?"""
    return words[:1] == ["fault"] and words[1:2] != ["heal"] and impact.of_words(words) is not Impact.READS


def _flaw_of_command(playbook: Playbook, action: Action) -> str:
    """Of the command that it comes down to, with a sample in each place that is filled in later.

    What a run captures may be a number, a word or a time: the command has a flaw if it has one with each.
    """
    flaw = ""
    for unknown in _UNKNOWN:
        values = lintnames.samples(playbook, action.arguments, _SAMPLES, unknown)
        try:
            words = command_of(Action(action.kind, template.fill(action.arguments, values)))
        except (KeyError, NotEvaluable):
            return ""  # an argument is missing, or a name: that has been said
        flaw = commandline.flaw_of(words) if words else ""
        if not flaw:
            break
    return flaw


def _background(step: Step, action: Action) -> Iterator[LintFinding]:
    if action.arguments.get("mode") != "produce":
        yield LintFinding.of(
            "not-in-background",
            step.id,
            "only `produce` can run while other steps do",
            'say `mode = "produce"`, or leave out `background`',
            "with",
            "mode",
        )


def _substance(step: Step) -> Iterator[LintFinding]:
    kind = step.action.kind
    looks = kind in (ActionKind.CHECK, ActionKind.ASSERT) or (
        kind is ActionKind.WAIT and "for" not in step.action.arguments
    )
    if looks and not step.expect and not step.capture:
        yield LintFinding.of(
            "expects-nothing",
            step.id,
            f"a {kind} step that expects nothing can never fail",
            "add `expect`, or make it a `note`",
        )
    if not step.doc:
        yield LintFinding.of(
            "doc-missing",
            step.id,
            "it does not say what it does, why, and what to look at",
            "add `doc`, in a sentence or two",
        )
