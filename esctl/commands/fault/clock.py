"""`esctl fault clock`: a node's time of day set wrong, to show that nothing depends on it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from esctl.chaos import effect
from esctl.chaos.effect import Effect, EffectLook
from esctl.cli import guard
from esctl.cli.arguments import DryRun, OnlyPartition
from esctl.cli.invocation import Invocation
from esctl.commands.fault.injection import Lease, Name, check_up, new_id, strike, survey_of
from esctl.errors import InvalidArgument
from esctl.faults import nodeorders
from esctl.faults.nodeorders import Order
from esctl.ui.answer import Answer, Line

if TYPE_CHECKING:
    from esctl.commands.fault.answers import (
        JudgedNodeOrderStrike,
        NodeOrderStrike,
        OneNode,
        PlannedNodeOrderStrike,
    )

MEANINGS: Final = {
    "jump": "the clock is set forward or back by --by",
    "drift": "the clock runs fast or slow by --rate",
}
"""What the help says of each."""


def _gain(text: str) -> int:
    """Milliseconds; a number alone counts them too."""
    try:
        return nodeorders.shift_ms(text, "ms")
    except InvalidArgument as error:
        raise typer.BadParameter(f"{error}.") from None


def clock(
    run: Invocation,
    how: Annotated[
        Literal["jump", "drift"],
        typer.Argument(help="Kind of clock fault"),
    ],
    node: Annotated[int, typer.Argument(metavar="NODE", min=1, help="Node number")],
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="SHIFT", help="Size of the jump: +2h, -30m", show_default=False),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate",
            metavar="SHIFT",
            help="Milliseconds that the clock gains (50) or loses (-50) per second",
            parser=_gain,
            show_default=False,
        ),
    ] = None,
    partition: OnlyPartition = None,
    lease: Lease = "10s",
    name: Name = None,
    dry_run: DryRun = False,
) -> "Answer[PlannedNodeOrderStrike | NodeOrderStrike | JudgedNodeOrderStrike]":
    """Make a node's wall clock wrong; no decision of the node depends on this clock"""
    from esctl.chaos import nodes  # loaded late: it brings trio and the client

    cluster, lease_ms = run.cluster(), nodeorders.lease_of(lease)
    parameters = _parameters(how, by, rate)
    cluster.node(node)
    aim = survey_of(run, cluster, partition)
    check_up(aim, [node])
    order = Order(node, new_id("clock", name), f"clock-{how}", parameters=parameters)
    before = {one.partition: nodes.look_of(one.report(node), one.partition) for one in aim.partitions}
    text = f"by {by}" if how == "jump" else f"by {rate} ms a second"
    change = guard.quorum_change(cluster, aim.worst.processes, uncounted=aim.uncounted)
    plan = Line(f"the quorum stays as it is: {change.text}")
    if not dry_run:
        run.terminal.view(plan)

    def judge(struck: int | None, looks: Mapping[int, EffectLook], _elapsed_ms: int) -> list[Effect]:
        return effect.of_clock(order, before[struck], looks)

    data: OneNode = {"node": node, "quorum": change.as_data()}
    return strike(
        run, aim, [order], lease_ms, data, f"{how} of node {node}'s clock {text}", judge,
        dry_run=dry_run, plan=plan, ways=[f"clock {how}"],
    )  # fmt: skip


def _parameters(how: str, by: str | None, rate: int | None) -> dict[str, int]:
    if how == "jump" and by is not None and rate is None:
        return {"by_ms": nodeorders.jump_of(by)}
    if how == "drift" and rate is not None and by is None:
        return {"permille": nodeorders.drift_of(rate)}
    wants = "--by, such as +2h" if how == "jump" else "--rate, such as 50ms"
    raise InvalidArgument(f"{how} wants {wants}, and nothing else; nothing was done")
