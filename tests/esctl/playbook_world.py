"""A cluster that is a few variables, and everything that a run of a playbook is given: nothing runs, nothing
waits. Commands change it as they would change a real one; a world can die in the middle, as kill -9 does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from esctl.errors import FaultNotFound, MachineRefused, NotConfirmed
from esctl.exits import Exit
from esctl.playbook import inputs, journal, parser, playbookjson
from esctl.playbook.actions import Actor
from esctl.playbook.commands import typed
from esctl.playbook.execution import Reply
from esctl.playbook.journal import Event, Journal
from esctl.playbook.plan import shown_inputs
from esctl.playbook.progress import RunProgress, progress_of
from esctl.playbook.record import Record
from esctl.playbook.resumption import decided, resumption_of
from esctl.playbook.run import Run
from esctl.playbook.schema import Playbook
from esctl.playbookerrors import LoadNotFound, LoadRuns

HEAD = """
schema = "esctl.playbook/v1"
id = "drill"
version = "1.0.0"
title = "A drill"
risk = "low"
max_duration = "10m"
"""


class Killed(BaseException):
    """The process is gone, as by kill -9: nobody may catch it."""


def playbook(text: str, head: str = HEAD) -> Playbook:
    return parser.parse(head + text, Path("drill.toml"))


@dataclass
class World:
    """Three nodes; node 1 leads. It is a cluster, an executor, values and a person at once."""

    leader: int | None = 1
    up: set[int] = field(default_factory=lambda: {1, 2, 3})
    faults: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    lost: int = 0
    audit: dict[str, Any] = field(
        default_factory=lambda: {"acked_lost": 0, "hashes_equal": True, "passed": True}
    )
    extra: dict[str, Any] = field(default_factory=dict)
    """More tables of values."""
    commands: list[str] = field(default_factory=list)
    """Every command that was run."""
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    """What a command answers instead, by its line; the last one is kept."""
    took_s: dict[str, float] = field(default_factory=dict)
    """How long a command takes, by its first two words."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Called when a command begins, by its first two words."""
    answers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    dead: bool = False

    # --- Executor ----------------------------------------------------------------------------------

    async def run(self, words: Sequence[str], timeout_s: float) -> Reply:
        if self.dead:
            raise Killed
        line, name = " ".join(words), " ".join(words[:2])
        self.commands.append(line)
        if name in self.before:
            self.before[name]()
        with trio.move_on_after(timeout_s) as late:
            async with trio.open_nursery() as nursery:  # as a real one: cancelled, it ends in a group
                nursery.start_soon(trio.sleep, self.took_s.get(name, 0.01))
        if late.cancelled_caught:
            return Reply(Exit.TIMEOUT, errors=[{"code": "", "message": "too late", "cause": ""}])
        scripted = self.replies.get(line) or self.replies.get(name)
        if scripted:
            return scripted.pop(0) if len(scripted) > 1 else scripted[0]
        return self._effect(list(words))

    def typed(self, words: Sequence[str]) -> str:
        return typed(["esctl", *words])

    def _effect(self, words: list[str]) -> Reply:
        match words:
            case ["fault", "heal", "--all"]:
                self.faults.clear()
            case ["fault", "heal", fault] if fault in self.faults:
                self.faults.discard(fault)
            case ["fault", "heal", _]:
                return _error(FaultNotFound)
            case ["fault", *_]:
                self.faults.add(words[words.index("--id") + 1])
                self.leader = 2 if self.leader == 1 else 1
                return Reply(0, {"effect": "applied", "leader_after": self.leader})
            case ["bench", "start", name, *_] if name in self.loads:
                return _error(LoadRuns)
            case ["bench", "start", name, *_]:
                self.loads.add(name)
            case ["bench", "stop", name] if name in self.loads:
                self.loads.discard(name)
            case ["bench", "stop", _]:
                return _error(LoadNotFound)
            case ["node", "stop", number]:
                self.up.discard(int(number))
            case ["node", "start", number]:
                self.up.add(int(number))
        return Reply(0, {"done": True})

    # --- Values ------------------------------------------------------------------------------------

    async def gather(self, roots: Collection[str], wait_s: float) -> dict[str, Any]:
        if self.dead:
            raise Killed
        await trio.lowlevel.checkpoint()
        tables = {
            "status": {
                "leader": self.leader,
                "voters_up": len(self.up),
                "up": sorted(self.up),
                "followers": sorted(self.up - {self.leader}),
            },
            "health": {"ok": not self.faults and len(self.up) == 3, "serving": self.leader is not None},
            "faults": {"active": len(self.faults), "allowed": True},
            "verify": self.audit,
            "load": {"acked_lost": self.lost} if self.loads else {},
            **self.extra,
        }
        return {root: tables[root] for root in roots if root in tables}

    # --- Person ------------------------------------------------------------------------------------

    async def confirm(self, step: str, question: str) -> None:
        if await self.choose(step, question, ["yes", "no"]) != "yes":
            raise NotConfirmed("no")

    async def choose(self, step: str, question: str, choices: Sequence[str]) -> str:
        self.asked.append(question)
        if step not in self.answers:
            raise NotConfirmed("nobody is there")
        return self.answers[step]


def _error(kind: type[Any]) -> Reply:
    return Reply(1, errors=[{"code": kind.code, "message": kind.title, "cause": ""}])


def failing(why: str) -> Reply:
    return Reply(1, errors=[{"code": "ES4106", "message": why, "cause": ""}])


class MortalJournal(Journal):
    """Ends the world when it is about to write line `at`: before it, in the middle of it, or after it."""

    def __init__(self, directory: Path, world: World, at: int, how: str) -> None:
        super().__init__(directory)
        self._world, self._left, self._how = world, at, how

    def write(self, event: str, **facts: Any) -> Event:
        if self._world.dead:
            raise Killed
        self._left -= 1
        if self._left >= 0:
            return super().write(event, **facts)
        self._world.dead = True
        if self._how == "after":
            super().write(event, **facts)
        elif self._how == "torn":
            with (self.directory / journal.JOURNAL).open("ab") as file:
                file.write(b'{"n": 99, "event": "st')
        raise Killed


class FullJournal(Journal):
    """Has no room for line `at`, nor for any after it."""

    def __init__(self, directory: Path, at: int) -> None:
        super().__init__(directory)
        self._left = at

    def write(self, event: str, **facts: Any) -> Event:
        self._left -= 1
        if self._left >= 0:
            return super().write(event, **facts)
        raise MachineRefused("no space left on device")


@dataclass
class Stage:
    """One run of a playbook on a world, in a directory of its own."""

    home: Path
    world: World
    book: Playbook
    given: Mapping[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def progress(self) -> RunProgress:
        """As the journal has it."""
        return progress_of(journal.read(self.home))

    @property
    def states(self) -> dict[str, str]:
        return {step.id: str(step.state) for step in self.progress.steps.values()}

    async def begin(self, opened: Journal | None = None) -> RunProgress:
        opened = opened or Journal(self.home)
        playbookjson.write(self.home, self.book)
        values = inputs.take(self.book, self.given)
        progress = RunProgress()
        facts = {"run": "drill-1", "playbook": {"id": "drill"}, "cluster": "c", "identity": "c-1"}
        kept = shown_inputs(self.book, values)
        line = opened.write("run-begins", **facts, inputs=kept, max_duration_ms=self.book.max_duration_ms)
        progress.take(line)
        try:
            await self._run(opened, progress, values).begin(self.book.max_duration_ms)
        finally:
            opened.close()
        return self.progress

    async def resume(self, answers: Mapping[str, str] | None = None) -> RunProgress:
        book, progress = playbookjson.read(self.home), self.progress
        fates = decided(resumption_of(book, progress), answers or {})
        opened = Journal(self.home)
        values = playbookjson.inputs_again(book, progress.inputs, {})
        left_ms = progress.max_duration_ms - progress.spent_ms
        try:
            await self._run(opened, progress, values, book).resume(left_ms, fates)
        finally:
            opened.close()
        return self.progress

    async def abort(self, opened: Journal | None = None) -> RunProgress:
        book, progress = playbookjson.read(self.home), self.progress
        opened = opened or Journal(self.home)
        try:
            await self._run(
                opened, progress, playbookjson.inputs_again(book, progress.inputs, {}), book
            ).abort()
        finally:
            opened.close()
        return self.progress

    def _run(
        self, opened: Journal, progress: RunProgress, values: Mapping[str, Any], book: Playbook | None = None
    ) -> Run:
        record = Record(book or self.book, values, opened, progress, self.world, self._tell)
        note: Callable[[str, str], None] = lambda step, text: record.write("note", step=step, text=text)  # noqa: E731
        actor = Actor(self.world, self.world, note)
        return Run(record, actor, self.home)

    def _tell(self, event: Event) -> None:
        self.told.append(event["event"])
