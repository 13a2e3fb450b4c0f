"""`esctl bench`: what the cluster can do, measured from here, with all that one must know to compare.

The client runs beside the nodes on the same machine unless the cluster is elsewhere: its cost is part of
the figures. One module a command; the loads, latencies and results are in `esctl/load`.
"""

from esctl.commands.bench import compare, consume, e2e, failover, produce, report, soak, sweep
from esctl.invocation import command, new_typer

app = new_typer()


@app.callback()
def bench() -> None:
    """Measure throughput and latency"""


command(app, "produce")(produce.produce)
command(app, "consume")(consume.consume)
command(app, "e2e")(e2e.e2e)
command(app, "sweep")(sweep.sweep)
command(app, "soak")(soak.soak)
command(app, "failover")(failover.failover)
command(app, "compare")(compare.compare)
command(app, "report")(report.report)
