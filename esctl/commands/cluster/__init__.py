"""`esctl cluster`: whole clusters, from `up` to `destroy`.

`down` and `stop` keep the data, `destroy` alone deletes it. One module for each thing that is done.
"""

from esctl.cli.invocation import command, new_typer
from esctl.commands.cluster import listing, removal, starting, stopping

app = new_typer()

command(app, "up", partitions=True)(starting.up)
command(app, "start", partitions=True)(starting.start)
command(app, "stop", partitions=True)(stopping.stop)
command(app, "down", partitions=True, hidden=True)(stopping.down)
command(app, "restart", partitions=True)(stopping.restart)
command(app, "destroy", partitions=True, impact="destructive")(removal.destroy)
command(app, "recover")(removal.recover)
command(app, "ls", partitions=True)(listing.ls)
command(app, "wait", partitions=True)(listing.wait)
