"""The report of a run: one document for programs, and the same as Markdown for people.

The page of HTML, with its plot, is in `esctl/playbook/page.py`. Reads the run's directory; decides nothing,
and never prints. Called by the commands that drive a run and by `esctl playbook report`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from esctl.bench import ledger
from esctl.playbook import nodechoice
from esctl.playbook.progress import RunProgress
from esctl.playbook.run import loads_of
from esctl.playbook.undo import left_over
from esctl.ui.formatting import duration
from esctl.ui.plain import Nothing

if TYPE_CHECKING:
    from esctl.playbook.answers import RunAnswer, RunLoad, SampledLoad, SampledRunAnswer

_FIGURES: Final = {
    "acked": "acked events of the load",
    "acked_lost": "acked and lost",
    "duplicates": "duplicates",
    "reordered": "reordered",
    "changed": "changed",
    "hashes_equal": "the same log on every node",
    "nodes_read": "nodes read",
}


def document_of(progress: RunProgress, directory: Path) -> "RunAnswer":
    """The run as a JSON document. Times are seconds since 1970."""
    return {
        "schema": "esctl.run/v1",
        "run": progress.run,
        "directory": str(directory),
        "playbook": progress.playbook,
        "cluster": progress.cluster,
        "identity": progress.identity,
        "rehearsal": progress.rehearsal,
        "inputs": dict(progress.inputs),
        "chosen": dict(progress.chosen),
        "state": progress.words,
        "verdict": progress.verdict,
        "why": progress.why,
        "clean": progress.clean,
        "begun": progress.begun_s,
        "seconds": round(progress.spent_ms / 1000, 3),
        "sessions": [
            {"why": why, "begun": begun, "ended": last, "how": how}
            for why, begun, last, how in progress.sessions
        ],
        "steps": [step.as_data() for step in progress.steps.values()],
        "captured": dict(progress.captured),
        "guards": [
            {
                "expr": guard.expr,
                "state": guard.state,
                "history": [{"at": at, "state": state, "text": text} for at, state, text in guard.history],
            }
            for guard in progress.guards.values()
        ],
        "audit": progress.exactly_once,
        "notes": [{"at": at, "step": step, "text": text} for at, step, text in progress.notes],
        "answers": dict(progress.answers),
        "loads": [_load(path) for path in loads_of(directory)],
        "left": left_over(progress),
    }


def _load(directory: Path) -> "RunLoad":
    plan = ledger.read_plan(directory)
    return {
        "name": plan.name,
        "directory": str(directory),
        "rate_per_s": plan.rate,
        "begun": plan.begun,
        "last": ledger.last_sample(directory) or Nothing(),
    }


def with_samples(document: "RunAnswer") -> "SampledRunAnswer":
    """The same, each load with all of its samples."""
    loads: list[SampledLoad] = [
        {**load, "samples": ledger.samples(Path(load["directory"]))} for load in document["loads"]
    ]
    return {**document, "loads": loads}


def markdown(document: Mapping[str, Any]) -> str:
    """The document for people, as Markdown."""
    return "\n".join(_lines(document)) + "\n"


def _lines(run: Mapping[str, Any]) -> Iterator[str]:
    book = run["playbook"]
    yield f"# {_plain(book['title'])}"
    yield ""
    yield f"**{run['verdict'] or run['state']}**: {_plain(run['why'] or run['state'])}"
    yield ""
    yield f"- run `{run['run']}`{' (a rehearsal)' if run['rehearsal'] else ''}"
    yield f"- playbook `{book['id']}` {book['version']}, SHA-256 `{book['digest'][:16]}`"
    yield f"- cluster `{run['cluster']}`, begun {clock(run['begun'])}, {duration(run['seconds'])}"
    if inputs := nodechoice.told(run["inputs"], run["chosen"]):
        yield f"- inputs: {', '.join(f'`{name}` = `{value}`' for name, value in inputs.items())}"
    if run["left"]:
        yield from ("", "## Not undone", "", "```", *run["left"], "```")
    yield from ("", "## Steps", "", "| step | state | seconds | what it did, and why |", "|---|---|---|---|")
    for step in run["steps"]:
        seconds = "" if step["seconds"] is None else f"{step['seconds']:.1f}"
        yield f"| {step['step']} | {step['state']} | {seconds} | {_told(step)} |"
    if run["audit"]:
        yield from ("", "## Exactly once", "", *exactly_once_lines(run["audit"]))
    if run["guards"]:
        yield from ("", "## Guards", "")
        for guard in run["guards"]:
            yield f"- `{guard['expr']}`: {guard['state']}"
            yield from (
                f"  - {seconds_in(run, one['at'])}: {one['state']} {_plain(one['text'])}".rstrip()
                for one in guard["history"]
            )
    if run["loads"]:
        yield from ("", "## Load", "")
        yield from (f"- {line}" for load in run["loads"] for line in load_lines(load))
    if run["notes"]:
        yield from ("", "## Notes", "")
        yield from (f"- {seconds_in(run, one['at'])}: {_plain(one['text'])}" for one in run["notes"])


def exactly_once_lines(facts: Mapping[str, Any]) -> list[str]:
    """What the exactly-once check found, a line each."""
    if "passed" not in facts:
        return [f"- inconclusive: {_plain('; '.join(facts.get('doubts', ())))}"]
    words = {True: "yes", False: "no"}
    lines = [
        f"- {label}: {words.get(facts[name], facts[name]) if isinstance(facts[name], bool) else facts[name]}"
        for name, label in _FIGURES.items()
        if name in facts
    ]
    return [*lines, *(f"- {_plain(flaw)}" for flaw in facts.get("flaws", ()))]


def load_lines(load: Mapping[str, Any]) -> Sequence[str]:
    """What a load saw, in a line or two."""
    last = load["last"]
    if not last:
        return [f"{load['name']}: it has no samples"]
    return [
        f"{load['name']}: {load['rate_per_s']:,.0f} events a second; {last['acked']:,} acked,"
        f" {last['failed']:,} refused, {last['unknown']:,} without an answer",
        f"the longest time without an ack: {last['longest_gap_ms']:,.0f} ms",
    ]


def clock(at_s: float) -> str:
    """A time of the wall clock."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")


def seconds_in(run: Mapping[str, Any], at_s: float) -> str:
    """A time of a run, from its begin on."""
    return f"{at_s - run['begun']:+.1f} s"


def _told(step: Mapping[str, Any]) -> str:
    parts = [_plain(step["title"])] if step["title"] else []
    parts += [f"`{command}`" for command in step["commands"]]
    parts += [_plain(step["why"])] if step["why"] else []
    if step["undo"] in ("done", "failed", "pending"):
        parts.append(f"undo {step['undo']}" + (f": {_plain(step['undo_why'])}" if step["undo_why"] else ""))
    return "<br>".join(parts)


def _plain(text: str) -> str:
    """A text that cannot be taken for Markdown's own marks where that would matter: in a table, a heading."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
