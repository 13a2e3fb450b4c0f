"""One run of one command: the options that all commands share, and the one place where it ends.

`@command` adds the shared options to a command's own, hands it an `Invocation`, and turns what it returns
or raises into output and an exit code. Declared errors and those of the operating system become messages,
Ctrl-C, SIGTERM and SIGHUP a summary; an unknown exception passes through to `main.py`. Called by every
module of `esctl/commands`.
"""

import functools
import inspect
import re
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import (
    Annotated,
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
)

import typer

from esctl import oserror
from esctl.cli import auditlog, settings
from esctl.cli.arguments import words_of
from esctl.cli.errorgroups import told_as_one
from esctl.cli.helppage import SHARED_PANEL, CommandWithHelp, GroupWithHelp
from esctl.cli.signals import ended_as_by_ctrl_c, interruptible
from esctl.clusters import state
from esctl.errors import ClusterNotFound, Interrupted, InvalidArgument, NewerState, OnePartitionOnly
from esctl.exits import Exit
from esctl.ui import escape
from esctl.ui.answer import Answer, Trouble
from esctl.ui.streams import ReaderLeft
from esctl.ui.terminal import Output, Terminal
from esnode.dataclass import dataclass
from esnode.errors import Bug, EventStreamError

P = ParamSpec("P")
T = TypeVar("T")
AnyAnswer = Answer[Any] | None
R = TypeVar("R", bound=AnyAnswer)

MAX_FIGURE: Final = 1e9
"""What seconds, rates and percentages of a command line may be: 30 years."""
MAX_NUMBER: Final = 2**63 - 1
"""What a whole number of a command line may be; an offset cannot be larger."""
CLEAN_UP_TIMEOUT_S: Final = 5.0
"""How long a command may take to clean up after Ctrl-C."""

_ABOUT_ONE_CLUSTER: Final = re.compile(
    r"esctl (?:status(?: health)?|why|verify|logs|node ls|leader show|dedup|fault ls|cluster wait"
    r"|cluster start)"
    r"(?: [^\s;,]+)*(?=[;,]|$)"
)
"""A suggested command, up to the end of its words."""

_MISNAMED: Final = "esctl config explain cluster; then name another one: --cluster NAME"
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster", "-c", metavar="NAME", rich_help_panel=SHARED_PANEL, show_default=False,
        help="Cluster to use; required if there are several", autocompletion=state.names_that_begin,
    ),
]  # fmt: skip
OutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output", "-o", rich_help_panel=SHARED_PANEL, show_default=False,
        help="Output format; by default table, but plain in a pipe",
    ),
]  # fmt: skip
JsonOption = Annotated[
    bool, typer.Option("--json", rich_help_panel=SHARED_PANEL, hidden=True, help="The same as -o json")
]
NoColorOption = Annotated[
    bool, typer.Option("--no-color", rich_help_panel=SHARED_PANEL, help="Use no colours")
]
NoInputOption = Annotated[
    bool, typer.Option("--no-input", rich_help_panel=SHARED_PANEL, help="Never ask questions")
]


Impact = Literal["ro", "rw", "destructive"]


@dataclass(frozen=True, slots=True)
class Declared:
    """What a command says of itself: playbooks and the tests read it from the command's callback.

    `changes` is the name of the one option that makes it change something, or whether it does.
    `takes` has the annotation of each of its own parameters; `record` is the type of one line of its stream.
    """

    changes: bool | str
    impact: Impact
    takes: Mapping[str, Any]
    record: Any = None


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """What the options of every command said, before or after the command's name."""

    cluster: str | None = None
    output: Output | None = None
    no_color: bool = False
    no_input: bool = False

    def over(self, outer: "SharedOptions") -> "SharedOptions":
        """These, and where they say nothing, those that stood before the command's name."""
        return SharedOptions(
            cluster=self.cluster or outer.cluster,
            output=self.output or outer.output,
            no_color=self.no_color or outer.no_color,
            no_input=self.no_input or outer.no_input,
        )

    def as_layer(self) -> settings.Layer:
        """These as the strongest layer of the settings."""
        said: dict[str, str | bool | None] = {
            "cluster": self.cluster,
            "output": self.output.value if self.output is not None else None,
            "no_color": self.no_color,
            "no_input": self.no_input,
        }
        values = {key: value for key, value in said.items() if value}
        sources = {key: settings.SettingSource("flag", settings.KNOWN[key].flag) for key in values}
        return settings.Layer(settings.SettingSource("flag", "the command line"), values, sources=sources)


def shared_options(
    cluster: ClusterOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
    no_color: NoColorOption = False,
    no_input: NoInputOption = False,
) -> SharedOptions:
    """The shared options as typer gives them; its signature is what `@command` adds to a command."""
    return SharedOptions(cluster, Output.JSON if json else output, no_color, no_input)


SHARED_WORDS: Final = {
    name: words_of(parameter.annotation)
    for name, parameter in inspect.signature(shared_options).parameters.items()
}
"""The words of a command line that each shared option has, such as `--cluster` and `-c`."""


class Invocation:
    """What a running command has at hand."""

    def __init__(
        self,
        command: str,
        options: SharedOptions,
        *,
        configured: settings.Settings | None = None,
        changes: bool = False,
        audited_as: str | None = None,
        typed: str = "",
        partitions: bool = False,
    ) -> None:
        """`changes`: the command changes something; `audited_as` is its line in the audit log, `typed` the
        line to type it again, both without the shared options; `partitions`: it knows several.

        A dry run has no line.
        """
        self.command = command
        """Its full name, such as `cluster up`."""
        self.settings = settings.Settings((options.as_layer(), *(configured.layers if configured else ())))
        """What the flags, the environment and the files say."""
        output, no_color, no_input = (self.settings.get(k).value for k in ("output", "no_color", "no_input"))
        form = Output(str(output)) if output is not None else None
        self.terminal = Terminal(form, color=not no_color, ask=not no_input)
        self._summary: Callable[[], AnyAnswer] = Answer
        self._after_interrupt = Interrupted.next_step
        self._ended_by = signal.SIGINT
        self._found: str | None = None
        """The name of the cluster that the command has looked up."""
        self._changes = changes
        self._audited_as = audited_as
        self._noted: auditlog.NotedCommand | None = None
        self._typed = typed
        self._partitions = partitions

    @property
    def typed(self) -> str:
        """The line to type for the same again, about the same cluster."""
        words = self._typed or f"esctl {self.command}"
        named = self._found is None or self._found in words.split()
        return words if named else f"{words} --cluster {self._found}"

    @property
    def cluster_name(self) -> str | None:
        """What --cluster names, or the environment, a file or a context. Raises `InvalidSetting`."""
        named = self.settings.cluster().value
        return str(named) if named else None

    def cluster(self, name: str | None = None) -> state.Cluster:
        """The cluster that the command is about; raises `NoCluster`, `SeveralClusters`, `ClusterNotFound`.

        Raises `OnePartitionOnly` where it has several partitions, and the command does not know them.
        """
        asked = name or self.cluster_name
        try:
            found = state.resolve(asked)
        except ClusterNotFound as error:
            source = self.settings.cluster().source
            if name or source.layer in ("flag", "default"):
                raise
            raise ClusterNotFound(f"{error}; {source} names it", next_step=_MISNAMED) from None
        self._found = found.name
        if not self._partitions:
            self.refuse_partitions(found)
        self.intend(found.name)
        return found

    def partition(self, cluster: state.Cluster, number: int | None) -> int | None:
        """The partition that --partition names; None where the cluster has one. Raises `InvalidArgument`."""
        if number is None and cluster.partitions > 1:
            raise InvalidArgument(
                f"{cluster.name} has the partitions 0 to {cluster.partitions - 1}, and none is named;"
                " nothing was done",
                next_step=f"esctl {self.command} --partition 0 --cluster {cluster.name}",
            )
        if number is not None and number >= cluster.partitions:
            what = f"{cluster.name} has no partition {number}; it has {cluster.partitions}"
            raise InvalidArgument(what, next_step=f"esctl ring show --cluster {cluster.name}")
        return number if cluster.partitions > 1 else None

    def refuse_partitions(self, cluster: state.Cluster, what: str = "", instead: str = "") -> None:
        """Raise `OnePartitionOnly` for a cluster with several: for what a command does not do with them.

        `what` is that, if not the whole command; `instead` the command to type next.
        """
        if cluster.partitions > 1:
            raise OnePartitionOnly(
                f"{what or f'esctl {self.command}'} does not work with several partitions yet, and"
                f" {cluster.name} has {cluster.partitions}; nothing was done",
                next_step=f"{instead or 'esctl status health'} --cluster {cluster.name}",
            )

    def intend(self, about: str) -> None:
        """Note in the audit log of `about`, once, what this command is going to do, if it changes anything.

        `cluster` does it; a command that makes a cluster calls this before it acts. An audit log that cannot
        be written is a warning and no refusal: an operator whose disk is full has to be able to act.
        """
        if self._audited_as is None or self._noted is not None:
            return
        try:
            self._noted = auditlog.NotedCommand(auditlog.AuditLog(about), self.command, self._audited_as)
        except (OSError, NewerState) as error:
            self._audited_as = None
            self.terminal.warn(f"this command is not in the audit log: {_why(error)}")

    @contextmanager
    def changing(self, name: str | None = None) -> Iterator[state.Cluster]:
        """The same, for a command that starts or stops something: nobody else does meanwhile."""
        assert self._changes, "a command that takes the lock says that it changes something: changes=True"
        known = self.cluster(name)
        with state.locked(known.name, self.terminal.note):
            yield state.load(known.name)

    def on_interrupt(self, summary: Callable[[], AnyAnswer], next_step: str = "") -> None:
        """After Ctrl-C, SIGTERM or SIGHUP, answer with `summary()`: what was achieved so far; exit code 130.

        None is for commands that end in no other way, such as `logs -f`: nothing is said then.
        `next_step` is for commands that change something: whether they may simply be run again.
        """
        self._summary = summary
        self._after_interrupt = next_step or Interrupted.next_step

    def trio(self, work: Callable[[], Awaitable[T]], clean_up_s: float = CLEAN_UP_TIMEOUT_S) -> T:
        """Run `work` under trio; Ctrl-C, SIGTERM and SIGHUP cancel it, speak, and give it a bounded time to
        clean up.

        `clean_up_s` is longer than that for work that finishes the step it is in.
        """
        import trio  # loaded late: `--help` must be quick

        with told_as_one():
            return trio.run(interruptible, work, self._stopping, clean_up_s)

    def _stopping(self, number: signal.Signals) -> None:
        self._heard(number)
        by = "" if number is signal.SIGINT else f" after {number.name}"
        self.terminal.note(f"stopping{by}; press Ctrl-C again to leave at once")

    def conclude(self, function: Callable[[], AnyAnswer]) -> Exit:
        """Run the command, print how it ended, and give its exit code, whoever reads that."""
        answer, code = self._noted_answer_of(function)
        if answer is not None:
            errors = [replace(one, next=naming(one.next, self._found)) for one in answer.errors]
            self.terminal.show(self.command, replace(answer, errors=errors))
        self.terminal.flush()
        return code

    def _noted_answer_of(self, function: Callable[[], AnyAnswer]) -> tuple[AnyAnswer, Exit]:
        code, error = Exit.ERROR, Bug.code  # what the audit log has of an error that nobody declared
        try:
            answer, code = self._answer_of(function)
            error = answer.errors[0].code if answer is not None and answer.errors else ""
        finally:
            self._note_outcome(code, error)
        return answer, code

    def _note_outcome(self, code: Exit, error: str) -> None:
        if self._audited_as is not None and self._noted is None and code is Exit.OK:
            self.intend(self._found or auditlog.MACHINE)  # it was about no cluster
        if self._noted is None:
            return
        try:
            self._noted.ended(int(code), error or None)
        except (OSError, NewerState) as failure:
            self.terminal.warn(f"how this command ended is not in the audit log: {_why(failure)}")

    def _answer_of(self, function: Callable[[], AnyAnswer]) -> tuple[AnyAnswer, Exit]:
        try:
            # What runs trio below the commands, such as the leases of faults, is not interrupted by `trio`.
            with ended_as_by_ctrl_c(self._heard), told_as_one():
                answer = function()
        except EventStreamError as error:
            if isinstance(error, InvalidArgument) and error.next_step == InvalidArgument.next_step:
                error.next_step = f"esctl {self.command} --help"  # the command's own, not that of all
            answer = Answer.of_error(oserror.with_next_step(error))
        except ReaderLeft:
            return None, Exit.OK
        except KeyboardInterrupt:
            return self._interrupted(), Exit.INTERRUPTED
        except oserror.KINDS as error:
            refused = oserror.declared(error)
            if refused is None:
                raise
            answer = Answer.of_error(refused)
        return answer, answer.exit_code if answer is not None else Exit.OK

    def _heard(self, number: signal.Signals) -> None:
        self._ended_by = number

    def _interrupted(self) -> AnyAnswer:
        achieved = self._summary()
        if achieved is None:
            return None
        by = self._ended_by
        what = Interrupted.title if by is signal.SIGINT else f"{by.name} ended the command"
        trouble = Trouble.of(Interrupted(what, next_step=self._after_interrupt))
        return Answer(achieved.data, achieved.views, (*achieved.errors, trouble), Exit.INTERRUPTED)


def naming(next_step: str, cluster: str | None) -> str:
    """The commands to type next, each with the name of the cluster that they are about.

    What the client library suggests names none, and with several clusters that would be refused.
    """

    def named(match: re.Match[str]) -> str:
        words = match[0].split()
        is_named = not {cluster, *SHARED_WORDS["cluster"]}.isdisjoint(words)
        return match[0] if is_named else f"{match[0]} --cluster {cluster}"

    return _ABOUT_ONE_CLUSTER.sub(named, next_step) if cluster is not None else next_step


def new_typer(**settings: Any) -> typer.Typer:
    """A `typer.Typer` with the settings that all groups share; each command module makes its `app` here."""
    return typer.Typer(
        add_completion=False, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False, cls=GroupWithHelp, **settings,
    )  # fmt: skip


CommandFunction = Callable[Concatenate[Invocation, P], R]


def command(
    group: typer.Typer,
    name: str,
    *,
    changes: bool | str = False,
    impact: Impact | None = None,
    record: Any = None,
    partitions: bool = False,
    **settings: Any,
) -> Callable[[CommandFunction[P, R]], CommandFunction[P, R]]:
    """Register a function as the command `name` of `group`; `settings` go to `Typer.command`.

    Its first parameter is the `Invocation`, the others are typer's. It returns an `Answer` of the type that
    its JSON Schema is made of, or None when it printed a stream, whose lines have the type `record`. A
    command that `changes` something, or has a --dry-run, is in the audit log; where only one of its options
    makes it change something, `changes` names that. `impact` is what it does to a cluster, where that does
    not follow: commands that change something are "rw", others "ro". Only where it says `partitions` does it
    work with a cluster of several: the others are refused before they answer wrongly.
    """

    def register(function: CommandFunction[P, R]) -> CommandFunction[P, R]:
        run = _with_shared_options(function, changes, impact, record, partitions=partitions)
        group.command(name, cls=CommandWithHelp, **settings)(run)
        return function

    return register


def _with_shared_options(
    function: Callable[..., AnyAnswer],
    changes: bool | str,
    impact: Impact | None,
    record: Any,
    *,
    partitions: bool,
) -> Callable[..., None]:
    """The function that typer sees: `ctx`, the command's own parameters, then the shared ones."""
    shared = inspect.signature(shared_options, eval_str=True).parameters
    own = list(inspect.signature(function).parameters.values())[1:]
    changes = changes or any(parameter.name == "dry_run" for parameter in own)

    @functools.wraps(function)
    def run(ctx: typer.Context, **arguments: Any) -> None:
        inner = shared_options(**{key: arguments.pop(key) for key in shared})
        outer = ctx.obj if isinstance(ctx.obj, SharedOptions) else SharedOptions()
        name = ctx.command_path.partition(" ")[2]
        acts = bool(arguments[changes]) if isinstance(changes, str) else changes
        typed = _typed(ctx)
        line = auditlog.spoken(name, typed) if acts and not arguments.get("dry_run") else None
        options = inner.over(outer)
        _check_values(ctx)
        try:
            configured = settings.load()
        except EventStreamError as error:
            code = Invocation(name, options).conclude(functools.partial(Answer.of_error, error))
            raise typer.Exit(code) from None
        again = auditlog.spoken(name, typed, paths=True)
        invocation = Invocation(
            name,
            options,
            configured=configured,
            changes=bool(changes),
            audited_as=line,
            typed=again,
            partitions=partitions,
        )
        code = invocation.conclude(functools.partial(function, invocation, **arguments))
        if code:
            raise typer.Exit(code)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    parameters += [p.replace(kind=keyword) for p in own]
    parameters += [p.replace(kind=keyword) for p in shared.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.declared = Declared(  # type: ignore[attr-defined]
        changes, impact or ("rw" if changes else "ro"), {p.name: p.annotation for p in own}, record
    )
    return run


def _check_values(ctx: typer.Context) -> None:
    """Refuse what no command can mean, whatever its type allows: infinities, and texts that are no text."""
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        for one in value if isinstance(value, list | tuple) else [value]:
            wrong = _wrong_with(one, is_path=parameter.metavar in auditlog.PATH_METAVARS)
            if wrong:
                raise typer.BadParameter(wrong, ctx, param_hint=f"'{max(parameter.opts, key=len)}'")


def _wrong_with(value: Any, *, is_path: bool) -> str:
    if isinstance(value, float) and not abs(value) <= MAX_FIGURE:
        return f"{value} is not a number up to {MAX_FIGURE:,.0f}"
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        return f"{value} has more than 64 bits"
    if isinstance(value, str) and not is_path and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{escape.line(value)} is not UTF-8"
    return ""


def _typed(ctx: typer.Context) -> list[tuple[Any, Any]]:
    """What was typed of the command's own parameters, with their values."""
    shared = inspect.signature(shared_options).parameters
    return [
        (parameter, ctx.params.get(parameter.name or ""))
        for parameter in ctx.command.params
        if parameter.name not in shared
        and getattr(ctx.get_parameter_source(parameter.name or ""), "name", "") == "COMMANDLINE"
    ]


def _why(error: OSError | NewerState) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
