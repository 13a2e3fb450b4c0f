"""`esctl bench produce`: events into the log, in a closed loop or at a fixed rate.

The load, its events and its latencies are in `esctl/load`.
"""

import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from esctl.answer import Answer, Fields, Line, Table, Tone, Trouble, Value, View
from esctl.exits import Exit
from esctl.invocation import Invocation
from esnode.errors import OperationTimeout

if TYPE_CHECKING:
    from esctl.load.latency import Percentiles
    from esctl.load.runner import Load, Plan
    from esctl.state import Cluster
    from esctl.terminal import Progress

TICK_S: Final = 0.25
BEHIND: Final = 0.99
"""With less than this of the asked rate acked, the figures are those of an overload."""
THROW_AWAY: Final = "bench"
"""The name that is suggested for a cluster of which nothing is to be kept."""
GENERATOR_SAMPLE: Final = 20_000


def produce(
    run: Invocation,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0.1, help="Measure for so long")
    ] = 10.0,
    rate: Annotated[
        float,
        typer.Option(
            "--rate", metavar="N", min=0, help="Send so many events a second; 0 is as fast as it goes"
        ),
    ] = 0.0,
    size: Annotated[
        int, typer.Option("--size", metavar="BYTES", min=1, help="Make events of this size")
    ] = 100,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, max=1024, help="Send so many events at a time")
    ] = 64,
    window: Annotated[
        int, typer.Option("--window", metavar="N", min=1, max=512, help="Have so many batches under way")
    ] = 64,
    warmup: Annotated[
        float, typer.Option("--warmup", metavar="S", min=0, help="Send for so long before the measuring")
    ] = 2.0,
) -> Answer:
    """Append generated events, in a closed loop or at a fixed rate, and measure; they stay in the log:
    take a cluster that can go (`esctl cluster up bench`)"""
    from esctl.load.generator import Generator
    from esctl.load.runner import Plan

    cluster = run.cluster()
    plan = Plan(seconds, warmup, rate, batch, window)
    generator = Generator(secrets.token_hex(8), size, plan.events_a_batch)
    cost_us = generator_cost_us(size, plan.events_a_batch)
    loads: list[Load] = []
    run.on_interrupt(lambda: _interrupted(loads), "run it again; it makes new events each time")
    try:
        nodes = run.trio(lambda: _measure(run, cluster, generator, plan, loads))
    finally:
        if loads:
            run.terminal.note(added(loads[0], cluster))
    facts = {**facts_of(cluster, plan, size), "generator_us_per_event": round(cost_us, 3), "nodes": nodes}
    return answer_of(loads[0], plan, facts)


def added(load: "Load", cluster: "Cluster") -> str:
    """What the run leaves behind, in one line."""
    unknown = f", and up to {load.unknown:,} more" if load.unknown else ""
    text = f"{load.acked:,} generated events{unknown} are in the log of {cluster.name} now, for good"
    if cluster.name == THROW_AWAY:
        return f"{text}; next, when done: esctl cluster destroy {THROW_AWAY}"
    return f"{text}; for a throw-away one: esctl cluster up {THROW_AWAY}"


async def _measure(
    run: Invocation, cluster: "Cluster", generator: Any, plan: "Plan", loads: list["Load"]
) -> list[dict[str, Any]]:
    """Run the load; what the nodes say of themselves at its end."""
    import trio

    from esctl.inquiry import survey
    from esctl.load.runner import Load
    from esnode.client import connect

    opened = connect(cluster.addresses, cluster=cluster.identity, window=plan.window)
    total = round(plan.warmup_s + plan.seconds)
    with run.terminal.progress("measuring", total, "s") as bar:
        async with opened as log, trio.open_nursery() as nursery:
            load = Load(log, generator, plan)
            loads.append(load)
            nursery.start_soon(_show, load, bar)
            await load.run()
            nursery.cancel_scope.cancel()
    found = await survey.ask(cluster)
    return [
        {"id": report.node.id, "leads": report.leads, "rss_bytes": report.process.rss_bytes}
        for report in found.reports
    ]


async def _show(load: "Load", bar: "Progress") -> None:
    import trio

    begun = trio.current_time()
    shown, before = 0, 0
    while True:
        await trio.sleep(TICK_S)
        now = int(trio.current_time() - begun)
        bar.advance(now - shown)
        bar.describe(f"{(load.acked - before) / TICK_S:,.0f} events/s")
        shown, before = now, load.acked


def generator_cost_us(size: int, batch: int) -> float:
    """What making one event costs the client, in microseconds: a part of every figure."""
    from esctl.load.generator import Generator

    generator = Generator(secrets.token_hex(8), size, batch)
    begun = time.perf_counter()
    while generator.made < GENERATOR_SAMPLE:
        generator.next_batch()
    return (time.perf_counter() - begun) / generator.made * 1e6


def facts_of(cluster: "Cluster", plan: "Plan", size: int) -> dict[str, Any]:
    """What one must know to compare the figures with others."""
    from esctl.load import machine

    return {
        **machine.fingerprint(),
        "cluster_nodes": len(cluster.nodes),
        "storage": cluster.storage,
        "durability": machine.DURABILITY,
        "size_bytes": size,
        "batch": plan.batch,
        "events_a_batch": plan.events_a_batch,
        "window": plan.window,
        "warmup_s": plan.warmup_s,
        "seconds": plan.seconds,
        "rate": plan.rate,
    }


def answer_of(load: "Load", plan: "Plan", facts: dict[str, Any]) -> Answer:
    """The figures of a run that has ended."""
    acked = load.recorder.acked_between(load.begun_s, load.ended_s)
    events_per_s = acked / plan.seconds
    raw = load.recorder.percentiles(load.begun_s, load.ended_s, intended=False)
    corrected = load.recorder.percentiles(load.begun_s, load.ended_s, intended=True) if plan.rate else None
    late_ms = round(load.recorder.most_late_s(load.begun_s) * 1000, 3)
    data = {
        "events_per_s": round(events_per_s, 1),
        "acked": acked,
        "failed": load.failed,
        "unknown": load.unknown,
        "latency_ms": (corrected or raw).as_data(),
        "raw_latency_ms": raw.as_data(),
        "latency_from": "the intended send time" if corrected else "the sending (closed loop)",
        "generator_late_ms": late_ms,
        "acked_in_all": load.acked,
        "errors_by_code": load.errors,
        "facts": facts,
    }
    errors = _troubles(load)
    return Answer(
        data, _views(events_per_s, raw, corrected, data, facts), errors, Exit.ERROR if errors else Exit.OK
    )


def _troubles(load: "Load") -> list[Trouble]:
    from esnode.errors import declared

    errors = [
        Trouble(code, f"{count:,} events got no ack: {declared()[code].title}", "",
                declared()[code].next_step)
        for code, count in sorted(load.errors.items())
    ]  # fmt: skip
    if not load.acked and not errors:
        late = OperationTimeout("nothing was acked", next_step="esctl health")
        errors.append(Trouble.of(late))
    return errors


def _views(
    events_per_s: float,
    raw: "Percentiles",
    corrected: "Percentiles | None",
    data: dict[str, Any],
    facts: dict[str, Any],
) -> list[View]:
    names = ("p50", "p99", "p999", "max")
    columns = ["latency in ms", "p50", "p99", "p99.9", "max"]
    as_sent: list[Value] = ["from the sending (raw)", *(raw.as_data()[name] for name in names)]
    meant: list[Value] = [
        "from the intended time",
        *((corrected.as_data()[n] if corrected else None) for n in names),
    ]
    rate = facts["rate"]
    memory = [f"{node['rss_bytes'] / 1e6:.0f}" for node in facts["nodes"] if node["rss_bytes"]]
    loop = f"at {rate:,.0f} events/s asked" if rate else f"closed loop, {facts['window']} batches under way"
    views: list[View] = [
        Line(f"{events_per_s:,.0f} events/s acked, {loop}", Tone.STRONG),
        Table(columns, [meant, as_sent]),
        Fields(
            [
                ("acked", data["acked"]),
                ("failed", data["failed"]),
                ("unknown", data["unknown"]),
                ("cluster", f"{facts['cluster_nodes']} nodes, {facts['storage']}, {facts['durability']}"),
                ("events", f"{facts['size_bytes']} bytes, {facts['events_a_batch']} a batch"),
                ("measured", f"{facts['seconds']:g} s after {facts['warmup_s']:g} s of warm-up"),
                ("client", f"{facts['generator_us_per_event']:.2f} µs an event to make, on the same machine"),
                ("memory", f"{', '.join(memory)} MB a node" if memory else None),
                (
                    "machine",
                    f"{facts['cpus']} CPUs, {facts['cpu'] or facts['machine']}, Python {facts['python']}",
                ),
            ]
        ),
    ]
    if rate and events_per_s < BEHIND * rate:
        views.append(
            Line(f"the log did not keep up with {rate:,.0f} events/s: this is an overload", Tone.WARN)
        )
    return views


def _interrupted(loads: list["Load"]) -> Answer:
    """After Ctrl-C: what was acked; no figures, since the measuring did not end."""
    if not loads:
        return Answer()
    load = loads[0]
    data = {"acked_in_all": load.acked, "failed": load.failed, "unknown": load.unknown}
    return Answer(data, [Line(f"{load.acked:,} events were acked; there are no figures")])
