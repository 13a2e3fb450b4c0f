"""`esctl config context`: short names for the clusters that one works with, and which of them is in use.

A context is a table in the user's file, or in the project's, that names a cluster. The one in use is a
setting like the others: `esctl config explain context` says where it comes from.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

import typer

from esctl.cli import settings
from esctl.cli.arguments import DryRun
from esctl.cli.invocation import Invocation, command, new_typer
from esctl.clusters import state
from esctl.commands.config.values import Project, file_of
from esctl.errors import InvalidSetting
from esctl.ui.answer import Answer, Cell, Fields, Line, Table, Tone, Value
from esctl.ui.escape import quoted
from esctl.ui.values import ClusterName, FilePath

app = new_typer()
_UNUSE = {
    "environment": "unset ESCTL_CONTEXT",
    "project": "esctl config unset context --project",
    "user": "esctl config unset context",
}
"""How a context is no longer in use, by the layer that says so."""


_From = TypedDict("_From", {"from": str})


class ContextRow(_From):
    """A context, the cluster that it names, and the file that says so."""

    name: ClusterName
    cluster: ClusterName
    used: bool
    there: bool


class ContextsAnswer(TypedDict):
    """The contexts."""

    contexts: list[ContextRow]


class ContextInUseAnswer(_From):
    """Which cluster a command is about if it names none, and why."""

    context: str | None
    cluster: Annotated[str | None, "As it was said: it need not be the name of a cluster"]
    there: bool


class ContextAnswer(TypedDict):
    """A context that was defined or used, or would be."""

    name: ClusterName
    cluster: ClusterName
    file: FilePath
    dry_run: NotRequired[Literal[True]]


class RemovedContextAnswer(TypedDict):
    """A context that was removed, or would be."""

    name: ClusterName
    file: FilePath
    dry_run: NotRequired[Literal[True]]


def names_that_begin(incomplete: str) -> list[str]:
    """What a shell may complete the name of a context to."""
    return [name for name in settings.load().contexts if name.startswith(incomplete)]


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the context", autocompletion=names_that_begin)
]


@command(app, "ls")
def ls(run: Invocation) -> Answer[ContextsAnswer]:
    """List the contexts, which are names for clusters"""
    used, known = run.settings.get("context").value, state.names()
    listed: list[ContextRow] = []
    rows: list[list[Value]] = []
    for name, (cluster, source) in sorted(run.settings.contexts.items()):
        there = cluster in known
        listed.append(
            {"name": name, "cluster": cluster, "used": name == used, "there": there, "from": source.where}
        )
        rows.append(
            [
                Cell(name, Tone.STRONG if name == used else Tone.NORMAL),
                "in use" if name == used else "",
                Cell(cluster if there else f"{cluster} (not there)", Tone.NORMAL if there else Tone.WARN),
                source.where,
            ]
        )
    empty = "no contexts; make one: esctl config context add NAME --to CLUSTER"
    return Answer({"contexts": listed}, [Table(["context", "", "cluster", "from"], rows, empty=empty)])


@command(app, "show")
def show(run: Invocation) -> Answer[ContextInUseAnswer]:
    """Show which cluster a command uses if none is named, and why"""
    context, cluster = run.settings.get("context"), run.settings.cluster()
    chosen, why = cluster.value, cluster.source.where
    known = state.names()
    if chosen is None and len(known) == 1:
        chosen, why = known[0], "it is the only one"
    data: ContextInUseAnswer = {
        "context": None if context.value is None else str(context.value),
        "cluster": None if chosen is None else str(chosen),
        "from": why,
        "there": chosen in known,
    }
    pairs: list[tuple[str, Value]] = [("context", context.value), ("cluster", chosen), ("from", why)]
    if chosen is not None and chosen not in known:
        run.terminal.warn(f"there is no cluster {chosen}; next: esctl cluster ls")
    return Answer(data, [Fields(pairs)])


@command(app, "add", changes=True)
def add(
    run: Invocation,
    name: NameArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="CLUSTER",
            help="Cluster that the context stands for",
            autocompletion=state.names_that_begin,
        ),
    ],
    project: Project = False,
    dry_run: DryRun = False,
) -> Answer[ContextAnswer]:
    """Define or redefine a context: another name for a cluster"""
    state.check_name(name)
    state.load(to)
    path = file_of(project=project)
    data: ContextAnswer = {"name": name, "cluster": to, "file": str(path)}
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(f"would let the context {name} name {to}, in {path}")])
    settings.write_context(path, name, to)
    use = Fields([("next", f"esctl config context use {quoted(name)}")])
    return Answer(data, [Line(f"the context {name} names the cluster {to}", Tone.GOOD), use])


@command(app, "use", changes=True)
def use(
    run: Invocation, name: NameArgument, project: Project = False, dry_run: DryRun = False
) -> Answer[ContextAnswer]:
    """Select a context: commands that name no cluster use the cluster of this context"""
    if name not in run.settings.contexts:
        known = ", ".join(run.settings.contexts) or "none"
        raise InvalidSetting(
            f"there is no context {name}; there are: {known}",
            next_step=f"esctl config context add {quoted(name)} --to CLUSTER",
        )
    path = file_of(project=project)
    cluster, _ = run.settings.contexts[name]
    data: ContextAnswer = {"name": name, "cluster": cluster, "file": str(path)}
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(f"would use the context {name}, in {path}")])
    settings.write(path, "context", name)
    now = settings.load().cluster()
    if now.value != cluster:
        run.terminal.warn(f"commands are about {now.value} all the same: {now.source} comes first")
    return Answer(data, [Line(f"commands that name no cluster are about {cluster}", Tone.GOOD)])


@command(app, "rm", changes=True)
def rm(
    run: Invocation, name: NameArgument, project: Project = False, dry_run: DryRun = False
) -> Answer[RemovedContextAnswer]:
    """Remove a context; its cluster is not changed"""
    path = file_of(project=project)
    if name not in settings.contexts_in(path):
        known = run.settings.contexts
        elsewhere = f"; it is in {known[name][1]}" if name in known else ""
        raise InvalidSetting(
            f"there is no context {name} in {path}{elsewhere}", next_step="esctl config context ls"
        )
    data: RemovedContextAnswer = {"name": name, "file": str(path)}
    if dry_run:
        return Answer({**data, "dry_run": True}, [Line(f"would remove the context {name} from {path}")])
    settings.remove_context(path, name)
    now = settings.load()
    used = now.get("context")
    if used.value == name and name not in now.contexts:
        run.terminal.warn(f"{used.source} names it still; next: {_UNUSE[used.source.layer]}")
    return Answer(data, [Line(f"the context {name} is no longer in {path}", Tone.GOOD)])
