"""`esctl bench consume`: how fast the log is read, from the leader or from one other node."""

from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli.arguments import OnlyPartition
from esctl.cli.invocation import Invocation
from esctl.commands.bench import options, screens
from esctl.ui.answer import Answer, Fields, Line, Value, View
from esctl.ui.formatting import duration

if TYPE_CHECKING:
    from esctl.bench.consumption import Consumption, Extent
    from esctl.bench.machine import ClusterData, MachineData
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import ConsumeMeasured, ConsumeResult, ConsumeSettings
    from esctl.ui.progress import Progress


def consume(
    run: Invocation,
    from_offset: Annotated[
        int | None,
        typer.Option("--from", metavar="OFFSET", min=0, help="First offset; by default, the first event"),
    ] = None,
    max_events: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="Stop after this number of events")
    ] = None,
    node: options.FromNode = None,
    partition: OnlyPartition = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every event, as an application does")
    ] = False,
    runs: options.Runs = 1,
    plot: options.Plot = False,
    save: options.Save = None,
) -> "Answer[ConsumeMeasured]":
    """Read the log up to its present end, and measure the throughput; no event is added

    With several partitions, all are read at the same time, or one with --partition; an offset needs that"""
    from esctl.bench import machine

    screens.check_place(save)
    cluster = run.cluster()
    only = run.partition(cluster, partition, required=from_offset is not None)
    if node is not None:
        cluster.node(node)  # raises for one that is not there
    where = machine.surroundings()
    ended: list[Consumption] = []

    def answer() -> "Answer[ConsumeMeasured]":
        if not ended:
            return Answer()
        result = result_of(ended, where, machine.cluster_facts(cluster))
        return screens.with_file(run, answer_of(result, plot=plot), result, save)

    run.on_interrupt(answer)

    async def measure() -> None:
        from esctl.bench.consumption import extent_of

        extent = await extent_of(cluster, from_offset, max_events, node, only)
        for number in range(1, runs + 1):
            title = "reading" if runs == 1 else f"run {number} of {runs}"
            ended.append(await _read(run, cluster, extent, decode=decode, title=title))

    run.trio(measure)
    return answer()


async def _read(
    run: Invocation, cluster: "Cluster", extent: "Extent", *, decode: bool, title: str
) -> "Consumption":
    import trio

    from esctl.bench.consumption import Consumption, consume

    consumption = Consumption(extent, decode)
    with run.terminal.progress(title, extent.events, "events") as bar:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_show, consumption, bar)
            await consume(cluster, consumption)
            nursery.cancel_scope.cancel()
    return consumption


async def _show(consumption: "Consumption", bar: "Progress") -> None:
    import trio

    from esctl.commands.bench.progress import TICK_S

    shown = 0
    while True:
        await trio.sleep(TICK_S)
        bar.advance(consumption.events - shown)
        shown = consumption.events


def result_of(ended: "list[Consumption]", machine: "MachineData", cluster: "ClusterData") -> "ConsumeResult":
    """The document of the readings that have ended, one at least."""
    from esctl.bench.result import Result

    extent = ended[0].extent
    settings: ConsumeSettings = {
        "from_offset": extent.from_offset,
        "events": extent.events,
        "from": "leader" if extent.leads else "follower",
        "decode": ended[0].decode,
    }
    if extent.parts[0].partition is not None:
        settings["partition"] = extent.parts[0].partition if len(extent.parts) == 1 else None
    return Result(
        kind="consume",
        settings=settings,
        machine=machine,
        cluster=cluster,
        runs=[one.figures() for one in ended],
        series=ended[-1].series(),
        detail={"node": extent.node.id if extent.node is not None else None},
    )


def answer_of(result: "ConsumeResult", *, plot: bool = False) -> "Answer[ConsumeMeasured]":
    """The figures of the readings."""
    settings, figures = result.settings, result.figures
    node, leads = result.detail["node"], settings["from"] == "leader"
    source = f"node {node}, {'the leader' if leads else 'a follower'}"
    if "partition" in settings:
        of = "each partition" if settings["partition"] is None else f"partition {settings['partition']}"
        source = f"the leader of {of}" if leads else f"node {node}"
    begin = "the first" if settings["from_offset"] is None else f"offset {settings['from_offset']}"
    how = "every event decoded" if settings["decode"] else "checked, not decoded"
    pairs: list[tuple[str, Value]] = [
        ("read", f"{figures['events'] or 0:,.0f} events from {begin} on, {how}"),
        ("from", source),
        ("took", duration(figures["seconds"] or 0)),
        ("payload", f"{figures['payload_mb_per_s'] or 0:.1f} MB/s"),
        ("processor", screens.cost(figures, ("node", "nodes", "client"))),
        (
            "memory",
            None if figures["node_rss_bytes"] is None else f"node {figures['node_rss_bytes'] / 1e6:.0f} MB",
        ),
        *screens.where(result),
    ]
    views: list[View] = [screens.events_per_s(result, "read"), Fields(pairs)]
    if (figures["seconds"] or 0) < 1:
        views.append(Line("it took less than a second: read more events to trust it"))
    if plot:
        views.insert(0, screens.throughput(result, "read"))  # the figures stay on the screen
    return Answer(result.to_json(), views)
