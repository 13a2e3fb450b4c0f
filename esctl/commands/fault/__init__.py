"""`esctl fault`: break links, disks, clocks and nodes on purpose, and show that it hits.

The nodes themselves enforce the lease, so nothing depends on this command once it has acted; a node that was
started without faults allowed refuses. Each command says what the quorum would be before it acts, and looks
at the nodes afterwards: applied, no effect, or unknown. One module for each thing that is broken.
"""

from collections.abc import Iterable

from esctl.cli.invocation import command, new_typer
from esctl.commands.fault import active, clock, coverage, disk, links, processes, storm
from esctl.faults.partitionshapes import MEANINGS

app = new_typer()


def meanings(of: Iterable[tuple[str, str]]) -> str:
    """What the words mean that a command's first argument takes, as its help has them."""
    return "\n".join(f"{word}: {what}" for word, what in of)


command(app, "partition", epilog=meanings(MEANINGS.items()))(links.cut)
command(app, "net")(links.net)
command(app, "disk", epilog=meanings(disk.MEANINGS.items()))(disk.disk)
command(app, "clock", epilog=meanings(clock.MEANINGS.items()))(clock.clock)
command(app, "kill")(processes.kill)
command(app, "pause")(processes.pause)
command(app, "freeze")(processes.freeze)
command(app, "ls")(active.ls)
command(app, "heal")(active.heal)
command(app, "coverage")(coverage.coverage)
command(app, "storm")(storm.storm)
