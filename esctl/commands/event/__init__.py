"""`esctl event`: one event. By itself it shows the event; others say where it is, and whether it is known."""

from esctl.cli.invocation import command, new_typer
from esctl.commands.event import dedup, show, trace

app = new_typer()

command(app, "event")(show.event)
command(app, "trace", changes="live")(trace.trace)
command(app, "dedup")(dedup.dedup)
