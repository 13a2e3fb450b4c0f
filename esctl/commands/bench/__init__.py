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
    ("produce", produce.produce, "Append generated events, in a closed loop or at a fixed rate"),
    ("consume", consume.consume, "Read the log to its end as it stands"),
    ("e2e", e2e.e2e, "Append while a subscriber follows: from the send to the delivery"),
    ("sweep", sweep.sweep, "Raise the rate until the latency bound breaks"),
    ("soak", soak.soak, "Append for minutes or hours, and watch memory and latency"),
    ("failover", failover.failover, "Strike the leader again and again under load"),
    ("start", background.start, "Start a steady load that goes on in the background"),
    ("ls", background.ls, "List the background loads, those of playbooks too"),
    ("stop", background.stop, "Stop a background load and say what it saw"),
    ("compare", compare.compare, "Compare saved results with the first; exit 15 if one is worse"),
    ("report", report.report, "Write one HTML page with the figures and plots of saved results"),
)
"""Name, function, and the line in the list of commands; the full help is the function's own."""

_READING: Final = frozenset({"consume", "stop", "compare", "report"})
"""What adds no events to the log."""

for _name, _function, _line in LISTED:
    command(app, _name, short_help=_line, impact="ro" if _name in _READING else "rw")(_function)
