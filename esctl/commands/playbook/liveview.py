"""A run told while it goes: a line for each thing that is over, and below them what goes on now, in place.

On a terminal the lines below are redrawn: the running steps, the guards, the load's last sample. Elsewhere
there is one plain line for each event. Under `-o json` nothing is said. Called by `runner.py`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from esctl.bench import ledger
from esctl.errors import NotConfirmed
from esctl.playbook import nodechoice
from esctl.playbook.journal import Event
from esctl.playbook.progress import RunProgress, StepRun, StepState
from esctl.playbook.run import loads_of
from esctl.playbook.schema import Playbook
from esctl.playbook.stepkinds import NESTING
from esctl.ui.answer import Tone
from esctl.ui.formatting import duration
from esctl.ui.pane import Pane
from esctl.ui.terminal import Output, Terminal

Parts = list[tuple[str, Tone]]
REDRAW_S: Final = 0.2
STEP_WIDTH: Final = 16
_MARKS: Final = {
    StepState.PASSED: ("✓", Tone.GOOD),
    StepState.SKIPPED: ("-", Tone.DIM),
    StepState.FAILED: ("✗", Tone.BAD),
    StepState.INCONCLUSIVE: ("?", Tone.WARN),
    StepState.CUT_OFF: ("✂", Tone.WARN),
}
_GUARDS: Final = {"holds": Tone.GOOD, "breached": Tone.BAD, "failing": Tone.WARN}


class Teller:
    """Tells one run on one terminal."""

    def __init__(
        self, terminal: Terminal, playbook: Playbook, progress: RunProgress, directory: Path
    ) -> None:
        self._terminal = terminal
        self._playbook = playbook
        self._progress = progress
        self._directory = directory
        self._begun_s = time.monotonic()
        self._undoing = ""

    def begin(self) -> None:
        """What is run, where, and about which nodes, where a word said which."""
        self._say([(self._playbook.title, Tone.STRONG)])
        chosen = self._progress.chosen
        for name, text in nodechoice.told(self._progress.inputs, chosen).items():
            if name in chosen:
                self._say([(f"{name}: {text}", Tone.NORMAL)])
        self._say([(f"run {self._progress.run}", Tone.DIM)])

    def tell(self, event: Event) -> None:
        """Something has happened, and the progress knows it already."""
        match event["event"]:
            case "step-ends":
                self._say(self._of_step(self._progress.steps[event["step"]]))
            case "step-acts" if event["commands"] and self._terminal.output is not Output.TABLE:
                self._say([(f"  … {event['step']}: {'; '.join(event['commands'])}", Tone.DIM)])
            case "guard" if event["state"] in ("breached", "failing"):
                self._say([(f"  ! guard {event['state']}: {event['text']}", _GUARDS[event["state"]])])
            case "note":
                self._say([(f"  ⓘ {event['text']}", Tone.ACCENT)])
            case "verdict":
                tone = {"pass": Tone.GOOD, "fail": Tone.BAD}.get(str(event["verdict"]), Tone.WARN)
                head: Parts = [("verdict: ", Tone.STRONG), (f"{event['verdict']}", tone)]
                self._say([*head, (f", {event['why']}", Tone.DIM)])
            case "undo-begins":
                self._undoing = event["step"]
            case "undo-ends":
                self._undoing = ""
                mark, tone = ("↶", Tone.DIM) if event["ok"] else ("✗", Tone.BAD)
                what = (
                    f"undone: {event['step']}"
                    if event["ok"]
                    else f"not undone: {event['step']}: {event['why']}"
                )
                self._say([(f"  {mark} {what}", tone)])

    async def redraw(self, pane: Pane) -> None:
        """Draw what goes on, again and again, until it is cancelled."""
        while True:
            pane.draw(self.now())
            await trio.sleep(REDRAW_S)

    def now(self) -> list[Parts]:
        """What goes on now, a few lines."""
        progress = self._progress
        running = [step for step in progress.steps.values() if step.state is StepState.RUNNING]
        lines = [self._of_running(step) for step in running if step.kind not in NESTING]
        if self._undoing:
            lines.append([("  ↶ ", Tone.WARN), (f"undoing {self._undoing}", Tone.NORMAL)])
        to_come = [s.id for s in self._playbook.steps if s.id not in progress.steps]
        if to_come and progress.verdict is None:
            lines.append([(f"    then {', '.join(to_come)}", Tone.DIM)])
        if progress.guards and progress.verdict is None:
            parts: Parts = [("guards  ", Tone.DIM)]
            for guard in progress.guards.values():
                parts += [(f"{guard.expr} ", Tone.NORMAL)]
                parts += [(f"{guard.state}   ", _GUARDS.get(guard.state, Tone.DIM))]
            lines.append(parts)
        lines += [load_line(sample) for sample in self._sample()]
        spent, most = time.monotonic() - self._begun_s, self._playbook.max_duration_ms / 1000
        lines.append([(f"time    {_clock(spent)} of {_clock(most)}", Tone.DIM)])
        return lines

    def _of_step(self, step: StepRun) -> Parts:
        mark, tone = _MARKS.get(step.state, (" ", Tone.NORMAL))
        spent_s = (step.ended_s or 0) - (step.begun_s or 0)
        said = step.why or step.title or step.kind
        if step.state is not StepState.PASSED:
            said = f"{step.state}: {step.why}" if step.why else str(step.state)
        if step.state is StepState.SKIPPED:
            said = said.replace(": it is only taken if ", ", only taken if ")
        parts: Parts = [
            (f"  {mark} ", tone),
            (step.id.ljust(STEP_WIDTH), Tone.STRONG),
            (f" {said}", Tone.NORMAL),
        ]
        return parts if step.state is StepState.SKIPPED else [*parts, (f"   {duration(spent_s)}", Tone.DIM)]

    def _of_running(self, step: StepRun) -> Parts:
        since_s = max(0.0, time.time() - (step.begun_s or time.time()))
        again = f" (attempt {step.attempt})" if step.attempt > 1 else ""
        said = f" {step.title or (step.commands[0] if step.commands else step.kind)}{again}"
        return [
            ("  … ", Tone.ACCENT),
            (step.id.ljust(STEP_WIDTH), Tone.STRONG),
            (said, Tone.NORMAL),
            (f"   {duration(since_s)}", Tone.DIM),
        ]

    def _sample(self) -> Sequence[Mapping[str, Any]]:
        loads = loads_of(self._directory)
        sample = ledger.last_sample(loads[-1]) if loads else None
        return [sample] if sample is not None and sample["running"] else []

    def _say(self, parts: Parts) -> None:
        if self._terminal.output is not Output.JSON:
            self._terminal.toned(parts, indent=STEP_WIDTH + 5)
            self._terminal.flush()


def load_line(sample: Mapping[str, Any]) -> Parts:
    """A load's last sample, in one line."""
    silent = float(sample["silence_ms"])
    parts: Parts = [("load    ", Tone.DIM), (f"{sample['rate_per_s']:,.0f}/s acked   ", Tone.NORMAL)]
    if sample["p50_ms"] is not None:
        parts.append((f"p50 {sample['p50_ms']:.1f}  p99 {sample['p99_ms']:.1f} ms   ", Tone.NORMAL))
    parts.append((f"longest gap {sample['longest_gap_ms']:,.0f} ms   ", Tone.NORMAL))
    if silent > 1000:
        parts.append((f"silent for {duration(silent / 1000)}", Tone.WARN))
    return parts


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class AtTerminal:
    """The person at the terminal, and what was said on the command line for when nobody is there."""

    def __init__(self, terminal: Terminal, answers: Mapping[str, str], *, yes: bool) -> None:
        self._terminal = terminal
        self._answers = answers
        self._yes = yes

    async def confirm(self, step: str, question: str) -> None:
        """See `actions.Person`."""
        if self._yes:
            return
        answer = self._answers.get(step)
        if answer is None:
            answer = await self._asked(step, f"{question} Go on? [y/N]", f"--yes, or --answer {step}=yes")
        if answer.lower() not in ("y", "yes"):
            raise NotConfirmed(f"step {step} was not confirmed: {question}", next_step="add --yes")

    async def choose(self, step: str, question: str, choices: Sequence[str]) -> str:
        """See `actions.Person`."""
        answer = self._answers.get(step)
        if answer is not None:
            if choices and answer not in choices:
                raise NotConfirmed(f"--answer {step}={answer} is none of {', '.join(choices)}")
            return answer
        told = f"{question} [{'/'.join(choices)}]" if choices else question
        while True:
            answer = await self._asked(step, told, f"--answer {step}=...")
            if not choices or answer in choices:
                return answer

    async def _asked(self, step: str, question: str, instead: str) -> str:
        if not self._terminal.interactive:
            raise NotConfirmed(
                f"step {step} asks, and nobody is there: {question}", next_step=f"add {instead}"
            )
        with self._terminal.without_pane():
            return await trio.to_thread.run_sync(self._terminal.ask, question, abandon_on_cancel=True)
