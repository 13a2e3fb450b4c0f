"""A playbook's file becomes a `Playbook`, or an error that names everything which does not fit.

Decides nothing about what is wise: that is the linter's. Expressions and references are parsed here, so
that what was read can be run; steps of an included playbook become steps of this one. Reads files and nothing
else, never prints. Called by the commands of `esctl playbook`.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import tomli

from esctl.playbook import catalog, expression, inputs, nesting, nodechoice, stepkinds, template
from esctl.playbook.grammar import Literal, Node
from esctl.playbook.lines import Place, lines_of
from esctl.playbook.schema import (
    SCHEMA,
    Action,
    ActionKind,
    Guard,
    Impact,
    Input,
    InputType,
    OnBreach,
    OnFail,
    Playbook,
    Requires,
    Retry,
    Risk,
    Scalar,
    Step,
)
from esctl.playbook.table import TomlProblem, TomlTable, refused
from esctl.playbookerrors import InvalidExpression, InvalidInput, InvalidPlaybook, PlaybookNotFound

MAX_BYTES: Final = 1024 * 1024
MAX_INCLUDES: Final = 8
"""Files within each other."""
_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")
_RISKS: Final = list(Risk)
_NOT_CHOSEN_HERE: Final = (
    "must be a number, or ${...} of an input of this playbook: a node is chosen for a whole run"
)


def read(path: Path) -> Playbook:
    """The playbook in a file; raises `PlaybookNotFound`, `InvalidPlaybook`."""
    return parse(content(path), path)


def parse(text: str, path: Path) -> Playbook:
    """The playbook in a text; `path` is where it stands, for messages and for what it includes.

    Raises `InvalidPlaybook`, whose `problems` are all that is wrong.
    """
    problems: list[TomlProblem] = []
    playbook = _PlaybookReader(path, problems, ()).playbook(text)
    if problems or playbook is None:
        raise refused(path, problems)
    return playbook


def content(path: Path) -> str:
    """The text of a file; raises `PlaybookNotFound`, `InvalidPlaybook`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PlaybookNotFound(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise InvalidPlaybook(f"{path} is over {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidPlaybook(f"{path} is not UTF-8: {error.reason} at byte {error.start:,}") from error


def _line_of(error: tomli.TOMLDecodeError, text: str) -> int:
    """Where the reader of TOML stopped: it says so at the end of its message."""
    told = re.search(r"\(at line (\d+), column \d+\)$", str(error))
    return int(told[1]) if told else max(1, len(text.splitlines()))


class _PlaybookReader:
    """One file. `outer` are the files that include it."""

    def __init__(self, path: Path, problems: list[TomlProblem], outer: tuple[Path, ...]) -> None:
        self._path, self._problems, self._outer = path, problems, outer
        self._guards: list[Guard] = []
        """Those of included playbooks."""
        self._requires: list[Requires] = []
        self._digests: list[str] = []
        self._lines: Mapping[Place, int] = {}
        self._risk = Risk.LOW

    def playbook(self, text: str) -> Playbook | None:
        """None when it is no TOML."""
        try:
            content = tomli.loads(text)
        except tomli.TOMLDecodeError as error:
            what = f"this is not TOML: {error}"
            self._problems.append(TomlProblem("", "", what, str(self._path), _line_of(error, text)))
            return None
        self._lines = lines_of(text)
        head = self._table(content, "", ())
        if (schema := head.text("schema", None)) and schema != SCHEMA:
            head.flaw("schema", f"must be {SCHEMA!r}, not {schema!r}")
        self._risk = head.choice("risk", Risk, None) or Risk.LOW
        requires = self._requirements(head.table("requires"))
        steps = tuple(
            self._step(each, f"step {n + 1}", ("step", n)) for n, each in enumerate(head.tables("step"))
        )
        if not steps:
            head.flaw("step", "is missing: a playbook has one [[step]] at least")
        found = Playbook(
            id=self._id(head),
            version=head.text("version", None),
            title=head.text("title", None),
            risk=self._risk,
            max_duration_ms=head.duration_ms("max_duration", None),
            steps=steps,
            doc=head.text("doc").strip(),
            requires=self._together(requires),
            lock=head.truth("lock", default=True),
            inputs=self._inputs(head.table("inputs")),
            guards=self._all_guards(head.tables("guard")),
            path=str(self._path),
            digest=self._digest(text),
        )
        self._check_texts(head, {"title": found.title, "doc": found.doc})
        head.end()
        return found

    # --- the head -------------------------------------------------------------------------------------

    def _requirements(self, content: Mapping[str, Any]) -> Requires:
        table = self._table(content, "requires", ("requires",))
        found = Requires(
            nodes=table.whole("nodes", 1, 0),
            backends=table.texts("backends"),
            faults=table.truth("faults", default=False),
        )
        table.end()
        return found

    def _together(self, own: Requires) -> Requires:
        """What this playbook and those that it includes want."""
        for other in self._requires:
            both = tuple(one for one in own.backends if one in other.backends)
            own = Requires(
                max(own.nodes, other.nodes),
                both if own.backends and other.backends else own.backends or other.backends,
                own.faults or other.faults,
            )
        return own

    def _inputs(self, content: Mapping[str, Any]) -> tuple[Input, ...]:
        return tuple(self._input(name, each) for name, each in content.items())

    def _input(self, name: str, content: Any) -> Input:
        table = self._table(
            content if isinstance(content, Mapping) else {}, f"input {name}", ("inputs", name)
        )
        if not isinstance(content, Mapping):
            table.flaw("", f"must be a table [inputs.{name}]")
        if not _NAME.fullmatch(name):
            table.flaw("", "must be named in lower case letters, digits and underscores")
        found = Input(
            name,
            table.choice("type", InputType, None) or InputType.STRING,
            table.text("help"),
            choices=table.texts("choices"),
        )
        default = table.anything("default")
        if (found.type is InputType.ENUM) is not bool(found.choices):
            table.flaw("choices", "belong to an enum, and an enum has them")
        if default is not None and found.type is InputType.SECRET:
            table.flaw("default", "cannot be: a secret does not stand in a file that is read by people")
        elif default is not None:
            try:
                found = replace(found, default=inputs.typed(found, default))
            except InvalidInput as error:
                table.flaw("default", str(error).removeprefix(f"{name} "))
        table.end()
        return found

    def _all_guards(self, contents: list[Mapping[str, Any]]) -> tuple[Guard, ...]:
        own = [self._guard(each, number) for number, each in enumerate(contents)]
        return tuple(dict.fromkeys([*own, *self._guards]))

    def _guard(self, content: Mapping[str, Any], number: int) -> Guard:
        table = self._table(content, f"guard {number + 1}", ("guard", number))
        found = Guard(
            self._condition(table, "expr", wanted=True),
            table.duration_ms("every", 500, 50),
            table.duration_ms("for", 0, 0),
            table.choice("on_breach", OnBreach, OnBreach.ROLLBACK) or OnBreach.ROLLBACK,
        )
        table.end()
        return found

    def _digest(self, text: str) -> str:
        """That of the file; with what it includes, where it includes something."""
        own = hashlib.sha256(text.encode()).hexdigest()
        return hashlib.sha256("".join([own, *self._digests]).encode()).hexdigest() if self._digests else own

    # --- steps ----------------------------------------------------------------------------------------

    def _step(self, content: Mapping[str, Any], called: str, place: Place) -> Step:
        given = content.get("id")
        table = self._table(content, f"step {given}" if isinstance(given, str) and given else called, place)
        action = self._action(table)
        reads = action is not None and action.kind in stepkinds.READ_ONLY
        retry = self._table(table.table("retry"), table.where, (*place, "retry"))
        undo = content.get("undo")
        found = Step(
            id=self._id(table),
            action=action or Action(ActionKind.NOTE),
            impact=table.choice("impact", Impact, Impact.READS if reads else None) or Impact.READS,
            title=table.text("title").strip(),
            doc=table.text("doc").strip(),
            when=self._condition(table, "when"),
            pre=self._conditions(table, "pre"),
            expect=self._conditions(table, "expect"),
            timeout_ms=table.duration_ms("timeout", 60_000),
            retry=Retry(retry.whole("attempts", 1, 1), retry.duration_ms("every", 1000, 1)),
            capture=self._capture(table),
            confirm=table.text("confirm").strip(),
            undo=self._undo(table) if undo is not None else None,
            irreversible=table.truth("irreversible", default=False),
            on_fail=table.choice("on_fail", OnFail, OnFail.ROLLBACK) or OnFail.ROLLBACK,
        )
        retry.end()
        inner = table.tables("step")
        self._check_texts(table, {"title": found.title, "doc": found.doc, "confirm": found.confirm})
        table.end(["undo"])
        return replace(found, steps=self._inner(table, found, inner))

    def _action(self, table: TomlTable) -> Action | None:
        """The kind and what it takes; None when the kind is not known."""
        kind, arguments = table.choice("kind", ActionKind, None), table.table("with")
        if kind is None:
            return None
        action = Action(kind, arguments)
        for name, why in stepkinds.flaws(action):
            table.flaw(f"with.{name}", why)
        return action

    def _undo(self, table: TomlTable) -> Action | None:
        inner = self._table(table.table("undo"), f"{table.where}, undo", (*table.place, "undo"))
        action = self._action(inner)
        if action is not None and action.kind in stepkinds.NESTING:
            inner.flaw("kind", f"cannot be {action.kind}: one thing that takes the step back")
        inner.end()
        return action

    def _capture(self, table: TomlTable) -> Mapping[str, str]:
        content = table.table("capture")
        found = {}
        for name, text in content.items():
            if not _NAME.fullmatch(name):
                table.flaw(f"capture.{name}", "must be named in lower case letters, digits and underscores")
            if not isinstance(text, str):
                table.flaw(f"capture.{name}", f"must be an expression in quotes, not {text!r}")
            elif self._parsed(table, f"capture.{name}", text) is not None:
                found[name] = text
        return found

    def _inner(self, table: TomlTable, step: Step, contents: list[Mapping[str, Any]]) -> tuple[Step, ...]:
        """The steps within a `foreach`, or those of the file that an `include` names."""
        kind = step.action.kind
        if kind is ActionKind.INCLUDE and not contents:
            return self._included(table, step)
        if kind is not ActionKind.FOREACH and contents:
            table.flaw("step", f"cannot be within a {kind} step")
        elif kind is ActionKind.FOREACH and not contents:
            table.flaw("step", f"is missing: a {kind} step has [[step.step]] within it")
        return tuple(
            self._step(each, f"{table.where}, {n + 1}", (*table.place, "step", n))
            for n, each in enumerate(contents)
        )

    def _included(self, table: TomlTable, step: Step) -> tuple[Step, ...]:
        name = step.action.arguments.get("playbook")
        if not isinstance(name, str):
            return ()
        path = self._path.parent / name
        if not path.exists():  # a copy of a shipped playbook includes what that does
            path = next((one for one in catalog.shipped_ones().values() if one.name == name), path)
        around = (*self._outer, self._path.resolve())
        if path.resolve() in around or len(around) > MAX_INCLUDES:
            chain = " -> ".join(one.name for one in (*around, path))
            table.flaw("with.playbook", f"leads back to itself or is too deep: {chain}")
            return ()
        try:
            text = content(path)
        except (PlaybookNotFound, InvalidPlaybook) as error:
            table.flaw("with.playbook", str(error))
            return ()
        reader = _PlaybookReader(path, self._problems, around)
        before = len(self._problems)
        found = reader.playbook(text)
        if found is None or len(self._problems) > before:
            return ()
        if _RISKS.index(found.risk) > _RISKS.index(self._risk):
            table.flaw("with.playbook", f"has the risk {found.risk}, more than this one's {self._risk}")
        self._guards += found.guards
        self._requires.append(found.requires)
        self._digests.append(found.digest)
        values = self._given_to(table, step, found)
        try:
            return nesting.renamed(found.steps, f"{step.id}-{{}}", values)
        except InvalidExpression as error:
            table.flaw("with.inputs", str(error))
            return ()

    def _given_to(self, table: TomlTable, step: Step, found: Playbook) -> dict[str, Node]:
        """The inputs of an included playbook: values, or names of this one."""
        given = step.action.arguments.get("inputs", {})
        given = given if isinstance(given, Mapping) else {}
        values: dict[str, Node] = {}
        for name in given:
            if name not in {spec.name for spec in found.inputs}:
                table.flaw(f"with.inputs.{name}", f"is no input of {found.id}")
        for spec in found.inputs:
            value = given.get(spec.name, spec.default)
            references = template.references(value) if isinstance(value, str) else []
            if value is None:
                table.flaw(f"with.inputs.{spec.name}", "is missing, and has no default there")
            elif references:
                if value != f"${{{expression.Expression(references[0])}}}":
                    table.flaw(f"with.inputs.{spec.name}", "must be a value, or one ${...} and nothing else")
                values[f"inputs.{spec.name}"] = references[0]
            elif spec.type is InputType.NODE and value in nodechoice.WORDS:
                table.flaw(f"with.inputs.{spec.name}", _NOT_CHOSEN_HERE)
            else:
                values[f"inputs.{spec.name}"] = Literal(self._typed(table, spec, value, given))
        return values

    def _typed(self, table: TomlTable, spec: Input, value: Any, given: Mapping[str, Any]) -> Scalar:
        if spec.name not in given:
            return spec.default
        try:
            return inputs.typed(spec, value)
        except InvalidInput as error:
            table.flaw(f"with.inputs.{spec.name}", str(error).removeprefix(f"{spec.name} "))
            return None

    # --- parts ----------------------------------------------------------------------------------------

    def _table(self, content: Mapping[str, Any], where: str, place: Place) -> TomlTable:
        return TomlTable(content, where, self._problems, str(self._path), self._lines, place)

    def _id(self, table: TomlTable) -> str:
        found = table.text("id", None)
        if found and not _ID.fullmatch(found):
            table.flaw("id", f"must be lower case letters, digits and dashes, at most 60, not {found!r}")
        return found

    def _condition(self, table: TomlTable, key: str, *, wanted: bool = False) -> str:
        text = table.text(key, None if wanted else "")
        self._check_condition(table, key, text)
        return text

    def _conditions(self, table: TomlTable, key: str) -> tuple[str, ...]:
        found = table.texts(key)
        for text in found:
            self._check_condition(table, key, text)
        return found

    def _check_condition(self, table: TomlTable, key: str, text: str) -> None:
        parsed = self._parsed(table, key, text) if text else None
        if parsed is not None and not parsed.condition:
            table.flaw(key, f"`{text}` is neither true nor false")

    def _parsed(self, table: TomlTable, key: str, text: str) -> expression.Expression | None:
        try:
            return expression.parse(text)
        except InvalidExpression as error:
            table.flaw(key, str(error))
            return None

    def _check_texts(self, table: TomlTable, texts: Mapping[str, str]) -> None:
        for key, text in texts.items():
            try:
                template.references(text)
            except InvalidExpression as error:
                table.flaw(key, str(error))
