"""`esctl bench e2e`: from the append of an event to its delivery at a subscriber."""

import secrets
from typing import TYPE_CHECKING, Annotated

import typer

from esctl.cli.invocation import Invocation
from esctl.commands.bench import options, screens
from esctl.ui.answer import Answer, Chart, Fields, Trouble, Value, View
from esctl.ui.formatting import duration
from esnode.errors import OperationTimeout

if TYPE_CHECKING:
    from esctl.bench.delivery import EndToEnd
    from esctl.bench.machine import ClusterData, MachineData
    from esctl.bench.runner import Load, TrialPlan
    from esctl.clusters.state import Cluster
    from esctl.commands.bench.answers import DeliveryMeasured, DeliveryResult, UnmeasuredAnswer


def e2e(
    run: Invocation,
    rate: Annotated[
        float,
        typer.Option(
            "--rate",
            metavar="N",
            min=1,
            max=options.HIGHEST_RATE,
            help="Rate of the load, in events per second",
        ),
    ] = 10_000.0,
    seconds: options.Seconds = 10.0,
    node: options.FromNode = None,
    size: options.Size = 100,
    batch: options.Batch = 64,
    window: options.Window = 64,
    warmup: options.Warmup = 2.0,
    runs: options.Runs = 1,
    plot: options.Plot = False,
    save: options.Save = None,
) -> "Answer[DeliveryMeasured | UnmeasuredAnswer]":
    """Append at a fixed rate, and measure the time from the intended send time of an event until a
    subscriber receives it

    The events stay in the log: use a temporary cluster (`esctl cluster up bench`)"""
    from esctl.bench import machine
    from esctl.bench.generator import Generator
    from esctl.bench.runner import TrialPlan

    screens.check_place(save)
    cluster = run.cluster()
    plan = TrialPlan(seconds, warmup, rate, batch, window)
    Generator("0" * 16, size, plan.events_a_batch)  # raises for a size that no event has
    if node is not None:
        cluster.node(node)  # raises for one that is not there
    where = machine.surroundings()
    loads: list[Load] = []
    ended: list[EndToEnd] = []

    def answer() -> "Answer[DeliveryMeasured | UnmeasuredAnswer]":
        if not ended:
            return screens.without_figures(loads)
        result = result_of(ended, where, machine.cluster_facts(cluster))
        return screens.with_file(run, answer_of(result, loads, plot=plot), result, save)

    async def measure() -> None:
        for number in range(1, runs + 1):
            title = "measuring" if runs == 1 else f"run {number} of {runs}"
            ended.append(await _measure(run, cluster, plan, size, node, loads, title))

    run.on_interrupt(answer, "run it again; it makes new events each time")
    try:
        run.trio(measure)
    finally:
        if loads:
            run.terminal.note(screens.added(loads, cluster))
    return answer()


async def _measure(
    run: Invocation,
    cluster: "Cluster",
    plan: "TrialPlan",
    size: int,
    node: int | None,
    loads: list["Load"],
    title: str,
) -> "EndToEnd":
    from esctl.bench.delivery import following, run_end_to_end
    from esctl.bench.generator import Generator, sources_of
    from esctl.bench.trial import connecting
    from esctl.bench.usage import looking_at
    from esctl.commands.bench.progress import watching
    from esctl.query.ringsurvey import ring_of

    sources = sources_of(await ring_of(cluster))
    generator = Generator(secrets.token_hex(8), size, plan.events_a_batch, sources)
    async with watching(run, title, plan.warmup_s + plan.seconds) as watch:

        def begun(load: "Load") -> None:
            loads.append(load)
            watch(load)

        async with following(cluster, node) as followed, connecting(cluster, plan) as log:
            return await run_end_to_end(log, followed, looking_at(cluster), generator, plan, begun)


def result_of(ended: "list[EndToEnd]", machine: "MachineData", cluster: "ClusterData") -> "DeliveryResult":
    """The document of the runs that have ended, one at least."""
    from esctl.bench.result import Result
    from esctl.bench.trial import detail_of, one_after_another, rate_reached, settings_of

    first = ended[0]
    plan = first.trial.plan
    runs = [one.figures() for one in ended]
    return Result(
        kind="e2e",
        settings={
            **settings_of(plan, first.trial.size_bytes, session=False),
            "from": "follower" if any(one.follower for one in first.followed) else "leader",
        },
        machine=machine,
        cluster=cluster,
        runs=runs,
        series=one_after_another([one.series() for one in ended], plan.seconds),
        detail={
            "rate_reached": rate_reached(runs, plan.rate, plan.seconds),
            "latency_from": "the intended send time",
            "node": nodes.pop() if len(nodes := {one.node for one in first.followed}) == 1 else None,
            **detail_of([one.trial for one in ended]),
            "nodes": ended[-1].trial.after.as_data(),
        },
    )


def answer_of(
    result: "DeliveryResult", loads: list["Load"], *, plot: bool = False
) -> "Answer[DeliveryMeasured]":
    """The figures of the runs."""
    errors = screens.troubles(loads)
    missing = sum(int(one["undelivered"] or 0) for one in result.runs)
    if missing:
        late = OperationTimeout(f"{missing:,} events were acked and did not reach the subscriber in time")
        errors.append(Trouble.of(late))
    views = _views(result)
    if plot:
        curves = {"delivery": result.series["p99_ms"], "ack": result.series["ack_p99_ms"]}
        views.insert(
            0, Chart("p99", curves, "seconds", "ms", from_zero=True, height=6)
        )  # the figures stay on the screen
    return screens.ended(result, errors, views)


def _views(result: "DeliveryResult") -> list[View]:
    figures, settings = result.figures, result.settings
    who = "the leader" if settings["from"] == "leader" else "a follower"
    where = f"on node {result.detail['node']}, {who}"
    if "partitions" in result.cluster:
        where = (
            "on the leader of each partition" if who == "the leader" else f"on node {result.detail['node']}"
        )
    pairs: list[tuple[str, Value]] = [
        ("acked", screens.outcome(figures, also="undelivered")),
        ("subscriber", f"{where}; it decodes nothing"),
        ("events", f"{settings['size_bytes']} bytes, {settings['events_a_batch']} a batch"),
        ("measured", f"{duration(settings['seconds'])} after {duration(settings['warmup_s'])} of warm-up"),
        ("processor", screens.cost(figures)),
        ("memory", screens.memory(figures)),
        *screens.where(result),
    ]  # fmt: skip
    return [
        screens.events_per_s(result, f"delivered, at {settings['rate_per_s']:,.0f} asked"),
        screens.latency_table(
            [
                *screens.latency_rows(result, "intended to delivery"),
                *screens.latency_rows(result, "intended to ack", "ack_"),
                *screens.latency_rows(result, "sent to delivery (raw)", "raw_"),
            ]
        ),
        *screens.without_ack(result),
        Fields(pairs),
        *screens.overload(result),
    ]
