"""`esctl config`: what is set and where each value comes from, and the contexts that name clusters."""

from esctl.cli.invocation import command, new_typer
from esctl.commands.config import context, values

app = new_typer()

command(app, "show")(values.show)
command(app, "explain")(values.explain)
command(app, "set", changes=True)(values.put)
command(app, "unset", changes=True)(values.unset)
app.add_typer(context.app, name="context", help="Define names for clusters, and select one")
