"""`esctl event`: one event. By itself it shows the event; others say where it is, and whether it is known."""

from esctl.cli.invocation import command, new_typer
from esctl.commands.event import dedup, show, trace

app = new_typer()

command(app, "event", partitions=True)(show.event)
command(app, "trace", changes="live", partitions=True)(trace.trace)
command(app, "dedup", partitions=True)(dedup.dedup)
