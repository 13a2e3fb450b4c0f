"""`esctl bench`: what the cluster can do, measured from here, with all that one must know to compare.

The client runs beside the nodes on the same machine unless the cluster is elsewhere: its cost is part of
the figures. One module a command; the loads, latencies and results are in `esctl/bench`.
"""

from typing import Final

from esctl.cli.invocation import command, new_typer
from esctl.commands.bench import background, compare, consume, e2e, failover, produce, report, soak, sweep

app = new_typer()


@app.callback()
def bench() -> None:
    """Measure throughput and latency"""


LISTED: Final = (
    ("produce", produce.produce, "Append generated events, as fast as possible or at a fixed rate"),
    ("consume", consume.consume, "Read the log up to its present end"),
    ("e2e", e2e.e2e, "Measure the time from sending an event to its delivery"),
    ("sweep", sweep.sweep, "Find the highest rate within a latency limit"),
    ("soak", soak.soak, "Append for minutes or hours, and watch memory and latency"),
    ("failover", failover.failover, "Measure failovers under load"),
    ("start", background.start, "Start a steady load in the background"),
    ("ls", background.ls, "List the background loads, including those of playbooks"),
    ("stop", background.stop, "Stop a background load, and show its results"),
    ("compare", compare.compare, "Compare saved results with the first; exit with code 15 if one is worse"),
    ("report", report.report, "Write an HTML page with the figures and plots of saved results"),
)
"""Name, function, and the line in the list of commands; the full help is the function's own."""

_READING: Final = frozenset({"consume", "stop", "compare", "report"})
"""What adds no events to the log."""

for _name, _function, _line in LISTED:
    command(
        app,
        _name,
        short_help=_line,
        impact="ro" if _name in _READING else "rw",
        partitions=True,
    )(_function)
