"""`esctl fault partition` and `net`: links that are cut, or made slow, lossy and unreliable."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.chaos import effect
from esctl.chaos.effect import Effect, EffectLook
from esctl.cli import guard
from esctl.cli.arguments import DryRun, OnlyPartition, Yes
from esctl.cli.durationoption import METAVAR
from esctl.cli.invocation import Invocation
from esctl.commands.fault.injection import Lease, Name, counts, new_id, sides_of, strike, survey_of, voters_of
from esctl.errors import InvalidArgument
from esctl.faults import nodeorders
from esctl.faults.partitionshapes import Partition, Shape, about_leader, partition
from esctl.ui.answer import Answer

if TYPE_CHECKING:
    from esctl.commands.fault.answers import (
        Cut,
        CutStrike,
        JudgedCutStrike,
        JudgedLinkStrike,
        LinkStrike,
        PlannedCutStrike,
        PlannedLinkStrike,
        StruckLinks,
    )


def cut(
    run: Invocation,
    shape: Annotated[Shape, typer.Argument(help="Shape of the partition")],
    node: Annotated[
        int | None,
        typer.Argument(metavar="[NODE]", min=1, help="Node for the shapes isolate, bridge and one-way"),
    ] = None,
    only: OnlyPartition = None,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedCutStrike | CutStrike | JudgedCutStrike]":
    """Cut nodes off from each other; clients still reach all of them"""
    cluster, lease_ms = run.cluster(), nodeorders.lease_of(lease)
    aim = survey_of(run, cluster, only)
    leader = aim.leader
    if leader is None and about_leader(shape, node) and len(aim.partitions) > 1:
        raise InvalidArgument(
            f"{shape} is about the leader, and the partitions have not the same one; nothing was done",
            next_step=f"{run.typed} --partition 0",
        )
    wanted = partition(shape, voters_of(aim), leader, node, {*aim.down} | aim.uncounted)
    ordered = nodeorders.block(wanted.cuts, new_id("cut", name))
    data: Cut = {"leader": leader, **wanted.as_data()}
    sides = sides_of(wanted)
    if not dry_run:
        run.terminal.view(sides)
        if not wanted.keeps_quorum:
            run.terminal.warn("no side can lead: nothing is acked until it is healed")
            guard.moderate(run.terminal, f"cut {cluster.name} apart for {lease}.", yes=yes, typed=run.typed)

    leaders = {
        one.partition: one.leader.node.id if one.leader is not None else None for one in aim.partitions
    }

    def judge(struck: int | None, looks: Mapping[int, EffectLook], elapsed_ms: int) -> list[Effect]:
        return effect.of_partition(wanted, ordered, leaders[struck], looks, elapsed_ms)

    what = f"{shape}{f' {node}' if node is not None else ''}"
    return strike(
        run, aim, ordered, lease_ms, data, what, judge,
        dry_run=dry_run, plan=sides, ways=[f"partition {shape}"],
    )  # fmt: skip


Link = Annotated[
    str,
    typer.Argument(
        metavar="[LINK]", help="Link such as 1-3; 2 means all links of node 2; all means every link"
    ),
]
Duplicate = Annotated[
    str | None,
    typer.Option("--duplicate", metavar="SHARE", help="Share of messages that are sent twice: 5%"),
]
Reorder = Annotated[
    str | None,
    typer.Option(
        "--reorder",
        metavar="SHARE",
        help="Share of messages that are held back, so that later ones overtake them: 10%",
    ),
]
Hold = Annotated[
    str | None,
    typer.Option("--hold", metavar=METAVAR, help="How long --reorder holds a message back: 200ms"),
]
Rate = Annotated[
    str | None,
    typer.Option("--rate", metavar="BYTES", help="Bandwidth limit in bytes per second: 50k, 2M"),
]
Reset = Annotated[
    str | None,
    typer.Option("--reset", metavar="SHARE", help="Share of messages that break the connection: 1%"),
]


def net(
    run: Invocation,
    link: Link = "all",
    delay: Annotated[
        str | None, typer.Option("--delay", metavar=METAVAR, help="Delay of each message")
    ] = None,
    jitter: Annotated[
        str | None, typer.Option("--jitter", metavar=METAVAR, help="Extra random delay")
    ] = None,
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="SHARE", help="Share of messages that are lost: 5%")
    ] = None,
    duplicate: Duplicate = None,
    reorder: Reorder = None,
    hold: Hold = None,
    rate: Rate = None,
    reset: Reset = None,
    stall: Annotated[bool, typer.Option("--stall", help="Hold all messages until the fault ends")] = False,
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Affect only the direction from the first node to the second")
    ] = False,
    only: OnlyPartition = None,
    lease: Lease = "10s",
    name: Name = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> "Answer[PlannedLinkStrike | LinkStrike | JudgedLinkStrike]":
    """Make links slow, lossy or unreliable; a fault affects whole messages"""
    cluster, lease_ms = run.cluster(), nodeorders.lease_of(lease)
    shares = {"drop": drop, "duplicate": duplicate, "reorder": reorder, "reset": reset}
    kinds = nodeorders.kinds_of(shares, delay, jitter, rate, stall=stall, hold=hold)
    aim = survey_of(run, cluster, only)
    voters = voters_of(aim)
    cuts = nodeorders.links_of(link, voters, one_way=one_way)
    ordered = nodeorders.on_links(cuts, new_id("net", name), kinds)
    total = kinds.get("stall") is not None or any(
        p.get("permille") == 1000 for kind, p in kinds.items() if kind in ("drop", "reset")
    )
    partition = Partition(
        None,
        tuple(voters),
        frozenset(cuts if total else ()),
        frozenset({*aim.down} | aim.uncounted),
    )
    what = f"{' + '.join(kinds)} on {'all links' if link == 'all' else f'link {link}'}"
    sides = sides_of(partition)
    if not dry_run:
        run.terminal.view(sides)
    if not dry_run and not partition.keeps_quorum:
        guard.moderate(
            run.terminal, f"strike {cluster.name} with {what} for {lease}.", yes=yes, typed=run.typed
        )
    data: StruckLinks = {"links": sorted(cuts), **partition.as_data()}
    return strike(
        run, aim, ordered, lease_ms, data, what, counts(aim, ordered),
        dry_run=dry_run, plan=sides, ways=[f"net {kind}" for kind in kinds],
    )  # fmt: skip
