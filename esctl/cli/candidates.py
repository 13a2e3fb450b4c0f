"""What a shell may complete a word to: nodes, faults, codes, schemas.

Names of clusters are in `esctl/clusters/state.py`. Whatever goes wrong means that there are no candidates: a
shell that is asked for a completion has no place for an error. Each is (word, what it is). Called by the
arguments of commands, when the shell asks.
"""

from collections.abc import Iterator, Sequence

import typer

from esctl.cli import settings
from esctl.clusters import state
from esnode.errors import EventStreamError

Candidates = list[tuple[str, str]]


def nodes(ctx: typer.Context, incomplete: str) -> Candidates:
    """The nodes of the cluster that the command line is about, by number."""
    cluster = _cluster(ctx)
    listed = cluster.nodes if cluster is not None else ()
    return _that_begin([(str(node.id), node.client) for node in listed], incomplete)


def faults(ctx: typer.Context, incomplete: str) -> Candidates:
    """The faults that are active now; asks the nodes."""
    cluster = _cluster(ctx)
    if cluster is None:
        return []
    import trio  # loaded late: only this one asks nodes

    from esctl.faults import leases
    from esctl.query import ringsurvey

    try:
        looked = trio.run(ringsurvey.ask, cluster)
    except EventStreamError:
        return []
    active = {str(one["id"]): str(one["kind"]) for one in looked.faults}
    active |= {one.id: one.kind for one in leases.active(cluster)}
    return _that_begin(sorted(active.items()), incomplete)


def codes(incomplete: str) -> Candidates:
    """The error codes."""
    from esctl import errors
    from esnode.errors import declared

    assert errors.UsageError.code in declared(), "the toolkit's errors are declared by their import"
    return _that_begin([(code, cls.title) for code, cls in declared().items()], incomplete.upper())


def documents(incomplete: str) -> Candidates:
    """The documents that came with `esctl`."""
    from esctl.cli import packagedfiles

    try:
        return _that_begin([(name, "") for name in packagedfiles.documents()], incomplete)
    except EventStreamError:
        return []


def commands_with_schema(ctx: typer.Context, incomplete: str) -> Candidates:
    """The next word of a command that has a schema."""
    from esctl import schemas

    before = list(ctx.params.get("words") or ())
    found = dict.fromkeys(_next_words(schemas.commands(), before))
    return _that_begin([(word, "") for word in found], incomplete)


def _next_words(known: Sequence[str], before: Sequence[str]) -> Iterator[str]:
    for name in known:
        words = name.split()
        if len(words) > len(before) and words[: len(before)] == list(before):
            yield words[len(before)]


def _that_begin(found: Sequence[tuple[str, str]], incomplete: str) -> Candidates:
    return [(word, what) for word, what in found if word.startswith(incomplete)]


def _cluster(ctx: typer.Context) -> state.Cluster | None:
    """The one that is named so far, or the default one."""
    named: str | None = None
    place: typer.Context | None = ctx
    while place is not None and named is None:
        named = place.params.get("cluster")
        place = place.parent  # type: ignore[assignment]  # a context's parent is one
    try:
        chosen = named or settings.load().cluster().value
        return state.resolve(str(chosen) if chosen else None)
    except EventStreamError:
        return None
