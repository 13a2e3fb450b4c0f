"""`esctl cluster`: whole clusters, from `up` to `destroy`.

`down` and `stop` keep the data, `destroy` alone deletes it. One module for each thing that is done.
"""

from esctl.cli.invocation import command, new_typer
from esctl.commands.cluster import listing, removal, starting, stopping

app = new_typer()

command(app, "up")(starting.up)
command(app, "start")(starting.start)
command(app, "stop")(stopping.stop)
command(app, "down", hidden=True)(stopping.down)
command(app, "restart")(stopping.restart)
command(app, "destroy", impact="destructive")(removal.destroy)
command(app, "recover")(removal.recover)
command(app, "ls")(listing.ls)
command(app, "wait")(listing.wait)
