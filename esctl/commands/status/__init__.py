"""`esctl status`: how the cluster is. By itself it shows the nodes; others judge, and feed monitors."""

from esctl.cli.invocation import command, new_typer
from esctl.commands.status import health, metrics, overview

app = new_typer()

command(app, "status", partitions=True)(overview.status)
command(app, "health", partitions=True, record=health.HealthRecord)(health.health)
command(app, "metrics", partitions=True)(metrics.metrics)
